//! What a metric collection sees: everything cumulative, with its start time.

use std::sync::Arc;

use super::{Absence, CgroupStat, Container, SingleWaits, SourceName, Totals, Wall};

/// One container at one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSnapshot {
    /// Who.
    pub container: Arc<Container>,
    /// When the agent's own counters of it began (start time of `totals`' points).
    pub since: Wall,
    /// Totals over its tasks since `since`.
    pub totals: Totals,
    /// What its cgroup files say (cumulative since the cgroup's creation).
    pub cgroup: CgroupStat,
    /// What its single waits add up to; `None` where no event source sees them.
    pub singles: Option<SingleWaits>,
}

/// The node at one collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSnapshot {
    /// `/proc/schedstat`, else what an event source counted: (cpu, wait ns, run ns, timeslices).
    pub cpus: Vec<NodeCpu>,
    /// Start of `cpus` where that is not the boot.
    pub cpus_since: Option<Wall>,
    /// PSI totals in ns: `[cpu, memory, io, irq]`, each `[some, full]`.
    pub pressure_ns: [[Option<u64>; 2]; 4],
    /// Pages: direct scanned, direct reclaimed, kswapd scanned, kswapd reclaimed.
    pub reclaim_pages: [Option<u64>; 4],
    /// `allocstall*`, summed over zones.
    pub allocation_stalls: Option<u64>,
    /// `compact_stall`
    pub compaction_stalls: Option<u64>,
    /// Pages swapped in, out (`pswpin`, `pswpout`).
    pub swap_pages: [Option<u64>; 2],
    /// Page faults of the host: minor, major.
    pub faults: [Option<u64>; 2],
    /// CPU time spent in interrupts, ns: hard, soft.
    pub irq_ns: [Option<u64>; 2],
    /// Dying memory cgroups.
    pub cgroups_dying: Option<u64>,
    /// Boot time: start of the kernel's counters.
    pub boot: Option<Wall>,
    /// Each source: on, or why not.
    pub sources: Vec<(SourceName, Result<(), Absence>)>,
    /// 1 − Σ containers and host groups ÷ node total.
    pub unexplained_ratio: Option<f64>,
    /// Running mesh proxies by container name.
    pub mesh_proxies: Vec<(String, u64)>,
    /// The event source, where there is one.
    pub events: Option<EventSource>,
}

/// What the event source costs and misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// When it began to see.
    pub since: Wall,
    /// Memory of its maps in the kernel, bytes.
    pub map_bytes: u64,
    /// Waits handed over one by one.
    pub records: u64,
    /// Waits that could not be handed over for want of room; their time is in the totals.
    pub lost: u64,
}

/// A CPU of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCpu {
    /// Logical number.
    pub cpu: u32,
    /// Run-queue wait, ns.
    pub wait_ns: u64,
    /// Run time, ns.
    pub run_ns: u64,
    /// Time slices.
    pub timeslices: u64,
}
