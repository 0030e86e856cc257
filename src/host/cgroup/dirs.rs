//! Where one container's cgroup stands in each hierarchy.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::parse::cgroup::cpu::{CpuStat, cpu_stat};
use crate::parse::cgroup::identity::cut_at;
use crate::parse::cgroup::membership::Membership;
use crate::parse::text::single;

use super::super::files::{open_in, open_path, read_kept};
use super::above::{Above, Ancestor};
use super::layout::Layout;

/// `cpu.stat` is a dozen short lines.
pub(super) const CPU_STAT_LEN: usize = 2048;
/// `cpuacct.usage` is one number of at most 20 digits.
pub(super) const NUMBER_LEN: usize = 32;

/// A cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Version 2.
    pub(super) unified: bool,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Where the hierarchy is mounted: its ancestors end there.
    pub(super) top: PathBuf,
}

impl Place {
    /// Its directory and those of its ancestors, but the root's, which knows no limits.
    pub(super) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.dir.ancestors().take_while(|dir| *dir != self.top && dir.starts_with(&self.top))
    }
}

/// The directories of one container's (or service's) cgroup. Keeps `cpu.stat`, `cpu.stat.local` and the file of its CPU time open.
#[derive(Debug, Default)]
pub struct CgroupDirs {
    pub(super) cpu: Option<Place>,
    pub(super) cpuacct: Option<Place>,
    pub(super) cpuset: Option<Place>,
    pub(super) memory: Option<Place>,
    pub(super) unified: Option<Place>,
    /// One of any hierarchy, for its processes, and the same kept open.
    any: Option<Place>,
    any_open: Option<OwnedFd>,
    cpu_stat: Option<OwnedFd>,
    cpu_stat_local: Option<OwnedFd>,
    usage: Option<OwnedFd>,
    /// Those above it with a quota, where the kernel does not tell their throttling of it apart.
    above: Vec<Ancestor>,
    inodes: Inodes,
}

/// Inodes of its directories, as they were when these were found: a cgroup keeps its own for life.
#[derive(Clone, Copy, Debug, Default)]
struct Inodes {
    unified: Option<u64>,
    /// On version 1.
    cpu: Option<u64>,
    /// On version 1.
    memory: Option<u64>,
}

impl Inodes {
    fn of(unified: Option<&Place>, cpu: Option<&Place>, memory: Option<&Place>) -> Self {
        let v1 = |place: Option<&Place>| place.filter(|place| !place.unified).and_then(inode_of);
        Self { unified: unified.and_then(inode_of), cpu: v1(cpu), memory: v1(memory) }
    }
}

#[expect(clippy::disallowed_methods, reason = "room host opens kernel files: here is where")]
fn inode_of(place: &Place) -> Option<u64> {
    std::fs::metadata(&place.dir).ok().map(|meta| std::os::unix::fs::MetadataExt::ino(&meta))
}

/// Throttling as the cgroup counts it, cumulative; wall time summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Quota periods in which the group was active.
    pub periods: Option<u64>,
    /// Of them, throttled ones.
    pub throttled_periods: Option<u64>,
    /// Under its own quota, ns.
    pub own_ns: Option<u64>,
    /// Under its own or an ancestor's quota, ns (6.6+).
    pub local_ns: Option<u64>,
}

impl CgroupDirs {
    /// Inode of its directory in the unified hierarchy, or in that of a v1 controller (`cpu` or `memory`): the cgroup's id
    /// there (kernfs numbers both alike). `None` while its process is not yet in that very hierarchy.
    #[must_use]
    pub fn inode(&self, controller: Option<&str>) -> Option<u64> {
        let Inodes { unified, cpu, memory } = self.inodes;
        match controller {
            None => unified,
            Some("cpu") => cpu,
            Some(_) => memory,
        }
    }

    /// Hierarchies whose path does not carry the mark hold the container's tasks in a cgroup shared with others
    /// (the root, the runtime's service): their numbers would not be the container's.
    pub(crate) fn find(layout: &Layout, memberships: &[Membership], mark: &str) -> Self {
        let places: Vec<(&Membership, Place)> = memberships
            .iter()
            .filter(|membership| !membership.deleted)
            .filter_map(|membership| {
                let mount = layout.mount_of(membership)?;
                let dir = mount.directory(cut_at(&membership.path, mark)?)?;
                Some((membership, Place { unified: mount.unified, dir, top: mount.point.clone() }))
            })
            .collect();
        let unified = places.iter().find(|(_, place)| place.unified).map(|(_, place)| place.clone());
        let of = |controller: &str| {
            let v1 = places.iter().find(|(membership, _)| membership.controllers.iter().any(|name| name == controller));
            let place = v1.map(|(_, place)| place.clone());
            // A controller on a version 1 hierarchy is nowhere else.
            if layout.v1(controller).is_some() { place } else { unified.clone() }
        };
        let cpu = of("cpu");
        let (cpu_stat, cpu_stat_local) = (kept(cpu.as_ref(), "cpu.stat"), kept(cpu.as_ref(), "cpu.stat.local"));
        let (cpuacct, cpuset, memory) = (of("cpuacct"), of("cpuset"), of("memory"));
        let usage = match &cpuacct {
            Some(place) if !place.unified => kept(cpuacct.as_ref(), "cpuacct.usage"),
            // The same file tells of throttling.
            Some(_) if cpu == cpuacct => None,
            _ => kept(cpuacct.as_ref(), "cpu.stat"),
        };
        let any = unified
            .clone()
            .or_else(|| cpu.clone())
            .or_else(|| memory.clone())
            .or_else(|| places.into_iter().map(|(_, place)| place).next());
        let any_open = any.as_ref().and_then(|place| open_path(&place.dir).ok());
        let above = match &cpu {
            Some(place) if cpu_stat_local.is_none() => Ancestor::limited(place, cpuacct.as_ref()),
            _ => Vec::new(),
        };
        let inodes = Inodes::of(unified.as_ref(), cpu.as_ref(), memory.as_ref());
        Self { cpu, cpuacct, cpuset, memory, unified, any, any_open, cpu_stat, cpu_stat_local, usage, above, inodes }
    }

    /// No hierarchy carries the mark.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.any.is_none()
    }

    /// A directory whose `cgroup.procs` lists the container's processes, and the same open where it could be.
    pub(crate) fn members(&self) -> Option<(&Path, Option<&OwnedFd>)> {
        self.any.as_ref().map(|place| (place.dir.as_path(), self.any_open.as_ref()))
    }

    /// Throttling now, from files kept open: cheap enough for every tick.
    #[must_use]
    pub fn throttle(&self) -> Throttle {
        let own = read(self.cpu_stat.as_ref());
        let local = read(self.cpu_stat_local.as_ref());
        Throttle { periods: own.periods, throttled_periods: own.throttled_periods, own_ns: own.throttled_ns, local_ns: local.throttled_ns }
    }

    /// As on a kernel before 6.6.
    #[cfg(test)]
    pub(crate) fn without_local(self) -> Self {
        let above = self.cpu.as_ref().map(|place| Ancestor::limited(place, self.cpuacct.as_ref())).unwrap_or_default();
        Self { cpu_stat_local: None, above, ..self }
    }

    /// What cgroups above it say that have a quota, the nearest first. Nothing where `cpu.stat.local` tells what that means for it.
    pub fn above(&self) -> impl Iterator<Item = Above> {
        self.above.iter().map(Ancestor::now)
    }

    /// CPU time of all that ran in it, from a file kept open, ns; `None` where no hierarchy that counts it carries the mark.
    #[must_use]
    pub fn usage_ns(&self) -> Option<u64> {
        if self.cpuacct.as_ref()?.unified {
            return read(self.usage.as_ref().or(self.cpu_stat.as_ref())).usage_ns;
        }
        let mut buffer = [0; NUMBER_LEN];
        single(read_kept(self.usage.as_ref()?, &mut buffer).ok()?)
    }
}

fn kept(place: Option<&Place>, name: &str) -> Option<OwnedFd> {
    open_in(rustix::fs::CWD, place?.dir.join(name).as_os_str().as_bytes()).ok()
}

fn read(fd: Option<&OwnedFd>) -> CpuStat {
    let mut buffer = [0; CPU_STAT_LEN];
    fd.and_then(|fd| read_kept(fd, &mut buffer).ok()).map(cpu_stat).unwrap_or_default()
}
