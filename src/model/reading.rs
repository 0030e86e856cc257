//! What one look at the kernel yields.

use super::{Delays, Evidence, Mono, Subject};

/// Cumulative totals of a subject's tasks since the agent first saw the subject, exited tasks included.
/// They never go backwards. `None`: no source supplies it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nanoseconds waited, per kind.
    pub delay_ns: Delays<u64>,
    /// Number of waits that ended, per kind.
    pub delay_count: Delays<u64>,
    /// Nanoseconds on a CPU as the scheduler counts them (`se.sum_exec_runtime`).
    pub run_ns: Option<u64>,
    /// Nanoseconds of CPU quota throttling as the cgroup counts them (own and ancestors' quota; wall time per CPU,
    /// so it is not the part of `delay_ns` under throttling when more than one task is runnable).
    pub throttled_ns: Option<u64>,
}

/// One look at one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whom it describes.
    pub subject: Subject,
    /// When it was taken.
    pub at: Mono,
    /// How far from `at` that may have been, ns, to either side: asking takes its time.
    pub blur_ns: u64,
    /// What stood there.
    pub totals: Totals,
    /// The best evidence in it.
    pub evidence: Evidence,
    /// Tasks alive at the reading; 1 lets `throttled_ns` bound the throttled part of a wait.
    pub tasks: u32,
    /// Of them, those whose delays other than for a CPU the kernel never counted, though `totals` has these kinds: what is told
    /// of them is a lower bound.
    pub uncounted: u32,
}

/// What the cgroup files say about one container, cumulative where the kernel counts, absent where it does not.
/// Units are the kernel's, normalised over v1 and v2: nanoseconds, bytes, pages, events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupStat {
    /// CPU time, total (`cpu.stat usage_usec`, `cpuacct.usage`).
    pub cpu_usage_ns: Option<u64>,
    /// CPU time in user mode.
    pub cpu_user_ns: Option<u64>,
    /// CPU time in system mode.
    pub cpu_system_ns: Option<u64>,
    /// `nr_periods`.
    pub periods: Option<u64>,
    /// `nr_throttled`.
    pub throttled_periods: Option<u64>,
    /// `throttled_usec` / `throttled_time`, of this cgroup's own quota.
    pub throttled_ns: Option<u64>,
    /// `cpu.stat.local`'s throttled time: own and ancestors' quota (6.6+).
    pub throttled_local_ns: Option<u64>,
    /// Tightest quota on the path up, in CPUs; `None` when unlimited or unknown.
    pub cpu_limit: Option<f64>,
    /// Whether `cpu_limit` was read at all: with `true`, `None` means unlimited.
    pub cpu_limit_known: bool,
    /// `cpu.max.burst` / `cpu.cfs_burst_us`.
    pub cpu_burst_ns: Option<u64>,
    /// CPUs it may run on (`cpuset.cpus.effective` of it or the nearest cgroup above / `cpuset.effective_cpus`).
    pub cpus: Option<u32>,
    /// Its share where CPUs are short, 100 being a cgroup's default (`cpu.weight` / `cpu.shares` × 100 ÷ 1024).
    pub cpu_weight: Option<f64>,
    /// `memory.current` / `memory.usage_in_bytes`.
    pub memory_usage: Option<u64>,
    /// Usage less inactive file pages, as the kubelet computes it.
    pub memory_working_set: Option<u64>,
    /// Minor page faults (all less major).
    pub faults_minor: Option<u64>,
    /// Major page faults.
    pub faults_major: Option<u64>,
    /// `memory.events`: low, high, max, oom, oom_kill.
    pub memory_events: [Option<u64>; 5],
    /// Pages: direct scanned, direct reclaimed, kswapd scanned, kswapd reclaimed (v2 `memory.stat`, 6.0+).
    pub reclaim_pages: [Option<u64>; 4],
    /// Pages read again soon after they had been evicted: anonymous, file.
    pub refaults: [Option<u64>; 2],
    /// PSI totals in ns: `[cpu, memory, io, irq]`, each `[some, full]`.
    pub pressure_ns: [[Option<u64>; 2]; 4],
}
