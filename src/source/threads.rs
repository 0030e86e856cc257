//! The sum over a process's threads where only `/proc/PID/task/*/schedstat` may be read. Pure.
//!
//! Threads that exit take their counts with them, so what each thread was last seen with is kept.

/// What one thread was last seen with.
#[derive(Clone, Copy, Debug)]
struct Thread {
    tid: u32,
    counts: Counts,
    /// Seen in the present look.
    present: bool,
}

/// Counts of a thread, or the sum over threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Nanoseconds on a CPU.
    pub(super) run_ns: u64,
    /// Nanoseconds runnable but not running.
    pub(super) delay_ns: u64,
    /// Times it was given a CPU.
    pub(super) timeslices: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_add(other.run_ns),
            delay_ns: self.delay_ns.saturating_add(other.delay_ns),
            timeslices: self.timeslices.saturating_add(other.timeslices),
        }
    }

    fn any_below(self, other: Self) -> bool {
        self.run_ns < other.run_ns || self.delay_ns < other.delay_ns || self.timeslices < other.timeslices
    }
}

/// The threads of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    live: Vec<Thread>,
    /// Sum over those that are gone.
    gone: Counts,
    /// Where the next thread of the look is expected.
    next: usize,
}

impl Threads {
    /// Takes one thread of the present look. Looks list threads in the same order (by age), so the next one is nearly
    /// always where the last look had it.
    pub(super) fn note(&mut self, tid: u32, counts: Counts) {
        let is_it = |thread: &Thread| thread.tid == tid;
        let place = if self.live.get(self.next).is_some_and(is_it) { Some(self.next) } else { self.live.iter().position(is_it) };
        self.next = place.unwrap_or(self.next) + 1;
        let thread = Thread { tid, counts, present: true };
        match place.and_then(|place| self.live.get_mut(place)) {
            Some(known) => {
                if counts.any_below(known.counts) {
                    // Counts of a thread never fall: this is another one that was given the same id.
                    self.gone = self.gone.plus(known.counts);
                }
                *known = thread;
            }
            None => self.live.push(thread),
        }
    }

    /// Ends the look: threads that were not in it are gone. Returns the sum over all threads there ever were.
    pub(super) fn end(&mut self) -> Counts {
        let mut sum = self.gone;
        for thread in &self.live {
            sum = sum.plus(thread.counts);
            if !thread.present {
                self.gone = self.gone.plus(thread.counts);
            }
        }
        self.next = 0;
        self.live.retain_mut(|thread| std::mem::take(&mut thread.present));
        sum
    }

    /// Threads of the last look.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at threads `(tid, delay)` and compares the sum after each.
    fn check(looks: &[(&[(u32, u64)], u64)]) {
        let mut threads = Threads::default();
        for (look, expected) in looks {
            for (tid, delay_ns) in *look {
                threads.note(*tid, Counts { delay_ns: *delay_ns, run_ns: delay_ns * 3, timeslices: 1 });
            }
            let sum = threads.end();
            assert_eq!((sum.delay_ns, sum.run_ns, threads.len()), (*expected, expected * 3, look.len()));
        }
    }

    #[test]
    fn threads_are_summed() {
        check(&[(&[(1, 10), (2, 20)], 30), (&[(1, 15), (2, 20)], 35)]);
    }

    #[test]
    fn threads_that_exit_stay_in_the_sum() {
        check(&[(&[(1, 10), (2, 20)], 30), (&[(1, 12)], 32), (&[(1, 13)], 33), (&[], 33), (&[], 33)]);
    }

    #[test]
    fn new_threads_count_from_zero() {
        check(&[(&[(1, 10)], 10), (&[(1, 10), (3, 5)], 15)]);
    }

    #[test]
    fn a_thread_id_used_again_is_another_thread() {
        check(&[(&[(1, 10), (2, 20)], 30), (&[(1, 10), (2, 5)], 35), (&[(1, 10), (2, 6)], 36)]);
    }
}
