//! Tells a group's answer in which a thread is counted twice. Pure.
//!
//! A thread that exits is added to its group's saved totals first (`taskstats_exit`) and stops counting as alive only later
//! (`exit_notify`, kernel/exit.c). On a busy CPU it can be preempted in between for long, and every answer meanwhile holds
//! all it ever ran and waited twice: with four burners that end together a quarter too much was seen. The answer's sum of
//! thread ages (`ac_etime`) gives it away: threads can only age by the time that passed, the one counted twice brings its
//! whole life once more.
//!
//! What this cannot tell: before 5.11 the ages of exited threads are not in the sum; and a thread counted twice that was no
//! older than the time between two answers looks like a new one.

use crate::model::Mono;

/// Readings that may be refused one after the other. Threads that came and went between two answers look like one counted
/// twice, so at some point the answer has to be believed.
const MOST_REFUSED: u32 = 5;

/// Rounding of the kernel's times.
const ROUNDING_NS: u64 = 1_000_000;

/// What the ages of one process's threads summed up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ages {
    /// Sum and time of the last answer that was believed; none before the first.
    last: Option<(u64, Mono)>,
    /// Threads alive then, at least.
    threads: u64,
    refused: u32,
}

/// When an answer was given: not before, not after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) begin: Mono,
    pub(super) end: Mono,
}

impl Ages {
    /// A process that began then, under the agent's eyes.
    pub(super) fn from_birth(born: Mono) -> Self {
        Self { last: Some((0, born)), threads: 1, refused: 0 }
    }

    /// Takes the sum of ages of an answer; true where the answer can be believed. `count` tells how many threads there are;
    /// it is asked only where the number must have grown.
    pub(super) fn believe(&mut self, sum_ns: u64, asked: Asked, count: impl FnOnce() -> Option<u64>) -> bool {
        let Some((before, since)) = self.last else {
            self.accept(sum_ns, asked, count().unwrap_or(1));
            return true;
        };
        let (grown, passed) = (sum_ns.saturating_sub(before), asked.end.since(since));
        let possible = |threads: u64| threads.saturating_mul(passed.saturating_add(ROUNDING_NS));
        if grown <= possible(self.threads) {
            // Threads that are gone no longer age; as many as must have been there are left.
            let left = grown.div_ceil(passed.max(1)).clamp(1, self.threads);
            self.accept(sum_ns, asked, left);
            return true;
        }
        let now = count().unwrap_or(u64::MAX).max(1);
        if grown <= possible(now.max(self.threads)) || self.refused >= MOST_REFUSED {
            self.accept(sum_ns, asked, now);
            return true;
        }
        self.refused = self.refused.saturating_add(1);
        false
    }

    fn accept(&mut self, sum_ns: u64, asked: Asked, threads: u64) {
        *self = Self { last: Some((sum_ns, asked.begin)), threads, refused: 0 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn at(ms: u64) -> Asked {
        Asked { begin: Mono(ms * MS), end: Mono(ms * MS + MS / 10) }
    }

    /// Answers `(time ms, sum of ages ms, threads there are)` of a process born at 0; which of them are believed.
    #[track_caller]
    fn check(answers: &[(u64, u64, u64)], expected: &[bool]) {
        let mut ages = Ages::from_birth(Mono(0));
        let believed: Vec<bool> = answers.iter().map(|(time, sum, threads)| ages.believe(sum * MS, at(*time), || Some(*threads))).collect();
        assert_eq!(believed, expected, "{answers:?}");
    }

    #[test]
    fn threads_age_by_the_time_that_passed() {
        check(&[(1000, 1000, 1), (2000, 2000, 1), (2100, 2100, 1)], &[true; 3]);
        check(&[(1000, 4000, 4), (2000, 8000, 4)], &[true; 2]);
    }

    #[test]
    fn one_counted_twice_is_refused_until_it_is_gone() {
        check(&[(8000, 40_000, 5), (8100, 48_500, 5), (8110, 40_550, 5), (8200, 40_640, 2)], &[true, false, true, true]);
        check(&[(8000, 40_000, 5), (8100, 64_500, 5), (8110, 48_450, 5), (8200, 40_640, 2)], &[true, false, false, true]);
    }

    #[test]
    fn new_threads_are_believed_and_gone_ones_no_longer_count() {
        check(&[(1000, 1000, 1), (1100, 1400, 4), (1200, 1800, 4)], &[true; 3]);
        check(&[(1000, 4000, 4), (1100, 4100, 1), (1200, 4300, 1), (1300, 4300, 1)], &[true, true, false, true]);
    }

    #[test]
    fn what_came_and_went_in_between_is_believed_in_the_end() {
        check(&[(1000, 1000, 1), (2000, 9000, 1), (2100, 9100, 1), (2200, 9200, 1)], &[true, false, false, false]);
        let mut ages = Ages::from_birth(Mono(0));
        assert!(ages.believe(1000 * MS, at(1000), || Some(1)));
        let refused = (1..20).take_while(|try_| !ages.believe(9000 * MS, at(1000 + try_ * 10), || Some(1))).count();
        assert_eq!(refused, MOST_REFUSED as usize);
        assert!(ages.believe(9100 * MS, at(1300), || Some(1)));
    }

    #[test]
    fn an_older_process_begins_with_its_first_answer() {
        let mut ages = Ages::default();
        assert!(ages.believe(500 * S, at(1000), || Some(50)));
        assert!(ages.believe(505 * S, at(1100), || Some(50)));
        assert!(!ages.believe(605 * S, at(1101), || Some(50)));
    }

    #[test]
    fn where_threads_cannot_be_counted_the_answer_is_believed() {
        let mut ages = Ages::from_birth(Mono(0));
        assert!(ages.believe(9 * S, at(1000), || None));
    }

    /// A thread of a simulated process: from when to when, in ms; `lingers`: counted twice for so long after its end.
    #[derive(Clone, Debug)]
    struct Thread {
        begin: u64,
        end: u64,
        lingers: u64,
    }

    fn sum(threads: &[Thread], now: u64) -> (u64, u64, u64) {
        let aged = |thread: &Thread| now.clamp(thread.begin, thread.end) - thread.begin;
        let twice = |thread: &&Thread| now >= thread.end && now < thread.end + thread.lingers;
        let truth: u64 = threads.iter().map(aged).sum();
        let told = truth + threads.iter().filter(twice).map(|thread| now - thread.begin).sum::<u64>();
        let there = threads.iter().filter(|thread| now >= thread.begin && now < thread.end + thread.lingers).count();
        (truth, told, there as u64)
    }

    proptest! {
        /// Whatever threads do: what is believed adds no more to what was too much before than the threads there are could age
        /// since the answer believed before; and what is right is always believed while no thread comes and goes in between.
        #[test]
        fn what_is_believed_is_near_the_truth(
            lives in prop::collection::vec((0u64..3000, 1u64..3000, 0u64..60), 0..6),
            looks in prop::collection::vec(1u64..400, 1..30),
        ) {
            let mut threads = vec![Thread { begin: 0, end: u64::MAX / 2, lingers: 0 }];
            threads.extend(lives.iter().map(|(begin, length, lingers)| Thread { begin: *begin, end: begin + length, lingers: *lingers }));
            let mut ages = Ages::from_birth(Mono(0));
            let (mut now, mut last) = (0, 0);
            let (mut refusals, mut too_much) = (0, 0);
            for look in looks {
                now += look;
                let (truth, told, there) = sum(&threads, now);
                if ages.believe(told * MS, Asked { begin: Mono(now * MS), end: Mono(now * MS) }, || Some(there)) {
                    let most = (threads.len() as u64) * (now - last + 1);
                    prop_assert!(told - truth <= too_much + most || refusals >= u64::from(MOST_REFUSED), "{} too much at {}", told - truth, now);
                    (last, refusals, too_much) = (now, 0, told - truth);
                } else {
                    refusals += 1;
                    let in_between = threads.iter().any(|thread| thread.begin > last && thread.end < now);
                    prop_assert!(told > truth || in_between || threads.iter().any(|thread| thread.end > last && thread.end <= now));
                }
            }
        }
    }
}
