//! What happened between two instants: both cuts interpolated, their difference taken.

use super::chunk::Cut;
use super::series::{Era, OTHERS, RUN, Row, Series, THROTTLED, WHOLE};
use crate::model::{DelayKind, Mono, Window};

/// Cumulative values at one instant: the delay kinds in their order, then the throttled clock, then the run time.
type Values = [u64; OTHERS + 2];

/// Index of the throttled clock in [`Values`].
const THROTTLED_AT: usize = OTHERS;
/// Bits of the kinds beside the CPU wait.
const OTHER_KINDS: u16 = 0b1111_1110;

/// And of the run time.
const RUN_AT: usize = OTHERS + 1;

/// Both edges of a window, and the rows around them: `left` and the one after it around `low`, `right` and the one before
/// it around `high`.
#[derive(Clone, Copy)]
struct Cuts {
    low: u64,
    high: u64,
    left: usize,
    right: usize,
}

/// Readings without a gap between them, by index.
#[derive(Clone, Copy)]
struct Stretch {
    first: usize,
    last: usize,
}

/// Where the edges of the window before were found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Near {
    left: usize,
    right: usize,
}

/// The window of a series onto an empty one; `None`, and it stays empty, where nothing of the series lies between readings, or `end`
/// is before `start`.
#[inline]
pub(super) fn between_onto(window: &mut Window, series: &Series, start: Mono, end: Mono, near: &mut Near) -> Option<()> {
    let newest = series.newest()?.0;
    let (low, high) = (start.0.max(series.oldest()?.0), end.0.min(newest));
    if start > end || low > high || (low == high && start != end) || series.len() < 2 {
        return None;
    }
    let left = series.rows_until(low, &mut near.left).checked_sub(1)?.min(series.len().checked_sub(2)?);
    let right = series.rows_before(high, &mut near.right).max(left + 1);
    let mut sum = Sum::new(Cuts { low, high, left, right });
    let mut open: Option<Stretch> = None;
    for (era, first, last) in series.eras(left, right) {
        if era.known == 0 {
            sum.close(series, open.take());
            continue;
        }
        sum.note(era);
        sum.weigh(series, era, if open.is_some() { first.saturating_sub(1) } else { first }, last);
        open = Some(Stretch { first: open.map_or(first, |stretch| stretch.first), last });
    }
    sum.close(series, open);
    sum.finish(window, series, end.since(start))
}

/// What lies around a window.
#[derive(Debug)]
pub(super) struct Around {
    /// The windows cut out between the same readings begin and end here, both ends inclusive.
    pub(super) starts: Cut,
    pub(super) ends: Cut,
    /// Whether all between these readings is covered, and all that moved is CPU wait and run time.
    pub(super) only_cpu_moved: bool,
    /// Indices of the readings before which and after which none matters.
    left: usize,
    right: usize,
}

impl Around {
    /// Writes CPU wait and run time between two instants onto a window that knows which of them are known.
    #[inline]
    pub(super) fn cpu_onto(&self, window: &mut Window, series: &Series, start: Mono, end: Mono) {
        let grown = |value: fn(&Row) -> u64| {
            let before = one_at(series, start.0, self.left, value);
            one_at(series, end.0, self.right.saturating_sub(1), value).saturating_sub(before)
        };
        if window.delay_ns.get(DelayKind::Cpu).is_some() {
            window.delay_ns.set(DelayKind::Cpu, Some(grown(|row| row.cpu)));
        }
        window.run_ns = window.run_ns.map(|_| grown(|row| row.run));
    }
}

/// `None` where the window does not lie between readings.
pub(super) fn around(series: &Series, start: Mono, end: Mono, near: &mut Near) -> Option<Around> {
    let (oldest, newest) = (series.oldest()?, series.newest()?);
    if start < oldest || end > newest || start > end {
        return None;
    }
    let left = series.rows_until(start.0, &mut near.left).checked_sub(1)?;
    let right = series.rows_before(end.0, &mut near.right).max(left + 1);
    let (row, next) = (series.row(left)?, series.row(left + 1)?);
    let (before, last) = (series.row(right.checked_sub(1)?)?, series.row(right)?);
    let first_end = if right == left + 1 { row.at } else { before.at + 1 };
    let mut eras = series.eras(left, right);
    let counted = |era: Era| era.known != 0 && (era.counted == WHOLE || era.known & OTHER_KINDS == 0);
    let one_era = eras.next().is_some_and(|(era, ..)| counted(era)) && eras.next().is_none();
    Some(Around {
        starts: Cut { start: row.at, end: next.at - 1 },
        ends: Cut { start: first_end, end: last.at },
        only_cpu_moved: one_era && Series::only_cpu_moved(row, last),
        left,
        right,
    })
}

/// The sum over the stretches of a window.
struct Sum {
    cuts: Cuts,
    known: u16,
    evidence: Option<crate::model::Evidence>,
    inside: Values,
    /// Growth between the readings around the window, edges not cut.
    around: Values,
    covered: u64,
    /// Of that, the share of tasks that no number was told of, in parts of a task, ns.
    uncounted: u128,
    any: bool,
}

impl Sum {
    const fn new(cuts: Cuts) -> Self {
        Self {
            cuts,
            known: u16::MAX,
            evidence: None,
            inside: [0; OTHERS + 2],
            around: [0; OTHERS + 2],
            covered: 0,
            uncounted: 0,
            any: false,
        }
    }

    fn note(&mut self, era: Era) {
        self.known &= era.known;
        self.evidence = Some(self.evidence.map_or(era.evidence, |best| best.min(era.evidence)));
    }

    /// Adds up the time of an era in which some tasks are not counted. A reading tells of the time before it.
    fn weigh(&mut self, series: &Series, era: Era, first: usize, last: usize) {
        let lacking = WHOLE.saturating_sub(era.counted);
        let Some((begin, end)) = series.row(first).zip(series.row(last)).filter(|_| lacking > 0) else { return };
        let time = self.cuts.high.min(end.at).saturating_sub(self.cuts.low.max(begin.at));
        self.uncounted = self.uncounted.saturating_add(u128::from(time) * u128::from(lacking));
    }

    fn close(&mut self, series: &Series, stretch: Option<Stretch>) {
        let Some(Stretch { first, last }) = stretch.filter(|stretch| stretch.last > stretch.first) else { return };
        let (Some(begin), Some(end)) = (series.row(first), series.row(last)) else { return };
        let Cuts { low, high, left, right } = self.cuts;
        let (from, to) = (low.max(begin.at), high.min(end.at));
        if from > to {
            return;
        }
        if Series::only_cpu_moved(begin, end) {
            self.add_cpu(series, begin, end);
        } else {
            let (first, last) = (values(series, begin), values(series, end));
            let before = if begin.at >= low { first } else { at(series, low, left) };
            let after = if end.at <= high { last } else { at(series, high, right.saturating_sub(1)) };
            add_growth(&mut self.inside, &before, &after);
            add_growth(&mut self.around, &first, &last);
        }
        self.covered = self.covered.saturating_add(to - from);
        self.any = self.any || to > from || low == high;
    }

    /// Of a stretch in which all other values stood still, as they mostly do.
    #[inline]
    fn add_cpu(&mut self, series: &Series, begin: &Row, end: &Row) {
        let Cuts { low, high, left, right } = self.cuts;
        let mut add = |place: usize, value: fn(&Row) -> u64| {
            let before = if begin.at >= low { value(begin) } else { one_at(series, low, left, value) };
            let after = if end.at <= high { value(end) } else { one_at(series, high, right.saturating_sub(1), value) };
            let grown = [(&mut self.inside, before, after), (&mut self.around, value(begin), value(end))];
            for (sum, before, after) in grown {
                if let Some(sum) = sum.get_mut(place) {
                    *sum = sum.saturating_add(after.saturating_sub(before));
                }
            }
        };
        add(0, |row| row.cpu);
        add(RUN_AT, |row| row.run);
    }

    fn finish(&self, window: &mut Window, series: &Series, length: u64) -> Option<()> {
        let Cuts { left, right, .. } = self.cuts;
        if !self.any {
            return None;
        }
        let alone = series.row(left)?.crowded == series.row(right)?.crowded;
        let last = right.checked_sub(1)?;
        (window.evidence, window.coverage) = (self.evidence, share(self.counted(), length));
        for (kind, value) in DelayKind::ALL.into_iter().zip(self.inside) {
            window.delay_ns.set(kind, (self.known & 1 << (kind as u16) != 0).then_some(value));
        }
        if self.known & RUN != 0 {
            window.run_ns = self.inside.get(RUN_AT).copied();
        }
        if self.known & THROTTLED != 0 {
            window.throttled_clock_ns = self.inside.get(THROTTLED_AT).copied();
            window.throttled_ns = self.throttled(window, alone);
        }
        window.resolution_ns = distance(series, left, left + 1).max(distance(series, last, right));
        Some(())
    }

    /// The time covered, that of tasks which are not counted left out where their kinds are told.
    fn counted(&self) -> u64 {
        let lacking = if self.known & OTHER_KINDS == 0 { 0 } else { self.uncounted / u128::from(WHOLE) };
        self.covered.saturating_sub(u64::try_from(lacking).unwrap_or(u64::MAX))
    }

    /// The part of the CPU wait under quota. The cgroup's clock counts wall time per CPU, the wait counts every task: they
    /// agree for one task only, and where the clock stood still there was no throttling whatever the number of tasks.
    fn throttled(&self, window: &Window, alone: bool) -> Option<u64> {
        let waited = window.delay_ns.get(DelayKind::Cpu);
        if self.around.get(THROTTLED_AT) == Some(&0) || waited.is_some() && self.around.first() == Some(&0) {
            return Some(0);
        }
        if alone { Some(waited?.min(window.throttled_clock_ns?)) } else { None }
    }
}

/// The cumulative values at an instant between this row and the next.
fn at(series: &Series, instant: u64, index: usize) -> Values {
    let (Some(row), Some(next)) = (series.row(index), series.row(index + 1)) else { return Values::default() };
    let (part, whole) = (instant.saturating_sub(row.at), next.at.saturating_sub(row.at));
    let mut cut = values(series, row);
    for (value, later) in cut.iter_mut().zip(values(series, next)) {
        *value = interpolate(*value, later, part, whole);
    }
    cut
}

/// One of them.
#[inline]
fn one_at(series: &Series, instant: u64, index: usize, value: fn(&Row) -> u64) -> u64 {
    let (Some(row), Some(next)) = (series.row(index), series.row(index + 1)) else { return 0 };
    interpolate(value(row), value(next), instant.saturating_sub(row.at), next.at.saturating_sub(row.at))
}

fn values(series: &Series, row: &Row) -> Values {
    let mut values = [row.cpu; OTHERS + 2];
    for (slot, other) in values.iter_mut().skip(1).zip(series.others(row)) {
        *slot = other;
    }
    if let Some(slot) = values.get_mut(RUN_AT) {
        *slot = row.run;
    }
    values
}

/// `from` + (`to` − `from`) × `part` ÷ `whole`, rounded down; exact at both ends, never going back between them.
fn interpolate(from: u64, to: u64, part: u64, whole: u64) -> u64 {
    let growth = to.saturating_sub(from);
    if growth == 0 || whole == 0 {
        return from;
    }
    let part = part.min(whole);
    let share = match growth.checked_mul(part) {
        Some(product) => product / whole,
        // 128-bit division is slow and rarely needed: a second of waiting between readings ten seconds apart still fits.
        None => u64::try_from(u128::from(growth) * u128::from(part) / u128::from(whole)).unwrap_or(growth),
    };
    from.saturating_add(share)
}

fn add_growth(sum: &mut Values, before: &Values, after: &Values) {
    for ((sum, before), after) in sum.iter_mut().zip(before).zip(after) {
        *sum = sum.saturating_add(after.saturating_sub(*before));
    }
}

fn distance(series: &Series, before: usize, after: usize) -> u64 {
    match (series.row(before), series.row(after)) {
        (Some(before), Some(after)) => after.at.saturating_sub(before.at),
        _ => 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of nanoseconds; the last bits do not matter")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if part >= whole { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerKey, Evidence, Reading, Subject, Totals};

    fn between(series: &Series, start: Mono, end: Mono, near: &mut Near) -> Option<Window> {
        let mut window = Window::default();
        between_onto(&mut window, series, start, end, near).map(|()| window)
    }

    /// A reading in the shorthand of these tests: time, CPU wait, block I/O wait, throttled clock, tasks.
    type Short = (u64, Option<u64>, Option<u64>, Option<u64>, u32);

    fn series(readings: &[Short]) -> Series {
        let mut series = Series::default();
        for (at, cpu, io, throttled, tasks) in readings {
            let mut totals = Totals { throttled_ns: *throttled, ..Totals::default() };
            totals.delay_ns.set(DelayKind::Cpu, *cpu);
            totals.delay_ns.set(DelayKind::BlockIo, *io);
            let subject = Subject::Container(ContainerKey(1));
            series.push(
                &Reading { subject, at: Mono(*at), totals, evidence: Evidence::Taskstats, tasks: *tasks, uncounted: 0, blur_ns: 0 },
                2,
            );
        }
        series
    }

    fn cpu_only(readings: &[(u64, u64)]) -> Series {
        series(&readings.iter().map(|(at, cpu)| (*at, Some(*cpu), None, None, 1)).collect::<Vec<_>>())
    }

    fn check(series: &Series, start: u64, end: u64, cpu: u64, coverage: f64, resolution_ns: u64) {
        let window = between(series, Mono(start), Mono(end), &mut Near::default()).unwrap();
        let found = (window.delay_ns.get(DelayKind::Cpu), window.coverage, window.resolution_ns);
        assert_eq!(found, (Some(cpu), coverage, resolution_ns), "{start}..{end}");
    }

    fn nothing(series: &Series, start: u64, end: u64) {
        assert_eq!(between(series, Mono(start), Mono(end), &mut Near::default()), None, "{start}..{end}");
    }

    #[test]
    fn both_cuts_are_interpolated() {
        let series = cpu_only(&[(100, 0), (200, 50), (400, 50), (500, 150)]);
        check(&series, 100, 200, 50, 1.0, 100);
        check(&series, 120, 180, 30, 1.0, 100);
        check(&series, 150, 450, 75, 1.0, 100);
        check(&series, 150, 300, 25, 1.0, 200);
        check(&series, 200, 400, 0, 1.0, 200);
        check(&series, 100, 500, 150, 1.0, 100);
    }

    #[test]
    fn huge_growth_over_a_long_time_is_cut_exactly() {
        let (hour, day) = (3_600_000_000_000, 86_400_000_000_000);
        let series = cpu_only(&[(100, 7), (100 + hour, 7 + day)]);
        check(&series, 100, 100 + hour / 4, day / 4, 1.0, hour);
        check(&series, 100 + hour / 3, 100 + hour, day - day / 3, 1.0, hour);
        let series = cpu_only(&[(0, 0), (u64::MAX, u64::MAX)]);
        check(&series, 5, u64::MAX - 5, u64::MAX - 10, 1.0, u64::MAX);
    }

    #[test]
    fn an_instant_inside_the_readings_is_covered_and_empty() {
        let series = cpu_only(&[(100, 0), (200, 50)]);
        check(&series, 150, 150, 0, 1.0, 100);
        check(&series, 100, 100, 0, 1.0, 100);
        check(&series, 200, 200, 0, 1.0, 100);
        nothing(&series, 99, 99);
        nothing(&series, 201, 201);
    }

    #[test]
    fn outside_the_readings_nothing_is_known() {
        let series = cpu_only(&[(100, 0), (200, 50)]);
        nothing(&series, 0, 100);
        nothing(&series, 200, 300);
        nothing(&series, 300, 400);
        nothing(&series, 180, 120);
        nothing(&Series::default(), 0, 1_000);
        nothing(&cpu_only(&[(100, 7)]), 0, 1_000);
        nothing(&cpu_only(&[(100, 7)]), 100, 100);
    }

    #[test]
    fn partly_outside_lowers_the_coverage() {
        let series = cpu_only(&[(100, 0), (200, 50)]);
        check(&series, 0, 200, 50, 0.5, 100);
        check(&series, 150, 250, 25, 0.5, 100);
        check(&series, 0, 400, 50, 0.25, 100);
    }

    #[test]
    fn a_reading_that_knows_nothing_is_a_gap() {
        let known = |at, cpu| (at, Some(cpu), None, None, 1);
        let series = series(&[known(100, 0), known(200, 50), (300, None, None, None, 1), known(400, 90), known(500, 100)]);
        check(&series, 100, 500, 60, 0.5, 100);
        check(&series, 150, 250, 25, 0.5, 100);
        nothing(&series, 220, 380);
        check(&series, 400, 500, 10, 1.0, 100);
    }

    #[test]
    fn a_kind_that_one_reading_does_not_know_is_absent() {
        let series = series(&[
            (100, Some(0), Some(0), None, 1),
            (200, Some(1), Some(5), None, 1),
            (300, Some(2), None, None, 1),
            (400, Some(3), Some(9), None, 1),
            (500, Some(4), Some(10), None, 1),
        ]);
        let io = |start, end| between(&series, Mono(start), Mono(end), &mut Near::default()).unwrap().delay_ns.get(DelayKind::BlockIo);
        assert_eq!((io(100, 200), io(150, 250), io(210, 220), io(400, 500)), (Some(5), None, None, Some(1)));
        check(&series, 100, 500, 4, 1.0, 100);
    }

    #[test]
    fn a_kind_counted_of_some_tasks_only_says_so_by_its_coverage() {
        let mut mixed = Series::default();
        // Time, block I/O wait, tasks, of them uncounted; without block I/O none of them is counted.
        let rows = [
            (100, Some(0), 2, 0),
            (200, Some(5), 2, 1),
            (300, Some(5), 4, 3),
            (400, None, 4, 0),
            (500, Some(5), 3, 1),
            (600, Some(9), 3, 0),
        ];
        for (at, io, tasks, uncounted) in rows {
            let mut totals = Totals::default();
            totals.delay_ns.set(DelayKind::Cpu, Some(at));
            totals.delay_ns.set(DelayKind::BlockIo, io);
            let subject = Subject::Container(ContainerKey(1));
            mixed.push(&Reading { subject, at: Mono(at), totals, evidence: Evidence::Taskstats, tasks, uncounted, blur_ns: 0 }, 2);
        }
        let check = |start, end, coverage: f64, io| {
            let window = between(&mixed, Mono(start), Mono(end), &mut Near::default()).unwrap();
            assert!((window.coverage - coverage).abs() < 0.006, "{start}..{end}: {window:?}");
            assert_eq!((window.delay_ns.get(DelayKind::Cpu), window.delay_ns.get(DelayKind::BlockIo)), (Some(end - start), io));
        };
        check(100, 200, 0.5, Some(5));
        check(120, 160, 0.5, Some(2));
        check(200, 300, 0.25, Some(0));
        check(150, 250, 0.375, Some(3));
        check(150, 350, 1.0, None);
        check(300, 450, 1.0, None);
        check(510, 600, 1.0, Some(4));
        check(500, 600, 1.0, Some(4));
        // After a gap the first reading tells of no time before it.
        let mut torn = Series::default();
        for (at, known, uncounted) in [(100, true, 0), (200, true, 0), (300, false, 0), (400, true, 1), (500, true, 1)] {
            let mut totals = Totals::default();
            for kind in [DelayKind::Cpu, DelayKind::BlockIo] {
                totals.delay_ns.set(kind, known.then_some(at));
            }
            let subject = Subject::Container(ContainerKey(1));
            torn.push(&Reading { subject, at: Mono(at), totals, evidence: Evidence::Taskstats, tasks: 2, uncounted, blur_ns: 0 }, 2);
        }
        let coverage = between(&torn, Mono(100), Mono(500), &mut Near::default()).unwrap().coverage;
        assert!((coverage - 0.375).abs() < 0.006, "{coverage}");
    }

    #[test]
    fn what_was_known_just_before_never_goes_back() {
        let series = cpu_only(&[(100, 50), (200, 40), (300, 60)]);
        check(&series, 100, 200, 0, 1.0, 100);
        check(&series, 100, 300, 10, 1.0, 100);
    }

    #[test]
    fn readings_out_of_order_are_ignored() {
        let series = cpu_only(&[(100, 0), (300, 20), (200, 5_000), (300, 6_000), (400, 30)]);
        check(&series, 100, 400, 30, 1.0, 200);
    }

    #[test]
    fn of_readings_too_near_the_newest_stays() {
        let series = cpu_only(&[(100, 0), (110, 10), (111, 20), (112, 30)]);
        assert_eq!(series.len(), 3);
        check(&series, 100, 112, 30, 1.0, 10);
    }

    fn throttled(readings: &[Short], start: u64, end: u64) -> (Option<u64>, Option<u64>) {
        let window = between(&series(readings), Mono(start), Mono(end), &mut Near::default()).unwrap();
        (window.throttled_ns, window.throttled_clock_ns)
    }

    #[test]
    fn the_throttled_part_is_told_only_where_it_can_be_known() {
        let row = |at, cpu, clock, tasks| (at, Some(cpu), None, clock, tasks);
        let still = [row(100, 0, Some(7), 4), row(200, 90, Some(7), 4)];
        assert_eq!(throttled(&still, 120, 180), (Some(0), Some(0)), "the clock stood still");
        let crowd = [row(100, 0, Some(0), 4), row(200, 90, Some(40), 4)];
        assert_eq!(throttled(&crowd, 100, 200), (None, Some(40)), "several tasks");
        let single = [row(100, 0, Some(0), 1), row(200, 90, Some(40), 1), row(300, 90, Some(40), 2)];
        assert_eq!(throttled(&single, 100, 200), (Some(40), Some(40)), "one task");
        assert_eq!(throttled(&single, 150, 200), (Some(20), Some(20)), "one task, part");
        assert_eq!(throttled(&single, 150, 250), (None, Some(20)), "not alone throughout");
        assert_eq!(throttled(&single, 220, 250), (Some(0), Some(0)), "the clock stood still later");
        let over = [row(100, 0, Some(0), 1), row(200, 30, Some(100), 1)];
        assert_eq!(throttled(&over, 100, 200), (Some(30), Some(100)), "never more than the wait");
        let idle = [row(100, 5, Some(0), 9), row(200, 5, Some(100), 9)];
        assert_eq!(throttled(&idle, 100, 200), (Some(0), Some(100)), "nobody waited");
        let unknown = [row(100, 0, None, 1), row(200, 30, None, 1)];
        assert_eq!(throttled(&unknown, 100, 200), (None, None), "no clock");
    }

    #[test]
    fn a_second_task_that_thinning_took_out_is_remembered() {
        let row = |at, cpu, clock, tasks| (at, Some(cpu), None, Some(clock), tasks);
        let readings = [row(100, 0, 0, 1), row(110, 10, 5, 1), row(111, 11, 6, 2), row(112, 12, 7, 1), row(120, 20, 9, 1)];
        assert_eq!(throttled(&readings, 100, 110).0, Some(5));
        assert_eq!(throttled(&readings, 110, 120).0, None);
    }

    #[test]
    fn expiry_keeps_the_reading_before_the_cutoff() {
        let mut series = cpu_only(&[(100, 0), (200, 50), (300, 60), (400, 80)]);
        series.expire(250);
        check(&series, 250, 300, 5, 1.0, 100);
        nothing(&series, 100, 200);
        series.expire(1_000);
        assert_eq!(series.len(), 1);
    }
}
