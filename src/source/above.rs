//! How long quotas above held a container back, where the kernel does not tell it apart (before 6.6 there is no
//! `cpu.stat.local`). Pure.
//!
//! The clock of a pod's quota runs on every CPU where anything of the pod is held back. Where it stood still nobody was. Where
//! it moved it was this container that was held back if nothing else of the pod ran then: a quota is used up by running. With
//! others running beside it, whose the time was cannot be known.

use crate::host::{Above, MOST_ABOVE};

/// Others may have run so little beside the container: one part in this many of all,
const SLIGHT_PART: u64 = 20;
/// or so long, for the numbers are read one after the other.
const SLIGHT_NS: u64 = 1_000_000;

/// What the cgroups above said last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeldBack {
    last: [Above; MOST_ABOVE],
    own_usage: Option<u64>,
    /// Nothing else of it ran in the time before the last reading: a clock is moved on when the throttling ends.
    alone: [bool; MOST_ABOVE],
    sum_ns: u64,
}

impl HeldBack {
    /// Takes what they say now; `own_usage`: the container's CPU time, read before. Answers how long they held it back since
    /// the first time, ns; `None`: since the last time that is not known.
    pub(super) fn observe(&mut self, own_usage: Option<u64>, above: impl Iterator<Item = Above>) -> Option<u64> {
        let own = grown(self.own_usage, own_usage);
        let (mut growth, mut known) = (0_u64, true);
        for ((now, last), alone) in above.zip(&mut self.last).zip(&mut self.alone) {
            let usage = grown(last.usage_ns, now.usage_ns);
            let others = usage.zip(own).map(|(all, own)| (all, all.saturating_sub(own)));
            let was_alone = std::mem::replace(alone, others.is_some_and(|(all, others)| others <= (all / SLIGHT_PART).max(SLIGHT_NS)));
            match grown(last.throttled_ns, now.throttled_ns) {
                Some(0) => {}
                Some(clock) if was_alone && *alone => growth = growth.saturating_add(clock),
                _ => known = false,
            }
            *last = now;
        }
        self.own_usage = own_usage;
        if !known {
            return None;
        }
        self.sum_ns = self.sum_ns.saturating_add(growth);
        Some(self.sum_ns)
    }
}

fn grown(last: Option<u64>, now: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(last?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Readings `(own usage, pod's usage, pod's throttled clock)` in ms; what is told of each.
    fn check(readings: &[(u64, u64, u64)], expected: &[Option<u64>]) {
        let mut held = HeldBack::default();
        let told: Vec<Option<u64>> = readings
            .iter()
            .map(|(own, pod, clock)| {
                let above = Above { throttled_ns: Some(clock * MS), usage_ns: Some(pod * MS) };
                held.observe(Some(own * MS), std::iter::once(above)).map(|ns| ns / MS)
            })
            .collect();
        assert_eq!(told, expected, "{readings:?}");
    }

    #[test]
    fn a_pod_in_which_nothing_else_runs_holds_its_container_back() {
        check(&[(10, 15, 100), (30, 35, 100), (50, 55, 180), (70, 75, 260)], &[None, Some(0), Some(80), Some(160)]);
    }

    #[test]
    fn beside_others_it_is_not_known_until_a_reading_after_they_rest() {
        check(
            &[(10, 10, 0), (20, 20, 0), (30, 60, 80), (40, 70, 160), (50, 80, 240), (60, 90, 240)],
            &[None, Some(0), None, None, Some(80), Some(80)],
        );
    }

    #[test]
    fn where_no_clock_moves_nobody_is_held_back_whoever_runs() {
        check(&[(10, 10, 5), (20, 500, 5), (30, 900, 5)], &[None, Some(0), Some(0)]);
    }

    #[test]
    fn without_a_quota_above_nothing_holds_back() {
        assert_eq!(HeldBack::default().observe(Some(5), std::iter::empty()), Some(0));
    }

    #[test]
    fn what_the_files_do_not_say_is_not_known() {
        let mut held = HeldBack::default();
        let mut observe = |throttled_ns, usage_ns| held.observe(Some(5), std::iter::once(Above { throttled_ns, usage_ns }));
        assert_eq!(
            [observe(Some(1), Some(5)), observe(Some(1), None), observe(Some(2), Some(5)), observe(None, Some(5))],
            [None, Some(0), None, None]
        );
    }
}
