//! Files about the whole node: `/proc/schedstat`, `/proc/vmstat`, `/proc/stat`, `/proc/net/netlink`.

use procfs::{ExplicitSystemInfo, FromBufReadSI, KernelStats};

use crate::model::NodeCpu;

use super::text::{lines, number, number32, pairs, words};

/// `/proc/schedstat` (kernel/sched/stats.c). Versions 14 to 17 differ in their domain lines only; fields 7 to 9 of a
/// CPU line are kept whatever `kernel.sched_schedstats` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcSchedstat {
    /// Format version.
    pub version: u32,
    /// CPUs in the order of the file.
    pub cpus: Vec<NodeCpu>,
}

/// Why a text is no `/proc/schedstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcSchedstatError {
    /// No `version N` line.
    #[error("/proc/schedstat does not begin with its version")]
    NoVersion,
    /// The CPU line's fields are not where we know them.
    #[error("/proc/schedstat version {0} is not known")]
    UnknownVersion(u32),
}

/// Versions whose CPU line is known here.
const KNOWN_VERSIONS: std::ops::RangeInclusive<u32> = 14..=17;
/// Fields of a CPU line, the name not counted.
const CPU_FIELDS: usize = 9;
/// Version 14 may have three more yield counters in front.
const CPU_FIELDS_14: usize = 12;

/// Reads the CPU lines. A CPU whose line is short or whose numbers do not fit is left out.
pub fn proc_schedstat(text: &[u8]) -> Result<ProcSchedstat, ProcSchedstatError> {
    let mut lines = lines(text);
    let mut first = words(lines.next().ok_or(ProcSchedstatError::NoVersion)?);
    if first.next() != Some(b"version") {
        return Err(ProcSchedstatError::NoVersion);
    }
    let version = first.next().and_then(number32).ok_or(ProcSchedstatError::NoVersion)?;
    if !KNOWN_VERSIONS.contains(&version) {
        return Err(ProcSchedstatError::UnknownVersion(version));
    }
    Ok(ProcSchedstat { version, cpus: lines.filter_map(|line| node_cpu(line, version)).collect() })
}

fn node_cpu(line: &[u8], version: u32) -> Option<NodeCpu> {
    let fields = if version == 14 && words(line).count() > CPU_FIELDS_14 { CPU_FIELDS_14 } else { CPU_FIELDS };
    let mut words = words(line);
    let cpu = number32(words.next()?.strip_prefix(b"cpu")?)?;
    let run_ns = number(words.nth(fields.checked_sub(3)?)?)?;
    let wait_ns = number(words.next()?)?;
    let timeslices = number(words.next()?)?;
    Some(NodeCpu { cpu, wait_ns, run_ns, timeslices })
}

/// What is taken from `/proc/vmstat` (mm/vmstat.c). Reclaim at a memory cgroup's limit is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmstat {
    /// Pages: direct scanned, direct reclaimed, kswapd scanned, kswapd reclaimed.
    pub reclaim_pages: [Option<u64>; 4],
    /// Allocations that had to reclaim, over all zones.
    pub allocation_stalls: Option<u64>,
    /// Allocations that had to compact.
    pub compaction_stalls: Option<u64>,
    /// Pages swapped in, out.
    pub swap_pages: [Option<u64>; 2],
    /// Page faults, major ones among them.
    pub faults: Option<u64>,
    /// Major page faults.
    pub major_faults: Option<u64>,
}

/// Zone suffixes: before 4.8 reclaim, since 4.10 allocation stalls are counted by zone.
const ZONES: [&[u8]; 6] = [b"_dma", b"_dma32", b"_normal", b"_high", b"_movable", b"_device"];

/// Counters taken, without zone.
const VMSTAT_NAMES: [&[u8]; 10] = [
    b"pgscan_direct",
    b"pgsteal_direct",
    b"pgscan_kswapd",
    b"pgsteal_kswapd",
    b"allocstall",
    b"compact_stall",
    b"pswpin",
    b"pswpout",
    b"pgfault",
    b"pgmajfault",
];

/// Reads the counters under their old and new names; a counter kept by zone is the sum of its zones.
#[must_use]
pub fn vmstat(text: &[u8]) -> Vmstat {
    let mut sums = [None::<u128>; VMSTAT_NAMES.len()];
    for (name, value) in pairs(text) {
        let base = ZONES.iter().find_map(|zone| name.strip_suffix(*zone)).unwrap_or(name);
        if let Some((_, sum)) = VMSTAT_NAMES.iter().zip(&mut sums).find(|(known, _)| **known == base) {
            *sum = Some(sum.unwrap_or(0).saturating_add(u128::from(value)));
        }
    }
    let [d0, d1, k0, k1, alloc, compact, swap_in, swap_out, faults, major] = sums.map(|sum| u64::try_from(sum?).ok());
    Vmstat {
        reclaim_pages: [d0, d1, k0, k1],
        allocation_stalls: alloc,
        compaction_stalls: compact,
        swap_pages: [swap_in, swap_out],
        faults,
        major_faults: major,
    }
}

impl Vmstat {
    /// Minor faults: all less major.
    #[must_use]
    pub fn minor_faults(&self) -> Option<u64> {
        Some(self.faults?.saturating_sub(self.major_faults?))
    }
}

/// `/proc/stat`: boot time in seconds since the epoch.
#[must_use]
pub fn boot_time(text: &[u8]) -> Option<u64> {
    // Only the time is taken, which does not depend on what is given here.
    let system =
        ExplicitSystemInfo { boot_time_secs: 0, ticks_per_second: 100, page_size: 4096, is_little_endian: cfg!(target_endian = "little") };
    KernelStats::from_buf_read(text, &system).ok().map(|stats| stats.btime).filter(|seconds| *seconds > 0)
}

/// `/proc/net/netlink` (net/netlink/af_netlink.c): messages the kernel dropped for the socket with this inode because
/// its buffer was full.
#[must_use]
pub fn netlink_drops(text: &[u8], inode: u64) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut words = words(line);
        let drops = number(words.nth(8)?);
        (number(words.next()?)? == inode).then_some(drops).flatten()
    })
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
