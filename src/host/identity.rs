//! Who this node is: facts that do not change while the agent runs.

use crate::model::Wall;
use crate::parse::node::boot_time;
use crate::parse::text::shown;

use super::files::{LARGE, Root, SMALL};

/// Longest name kept; the kernel's are shorter.
const NAME_LIMIT: usize = 255;
/// `PROC_UTS_INIT_INO` (include/linux/proc_ns.h): the host's own name space for names.
const INITIAL_UTS: &str = "uts:[4026531838]";

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Random id of this boot.
    pub boot_id: Option<String>,
    /// Name of the host.
    pub host_name: Option<String>,
    /// `uname -r`
    pub kernel_release: Option<String>,
    /// Clock ticks per second (`USER_HZ`), the unit of start times.
    pub clock_ticks: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// When the kernel's counters began, to the second.
    pub boot: Option<Wall>,
}

impl NodeIdentity {
    pub(super) fn read(proc: &Root) -> Self {
        Self {
            boot_id: line(proc, "sys/kernel/random/boot_id"),
            host_name: host_name(proc),
            kernel_release: line(proc, "sys/kernel/osrelease"),
            clock_ticks: rustix::param::clock_ticks_per_second(),
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(0),
            boot: proc.read("stat", LARGE).ok().and_then(|text| boot_time(&text)).and_then(|s| s.checked_mul(1_000_000_000)).map(Wall),
        }
    }
}

/// In a pod the kernel tells the pod's name; the node's stands in the file system of its first process.
fn host_name(proc: &Root) -> Option<String> {
    let contained = super::probe::link(proc, "self/ns/uts").is_some_and(|uts| uts != INITIAL_UTS);
    let of_host = if contained { line(proc, "1/root/etc/hostname") } else { None };
    of_host.or_else(|| line(proc, "sys/kernel/hostname"))
}

fn line(proc: &Root, name: &str) -> Option<String> {
    let text = proc.read(name, SMALL).ok()?;
    let first = text.split(|byte| *byte == b'\n').next()?;
    (!first.is_empty()).then(|| shown(first, NAME_LIMIT))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn this_node_knows_itself() {
        let node = NodeIdentity::read(&Root::open(Path::new("/proc")).unwrap());
        assert_eq!(node.boot_id.as_deref().map(str::len), Some(36));
        assert_eq!(node.kernel_release.as_deref(), rustix::system::uname().release().to_str().ok());
        assert!(node.boot.is_some() && node.clock_ticks > 0 && node.page_size > 0);
    }

    #[test]
    fn an_empty_tree_knows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeIdentity::read(&Root::open(dir.path()).unwrap());
        assert_eq!((node.boot_id, node.host_name, node.boot), (None, None, None));
    }

    #[test]
    fn names_are_one_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/kernel")).unwrap();
        std::fs::write(dir.path().join("sys/kernel/hostname"), "node-1\nx\n").unwrap();
        std::fs::write(dir.path().join("sys/kernel/osrelease"), "\n").unwrap();
        let node = NodeIdentity::read(&Root::open(dir.path()).unwrap());
        assert_eq!((node.host_name.as_deref(), node.kernel_release), (Some("node-1"), None));
    }
}
