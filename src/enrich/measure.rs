//! What a window says about a span, in the contract's terms (§1, "Rules of these numbers").

use super::{MeshDelay, Seen, Settings};
use crate::model::time::seconds;
use crate::model::{DelayKind, Evidence, Scope, Verdict, Window};
use crate::otlp::names::{self, Name};

/// Longest culprit's name written, in bytes.
const MAX_NAME_LEN: usize = 256;

/// The attributes that are doubles, in the order in which they are written. The eight delays stand in the order of
/// [`DelayKind`].
pub(super) const DOUBLES: [Name; 17] = [
    names::COVERAGE,
    names::RESOLUTION,
    names::DELAY_CPU,
    names::DELAY_BLOCK_IO,
    names::DELAY_SWAPIN,
    names::DELAY_RECLAIM,
    names::DELAY_COMPACTION,
    names::DELAY_THRASHING,
    names::DELAY_WRITE_PROTECT_COPY,
    names::DELAY_IRQ,
    names::DELAY_THROTTLED,
    names::STALLED,
    names::STALL_RATIO,
    names::LONGEST_WAIT,
    names::CULPRIT_SHARE,
    names::APP_DELAY_CPU,
    names::PROXY_DELAY_CPU,
];

const COVERAGE: usize = 0;
const RESOLUTION: usize = 1;
const FIRST_DELAY: usize = 2;
const THROTTLED: usize = 10;
const STALLED: usize = 11;
const STALL_RATIO: usize = 12;
const LONGEST_WAIT: usize = 13;
const CULPRIT_SHARE: usize = 14;
const APP_CPU: usize = 15;
const PROXY_CPU: usize = 16;

/// What is written onto one span.
#[derive(Debug)]
pub(super) struct Measures<'a> {
    pub(super) scope: Scope,
    pub(super) evidence: Evidence,
    pub(super) verdict: Verdict,
    pub(super) culprit: Option<&'a str>,
    /// Values of [`DOUBLES`].
    pub(super) doubles: [f64; 17],
    /// Bit i: `doubles[i]` is known.
    pub(super) known: u32,
}

impl<'a> Measures<'a> {
    /// `duration`: the span's, ns; `None` where its times are missing or reversed.
    pub(super) fn of(seen: &'a Seen, mesh: MeshDelay, duration: Option<u64>, settings: &Settings) -> Self {
        let Seen { scope, window, hints } = seen;
        let covered = if duration.is_some() { window.coverage.clamp(0.0, 1.0) } else { 0.0 };
        // NaN is no coverage either.
        let covered = if covered > 0.0 { covered } else { 0.0 };
        let resolution_ns = if window.evidence.is_some() { window.resolution_ns } else { settings.resolution_ns };
        let mut measures = Self {
            scope: *scope,
            evidence: window.evidence.unwrap_or(settings.best_evidence),
            verdict: Verdict::Unknown,
            culprit: None,
            doubles: [0.0; 17],
            known: 0,
        };
        measures.set(COVERAGE, covered);
        measures.set(RESOLUTION, seconds(resolution_ns));
        if let (Some(duration), true) = (duration, covered > 0.0) {
            measures.verdict = (settings.verdict)(window, duration, *hints);
            measures.delays(window, mesh);
            measures.single_waits(window, duration);
            measures.blame(window);
        }
        measures
    }

    /// Whether any part of the span is covered by readings.
    pub(super) fn covered(&self) -> bool {
        self.doubles.get(COVERAGE).is_some_and(|covered| *covered > 0.0)
    }

    fn set(&mut self, index: usize, value: f64) {
        if let Some(slot) = self.doubles.get_mut(index) {
            *slot = value;
            self.known |= 1 << index;
        }
    }

    fn set_ns(&mut self, index: usize, ns: Option<u64>) {
        if let Some(ns) = ns {
            self.set(index, seconds(ns));
        }
    }

    fn delays(&mut self, window: &Window, mesh: MeshDelay) {
        for (offset, ns) in window.delay_ns.0.iter().enumerate() {
            self.set_ns(FIRST_DELAY + offset, *ns);
        }
        // Throttling is a part of the CPU wait, so it is never more.
        let cpu = window.delay_ns.get(DelayKind::Cpu);
        self.set_ns(THROTTLED, window.throttled_ns.map(|ns| ns.min(cpu.unwrap_or(ns))));
        self.set_ns(APP_CPU, mesh.app_cpu_ns);
        self.set_ns(PROXY_CPU, mesh.proxy_cpu_ns);
    }

    /// `longest_wait` <= `stalled` <= duration, whatever the clocks said.
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
    fn single_waits(&mut self, window: &Window, duration: u64) {
        let stalled = window.stalled_ns.map(|ns| ns.min(duration));
        self.set_ns(STALLED, stalled);
        if let (Some(stalled), true) = (stalled, duration > 0) {
            self.set(STALL_RATIO, stalled as f64 / duration as f64);
        }
        self.set_ns(LONGEST_WAIT, window.longest_wait_ns.map(|ns| ns.min(stalled.unwrap_or(duration))));
    }

    fn blame(&mut self, window: &'a Window) {
        let Some(culprit) = &window.culprit else { return };
        self.culprit = Some(clip(&culprit.name));
        let share = culprit.share.clamp(0.0, 1.0);
        if !share.is_nan() {
            self.set(CULPRIT_SHARE, share);
        }
    }
}

/// At most [`MAX_NAME_LEN`] bytes, whole characters.
pub(super) fn clip(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_NAME_LEN)).unwrap_or(name)
}
