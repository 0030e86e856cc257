//! What a process used of the machine, as the kernel counts it, and which CPU it may use.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the measured system runs.
pub const MEASURED: usize = 0;
/// Where load and sink run.
pub const OTHERS: usize = 1;

/// Runs something with this thread on one CPU: processes and threads that it starts stay there.
pub fn on_cpu<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).unwrap();
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).unwrap_or_else(|e| panic!("CPU {cpu} cannot be had, and the figures need two: {e}"));
    let result = work();
    sched_setaffinity(None, &before).unwrap();
    result
}

/// CPU time of all threads that live: the first field of each one's `schedstat`, ns (Documentation/scheduler/sched-stats.rst).
pub fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of_thread = |thread: std::fs::DirEntry| -> Option<u64> {
        let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}

/// A line of `/proc/PID/status` or `smaps_rollup`, in MiB.
pub fn memory_mib(pid: u32, file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|rest| rest.trim().strip_suffix(" kB")).unwrap().trim().parse().unwrap();
    kib / 1024.0
}

/// How busy the machine is with everything, as `uptime` says it.
pub fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').take(3).collect::<Vec<_>>().join(" ")
}
