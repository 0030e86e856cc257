//! Room `diagnose`: a window -> one word that says why (`stallspan.verdict`). Pure.
//!
//! The rule is the contract's: with T = throttled, N = the rest of the CPU wait while others ran, S = while the scope's own tasks
//! ran, M = the largest of reclaim, compaction, swap-in and thrashing, B = block I/O, the verdict is the one with more than half of
//! T + N + S + M + B. What of the CPU wait no source could tell apart (C) is a candidate of its own, `cpu`.
//!
//! What it deliberately does not do: name a culprit, look at more than one window, or guess. Where the throttled part is not
//! known but the cgroup's throttle clock is, only that much counts as throttled as must have been (`throttle.rs`); where nobody saw
//! who ran, a wait counts as the scope's own doing only where its own tasks are more than its CPUs (`crowding.rs`).

mod crowding;
mod hints;
mod throttle;

pub use hints::Hints;

use crate::model::{DelayKind, Verdict, Window};

/// Waits that amount to less than this are not worth naming, in nanoseconds.
const FLOOR_NS: u128 = 1_000_000;

/// Nor are those below one part in this many of the span's duration (5 %).
const FLOOR_PART: u128 = 20;

/// Least coverage with which a window can be judged.
const LEAST_COVERAGE: f64 = 0.5;

/// Judges one window of a span that lasted `duration_ns`.
#[must_use]
pub fn verdict(window: &Window, duration_ns: u64, hints: Hints) -> Verdict {
    // Written so that NaN counts as not covered.
    let covered = window.coverage >= LEAST_COVERAGE;
    let Some(parts) = Parts::of(window, duration_ns, hints).filter(|_| covered) else {
        return Verdict::Unknown;
    };
    let total: u128 = parts.0.iter().map(|&(_, ns)| u128::from(ns)).sum();
    if total < FLOOR_NS || total.saturating_mul(FLOOR_PART) < u128::from(duration_ns) {
        return Verdict::None;
    }
    let has_more_than_half = |&&(_, ns): &&(Verdict, u64)| u128::from(ns) * 2 > total;
    parts.0.iter().find(has_more_than_half).map_or(Verdict::Mixed, |&(verdict, _)| verdict)
}

/// The candidates with their nanoseconds.
struct Parts([(Verdict, u64); 6]);

impl Parts {
    /// `None` when no delay is known from which one could judge.
    fn of(window: &Window, duration_ns: u64, hints: Hints) -> Option<Self> {
        let cpu = window.delay_ns.get(DelayKind::Cpu);
        let memory = [DelayKind::Reclaim, DelayKind::Compaction, DelayKind::Swapin, DelayKind::Thrashing];
        let memory = memory.into_iter().filter_map(|kind| window.delay_ns.get(kind)).max();
        let block_io = window.delay_ns.get(DelayKind::BlockIo);
        cpu.or(window.throttled_ns).or(memory).or(block_io)?;

        let cpu = cpu.unwrap_or(0);
        let throttled = window.throttled_ns.unwrap_or_else(|| throttle::least(cpu, window.throttled_clock_ns, duration_ns, hints));
        let told_apart = |part: Option<u64>| part.unwrap_or(0);
        let neighbor = told_apart(window.neighbor_ns);
        let own = window.self_ns.unwrap_or_else(|| crowding::own(cpu, cpu.saturating_sub(throttled), window.run_ns, duration_ns, hints));
        let not_separable = cpu.saturating_sub(throttled).saturating_sub(neighbor).saturating_sub(own);
        Some(Self([
            (Verdict::Throttled, throttled),
            (Verdict::Neighbor, neighbor),
            (Verdict::SelfContention, own),
            (Verdict::Cpu, not_separable),
            (Verdict::Memory, memory.unwrap_or(0)),
            (Verdict::BlockIo, block_io.unwrap_or(0)),
        ]))
    }
}

#[cfg(test)]
mod tests;
