//! The agent's own conservation error: what every task was seen to wait against what the node's run queues say. Pure.
//!
//! The kernel books a wait on the task (`sched_info.run_delay`) and on the run queue (`/proc/schedstat`, field 8) at the same
//! moment, so over any time both grow by the same: what is missing on the side of the tasks belongs to tasks nobody saw.

use crate::model::{NodeCpu, seconds};

/// Below this much waiting of the whole node the answer is noise.
const LEAST_WAIT_NS: u64 = 20_000_000;

/// The tasks are read one after the other while the node's waiting goes on: an answer has to be this many times what was
/// waited meanwhile.
const LEAST_RATIO: u64 = 100;

/// Both sides, cumulative, as last seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conservation {
    last: Option<Sides>,
}

#[derive(Clone, Copy, Debug)]
struct Sides {
    seen_ns: u64,
    /// In the middle of reading the tasks.
    node_ns: u64,
    /// Half of what the node waited while they were read.
    vague_ns: u64,
}

impl Conservation {
    /// Takes what all tasks were seen to wait since the agent began, and the node's CPUs before and after they were read.
    /// Answers the share of the node's waiting since the last answer that nobody accounts for; negative where more was
    /// counted than there was. `None` without `/proc/schedstat`, and while too little was waited to tell; then the time
    /// goes on into the next answer.
    pub(super) fn observe(&mut self, seen_ns: u64, before: &[NodeCpu], after: &[NodeCpu]) -> Option<f64> {
        let Some((first, last)) = sum(before).zip(sum(after)) else {
            self.last = None;
            return None;
        };
        let vague_ns = last.saturating_sub(first) / 2;
        let now = Sides { seen_ns, node_ns: first.saturating_add(vague_ns), vague_ns };
        let Some(then) = self.last.filter(|then| then.node_ns <= now.node_ns) else {
            // The first look; or a CPU went offline and took its count along.
            self.last = Some(now);
            return None;
        };
        let node = now.node_ns.saturating_sub(then.node_ns);
        if node < LEAST_WAIT_NS || node / LEAST_RATIO < now.vague_ns.saturating_add(then.vague_ns) {
            return None;
        }
        self.last = Some(now);
        let seen = seen_ns.saturating_sub(then.seen_ns);
        // More than there was, by less than what was waited while the tasks were read: nothing is known to be wrong.
        let within_reading = seen > node && seen - node <= now.vague_ns.saturating_add(then.vague_ns);
        Some(if within_reading { 0.0 } else { 1.0 - seconds(seen) / seconds(node) })
    }
}

fn sum(cpus: &[NodeCpu]) -> Option<u64> {
    if cpus.is_empty() { None } else { Some(cpus.iter().fold(0, |sum: u64, cpu| sum.saturating_add(cpu.wait_ns))) }
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
        let told: Vec<_> = looks.iter().map(|(seen, waits)| conservation.observe(*seen, &cpus(waits), &cpus(waits))).collect();
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
    fn what_was_waited_while_the_tasks_were_read_makes_the_answer_vague() {
        let mut conservation = Conservation::default();
        let mut look = |seen, before, after| conservation.observe(seen, &cpus(&[before]), &cpus(&[after]));
        assert_eq!(look(0, 10 * S, 10 * S), None);
        assert_eq!(look(S, 11 * S, 11 * S + S / 10), None, "100 ms of 1 s are too much");
        assert_eq!(look(10 * S, 20 * S, 20 * S + S / 50), Some(1.0 - 10.0 / 10.01), "20 ms of 10 s are not");
        let at = 30 * S + S / 50;
        assert_eq!(look(20 * S + S / 50, at, at + S / 50), Some(0.0), "10 ms too much may be theirs");
    }

    #[test]
    fn without_schedstat_and_after_a_cpu_left_there_is_no_answer() {
        check(&[(0, &[]), (S, &[])], &[None, None]);
        check(&[(0, &[5 * S, 5 * S]), (S, &[6 * S]), (2 * S, &[7 * S])], &[None, None, Some(0.0)]);
    }
}
