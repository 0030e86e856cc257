//! Where the hierarchies are mounted, seen from here.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::{CgroupFacts, CgroupLayout};
use crate::parse::cgroup::membership::Membership;
use crate::parse::cgroup::mounts::{CgroupMount, absolute, cgroup_mounts, levels_up};
use crate::parse::cgroup::tree::controllers;

use super::super::files::{LARGE, Root, SMALL, read_path};
use super::walk::find_inode;

/// Where cgroups are mounted on nearly every host.
const USUAL: &str = "/sys/fs/cgroup";
/// Version 1 controllers this agent reads, for a host whose mountinfo cannot be read.
const V1_NAMES: [&str; 10] = ["cpu", "cpuacct", "cpu,cpuacct", "cpuset", "memory", "blkio", "pids", "freezer", "devices", "systemd"];

/// The mounted hierarchies.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(super) mounts: Vec<CgroupMount>,
    /// Controllers of the unified hierarchy.
    unified_controllers: Vec<String>,
    /// The agent's own cgroup namespace root as the unified mount names it; `/` where it has none of its own.
    namespace_root: Option<Vec<u8>>,
}

impl Layout {
    pub(in crate::host) fn find(proc: &Root, cgroupfs: &Path) -> Self {
        let text = proc.read("self/mountinfo", LARGE).or_else(|_| proc.read("1/mountinfo", LARGE)).unwrap_or_default();
        let all = cgroup_mounts(&text);
        let mut mounts = under(&all, cgroupfs);
        if mounts.is_empty() {
            mounts = guessed(cgroupfs);
        }
        let unified = mounts.iter().find(|mount| mount.unified);
        let unified_controllers = unified
            .and_then(|mount| read_path(&mount.point.join("cgroup.controllers"), SMALL).ok())
            .map(|text| controllers(&text))
            .unwrap_or_default();
        let namespace_root = namespace_root(&all, unified);
        // Seen from its own root, the mount's paths are whole.
        if namespace_root.is_some() {
            for mount in mounts.iter_mut().filter(|mount| mount.unified && levels_up(&mount.root) > 0) {
                mount.root = b"/".to_vec();
            }
        }
        Self { mounts, unified_controllers, namespace_root }
    }

    /// Rewrites paths that are relative to the agent's own cgroup namespace into the host's.
    pub(crate) fn make_absolute(&self, memberships: &mut [Membership]) {
        let Some(root) = &self.namespace_root else { return };
        for membership in memberships.iter_mut().filter(|membership| membership.is_unified()) {
            if let Some(path) = absolute(root, &membership.path) {
                membership.path = path;
            }
        }
    }

    /// The mount a membership speaks of.
    pub(super) fn mount_of(&self, membership: &Membership) -> Option<&CgroupMount> {
        self.mounts.iter().rev().find(|mount| mount.holds(membership))
    }

    pub(super) fn v1(&self, controller: &str) -> Option<&CgroupMount> {
        self.mounts.iter().rev().find(|mount| !mount.unified && mount.controllers.iter().any(|name| name == controller))
    }

    pub(crate) fn unified(&self) -> Option<&CgroupMount> {
        self.mounts.iter().rev().find(|mount| mount.unified)
    }

    /// Directory of the memory controller's root, and whether it is the unified one.
    pub(crate) fn memory_root(&self) -> Option<(&Path, bool)> {
        let v1 = self.v1("memory").map(|mount| (mount.point.as_path(), false));
        v1.or_else(|| self.unified().map(|mount| (mount.point.as_path(), true)))
    }

    pub(crate) fn facts(&self) -> CgroupFacts {
        let is_controller = |name: &&String| !name.contains('=') && !matches!(name.as_str(), "xattr" | "noprefix" | "clone_children");
        let mut v1: Vec<String> =
            self.mounts.iter().filter(|mount| !mount.unified).flat_map(|mount| &mount.controllers).filter(is_controller).cloned().collect();
        v1.sort_unstable();
        v1.dedup();
        let has_v1 = self.mounts.iter().any(|mount| !mount.unified);
        let layout = match (has_v1, self.unified()) {
            (false, None) => CgroupLayout::Missing,
            (true, None) => CgroupLayout::V1,
            (false, Some(_)) => CgroupLayout::V2,
            (true, Some(_)) => CgroupLayout::Hybrid,
        };
        let relative_paths = self.unified().is_some_and(|mount| levels_up(&mount.root) > 0);
        CgroupFacts { layout, v1, v2: self.unified_controllers.clone(), relative_paths }
    }
}

/// The mounts under the configured root; else those under the usual place, moved there (a tree captured elsewhere, or
/// a host's mounted at another place); else, where the usual place was asked for, all.
fn under(all: &[CgroupMount], cgroupfs: &Path) -> Vec<CgroupMount> {
    let here: Vec<_> = all.iter().filter(|mount| mount.point.starts_with(cgroupfs)).cloned().collect();
    if !here.is_empty() {
        return here;
    }
    let moved: Vec<_> = all
        .iter()
        .filter_map(|mount| {
            let below = mount.point.strip_prefix(USUAL).ok()?;
            let point = if below.as_os_str().is_empty() { cgroupfs.to_owned() } else { cgroupfs.join(below) };
            point.is_dir().then(|| CgroupMount { point, ..mount.clone() })
        })
        .collect();
    if moved.is_empty() && cgroupfs == Path::new(USUAL) { all.to_vec() } else { moved }
}

/// Without a mountinfo: by the names everybody uses.
fn guessed(cgroupfs: &Path) -> Vec<CgroupMount> {
    let unified = |point: PathBuf| {
        let is = point.join("cgroup.controllers").is_file();
        is.then_some(CgroupMount { unified: true, root: b"/".to_vec(), point, controllers: Vec::new() })
    };
    if let Some(mount) = unified(cgroupfs.to_owned()) {
        return vec![mount];
    }
    let v1 = V1_NAMES.iter().map(|name| (name, cgroupfs.join(name))).filter(|(_, point)| point.is_dir()).map(|(name, point)| {
        let controllers = name.split(',').map(|name| if name == "systemd" { "name=systemd".to_owned() } else { name.to_owned() });
        CgroupMount { unified: false, root: b"/".to_vec(), point, controllers: controllers.collect() }
    });
    v1.chain(unified(cgroupfs.join("unified"))).collect()
}

/// Inside a cgroup namespace the host's mount has a root like `/../..`, and every path is told from the namespace's own
/// root. That root is some directory two levels down, which the namespace's own mount shows as `/`: the same inode.
fn namespace_root(all: &[CgroupMount], host: Option<&CgroupMount>) -> Option<Vec<u8>> {
    let host = host.filter(|mount| levels_up(&mount.root) > 0)?;
    let own = all.iter().find(|mount| mount.unified && mount.root == b"/")?;
    let own = std::fs::metadata(&own.point).ok()?;
    if std::fs::metadata(&host.point).ok()?.dev() != own.dev() {
        return None;
    }
    let found = find_inode(&host.point, levels_up(&host.root), own.ino())?;
    let below = found.strip_prefix(&host.point).ok()?;
    Some([b"/", below.as_os_str().as_bytes()].concat())
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
