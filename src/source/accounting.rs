//! Of which tasks the kernel counts delays other than the CPU wait. Pure.
//!
//! `task->delays` is made at fork, only while `kernel.task_delayacct` is on (kernel/delayacct.c: `delayacct_tsk_init`).
//! A task older than the switch reads 0 for ever, which means unknown. Switching off keeps what was counted but counts
//! no further.

use super::account::Known;
use crate::model::{Mono, Totals};

/// Most periods of the switch being on that are remembered.
const MAX_PERIODS: usize = 16;

/// A time during which the switch was seen on.
#[derive(Clone, Copy, Debug)]
struct Period {
    /// First seen on.
    first: Mono,
    /// Last seen on.
    last: Mono,
    /// It was on when the agent came: since when is not known.
    inherited: bool,
}

/// What is known of `kernel.task_delayacct` over time.
#[derive(Debug, Default)]
pub(super) struct Accounting {
    periods: Vec<Period>,
    /// As last seen; `None`: this kernel has no such switch and counts always (before 5.14).
    now: Option<bool>,
    looked: bool,
}

impl Accounting {
    /// Notes the switch. True where it changed.
    pub(super) fn observe(&mut self, at: Mono, on: Option<bool>) -> bool {
        let changed = self.looked && self.now != on;
        if on == Some(true) {
            match self.periods.last_mut().filter(|_| self.looked && self.now == on) {
                Some(period) => period.last = at,
                None => self.begin(Period { first: at, last: at, inherited: !self.looked }),
            }
        }
        self.now = on;
        self.looked = true;
        changed
    }

    fn begin(&mut self, period: Period) {
        if self.periods.len() >= MAX_PERIODS {
            self.periods.remove(0);
        }
        self.periods.push(period);
    }

    /// What can be stood behind of these totals of a process born then.
    pub(super) fn known(&self, born: Mono, seen: bool, totals: &Totals, supplied: Known) -> Known {
        let told = Known::of(totals).and(supplied);
        if self.counts(born, seen) { told } else { told.without_delay_accounting() }
    }

    /// Whether the delays of a process born then are counted now. `seen`: some delay of it other than for a CPU is not 0.
    pub(super) fn counts(&self, born: Mono, seen: bool) -> bool {
        let on = match self.now {
            None => return true,
            Some(on) => on,
        };
        let current = self.periods.len().checked_sub(1);
        on && self.periods.iter().enumerate().any(|(number, period)| {
            let begun = born >= period.first || period.inherited && seen;
            begun && (Some(number) == current || born <= period.last)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the switch at the tenths of a second 0, 10, 20, …
    fn history(looks: &[Option<bool>]) -> Accounting {
        let mut accounting = Accounting::default();
        for (number, look) in looks.iter().enumerate() {
            accounting.observe(Mono(10 * number as u64), *look);
        }
        accounting
    }

    fn check(looks: &[Option<bool>], born: u64, seen: bool, expected: bool) {
        assert_eq!(history(looks).counts(Mono(born), seen), expected, "{looks:?} born {born} seen {seen}");
    }

    const ON: Option<bool> = Some(true);
    const OFF: Option<bool> = Some(false);

    #[test]
    fn a_kernel_without_the_switch_counts_always() {
        check(&[None, None], 0, false, true);
    }

    #[test]
    fn with_the_switch_off_nothing_is_known() {
        check(&[OFF, OFF], 5, false, false);
        check(&[OFF, OFF], 5, true, false);
        check(&[ON, ON, OFF], 5, true, false);
    }

    #[test]
    fn on_before_the_agent_came_a_zero_proves_nothing() {
        let mut late = Accounting::default();
        late.observe(Mono(100), ON);
        for (born, seen, expected) in [(50, false, false), (50, true, true), (100, false, true), (130, false, true)] {
            assert_eq!(late.counts(Mono(born), seen), expected, "{born} {seen}");
        }
    }

    #[test]
    fn a_task_older_than_the_switch_stays_unknown() {
        check(&[OFF, ON, ON], 5, false, false);
        check(&[OFF, ON, ON], 5, true, false);
        check(&[OFF, ON, ON], 10, false, true);
        check(&[OFF, ON, ON], 25, false, true);
    }

    #[test]
    fn on_off_and_on_again() {
        let looks = [OFF, ON, ON, OFF, OFF, ON];
        check(&looks, 15, false, true);
        check(&looks, 25, false, false);
        check(&looks, 35, true, false);
        check(&looks, 55, false, true);
    }

    #[test]
    fn a_change_is_told_once() {
        let mut accounting = Accounting::default();
        let told = [OFF, OFF, ON, ON, OFF].map(|on| accounting.observe(Mono(1), on));
        assert_eq!(told, [false, false, true, false, true]);
    }
}
