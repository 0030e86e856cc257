//! What happened to a subject between two instants: the answer a span gets.

use std::sync::Arc;

use super::{DelayKind, Delays, Evidence, Mono};

/// What the numbers of a span describe (`stallspan.scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The span's own thread.
    Thread,
    /// The span's own process.
    Process,
    /// Its container.
    Container,
    /// Its pod.
    Pod,
    /// The whole node.
    Node,
}

impl Scope {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process => "process",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Node => "node",
        }
    }
}

/// `stallspan.verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing worth naming.
    None,
    /// Others ran.
    Neighbor,
    /// The scope's own tasks ran.
    SelfContention,
    /// A CPU quota held it back.
    Throttled,
    /// Waiting for a CPU, cause not separable with this source.
    Cpu,
    /// Reclaim, compaction, swap-in or thrashing.
    Memory,
    /// A block device.
    BlockIo,
    /// No cause has more than half.
    Mixed,
    /// Not enough is known.
    Unknown,
}

impl Verdict {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neighbor => "neighbor",
            Self::SelfContention => "self",
            Self::Throttled => "throttled",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::BlockIo => "block_io",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }
}

/// Who ran while the scope waited.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// `namespace/pod/container`, container name, systemd unit, or `host:<comm>`.
    pub name: Arc<str>,
    /// Its share of the wait, 0..=1.
    pub share: f64,
}

/// One wait, cut to the window: becomes a `stallspan.stall` event.
#[derive(Clone, Debug, PartialEq)]
pub struct Stall {
    /// Later of the wait's and the window's start.
    pub begin: Mono,
    /// When the wait itself began: with the thread, what tells it from all others.
    pub began: Mono,
    /// The thread that waited, as the host numbers it; 0 where not known.
    pub tid: u32,
    /// Length of the part inside the window.
    pub duration_ns: u64,
    /// What was waited for.
    pub kind: DelayKind,
    /// Who ran meanwhile, where known.
    pub culprit: Option<Arc<str>>,
}

/// Everything known about one subject in one window. Durations in nanoseconds, sums over the subject's tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Waits per kind inside the window.
    pub delay_ns: Delays<u64>,
    /// The part of the CPU wait under quota, where it can be known.
    pub throttled_ns: Option<u64>,
    /// Growth of the cgroup's throttled time inside the window (wall time per CPU): a hint for the verdict, no attribute.
    pub throttled_clock_ns: Option<u64>,
    /// Time on a CPU inside the window, where it was polled: a hint for the verdict, no attribute.
    pub run_ns: Option<u64>,
    /// Of the CPU wait: while other containers, units or host tasks ran (needs single waits).
    pub neighbor_ns: Option<u64>,
    /// Of the CPU wait: while the subject's own tasks ran (needs single waits).
    pub self_ns: Option<u64>,
    /// Wall-clock time during which at least one task waited for a CPU (needs single waits).
    pub stalled_ns: Option<u64>,
    /// Longest single wait inside the window (needs single waits).
    pub longest_wait_ns: Option<u64>,
    /// Who ran most of the waiting time.
    pub culprit: Option<Culprit>,
    /// Longest single waits, longest first.
    pub stalls: Vec<Stall>,
    /// Share of the window covered by readings, 0..=1. 0 with everything else absent: nothing is known.
    pub coverage: f64,
    /// Larger of the distances between the readings around the two edges; 0 when every wait was seen.
    pub resolution_ns: u64,
    /// Best evidence used; `None` where there is none.
    pub evidence: Option<Evidence>,
}

impl Window {
    /// As the other one, but for stalls and culprit, of which there are none then. The list of stalls keeps its memory: windows
    /// of many spans are asked for one after the other.
    pub fn become_like(&mut self, other: &Self) {
        // Field by field: as a whole it would be made elsewhere, moved, and what was here dropped, once a span.
        let Self {
            delay_ns,
            throttled_ns,
            throttled_clock_ns,
            run_ns,
            neighbor_ns,
            self_ns,
            stalled_ns,
            longest_wait_ns,
            culprit,
            stalls,
            coverage,
            resolution_ns,
            evidence,
        } = self;
        *delay_ns = other.delay_ns;
        (*throttled_ns, *throttled_clock_ns, *run_ns) = (other.throttled_ns, other.throttled_clock_ns, other.run_ns);
        (*neighbor_ns, *self_ns) = (other.neighbor_ns, other.self_ns);
        (*stalled_ns, *longest_wait_ns) = (other.stalled_ns, other.longest_wait_ns);
        (*coverage, *resolution_ns, *evidence) = (other.coverage, other.resolution_ns, other.evidence);
        *culprit = None;
        stalls.clear();
    }

    /// Nothing known; the list of stalls keeps its memory.
    pub fn clear(&mut self) {
        self.become_like(&Self::default());
    }
}
