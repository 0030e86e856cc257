//! The agent's own conservation error: what every task was seen to wait against what the node's run queues say. Pure.
//!
//! The kernel books a wait on the task (`sched_info.run_delay`) and on the run queue (`/proc/schedstat`, field 8) at the same
//! moment, so over any time both grow by the same: what is missing on the side of the tasks belongs to tasks nobody saw.

use crate::model::NodeCpu;

/// Below this much waiting of the whole node the instants at which both sides were read decide, not the tasks.
const LEAST_WAIT_NS: u64 = 20_000_000;

/// Both sides, cumulative, as last seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conservation {
    last: Option<(u64, u64)>,
}

impl Conservation {
    /// Takes what all tasks were seen to wait since the agent began and the node's CPUs, and answers the share of the
    /// node's waiting since the last answer that nobody accounts for. Negative where more was counted than there was.
    /// `None` without `/proc/schedstat`, and while too little was waited to tell; then the time goes on into the next answer.
    pub(super) fn observe(&mut self, seen_ns: u64, cpus: &[NodeCpu]) -> Option<f64> {
        if cpus.is_empty() {
            self.last = None;
            return None;
        }
        let node_ns = cpus.iter().fold(0_u64, |sum, cpu| sum.saturating_add(cpu.wait_ns));
        let Some((seen_before, node_before)) = self.last else {
            self.last = Some((seen_ns, node_ns));
            return None;
        };
        let Some(node) = node_ns.checked_sub(node_before) else {
            // A CPU went offline and took its count along.
            self.last = Some((seen_ns, node_ns));
            return None;
        };
        if node < LEAST_WAIT_NS {
            return None;
        }
        self.last = Some((seen_ns, node_ns));
        let seen = seen_ns.saturating_sub(seen_before);
        Some(1.0 - crate::model::seconds(seen) / crate::model::seconds(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(waits: &[u64]) -> Vec<NodeCpu> {
        (0..).zip(waits).map(|(cpu, wait_ns)| NodeCpu { cpu, wait_ns: *wait_ns, run_ns: 0, timeslices: 0 }).collect()
    }

    #[track_caller]
    fn check(looks: &[(u64, &[u64])], expected: &[Option<f64>]) {
        let mut conservation = Conservation::default();
        let told: Vec<_> = looks.iter().map(|(seen, waits)| conservation.observe(*seen, &cpus(waits))).collect();
        assert_eq!(told, expected);
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_first_look_is_the_baseline() {
        check(&[(7 * S, &[100 * S, 50 * S]), (9 * S, &[101 * S, 51 * S])], &[None, Some(0.0)]);
    }

    #[test]
    fn what_nobody_saw_and_what_was_counted_twice() {
        check(&[(0, &[0]), (3 * S, &[4 * S]), (8 * S, &[8 * S])], &[None, Some(0.25), Some(-0.25)]);
    }

    #[test]
    fn an_idle_node_tells_nothing_and_forgets_nothing() {
        check(&[(0, &[0]), (0, &[S / 100]), (3 * S, &[4 * S])], &[None, None, Some(0.25)]);
    }

    #[test]
    fn without_schedstat_and_after_a_cpu_left_there_is_no_answer() {
        check(&[(0, &[]), (S, &[])], &[None, None]);
        check(&[(0, &[5 * S, 5 * S]), (S, &[6 * S]), (2 * S, &[7 * S])], &[None, None, Some(0.0)]);
    }
}
