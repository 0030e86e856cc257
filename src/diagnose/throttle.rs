//! How much of a CPU wait must have been under quota, when only the cgroup's throttle clock is known.
//!
//! `throttled_usec` is wall time summed over the CPUs on which the cgroup was held back; the CPU wait is summed over tasks. With
//! four runnable threads on two CPUs under a quota of 20 ms in 100 ms the first grew by 8.8 s while the second grew by 18.8 s
//! (measured), so neither can be subtracted from the other. What can be said, with W the wait, G the clock's growth, D the
//! window, m CPUs and n tasks:
//!
//! * A CPU on which the cgroup is held back has at least one task of it waiting (`throttle_cfs_rq` runs on the task's way out, and
//!   6.18 starts the clock with the first task taken off), so at least G of the wait is throttled: T ≥ min(G, W).
//! * At most n tasks can wait otherwise, and less than n while a CPU is held back: W − T ≤ n·D − G.
//! * Nobody waits otherwise while all m CPUs are held back, which lasts at least G − (m − 1)·D: W − T ≤ n·(m·D − G).
//!
//! Of a scope that is only a part of its cgroup, a thread of it, the other tasks' wait V is known: not more than V of G is theirs,
//! so that G − V takes the place of G in the first two; the third holds for any part.
//!
//! Where the number of tasks is not known but the CPUs are, the throttled share of wall time, G ÷ (m·D), is taken to hold for the
//! wait as well: an estimate, which errs when the waiting crowds outside the throttled time.

use super::Hints;

/// The least part of `wait_ns` that was under quota. 0 where nothing can be said.
pub(super) fn least(wait_ns: u64, clock_ns: Option<u64>, duration_ns: u64, hints: Hints) -> u64 {
    let Some(clock_ns) = clock_ns.filter(|&growth| growth > 0) else {
        return 0;
    };
    let (wait, clock, duration) = (u128::from(wait_ns), u128::from(clock_ns), u128::from(duration_ns));
    let own_clock = clock.saturating_sub(u128::from(hints.beside_ns));
    let mut least = own_clock;
    if let Some(tasks) = hints.tasks {
        let tasks = u128::from(tasks.max(1));
        least = least.max((wait + own_clock).saturating_sub(tasks * duration));
        if let Some(cpus) = hints.cpus {
            let free = (u128::from(cpus.max(1)) * duration).saturating_sub(clock);
            least = least.max(wait.saturating_sub(tasks.saturating_mul(free)));
        }
    } else if let (Some(cpus), 0) = (hints.cpus, hints.beside_ns) {
        let wall = (u128::from(cpus.max(1)) * duration).max(1);
        least = least.max(wait.saturating_mul(clock.min(wall)) / wall);
    }
    u64::try_from(least.min(wait)).unwrap_or(wait_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn hints(cpus: Option<u32>, tasks: Option<u32>) -> Hints {
        Hints { cpus, tasks, ..Hints::default() }
    }

    #[track_caller]
    fn check(wait: u64, clock: Option<u64>, duration: u64, hints: Hints, expected: std::ops::RangeInclusive<u64>) {
        let least = least(wait, clock, duration, hints);
        assert!(expected.contains(&least), "{least} is not in {expected:?}");
    }

    #[test]
    fn without_a_clock_or_without_growth_nothing_is_claimed() {
        check(SECOND, None, SECOND, Hints::default(), 0..=0);
        check(SECOND, Some(0), SECOND, hints(Some(1), Some(1)), 0..=0);
    }

    /// Quota 20 ms in 100 ms for 5 s on two CPUs, as measured: one thread waited 3.924 s, of it 3.864 s throttled.
    #[test]
    fn one_thread_is_bounded_by_the_clock() {
        check(3_924_000_000, Some(3_864_000_000), 5 * SECOND, Hints::default(), 3_864_000_000..=3_924_000_000);
    }

    /// The same with four threads: 18.788 s waited, the clock grew by 8.777 s, truly throttled were 17.4 to 18 s.
    #[test]
    fn several_threads_need_the_hints() {
        let (wait, clock) = (18_788_000_000, Some(8_777_000_000));
        check(wait, clock, 5 * SECOND, Hints::default(), 8_777_000_000..=8_777_000_000);
        check(wait, clock, 5 * SECOND, hints(Some(2), Some(4)), 13 * SECOND..=17_400_000_000);
        check(wait, clock, 5 * SECOND, hints(Some(2), None), 15 * SECOND..=17_400_000_000);
    }

    #[test]
    fn never_more_than_the_wait() {
        check(SECOND, Some(9 * SECOND), 5 * SECOND, Hints::default(), SECOND..=SECOND);
        check(0, Some(SECOND), SECOND, hints(Some(1), Some(1)), 0..=0);
        check(u64::MAX, Some(u64::MAX), u64::MAX, hints(Some(u32::MAX), Some(u32::MAX)), 0..=u64::MAX);
    }

    /// One tick of a scheduler drawn by lot: which CPUs hold the cgroup back, how many tasks wait on each, and whether one runs
    /// (elsewhere a neighbor does).
    #[derive(Clone, Debug)]
    struct Tick {
        held_back: [bool; 3],
        running: [bool; 3],
        waiting: [u8; 3],
    }

    /// Ticks in which the cgroup is often held back: only there the bounds say anything.
    fn ticks() -> impl Strategy<Value = Vec<Tick>> {
        let held_back = prop::array::uniform3(prop::bool::weighted(0.8));
        let running = prop::array::uniform3(prop::bool::weighted(0.2));
        let waiting = prop::array::uniform3(0u8..3);
        let tick = (held_back, running, waiting).prop_map(|(held_back, running, waiting)| Tick { held_back, running, waiting });
        prop::collection::vec(tick, 1..12)
    }

    proptest! {
        /// Whatever the scheduler did, no more is claimed than was throttled in truth.
        #[test]
        fn claims_no_more_than_the_truth(ticks in ticks(), cpus in 1usize..=3) {
            const TICK: u64 = 1_000_000;
            let (mut wait, mut clock, mut truth, mut tasks) = (0, 0, 0, 1);
            for tick in &ticks {
                let mut alive = 0;
                for cpu in 0..cpus {
                    // A CPU that holds the cgroup back has a task waiting; one that does not may run a task beside those waiting.
                    let waiting = u64::from(tick.waiting[cpu]).max(u64::from(tick.held_back[cpu]));
                    wait += waiting * TICK;
                    alive += waiting + u64::from(tick.running[cpu] && !tick.held_back[cpu]);
                    if tick.held_back[cpu] {
                        clock += TICK;
                        truth += waiting * TICK;
                    }
                }
                tasks = tasks.max(alive);
            }
            let duration = ticks.len() as u64 * TICK;
            for hints in [
                Hints::default(),
                hints(None, Some(tasks as u32)),
                hints(Some(cpus as u32), Some(tasks as u32)),
            ] {
                let least = least(wait, Some(clock), duration, hints);
                prop_assert!(least <= truth, "{least} of {truth} with {hints:?}");
            }
        }

        /// Of one task among others no more is claimed either.
        #[test]
        fn claims_no_more_of_one_task_than_its_truth(ticks in ticks(), cpus in 1usize..=3, mine in 0usize..3) {
            const TICK: u64 = 1_000_000;
            let mine = mine.min(cpus - 1);
            let (mut wait, mut beside, mut clock, mut truth, mut tasks) = (0, 0, 0, 0, 1);
            for tick in &ticks {
                let mut alive = 0;
                for cpu in 0..cpus {
                    let waiting = u64::from(tick.waiting[cpu]).max(u64::from(tick.held_back[cpu]));
                    alive += waiting + u64::from(tick.running[cpu] && !tick.held_back[cpu]);
                    clock += if tick.held_back[cpu] { TICK } else { 0 };
                    // The first that waits on its CPU is the one.
                    let own = u64::from(cpu == mine && waiting > 0);
                    wait += own * TICK;
                    beside += (waiting - own) * TICK;
                    truth += if tick.held_back[cpu] { own * TICK } else { 0 };
                }
                tasks = tasks.max(alive);
            }
            let duration = ticks.len() as u64 * TICK;
            for known in [hints(None, None), hints(None, Some(tasks as u32)), hints(Some(cpus as u32), Some(tasks as u32))] {
                for beside_ns in [beside, u64::MAX] {
                    // The task alone is known to be no other's; without others at all it is the whole cgroup.
                    if beside_ns == 0 { continue }
                    let least = least(wait, Some(clock), duration, Hints { beside_ns, ..known });
                    prop_assert!(least <= truth, "{least} of {truth} with {known:?}");
                }
            }
        }
    }
}
