//! Two clocks as two types, so that a span's time is never subtracted from a kernel time.

/// `CLOCK_MONOTONIC`, nanoseconds since boot: the clock of readings (and of `bpf_ktime_get_ns`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// `CLOCK_REALTIME`, nanoseconds since the Unix epoch: the clock of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Mono {
    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant `ns` nanoseconds later.
    #[must_use]
    pub fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// This instant `ns` nanoseconds earlier.
    #[must_use]
    pub fn minus(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }
}

impl Wall {
    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds as the double seconds that OTLP wants. The only place where a duration becomes a float.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits hold 104 days to the nanosecond; beyond that microseconds are enough")]
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
