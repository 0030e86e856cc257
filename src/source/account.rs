//! Adding up: what tasks have waited since the agent first saw them, over processes that come and go. Pure.

use crate::model::{DelayKind, Delays, Totals};

/// Nothing waited, everything known.
pub(super) const ZERO: Totals =
    Totals { delay_ns: Delays([Some(0); 8]), delay_count: Delays([Some(0); 8]), run_ns: Some(0), throttled_ns: None };

/// The running totals of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessAccount {
    /// The highest the kernel has told so far, field by field.
    last: Totals,
    /// Growth since the agent first saw the process.
    sum: Totals,
}

impl ProcessAccount {
    /// `from_birth`: born under the agent's eyes, so that all it ever waited counts; of an older process the first
    /// look is only the baseline.
    pub(super) fn new(from_birth: bool) -> Self {
        Self { last: if from_birth { ZERO } else { Totals::default() }, sum: ZERO }
    }

    /// Takes what the kernel tells now (cumulative since the process began) and returns what is new in it.
    ///
    /// Counters may fall: a group of one thread that has become a zombie tells zeros (its only thread is skipped and
    /// nothing was saved), and a thread that is exiting can be counted twice for a moment (kernel/taskstats.c). What is
    /// kept is the highest value, so neither is ever counted, or counted twice.
    pub(super) fn observe(&mut self, now: &Totals) -> Totals {
        let mut growth = Totals::default();
        for kind in DelayKind::ALL {
            growth.delay_ns.set(kind, step(&mut self.last.delay_ns, &mut self.sum.delay_ns, &now.delay_ns, kind));
            growth.delay_count.set(kind, step(&mut self.last.delay_count, &mut self.sum.delay_count, &now.delay_count, kind));
        }
        growth.run_ns = grown(&mut self.last.run_ns, now.run_ns);
        self.sum.run_ns = added(self.sum.run_ns, growth.run_ns);
        growth
    }

    /// Whether this is what was told last: nothing ran and nothing waited since.
    pub(super) fn unchanged(&self, now: &Totals) -> bool {
        self.last == *now
    }

    /// Totals since the agent first saw the process.
    pub(super) fn sum(&self) -> &Totals {
        &self.sum
    }
}

/// The running totals of one container: everything its processes were seen to wait while they were in it, the dead included.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContainerAccount {
    sum: Totals,
    /// The cgroup's throttled clock as last told.
    throttled_last: Option<u64>,
    throttled_sum: Option<u64>,
}

impl ContainerAccount {
    /// `from_birth`: the container began under the agent's eyes, so its throttled clock counts from zero.
    pub(super) fn new(from_birth: bool) -> Self {
        Self { sum: ZERO, throttled_last: from_birth.then_some(0), throttled_sum: None }
    }

    /// Adds what a process of it newly waited.
    pub(super) fn add(&mut self, growth: &Totals) {
        for kind in DelayKind::ALL {
            self.sum.delay_ns.set(kind, added(self.sum.delay_ns.get(kind), growth.delay_ns.get(kind)));
            self.sum.delay_count.set(kind, added(self.sum.delay_count.get(kind), growth.delay_count.get(kind)));
        }
        self.sum.run_ns = added(self.sum.run_ns, growth.run_ns);
    }

    /// Takes the cgroup's throttled clock; true where it moved. Not known once it is no longer told.
    pub(super) fn throttled(&mut self, clock: Option<u64>) -> bool {
        let Some(clock) = clock else {
            self.throttled_sum = None;
            return false;
        };
        let growth = grown(&mut self.throttled_last, Some(clock)).unwrap_or(0);
        self.throttled_sum = Some(self.throttled_sum.unwrap_or(0).saturating_add(growth));
        growth > 0
    }

    /// The totals, kinds outside `known` left out.
    pub(super) fn totals(&self, known: Known) -> Totals {
        Totals { throttled_ns: self.throttled_sum, ..known.mask(&self.sum) }
    }
}

/// Which values can be stood behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    delays: [bool; 8],
    run: bool,
}

impl Known {
    /// Everything this plan and kernel supply.
    pub(super) const fn new(delays: [bool; 8], run: bool) -> Self {
        Self { delays, run }
    }

    /// What both know.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (mine, theirs) in self.delays.iter_mut().zip(other.delays) {
            *mine = *mine && theirs;
        }
        Self { run: self.run && other.run, ..self }
    }

    /// The same, with also those kinds that only delay accounting counts which `other` knows.
    pub(super) fn with_delay_accounting_of(mut self, other: Self) -> Self {
        for (mine, theirs) in self.delays.iter_mut().zip(other.delays).skip(1) {
            *mine = *mine || theirs;
        }
        self
    }

    /// Whether it lacks a kind that only delay accounting counts and that `other` knows.
    pub(super) fn lacks_delay_accounting_of(self, other: Self) -> bool {
        self.delays.into_iter().zip(other.delays).skip(1).any(|(mine, theirs)| theirs && !mine)
    }

    /// What this reading told.
    pub(super) fn of(told: &Totals) -> Self {
        Self { delays: told.delay_ns.0.map(|value| value.is_some()), run: told.run_ns.is_some() }
    }

    /// Without the kinds that only delay accounting counts (`task->delays`): all but the CPU wait.
    pub(super) fn without_delay_accounting(self) -> Self {
        let [cpu, ..] = self.delays;
        Self { delays: [cpu, false, false, false, false, false, false, false], ..self }
    }

    /// The totals with what is not known left out.
    pub(super) fn mask(self, totals: &Totals) -> Totals {
        let pick = |values: &Delays<u64>| {
            let mut masked = *values;
            for (slot, known) in masked.0.iter_mut().zip(self.delays) {
                *slot = slot.filter(|_| known);
            }
            masked
        };
        Totals {
            delay_ns: pick(&totals.delay_ns),
            delay_count: pick(&totals.delay_count),
            run_ns: totals.run_ns.filter(|_| self.run),
            throttled_ns: totals.throttled_ns,
        }
    }
}

/// What both hold together; what one of them does not know is the other's.
pub(super) fn plus(one: &Totals, other: &Totals) -> Totals {
    both(one, other, u64::saturating_add)
}

/// The larger of both, value by value.
pub(super) fn larger(one: &Totals, other: &Totals) -> Totals {
    both(one, other, u64::max)
}

fn both(one: &Totals, other: &Totals, of: fn(u64, u64) -> u64) -> Totals {
    let value = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(of(one, other)),
        (one, other) => one.or(other),
    };
    let mut sum = Totals { run_ns: value(one.run_ns, other.run_ns), throttled_ns: None, ..Totals::default() };
    for kind in DelayKind::ALL {
        sum.delay_ns.set(kind, value(one.delay_ns.get(kind), other.delay_ns.get(kind)));
        sum.delay_count.set(kind, value(one.delay_count.get(kind), other.delay_count.get(kind)));
    }
    sum
}

fn step(last: &mut Delays<u64>, sum: &mut Delays<u64>, now: &Delays<u64>, kind: DelayKind) -> Option<u64> {
    let mut highest = last.get(kind);
    let growth = grown(&mut highest, now.get(kind));
    last.set(kind, highest);
    sum.set(kind, added(sum.get(kind), growth));
    growth
}

/// Growth over the highest value so far; the first value is the baseline.
fn grown(highest: &mut Option<u64>, now: Option<u64>) -> Option<u64> {
    let now = now?;
    let before = highest.unwrap_or(now);
    *highest = Some(before.max(now));
    Some(now.saturating_sub(before))
}

fn added(sum: Option<u64>, growth: Option<u64>) -> Option<u64> {
    Some(sum.unwrap_or(0).saturating_add(growth.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(cpu: u64, io: Option<u64>) -> Totals {
        let mut totals = Totals { run_ns: Some(cpu * 2), ..Totals::default() };
        totals.delay_ns.set(DelayKind::Cpu, Some(cpu));
        totals.delay_ns.set(DelayKind::BlockIo, io);
        totals
    }

    fn sums(account: &ProcessAccount) -> (Option<u64>, Option<u64>, Option<u64>) {
        let sum = account.sum();
        (sum.delay_ns.get(DelayKind::Cpu), sum.delay_ns.get(DelayKind::BlockIo), sum.run_ns)
    }

    fn check(from_birth: bool, looks: &[Totals], expected: (u64, u64, u64)) {
        let mut account = ProcessAccount::new(from_birth);
        for look in looks {
            account.observe(look);
        }
        assert_eq!(sums(&account), (Some(expected.0), Some(expected.1), Some(expected.2)));
    }

    #[test]
    fn the_past_of_an_older_process_is_only_the_baseline() {
        check(false, &[told(1_000, Some(50))], (0, 0, 0));
        check(false, &[told(1_000, Some(50)), told(1_300, Some(51))], (300, 1, 600));
    }

    #[test]
    fn a_process_born_under_our_eyes_counts_from_zero() {
        check(true, &[told(1_000, Some(50))], (1_000, 50, 2_000));
        check(true, &[told(1_000, Some(50)), told(1_300, Some(51))], (1_300, 51, 2_600));
    }

    #[test]
    fn a_zombies_zeros_are_not_a_reset() {
        check(true, &[told(1_000, Some(50)), told(0, Some(0))], (1_000, 50, 2_000));
    }

    #[test]
    fn an_overshoot_is_not_counted_twice() {
        check(true, &[told(1_000, None), told(1_900, None), told(1_500, None), told(2_000, None)], (2_000, 0, 4_000));
    }

    #[test]
    fn a_kind_that_comes_late_has_its_own_baseline() {
        check(false, &[told(1_000, None), told(1_100, Some(500)), told(1_200, Some(510))], (200, 10, 400));
    }

    #[test]
    fn the_dead_stay_in_the_containers_total() {
        let mut container = ContainerAccount::new(true);
        let known = Known::new([true; 8], true);
        let mut first = ProcessAccount::new(true);
        container.add(&first.observe(&told(1_000, Some(5))));
        let mut second = ProcessAccount::new(false);
        container.add(&second.observe(&told(70_000, Some(7))));
        container.add(&second.observe(&told(70_001, Some(8))));
        let totals = container.totals(known);
        assert_eq!((totals.delay_ns.get(DelayKind::Cpu), totals.delay_ns.get(DelayKind::BlockIo)), (Some(1_001), Some(6)));
        let masked = container.totals(known.without_delay_accounting());
        assert_eq!((masked.delay_ns.get(DelayKind::Cpu), masked.delay_ns.get(DelayKind::BlockIo)), (Some(1_001), None));
    }

    #[test]
    fn what_only_some_know_is_told_apart_from_what_all_know() {
        let (all, cpu_only, nothing) =
            (Known::new([true; 8], true), Known::new([true; 8], true).without_delay_accounting(), Known::new([false; 8], false));
        for (mine, other, lacks, together) in
            [(cpu_only, all, true, all), (all, cpu_only, false, all), (all, all, false, all), (cpu_only, cpu_only, false, cpu_only)]
        {
            assert_eq!(
                (mine.lacks_delay_accounting_of(other), mine.with_delay_accounting_of(other)),
                (lacks, together),
                "{mine:?} {other:?}"
            );
        }
        // Whose wait for a CPU is not known stays unknown.
        let mixed = nothing.with_delay_accounting_of(all);
        let told = mixed.mask(&ZERO);
        assert_eq!((told.delay_ns.get(DelayKind::Cpu), told.run_ns, told.delay_ns.get(DelayKind::BlockIo)), (None, None, Some(0)));
    }

    #[test]
    fn the_throttled_clock_begins_at_zero_or_at_its_baseline() {
        let run = |from_birth, clocks: &[Option<u64>]| {
            let mut account = ContainerAccount::new(from_birth);
            let moved = clocks.iter().map(|clock| account.throttled(*clock)).collect::<Vec<_>>();
            (account.totals(Known::new([true; 8], true)).throttled_ns, moved)
        };
        assert_eq!(run(true, &[Some(30), Some(30), Some(45)]), (Some(45), vec![true, false, true]));
        assert_eq!(run(false, &[Some(30), Some(30), Some(45)]), (Some(15), vec![false, false, true]));
        assert_eq!(run(false, &[Some(30), None]), (None, vec![false, false]));
        assert_eq!(run(true, &[Some(30), Some(0), Some(31)]), (Some(31), vec![true, false, true]));
    }

    proptest! {
        #[test]
        fn totals_never_go_back_and_hold_all_growth(looks in prop::collection::vec(0..50u64, 1..40), from_birth: bool) {
            let mut process = ProcessAccount::new(from_birth);
            let mut container = ContainerAccount::new(from_birth);
            let mut before = 0;
            for look in &looks {
                container.add(&process.observe(&told(*look, None)));
                let now = container.totals(Known::new([true; 8], true)).delay_ns.get(DelayKind::Cpu).unwrap();
                prop_assert!(now >= before);
                before = now;
            }
            let base = if from_birth { 0 } else { looks[0] };
            let highest = looks.iter().max().copied().unwrap_or(0);
            prop_assert_eq!(before, highest - base);
        }
    }
}
