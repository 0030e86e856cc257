//! What all single waits of a container add up to, as an event source counts them.

use super::Wall;

/// All single waits of one container; everything cumulative since `since`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleWaits {
    /// When counting began.
    pub since: Wall,
    /// Waits for a CPU.
    pub cpu: Durations,
    /// Direct reclaims, global and of the memory limit; `None` where the kernel does not tell of them.
    pub reclaim: Option<Durations>,
    /// Direct compactions; `None` where the kernel does not tell of them.
    pub compaction: Option<Durations>,
    /// Thresholds in ns, and how many waits for a CPU were at least as long.
    pub long_waits: Vec<(u64, u64)>,
    /// Who ran while it waited.
    pub blamed: Vec<Blamed>,
}

/// A distribution of durations in the buckets of OTLP's base-2 exponential histogram of seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Scale: a bucket's bounds are powers of 2^(2^-scale).
    pub scale: i32,
    /// Index of the first of `counts`.
    pub first: i32,
    /// Shorter than the first bucket.
    pub below: u64,
    /// In each bucket; what is longer than the last one is in the last one.
    pub counts: Vec<u64>,
    /// Sum, ns.
    pub sum_ns: u64,
}

impl Durations {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(self.below, |sum, count| sum.saturating_add(*count))
    }
}

/// What kind of culprit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CulpritKind {
    /// Another container.
    Neighbor,
    /// The container itself: its own tasks ran.
    Own,
    /// A process outside of all containers.
    Host,
    /// A CPU quota.
    Throttled,
    /// Nobody: the CPU was idle.
    Idle,
}

impl CulpritKind {
    /// All, in the order of the contract.
    pub const ALL: [Self; 5] = [Self::Neighbor, Self::Own, Self::Host, Self::Throttled, Self::Idle];

    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Neighbor => "neighbor",
            Self::Own => "self",
            Self::Host => "host",
            Self::Throttled => "throttled",
            Self::Idle => "idle",
        }
    }
}

/// Time that a container waited while somebody ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blamed {
    /// Who: `namespace/pod/container`, `host:<comm>`, `other`; the word of the kind where it is nobody.
    pub name: String,
    /// What kind.
    pub kind: CulpritKind,
    /// When counting under this name began.
    pub since: Wall,
    /// How long, ns; cumulative.
    pub ns: u64,
}
