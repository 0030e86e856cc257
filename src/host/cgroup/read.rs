//! One container's files -> [`CgroupStat`]. Nothing here fails: what cannot be read is absent.

use std::path::Path;

use crate::model::CgroupStat;
use crate::parse::cgroup::cpu::{Quota, burst_ns, cpu_count, cpu_stat, cpuacct_stat, weight};
use crate::parse::cgroup::memory::{memory_events, memory_events_v1, memory_stat};
use crate::parse::cgroup::pressure::pressure;
use crate::parse::text::single;

use super::super::files::{SMALL, read_path};
use super::above::quota_of;
use super::dirs::{CgroupDirs, Place};

/// `cgroup.memory` files of nested trees can be long lists of zones on vendor kernels.
const MEMORY_STAT: usize = 256 << 10;
/// In the order of [`CgroupStat::pressure_ns`].
const PRESSURE: [&str; 4] = ["cpu.pressure", "memory.pressure", "io.pressure", "irq.pressure"];

fn text(dir: &Path, name: &str) -> Vec<u8> {
    read_path(&dir.join(name), SMALL).unwrap_or_default()
}

/// Everything the files of one container say now.
pub(crate) fn stat(dirs: &CgroupDirs, clock_ticks: u64) -> CgroupStat {
    let mut stat = CgroupStat::default();
    usage(dirs, clock_ticks, &mut stat);
    if let Some(place) = &dirs.cpu {
        quota(place, &mut stat);
    }
    stat.cpus = dirs.cpuset.as_ref().and_then(allowed);
    let throttle = dirs.throttle();
    stat.periods = throttle.periods;
    stat.throttled_periods = throttle.throttled_periods;
    stat.throttled_ns = throttle.own_ns;
    stat.throttled_local_ns = throttle.local_ns;
    if let Some(place) = &dirs.memory {
        memory(place, &mut stat);
    }
    if let Some(place) = &dirs.unified {
        stat.pressure_ns = PRESSURE.map(|name| pressure(&text(&place.dir, name)));
    }
    stat
}

/// CPU time: `cpuacct` where it stands on version 1, else the unified `cpu.stat`, which has it with or without the
/// cpu controller.
fn usage(dirs: &CgroupDirs, clock_ticks: u64, stat: &mut CgroupStat) {
    if let Some(place) = dirs.cpuacct.as_ref().filter(|place| !place.unified) {
        stat.cpu_usage_ns = single(&text(&place.dir, "cpuacct.usage"));
        (stat.cpu_user_ns, stat.cpu_system_ns) = cpuacct_stat(&text(&place.dir, "cpuacct.stat"), clock_ticks);
    }
    if let Some(place) = dirs.unified.as_ref().filter(|_| stat.cpu_usage_ns.is_none()) {
        let cpu = cpu_stat(&text(&place.dir, "cpu.stat"));
        stat.cpu_usage_ns = cpu.usage_ns;
        stat.cpu_user_ns = cpu.user_ns;
        stat.cpu_system_ns = cpu.system_ns;
    }
}

/// The tightest quota on the path up: a pod's limit holds back its containers.
fn quota(place: &Place, stat: &mut CgroupStat) {
    let of = |dir: &Path| quota_of(place.unified, dir);
    // An ancestor whose file is missing (its controller is not switched on there) limits nothing.
    let tightest = place.upwards().filter_map(of).reduce(Quota::tighter);
    stat.cpu_limit_known = tightest.is_some();
    stat.cpu_limit = tightest.and_then(Quota::cpus);
    let burst = if place.unified { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    stat.cpu_burst_ns = burst_ns(&text(&place.dir, burst));
    // The two files are never in one hierarchy.
    stat.cpu_weight = weight(&text(&place.dir, "cpu.weight"), &text(&place.dir, "cpu.shares"));
}

/// CPUs a cgroup may run on. On version 2 one without the controller has those of the nearest cgroup above that has it.
fn allowed(place: &Place) -> Option<u32> {
    if !place.unified {
        return ["cpuset.effective_cpus", "cpuset.cpus"].iter().find_map(|name| cpu_count(&text(&place.dir, name)));
    }
    place.upwards().chain([place.top.as_path()]).find_map(|dir| cpu_count(&text(dir, "cpuset.cpus.effective")))
}

fn memory(place: &Place, stat: &mut CgroupStat) {
    let dir = &place.dir;
    let counters = memory_stat(&read_path(&dir.join("memory.stat"), MEMORY_STAT).unwrap_or_default());
    if place.unified {
        stat.memory_usage = single(&text(dir, "memory.current"));
        stat.memory_events = memory_events(&text(dir, "memory.events"));
    } else {
        stat.memory_usage = single(&text(dir, "memory.usage_in_bytes"));
        stat.memory_events = memory_events_v1(&text(dir, "memory.failcnt"), &text(dir, "memory.oom_control"));
    }
    stat.memory_working_set = counters.working_set(stat.memory_usage);
    stat.faults_minor = counters.minor_faults();
    stat.faults_major = counters.major_faults;
    stat.reclaim_pages = counters.reclaim_pages;
    stat.refaults = counters.refaults;
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
