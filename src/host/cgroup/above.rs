//! Cgroups above a container that have a quota: on kernels that do not tell what of their throttling was a container's own
//! (`cpu.stat.local`, 6.6+) their clocks are all there is.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::parse::cgroup::cpu::{Quota, cfs_quota, cpu_max, cpu_stat};
use crate::parse::text::single;

use super::super::files::{SMALL, open_in, open_path, read_kept, read_path};
use super::dirs::{CPU_STAT_LEN, NUMBER_LEN, Place};

/// Most of them: a pod, its class, all pods, and one to spare.
pub const MOST_ABOVE: usize = 4;

/// What a cgroup above says, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Above {
    /// Time throttled by its own quota, summed over CPUs, ns.
    pub throttled_ns: Option<u64>,
    /// CPU time of all that runs in and below it, ns.
    pub usage_ns: Option<u64>,
}

/// One of them, its files kept open.
#[derive(Debug)]
pub(super) struct Ancestor {
    stat: OwnedFd,
    /// On version 1.
    usage: Option<OwnedFd>,
}

impl Ancestor {
    /// Those above `cpu` that have a quota now.
    pub(super) fn limited(cpu: &Place, cpuacct: Option<&Place>) -> Vec<Self> {
        let limited = |dir: &&Path| matches!(quota_of(cpu.unified, dir), Some(Quota::Cpus(_)));
        let open = |dir: &Path| {
            let stat = open_in(open_path(dir).ok()?, b"cpu.stat").ok()?;
            let counted = cpuacct.filter(|place| !place.unified).and_then(|place| Some(place.top.join(dir.strip_prefix(&cpu.top).ok()?)));
            let usage = counted.and_then(|dir| open_in(open_path(&dir).ok()?, b"cpuacct.usage").ok());
            Some(Self { stat, usage })
        };
        cpu.upwards().skip(1).filter(limited).filter_map(open).take(MOST_ABOVE).collect()
    }

    pub(super) fn now(&self) -> Above {
        let mut buffer = [0; CPU_STAT_LEN];
        let stat = read_kept(&self.stat, &mut buffer).map(cpu_stat).unwrap_or_default();
        let usage_ns = match &self.usage {
            Some(fd) => read_kept(fd, &mut [0; NUMBER_LEN]).ok().and_then(single),
            None => stat.usage_ns,
        };
        Above { throttled_ns: stat.throttled_ns, usage_ns }
    }
}

/// The quota of a directory; `None` where the controller is not switched on there.
pub(super) fn quota_of(unified: bool, dir: &Path) -> Option<Quota> {
    let text = |name: &str| read_path(&dir.join(name), SMALL).unwrap_or_default();
    if unified { cpu_max(&text("cpu.max")) } else { cfs_quota(&text("cpu.cfs_quota_us"), &text("cpu.cfs_period_us")) }
}
