//! Walking cgroup directories, within bounds: a container may make as many as it likes.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat};
use rustix::io::Errno;

use crate::parse::cgroup::tree::procs;

use super::super::error::{ErrorClass, HostError};
use super::super::files::{LARGE, Walk, entries, open_in, read_kept, read_path};

/// Cgroups below one container that are looked into at every reading, ten microseconds each: a container may make a million,
/// and processes in those past the bound are found by the sweep over all processes.
const CONTAINER_LIMIT: usize = 128;
/// Cgroups counted in a whole hierarchy at every collection: three times what the largest nodes have.
const COUNT_LIMIT: usize = 1 << 14;
/// Cgroups searched in a whole hierarchy, once.
const SEARCH_LIMIT: usize = 1 << 17;
/// Levels below where a walk begins.
const DEPTH_LIMIT: usize = 64;
/// Room for the ids of some hundred processes.
const FEW_PROCESSES_LEN: usize = 4096;
/// A process id and its line end.
const LONGEST_PID: usize = 12;
/// Processes listed of one container.
const PROCESS_LIMIT: usize = 1 << 20;

/// Visits a directory and those below it, parents first. `each` says whether to go on.
/// `false` when the bound was reached before the end.
fn walk(top: &Path, limit: usize, levels: usize, mut each: impl FnMut(&Path, usize) -> Walk) -> bool {
    let mut open = vec![(top.to_owned(), 0_usize)];
    let mut seen = 1_usize;
    let mut whole = true;
    while let Some((dir, depth)) = open.pop() {
        if matches!(each(&dir, depth), Walk::Stop) {
            return whole;
        }
        let Ok(fd) = open_dir(&dir) else { continue };
        // A directory that vanishes while it is listed has nothing left in it.
        let _listed = entries(&fd, |name, is_dir| {
            if is_dir {
                if seen >= limit || depth >= levels {
                    whole = false;
                    return Walk::Stop;
                }
                seen = seen.saturating_add(1);
                open.push((dir.join(OsStr::from_bytes(name)), depth.saturating_add(1)));
            }
            Walk::Go
        });
    }
    whole
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// Processes of a cgroup and all below it, ascending, each once. `open`: the same directory, where it is kept open.
pub(crate) fn pids(top: &Path, open: Option<&OwnedFd>, into: &mut Vec<u32>) -> Result<(), HostError> {
    into.clear();
    if open.is_some_and(|open| pids_of_one(open, into)) {
        return Ok(());
    }
    into.clear();
    let mut result = Ok(());
    walk(top, CONTAINER_LIMIT, DEPTH_LIMIT, |dir, depth| {
        match read_path(&dir.join("cgroup.procs"), LARGE) {
            Ok(text) => into.extend(procs(&text).take(PROCESS_LIMIT.saturating_sub(into.len()))),
            // Below the top a cgroup may vanish, or be threaded and refuse.
            Err(error) if depth == 0 => result = Err(error),
            Err(_) => {}
        }
        if result.is_ok() { Walk::Go } else { Walk::Stop }
    });
    into.sort_unstable();
    into.dedup();
    match result {
        Err(error) if error.class() == ErrorClass::Absent => Err(HostError::file(top, Errno::NODEV)),
        other => other,
    }
}

/// The few processes of a cgroup that has none below it, as nearly all: without a walk, and without allocating. `false`: it may
/// have others, or more. The file is opened each time: version 1 keeps answering an open one with the list that it made
/// for the first read (`cgroup_pidlist_start`, kernel/cgroup/cgroup-v1.c).
fn pids_of_one(open: &OwnedFd, into: &mut Vec<u32>) -> bool {
    // A directory is linked from above, from itself, and from each one below (kernfs: `set_nlink(inode, subdirs + 2)`).
    if !fstat(open).is_ok_and(|stat| stat.st_nlink == 2) {
        return false;
    }
    let mut buffer = [0; FEW_PROCESSES_LEN];
    let Some(text) = open_in(open, b"cgroup.procs").ok().as_ref().and_then(|fd| read_kept(fd, &mut buffer).ok()) else { return false };
    // A list that does not fit a page is cut after a whole line.
    if text.len() + LONGEST_PID > FEW_PROCESSES_LEN {
        return false;
    }
    into.extend(procs(text));
    // In the order of pids, but for pid namespaces within.
    into.sort_unstable();
    into.dedup();
    true
}

/// Directories of a hierarchy, the root included; `None` where there are too many to count.
pub(crate) fn count_below(top: &Path) -> Option<u64> {
    let mut count = 0_u64;
    let whole = walk(top, COUNT_LIMIT, DEPTH_LIMIT, |_, _| {
        count = count.saturating_add(1);
        Walk::Go
    });
    whole.then_some(count)
}

/// The directory with this inode, exactly `depth` levels below `top`.
#[expect(clippy::disallowed_methods, reason = "room host opens kernel files: here is where")]
pub(super) fn find_inode(top: &Path, depth: usize, inode: u64) -> Option<PathBuf> {
    let mut found = None;
    walk(top, SEARCH_LIMIT, depth, |dir, level| {
        let here = level == depth && std::fs::metadata(dir).is_ok_and(|meta| std::os::unix::fs::MetadataExt::ino(&meta) == inode);
        if here {
            found = Some(dir.to_owned());
            return Walk::Stop;
        }
        Walk::Go
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(procs: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in procs {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("cgroup.procs"), text).unwrap();
        }
        dir
    }

    /// The same answer, whether the directory is kept open or not.
    fn listed(top: &Path, got: &mut Vec<u32>) -> Result<(), HostError> {
        let mut kept = got.clone();
        let open = super::super::super::files::open_path(top).ok();
        let outcome = pids(top, open.as_ref(), &mut kept);
        pids(top, None, got)?;
        assert_eq!((outcome.is_ok(), &kept), (true, &*got));
        outcome
    }

    #[test]
    fn a_cgroup_that_stands_alone_is_listed_as_any_other() {
        let dir = tree(&[("few", "5\n3\n5\n"), ("none", ""), ("parent", "4\n"), ("parent/child", "6\n")]);
        let many: String = (1_000_000..1_000_600).map(|pid| format!("{pid}\n")).collect();
        std::fs::create_dir(dir.path().join("many")).unwrap();
        std::fs::write(dir.path().join("many/cgroup.procs"), many).unwrap();
        for (name, count) in [("few", 2), ("none", 0), ("parent", 2), ("many", 600)] {
            let mut got = Vec::new();
            listed(&dir.path().join(name), &mut got).unwrap();
            assert_eq!(got.len(), count, "{name}");
        }
        let open = super::super::super::files::open_path(&dir.path().join("few")).unwrap();
        // Not every file system counts links as the kernel's own do; where this one does not, the walk answers.
        let counts = std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(dir.path().join("few")).unwrap()) == 2;
        assert_eq!(pids_of_one(&open, &mut Vec::new()), counts, "nothing below it");
        for name in ["parent", "many"] {
            let open = super::super::super::files::open_path(&dir.path().join(name)).unwrap();
            assert!(!pids_of_one(&open, &mut Vec::new()), "{name}");
        }
    }

    #[test]
    fn processes_of_the_whole_subtree_once_each() {
        let dir = tree(&[("c", "5\n3\n"), ("c/init.scope", "9\n3\n"), ("c/a/b", "7\n"), ("other", "1\n")]);
        let mut got = vec![99];
        listed(&dir.path().join("c"), &mut got).unwrap();
        assert_eq!(got, [3, 5, 7, 9]);
    }

    #[test]
    fn a_removed_cgroup_is_gone() {
        let dir = tree(&[]);
        assert!(listed(&dir.path().join("c"), &mut Vec::new()).unwrap_err().is_gone());
    }

    #[test]
    fn counts_directories_and_finds_inodes() {
        let dir = tree(&[("a", ""), ("b/c", "")]);
        assert_eq!(count_below(dir.path()), Some(4));
        let wanted = dir.path().join("b/c");
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&wanted).unwrap());
        assert_eq!(find_inode(dir.path(), 2, inode), Some(wanted));
        assert_eq!(find_inode(dir.path(), 1, inode), None);
    }

    #[test]
    fn many_children_hide_none_of_the_containers_own_processes() {
        let dir = tree(&[("c", "5\n3\n")]);
        for child in 0..10 * CONTAINER_LIMIT {
            let child = dir.path().join(format!("c/{child}"));
            std::fs::create_dir(&child).unwrap();
            std::fs::write(child.join("cgroup.procs"), "7\n").unwrap();
        }
        let mut got = Vec::new();
        listed(&dir.path().join("c"), &mut got).unwrap();
        assert_eq!(got, [3, 5, 7]);
    }

    #[test]
    fn a_million_children_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for child in 0..20 {
            std::fs::create_dir(dir.path().join(child.to_string())).unwrap();
        }
        let mut seen = 0;
        let whole = walk(dir.path(), 10, DEPTH_LIMIT, |_, _| {
            seen += 1;
            Walk::Go
        });
        assert_eq!((whole, seen), (false, 10));
    }
}
