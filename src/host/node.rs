//! The node's own counters -> [`NodeSnapshot`]. Nothing here fails: what cannot be read is absent.

use crate::model::NodeSnapshot;
use crate::parse::cgroup::pressure::pressure;
use crate::parse::cgroup::tree::{cgroup_count, dying};
use crate::parse::node::{proc_schedstat, vmstat};

use super::cgroup::{Layout, count_below};
use super::files::{LARGE, Root, SMALL, read_path};
use super::identity::NodeIdentity;

/// In the order of [`NodeSnapshot::pressure_ns`].
const PRESSURE: [&str; 4] = ["pressure/cpu", "pressure/memory", "pressure/io", "pressure/irq"];

pub(super) fn node(proc: &Root, layout: &Layout, identity: &NodeIdentity) -> NodeSnapshot {
    let vm = vmstat(&proc.read("vmstat", SMALL).unwrap_or_default());
    NodeSnapshot {
        cpus: proc.read("schedstat", LARGE).ok().and_then(|text| proc_schedstat(&text).ok()).map(|stat| stat.cpus).unwrap_or_default(),
        pressure_ns: PRESSURE.map(|name| pressure(&proc.read(name, SMALL).unwrap_or_default())),
        reclaim_pages: vm.reclaim_pages,
        allocation_stalls: vm.allocation_stalls,
        compaction_stalls: vm.compaction_stalls,
        swap_pages: vm.swap_pages,
        faults: [vm.minor_faults(), vm.major_faults],
        cgroups_dying: cgroups_dying(proc, layout),
        boot: identity.boot,
        ..NodeSnapshot::default()
    }
}

/// Removed memory cgroups that are not yet freed. The unified root counts them; on version 1 they are those that
/// `/proc/cgroups` counts and that have no directory. The directories are counted before and after, and only where
/// nothing was made or removed meanwhile is the difference believed.
fn cgroups_dying(proc: &Root, layout: &Layout) -> Option<u64> {
    let (root, unified) = layout.memory_root()?;
    if unified {
        return dying(&read_path(&root.join("cgroup.stat"), SMALL).ok()?);
    }
    let before = count_below(root)?;
    let (_, count) = cgroup_count(&proc.read("cgroups", SMALL).ok()?, "memory")?;
    let after = count_below(root)?;
    if before == after { count.checked_sub(after) } else { None }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, NodeSnapshot) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("cgroup")).unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let proc = Root::open(&dir.path().join("proc")).unwrap();
        let layout = Layout::find(&proc, &dir.path().join("cgroup"));
        let node = node(&proc, &layout, &NodeIdentity::default());
        (dir, node)
    }

    #[test]
    fn an_empty_tree_knows_nothing() {
        assert_eq!(tree(&[]).1, NodeSnapshot::default());
    }

    #[test]
    fn every_file_fills_its_fields() {
        let (_dir, node) = tree(&[
            ("proc/schedstat", "version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 5 6 7\ndomain0 3 0 0\n"),
            ("proc/vmstat", "pgscan_direct 1\npgfault 10\npgmajfault 3\nallocstall_normal 4\npswpin 5\n"),
            ("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"),
            ("cgroup/cgroup.controllers", "memory\n"),
            ("cgroup/cgroup.stat", "nr_descendants 1\nnr_dying_descendants 9\n"),
        ]);
        assert_eq!(node.cpus.len(), 1);
        assert_eq!((node.cpus[0].run_ns, node.cpus[0].wait_ns, node.cpus[0].timeslices), (5, 6, 7));
        assert_eq!(node.pressure_ns, [[None; 2], [Some(2000), Some(1000)], [None; 2], [None; 2]]);
        assert_eq!((node.reclaim_pages, node.allocation_stalls), ([Some(1), None, None, None], Some(4)));
        assert_eq!((node.faults, node.swap_pages), ([Some(7), Some(3)], [Some(5), None]));
        assert_eq!(node.cgroups_dying, Some(9));
    }

    #[test]
    fn on_version_one_the_dying_have_no_directory() {
        fn check(count: &str, expected: Option<u64>) {
            let cgroups = format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t{count}\t1\n");
            let (_dir, node) = tree(&[("proc/cgroups", &cgroups), ("cgroup/memory/a/b/tasks", ""), ("cgroup/memory/c/tasks", "")]);
            assert_eq!(node.cgroups_dying, expected, "{count}");
        }
        check("4", Some(0));
        check("11", Some(7));
        check("3", None);
        check("x", None);
    }

    #[test]
    fn this_node_has_counters() {
        let proc = Root::open(Path::new("/proc")).unwrap();
        let layout = Layout::find(&proc, Path::new("/sys/fs/cgroup"));
        let node = node(&proc, &layout, &NodeIdentity::read(&proc));
        assert!(node.faults[0].is_some_and(|faults| faults > 0));
        assert!(node.boot.is_some());
    }
}
