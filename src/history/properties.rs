//! What holds for every history, drawn near the places where it could break: cuts on and beside readings, gaps, kinds
//! that come and go, readings too near together, budgets too small.

use std::time::Duration;

use proptest::prelude::*;

use super::{MIN_SPACING, Settings, Store};
use crate::model::{ContainerKey, DelayKind, EventFields, Evidence, Mono, Reading, Subject, Totals, Wait, Wall, Window};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const START: u64 = 1_000 * SECOND;
const ONE: Subject = Subject::Container(ContainerKey(1));

fn settings() -> Settings {
    Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory: 64 << 20 }
}

fn reading(at: u64, cpu: Option<u64>, io: Option<u64>, throttled: Option<u64>, tasks: u32) -> Reading {
    let mut totals = Totals { throttled_ns: throttled, ..Totals::default() };
    totals.delay_ns.set(DelayKind::Cpu, cpu);
    totals.delay_ns.set(DelayKind::BlockIo, io);
    Reading { subject: ONE, at: Mono(at), totals, evidence: Evidence::Taskstats, tasks, uncounted: 0, blur_ns: 0 }
}

/// Steps between readings: time, growth of the CPU wait, growth of the block I/O wait, whether the latter is known.
fn steps() -> impl Strategy<Value = Vec<(u64, u64, u64, bool)>> {
    let apart = prop_oneof![Just(2 * MILLISECOND), Just(100 * MILLISECOND), 2 * MILLISECOND..300 * MILLISECOND];
    let growth = prop_oneof![Just(0u64), 0..5u64, 0..400 * MILLISECOND];
    prop::collection::vec((apart, growth.clone(), growth, prop::bool::weighted(0.95)), 1..40)
}

fn recorded(steps: &[(u64, u64, u64, bool)]) -> (Store, Vec<Reading>) {
    let mut store = Store::new(settings());
    let (mut at, mut cpu, mut io) = (START, 7_000_000_000, 3);
    let mut readings = vec![reading(at, Some(cpu), Some(io), None, 1)];
    for (apart, cpu_growth, io_growth, io_known) in steps {
        at += apart;
        cpu += cpu_growth;
        io += io_growth;
        readings.push(reading(at, Some(cpu), io_known.then_some(io), None, 1));
    }
    for reading in &readings {
        store.record(*reading);
    }
    (store, readings)
}

/// A cut somewhere around the readings, often exactly on one or one nanosecond beside it.
fn cut(readings: &[Reading], pick: (usize, u64, u8)) -> u64 {
    let near = readings[pick.0 % readings.len()].at.0;
    match pick.2 {
        0 => near,
        1 => near + 1,
        2 => near - 1,
        _ => near + pick.1,
    }
}

fn cuts() -> impl Strategy<Value = [(usize, u64, u8); 3]> {
    let one = (0..64usize, 0..150 * MILLISECOND, 0..6u8);
    [one.clone(), one.clone(), one]
}

fn cpu(window: &Window) -> u64 {
    window.delay_ns.get(DelayKind::Cpu).unwrap_or(0)
}

/// The running total at an instant, the slow and obvious way.
fn reference(readings: &[Reading], at: u64) -> u64 {
    let value = |reading: &Reading| u128::from(reading.totals.delay_ns.get(DelayKind::Cpu).unwrap());
    for pair in readings.windows(2) {
        let (from, to) = (u128::from(pair[0].at.0), u128::from(pair[1].at.0));
        let at = u128::from(at);
        if at <= to {
            let at = at.max(from);
            return (value(&pair[0]) + (value(&pair[1]) - value(&pair[0])) * (at - from) / (to - from)).try_into().unwrap();
        }
    }
    value(readings.last().unwrap()).try_into().unwrap()
}

proptest! {
    #[test]
    fn adjacent_windows_add_up_exactly(steps in steps(), picks in cuts()) {
        let (store, readings) = recorded(&steps);
        let mut at = picks.map(|pick| cut(&readings, pick));
        at.sort_unstable();
        let [a, b, c] = at.map(Mono);
        let (left, right, whole) = (store.window_mono(ONE, a, b), store.window_mono(ONE, b, c), store.window_mono(ONE, a, c));
        prop_assert_eq!(cpu(&left) + cpu(&right), cpu(&whole));
        let io = |window: &Window| window.delay_ns.get(DelayKind::BlockIo);
        if let (Some(left), Some(right), Some(whole)) = (io(&left), io(&right), io(&whole)) {
            prop_assert_eq!(left + right, whole);
        }
    }

    #[test]
    fn a_window_is_the_difference_of_the_interpolated_totals(steps in steps(), picks in cuts()) {
        let (store, readings) = recorded(&steps);
        let [a, b, _] = picks.map(|pick| cut(&readings, pick));
        let (a, b) = (a.min(b), a.max(b));
        let window = store.window_mono(ONE, Mono(a), Mono(b));
        prop_assert_eq!(cpu(&window), reference(&readings, b) - reference(&readings, a));
    }

    #[test]
    fn looking_again_and_again_tells_the_same_as_asking_once(
        steps in steps(),
        picks in prop::collection::vec(cuts(), 1..20),
        jump in prop_oneof![4 => Just(0_i64), 1 => -5_000_000_000..5_000_000_000_i64],
        events in prop::option::of((START..START + 3 * SECOND, any::<bool>(), START..START + 3 * SECOND)),
    ) {
        let (mut store, readings) = recorded(&steps);
        if let Some((at, some_subjects, lacking)) = events {
            store.events_begin(Mono(at), EventFields { some_subjects, ..EventFields::default() });
            store.sees(ONE, Mono(at));
            store.record_wait(&[ONE], Wait::new(7, DelayKind::Cpu, Mono(at + 1), Mono(at + 50 * MILLISECOND)));
            store.events_until(Mono(at + SECOND));
            store.record_lost(Mono(at + 100 * MILLISECOND), Mono(at + 150 * MILLISECOND));
            store.record_missing(ONE, Mono(lacking), Mono(lacking + 100 * MILLISECOND));
        }
        let base = 1_700_000_000 * SECOND;
        let last = readings[readings.len() - 1].at.0;
        for (mono, moved) in [(START, 0), (START.midpoint(last), 0), (START.midpoint(last) + 1, jump), (last, jump)] {
            store.observe_clock(Mono(mono), Wall((base + mono).checked_add_signed(moved).unwrap()));
        }
        let subjects = [ONE];
        let (mut look, mut window) = (store.look(&subjects), Window::default());
        for pick in picks {
            let [a, b, _] = pick.map(|pick| Wall(base + cut(&readings, pick)));
            for begin in [a, Wall(0)] {
                look.window(&mut window, begin, b);
                prop_assert_eq!(&window, &store.window_of(&subjects, begin, b));
            }
        }
    }

    #[test]
    fn the_window_from_first_to_last_is_their_difference(steps in steps()) {
        let (store, readings) = recorded(&steps);
        let (first, last) = (readings[0], readings[readings.len() - 1]);
        let window = store.window_mono(ONE, first.at, last.at);
        prop_assert_eq!(cpu(&window), last.totals.delay_ns.get(DelayKind::Cpu).unwrap() - first.totals.delay_ns.get(DelayKind::Cpu).unwrap());
        prop_assert_eq!(window.coverage, 1.0);
        let all_know = readings.iter().all(|reading| reading.totals.delay_ns.get(DelayKind::BlockIo).is_some());
        prop_assert_eq!(window.delay_ns.get(DelayKind::BlockIo).is_some(), all_know);
    }

    #[test]
    fn coverage_is_the_share_inside_the_readings(steps in steps(), before in 0..SECOND, after in 0..SECOND) {
        let (store, readings) = recorded(&steps);
        let (first, last) = (readings[0].at.0, readings[readings.len() - 1].at.0);
        let window = store.window_mono(ONE, Mono(first - before), Mono(last + after));
        #[expect(clippy::cast_precision_loss, reason = "test")]
        let expected = (last - first) as f64 / (last - first + before + after) as f64;
        prop_assert!((window.coverage - expected).abs() < 1e-9 && (0.0..=1.0).contains(&window.coverage));
    }

    /// The coverage of a window is what those of its parts add up to, however many tasks are counted when.
    #[test]
    fn a_share_of_counted_tasks_adds_up_over_adjacent_windows(shares in prop::collection::vec((2 * MILLISECOND..300 * MILLISECOND, 0..7u32), 2..30), picks in cuts()) {
        let mut store = Store::new(settings());
        let mut readings = vec![reading(START, Some(0), Some(0), None, 6)];
        for (apart, uncounted) in shares {
            let last = readings[readings.len() - 1].at.0;
            readings.push(Reading { uncounted: uncounted.min(5), ..reading(last + apart, Some(0), Some(0), None, 6) });
        }
        readings.iter().for_each(|one| store.record(*one));
        let newest = readings[readings.len() - 1].at.0;
        let mut at = picks.map(|pick| cut(&readings, pick).clamp(START, newest));
        at.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "test")]
        let covered = |from: u64, to: u64| if from == to { 0.0 } else { store.window_mono(ONE, Mono(from), Mono(to)).coverage * (to - from) as f64 };
        let [a, b, c] = at;
        prop_assert!((covered(a, b) + covered(b, c) - covered(a, c)).abs() < 3.0);
        #[expect(clippy::cast_precision_loss, reason = "test")]
        let truth: f64 = readings.windows(2).map(|pair| {
            let time = c.min(pair[1].at.0).saturating_sub(a.max(pair[0].at.0)) as f64;
            time * f64::from(6 - pair[1].uncounted) / 6.0
        }).sum();
        prop_assert!((covered(a, c) - truth).abs() < 3.0, "{} {}", covered(a, c), truth);
    }

    #[test]
    fn a_wider_window_never_holds_less(steps in steps(), picks in cuts(), wider in 0..SECOND) {
        let (store, readings) = recorded(&steps);
        let [a, b, _] = picks.map(|pick| cut(&readings, pick));
        let (a, b) = (a.min(b), a.max(b));
        let narrow = store.window_mono(ONE, Mono(a), Mono(b));
        let wide = store.window_mono(ONE, Mono(a - wider), Mono(b + wider));
        prop_assert!(cpu(&wide) >= cpu(&narrow));
        prop_assert!((0.0..=1.0).contains(&wide.coverage));
    }

    #[test]
    fn readings_however_near_leave_the_totals_and_bounded_rows(gaps in prop::collection::vec(1..MILLISECOND, 10..600)) {
        let mut store = Store::new(settings());
        let (mut at, mut total) = (START, 0);
        store.record(reading(at, Some(0), None, None, 1));
        for gap in &gaps {
            at += gap;
            total += gap / 3;
            store.record(reading(at, Some(total), None, None, 1));
            prop_assert_eq!(store.newest(ONE), Some(Mono(at)));
        }
        let window = store.window_mono(ONE, Mono(START), Mono(at));
        prop_assert_eq!((cpu(&window), window.coverage), (total, 1.0));
        let rows = usize::try_from((at - START) / u64::try_from(MIN_SPACING.as_nanos()).unwrap()).unwrap() + 2;
        prop_assert!(store.memory() <= 4096 + rows * 32, "{} bytes for {} rows", store.memory(), rows);
    }

    #[test]
    fn memory_never_exceeds_the_budget(
        budget in prop_oneof![Just(0usize), 100..2_000usize, 10_000..60_000usize],
        records in prop::collection::vec((0..40u64, 0..200 * MILLISECOND, any::<bool>()), 1..2_000),
    ) {
        let mut store = Store::new(Settings { memory: budget, ..settings() });
        let mut at = START;
        for (subject, apart, known) in records {
            at += apart;
            let one = reading(at, Some(at), known.then_some(at / 2), Some(at / 3), 1);
            store.record(Reading { subject: Subject::Container(ContainerKey(subject)), ..one });
            prop_assert!(store.memory() <= budget, "{} of {budget}", store.memory());
        }
        let held: usize = store.memory();
        store.expire(Mono(at));
        prop_assert!(store.memory() <= held);
        store.expire(Mono(at + 121 * SECOND));
        prop_assert_eq!((store.subjects(), store.newest(ONE)), (0, None));
    }

    #[test]
    fn a_clock_step_moves_no_stall(step in prop_oneof![-7_200i64..7_200, -6i64..6], at_tenth in 20..80u64) {
        let base = 1_700_000_000 * SECOND;
        let mut store = Store::new(settings());
        let wall = |mono: u64, shift: i64| Wall((base + mono).checked_add_signed(shift * SECOND.cast_signed()).unwrap());
        for tenth in 0..100u64 {
            let mono = START + tenth * 100 * MILLISECOND;
            let shift = if tenth < at_tenth { 0 } else { step };
            store.observe_clock(Mono(mono), wall(mono, shift));
            // All the waiting there is happens in the fifth second.
            store.record(reading(mono, Some((tenth.clamp(50, 60) - 50) * 70 * MILLISECOND), None, None, 1));
        }
        let shift_at = |tenth: u64| if tenth < at_tenth { 0 } else { step };
        let edge = |tenth: u64| wall(START + tenth * 100 * MILLISECOND, shift_at(tenth));
        let of = |from: u64, to: u64| store.window(ONE, edge(from), edge(to));
        let window = of(50, 60);
        // When the clock showed it: before the step, and after it.
        let stepped = i128::from(START + at_tenth * 100 * MILLISECOND);
        let oldest = i128::from(START + 9_900 * MILLISECOND).saturating_sub(120 * i128::from(SECOND)).max(0);
        let is_ambiguous = |edge: Wall| {
            let before = i128::from(edge.0) - i128::from(base);
            let after = before - i128::from(step) * i128::from(SECOND);
            let has_been = i128::from(START + 9_900 * MILLISECOND + 5 * SECOND);
            step != 0 && (oldest..=stepped).contains(&before) && (stepped - i128::from(100 * MILLISECOND)..=has_been).contains(&after) && before < after
        };
        if edge(60) < edge(50) || is_ambiguous(edge(50)) || is_ambiguous(edge(60)) {
            prop_assert_eq!(window, Window::default(), "reversed times, or such as have been twice");
        } else {
            let told = edge(60).since(edge(50)) as f64 / SECOND as f64;
            prop_assert_eq!(cpu(&window), 700 * MILLISECOND);
            prop_assert!((window.coverage - told.min(1.0) / told.max(1.0)).abs() < 1e-9, "{} of {told} s", window.coverage);
        }
        prop_assert!(cpu(&of(0, 99)) <= 700 * MILLISECOND);
    }

    #[test]
    fn of_a_time_that_never_was_nothing_is_known(step in 2..7_200u64, begin in 0.0..1.0f64, length in 0.0..1.0f64) {
        let base = 1_700_000_000 * SECOND;
        let mut store = Store::new(settings());
        for tenth in 0..100u64 {
            let mono = START + tenth * 100 * MILLISECOND;
            store.observe_clock(Mono(mono), Wall(base + mono + if tenth < 50 { 0 } else { step * SECOND }));
            store.record(reading(mono, Some(tenth * 70 * MILLISECOND), None, None, 1));
        }
        let skipped = (step * SECOND - 200 * MILLISECOND) as f64;
        let from = base + START + 5_100 * MILLISECOND + (skipped * begin) as u64;
        let to = from + (skipped * (1.0 - begin) * length) as u64;
        prop_assert_eq!(store.window(ONE, Wall(from), Wall(to)), Window::default());
        prop_assert_eq!(store.window(ONE, Wall(from), Wall(from)), Window::default());
    }
}
