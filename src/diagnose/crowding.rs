//! How much of a CPU wait is the scope's own doing, where nobody saw who ran.
//!
//! With W the wait, R the time on a CPU, D the window and m the CPUs that the scope may use: (R + W) ÷ D of its tasks were
//! runnable on average. Where these are not more than m, each could have had a CPU to itself, and whoever took it was somebody
//! else. Where they are more, they stood in each other's way whenever one of them ran: R ÷ (m·D) of the time, and that share of
//! the wait is taken to fall into it. An estimate: it errs where the waiting crowds outside of the scope's own running. The rest
//! of the wait nobody can tell: it may be a neighbor's.

use super::Hints;

/// The part of `left_ns`, of a wait of `wait_ns` what was not throttled, in which the scope's own tasks ran.
pub(super) fn own(wait_ns: u64, left_ns: u64, run_ns: Option<u64>, duration_ns: u64, hints: Hints) -> u64 {
    let (Some(run), Some(cpus)) = (run_ns, hints.allowed.or(hints.cpus)) else { return 0 };
    let room = u128::from(cpus.max(1)).saturating_mul(u128::from(duration_ns)).max(1);
    let runnable = u128::from(run).saturating_add(u128::from(wait_ns));
    if runnable <= room {
        return 0;
    }
    let own = u128::from(left_ns).saturating_mul(u128::from(run).min(room)) / room;
    u64::try_from(own).unwrap_or(left_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Tenths of a second waited and run in one second, on so many CPUs.
    #[track_caller]
    fn check(wait: u64, run: Option<u64>, cpus: Option<u32>, expected_tenths: u64) {
        let hints = Hints { allowed: cpus, ..Hints::default() };
        let own = own(wait * SECOND / 10, wait * SECOND / 10, run.map(|run| run * SECOND / 10), SECOND, hints);
        assert_eq!(own, expected_tenths * SECOND / 10, "{wait} {run:?} {cpus:?}");
    }

    #[test]
    fn four_threads_alone_on_one_cpu_wait_for_each_other() {
        check(30, Some(10), Some(1), 30);
        check(20, Some(20), Some(2), 20);
    }

    #[test]
    fn one_thread_never_waits_for_itself() {
        check(7, Some(3), Some(1), 0);
        check(10, Some(0), Some(1), 0);
    }

    #[test]
    fn beside_a_neighbor_only_their_share_of_the_time_is_their_own_doing() {
        check(30, Some(2), Some(1), 6);
        check(30, Some(2), Some(4), 0);
    }

    #[test]
    fn what_is_not_known_is_not_claimed() {
        check(30, None, Some(1), 0);
        check(30, Some(10), None, 0);
        check(30, Some(10), Some(0), 30);
        assert_eq!(own(u64::MAX, u64::MAX, Some(u64::MAX), u64::MAX, Hints { allowed: Some(u32::MAX), ..Hints::default() }), 0);
    }
}
