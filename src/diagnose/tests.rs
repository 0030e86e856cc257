use proptest::prelude::*;

use super::*;
use crate::model::Delays;

const MS: u64 = 1_000_000;

/// A window of 100 ms, fully covered, with these delays in milliseconds.
fn window(delays: &[(DelayKind, u64)]) -> Window {
    let mut window = Window { coverage: 1.0, ..Window::default() };
    for &(kind, ms) in delays {
        window.delay_ns.set(kind, Some(ms * MS));
    }
    window
}

#[track_caller]
fn check(window: &Window, expected: Verdict) {
    assert_eq!(verdict(window, 100 * MS, Hints::default()), expected, "{window:?}");
}

#[test]
fn nothing_known_is_unknown_and_measured_zero_is_none() {
    check(&Window { coverage: 1.0, ..Window::default() }, Verdict::Unknown);
    check(&window(&[(DelayKind::Irq, 50), (DelayKind::WriteProtectCopy, 50)]), Verdict::Unknown);
    check(&window(&[(DelayKind::Cpu, 0)]), Verdict::None);
    check(&window(&[(DelayKind::BlockIo, 0)]), Verdict::None);
}

#[test]
fn too_little_coverage_is_unknown_whatever_was_read() {
    for (coverage, expected) in [(0.0, Verdict::Unknown), (0.499, Verdict::Unknown), (0.5, Verdict::Cpu), (f64::NAN, Verdict::Unknown)] {
        check(&Window { coverage, ..window(&[(DelayKind::Cpu, 50)]) }, expected);
    }
}

#[test]
fn both_floors_hold_at_the_nanosecond() {
    let at = |ns| {
        let mut window = window(&[]);
        window.delay_ns.set(DelayKind::Cpu, Some(ns));
        window
    };
    #[track_caller]
    fn check(window: &Window, duration: u64, expected: Verdict) {
        assert_eq!(verdict(window, duration, Hints::default()), expected);
    }
    check(&at(999_999), 2 * MS, Verdict::None);
    check(&at(1_000_000), 2 * MS, Verdict::Cpu);
    check(&at(4_999_999), 100 * MS, Verdict::None);
    check(&at(5_000_000), 100 * MS, Verdict::Cpu);
    check(&at(1_000_000), 0, Verdict::Cpu);
    check(&at(999_999), 0, Verdict::None);
    check(&at(u64::MAX), u64::MAX, Verdict::Cpu);
}

#[test]
fn polled_evidence_tells_cpu_memory_and_block_io_apart() {
    use DelayKind::{BlockIo, Compaction, Cpu, Reclaim, Swapin, Thrashing};
    check(&window(&[(Cpu, 40), (BlockIo, 10)]), Verdict::Cpu);
    check(&window(&[(Cpu, 10), (BlockIo, 40)]), Verdict::BlockIo);
    check(&window(&[(Cpu, 10), (Reclaim, 40)]), Verdict::Memory);
    // The memory delays overlap: the largest counts, not their sum.
    check(&window(&[(Cpu, 30), (Reclaim, 20), (Compaction, 20), (Swapin, 20), (Thrashing, 20)]), Verdict::Cpu);
    check(&window(&[(Cpu, 25), (BlockIo, 25)]), Verdict::Mixed);
    check(&window(&[(Cpu, 20), (BlockIo, 20), (Reclaim, 20)]), Verdict::Mixed);
}

#[test]
fn single_waits_tell_neighbor_self_and_throttled_apart() {
    let split = |throttled, neighbor, own| Window {
        throttled_ns: Some(throttled * MS),
        neighbor_ns: Some(neighbor * MS),
        self_ns: Some(own * MS),
        ..window(&[(DelayKind::Cpu, 60)])
    };
    check(&split(0, 55, 5), Verdict::Neighbor);
    check(&split(5, 5, 50), Verdict::SelfContention);
    check(&split(40, 20, 0), Verdict::Throttled);
    check(&split(20, 20, 20), Verdict::Mixed);
    // Most of the wait has no owner: nobody is blamed for the little that has.
    check(&split(0, 5, 0), Verdict::Cpu);
}

#[test]
fn a_known_throttled_part_beats_the_clock() {
    let known = Window { throttled_ns: Some(0), throttled_clock_ns: Some(100 * MS), ..window(&[(DelayKind::Cpu, 60)]) };
    check(&known, Verdict::Cpu);
    let clock_only = Window { throttled_ns: None, ..known };
    check(&clock_only, Verdict::Throttled);
    let hardly = Window { throttled_clock_ns: Some(20 * MS), ..clock_only };
    check(&hardly, Verdict::Cpu);
}

#[test]
fn throttling_is_told_even_where_the_cpu_wait_is_not_known() {
    check(&Window { throttled_ns: Some(50 * MS), ..window(&[]) }, Verdict::Throttled);
}

/// Windows whose parts lie near the floors and near halves of each other.
fn near_windows() -> impl Strategy<Value = (Window, u64)> {
    let near = prop::option::of(prop_oneof![Just(0), (0u64..4).prop_map(|n| n * MS), 900_000u64..1_100_000, 4_900_000u64..5_100_000]);
    let delays = prop::array::uniform8(near.clone());
    (delays, near.clone(), near.clone(), near.clone(), near, 0.4f64..1.0, 0u64..120 * MS).prop_map(
        |(delays, throttled_ns, throttled_clock_ns, neighbor_ns, self_ns, coverage, duration)| {
            let delay_ns = Delays(delays);
            (Window { delay_ns, throttled_ns, throttled_clock_ns, neighbor_ns, self_ns, coverage, ..Window::default() }, duration)
        },
    )
}

proptest! {
    /// The contract's rule, written a second time in floating point and from the top.
    #[test]
    fn follows_the_contract((window, duration) in near_windows()) {
        let ms = |part: Option<u64>| part.unwrap_or(0) as f64 / 1e6;
        let kind = |kind| window.delay_ns.get(kind);
        let largest = [DelayKind::Reclaim, DelayKind::Compaction, DelayKind::Swapin, DelayKind::Thrashing].map(kind).into_iter().max().flatten();
        let throttled = window.throttled_ns.or_else(|| {
            Some(window.throttled_clock_ns.unwrap_or(0).min(kind(DelayKind::Cpu).unwrap_or(0)))
        });
        let rest = (ms(kind(DelayKind::Cpu)) - ms(throttled) - ms(window.neighbor_ns) - ms(window.self_ns)).max(0.0);
        let parts = [
            (ms(throttled), Verdict::Throttled),
            (ms(window.neighbor_ns), Verdict::Neighbor),
            (ms(window.self_ns), Verdict::SelfContention),
            (rest, Verdict::Cpu),
            (ms(largest), Verdict::Memory),
            (ms(kind(DelayKind::BlockIo)), Verdict::BlockIo),
        ];
        let total: f64 = parts.iter().map(|(part, _)| part).sum();
        // Within a rounding error of a boundary the two may differ.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        prop_assume!(!close(total, 1.0) && !close(total * 20.0, duration as f64 / 1e6));
        prop_assume!(parts.iter().all(|(part, _)| !close(part * 2.0, total) || close(total, 0.0)));
        let known = [DelayKind::Cpu, DelayKind::BlockIo].map(kind).into_iter().any(|part| part.is_some()) || largest.is_some() || window.throttled_ns.is_some();
        let expected = if window.coverage < 0.5 || !known {
            Verdict::Unknown
        } else if total < 1.0 || total * 20.0 < duration as f64 / 1e6 {
            Verdict::None
        } else {
            parts.iter().find(|(part, _)| part * 2.0 > total).map_or(Verdict::Mixed, |(_, verdict)| *verdict)
        };
        prop_assert_eq!(verdict(&window, duration, Hints::default()), expected);
    }

    /// Hints only ever move a verdict towards or away from `throttled`; they never make one known or unknown.
    #[test]
    fn hints_change_nothing_where_the_throttled_part_is_known((window, duration) in near_windows(), cpus in 0u32..5, tasks in 0u32..9) {
        let window = Window { throttled_ns: Some(window.throttled_ns.unwrap_or(0)), ..window };
        let hints = Hints { cpus: Some(cpus), tasks: Some(tasks), ..Hints::default() };
        prop_assert_eq!(verdict(&window, duration, hints), verdict(&window, duration, Hints::default()));
    }
}
