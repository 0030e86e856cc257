//! Where the cgroup hierarchies are mounted (`/proc/PID/mountinfo`), and from a membership to a directory.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

use super::super::text::lines;
use super::membership::Membership;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// File system `cgroup2`.
    pub unified: bool,
    /// The cgroup that is mounted: `/`, in a container its own, or `/../..` seen from inside a cgroup namespace.
    pub root: Vec<u8>,
    /// Where.
    pub point: PathBuf,
    /// Version 1: the controllers, and names as `name=systemd`, sorted. Other mount options may be among them.
    pub controllers: Vec<String>,
}

impl CgroupMount {
    /// Whether this membership speaks of this hierarchy.
    #[must_use]
    pub fn holds(&self, membership: &Membership) -> bool {
        if self.unified || membership.is_unified() {
            return self.unified && membership.is_unified();
        }
        !membership.controllers.is_empty() && membership.controllers.iter().all(|name| self.controllers.contains(name))
    }

    /// The directory of a cgroup path; `None` where the path does not lie under what is mounted.
    #[must_use]
    pub fn directory(&self, path: &[u8]) -> Option<PathBuf> {
        let below = below(&self.root, path)?;
        let below = Path::new(std::ffi::OsStr::from_bytes(below));
        Some(if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// The cgroup mounts of a mountinfo, in its order (a later mount covers an earlier one at the same place). Lines that
/// are none are passed over.
#[must_use]
pub fn cgroup_mounts(text: &[u8]) -> Vec<CgroupMount> {
    lines(text).filter_map(|line| cgroup_mount(std::str::from_utf8(line).ok()?)).collect()
}

fn cgroup_mount(line: &str) -> Option<CgroupMount> {
    let mount = MountInfo::from_line(line).ok()?;
    let unified = match mount.fs_type.as_str() {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let mut controllers: Vec<String> = Vec::new();
    if !unified {
        let options = mount.super_options.into_iter().filter(|(name, _)| !matches!(name.as_str(), "rw" | "ro"));
        controllers.extend(options.map(|(name, value)| value.map_or_else(|| name.clone(), |value| format!("{name}={value}"))));
        controllers.sort_unstable();
    }
    let point = PathBuf::from(OsString::from_vec(unescaped(mount.mount_point.as_os_str().as_bytes())));
    Some(CgroupMount { unified, root: unescaped(mount.root.as_bytes()), point, controllers })
}

/// Undoes `seq_path`'s escapes: blank, tab, newline and backslash as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = if *first == b'\\' { tail.split_at_checked(3) } else { None };
        let byte = octal.and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (byte, octal) {
            (Some(byte), Some((_, behind))) => {
                out.push(byte);
                rest = behind;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// How many components a path leads up before it leads down: `/../../x` is 2.
#[must_use]
pub fn levels_up(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).take_while(|part| *part == b"..").count()
}

/// A path as seen from inside a cgroup namespace, made absolute by that namespace's own root: from `/k/pod/me`,
/// `/../you` is `/k/pod/you`. `None` where it leads above the root.
#[must_use]
pub fn absolute(namespace_root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let own: Vec<&[u8]> = namespace_root.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let up = levels_up(path);
    let kept = own.get(..own.len().checked_sub(up)?)?;
    let down = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).skip(up);
    let mut out = Vec::with_capacity(namespace_root.len().saturating_add(path.len()));
    for part in kept.iter().copied().chain(down) {
        if part == b".." {
            return None;
        }
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

/// `path` less `root`, without a leading slash. Both may lead up: then they must do so alike. A path that leads up
/// behind its front is refused: it would leave the mount.
fn below<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let rest = path.strip_prefix(root)?;
    if !rest.is_empty() && rest.first() != Some(&b'/') {
        return None;
    }
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let climbs = rest.split(|byte| *byte == b'/').any(|part| part == b"..");
    (!climbs).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HYBRID: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 master:1 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    fn member(text: &str) -> Membership {
        super::super::membership::memberships(text.as_bytes()).remove(0)
    }

    #[test]
    fn hierarchies_are_found_by_file_system_type() {
        let mounts = cgroup_mounts(HYBRID.as_bytes());
        assert_eq!(mounts.len(), 4);
        fn check(mounts: &[CgroupMount], line: &str, expected: Option<&str>) {
            let member = member(line);
            let found = mounts.iter().find(|mount| mount.holds(&member)).and_then(|mount| mount.directory(&member.path));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{line}");
        }
        check(&mounts, "1:cpu,cpuacct:/docker/x", Some("/sys/fs/cgroup/cpu,cpuacct/docker/x"));
        check(&mounts, "4:memory:/", Some("/sys/fs/cgroup/memory"));
        check(&mounts, "9:name=systemd:/a", Some("/sys/fs/cgroup/systemd/a"));
        check(&mounts, "0::/a/b", Some("/sys/fs/cgroup/unified/a/b"));
        check(&mounts, "8:pids:/a", None);
        check(&mounts, "0::/../a", None);
        check(&mounts, "0::/a/../../etc", None);
    }

    #[test]
    fn a_mount_of_a_part_shows_that_part() {
        fn check(root: &str, path: &str, expected: Option<&str>) {
            let mount = CgroupMount { unified: true, root: root.into(), point: "/c".into(), controllers: Vec::new() };
            assert_eq!(mount.directory(path.as_bytes()).as_deref(), expected.map(Path::new), "{root} {path}");
        }
        check("/docker/me", "/docker/me/init", Some("/c/init"));
        check("/docker/me", "/docker/me", Some("/c"));
        check("/docker/me", "/docker/meme", None);
        check("/docker/me", "/docker/you", None);
        check("/../..", "/../../a", Some("/c/a"));
        check("/../..", "/../a", None);
        check("/", "/", Some("/c"));
    }

    #[test]
    fn escapes_and_damaged_lines() {
        let line = r"41 31 0:38 /a\040b /mnt/c\040d\134 rw - cgroup2 none rw";
        let mount = &cgroup_mounts(line.as_bytes())[0];
        assert_eq!((mount.root.as_slice(), mount.point.as_path()), (&b"/a b"[..], Path::new(r"/mnt/c d\")));
        for cut in 0..line.len() - " rw".len() {
            assert!(cgroup_mounts(&line.as_bytes()[..cut]).is_empty(), "{cut}");
        }
        assert!(cgroup_mounts(b"\xff 1 0:1 / / rw - cgroup2 none rw\n").is_empty());
    }

    #[test]
    fn relative_paths_become_absolute() {
        fn check(root: &str, path: &str, expected: Option<&str>) {
            let got = absolute(root.as_bytes(), path.as_bytes());
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{root} {path}");
        }
        check("/k/pod/me", "/../you", Some("/k/pod/you"));
        check("/k/pod/me", "/../../pod2/x", Some("/k/pod2/x"));
        check("/k/pod/me", "/../../..", Some("/"));
        check("/k/pod/me", "/", Some("/k/pod/me"));
        check("/k/pod/me", "/child", Some("/k/pod/me/child"));
        check("/k/pod/me", "/../../../../x", None);
        check("/", "/a", Some("/a"));
        check("/k", "/a/../b", None);
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_mount(root in "(/\\.\\.|/[ab])*/?", path in "(/\\.\\.|/[ab])*/?", namespace in "(/[ab]){0,4}") {
            let mount = CgroupMount { unified: true, root: root.into_bytes(), point: "/c".into(), controllers: Vec::new() };
            if let Some(directory) = mount.directory(path.as_bytes()) {
                prop_assert!(directory.starts_with("/c"));
                prop_assert!(!directory.components().any(|part| part == std::path::Component::ParentDir));
            }
            if let Some(absolute) = absolute(namespace.as_bytes(), path.as_bytes()) {
                prop_assert_eq!(levels_up(&absolute), 0);
            }
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'-'), Just(b'\\'), Just(b'/'), Just(b'0'), any::<u8>()], 0..120)) {
            let _ = cgroup_mounts(&text);
            let _ = unescaped(&text);
        }
    }
}
