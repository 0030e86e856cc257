//! `/proc/PID/cgroup` (`proc_cgroup_show`, kernel/cgroup/cgroup.c): one line a hierarchy, `id:controllers:path`.

use super::super::text::{lines, number32, shown};

/// What the kernel appends to the path of a removed cgroup (version 2).
const DELETED: &[u8] = b" (deleted)";
/// Longest controller list kept of a line.
const CONTROLLER_LIMIT: usize = 256;

/// Where a process stands in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Hierarchy id; 0 is version 2.
    pub hierarchy: u32,
    /// Controllers of a version 1 hierarchy, or `name=systemd`.
    pub controllers: Vec<String>,
    /// Path from the root of the reader's cgroup namespace; `/../x` stands outside of it.
    pub path: Vec<u8>,
    /// The cgroup was removed.
    pub deleted: bool,
}

impl Membership {
    /// Whether this is the unified hierarchy.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.hierarchy == 0 && self.controllers.is_empty()
    }
}

/// Reads every line that is one. The path may hold colons (`…slice:cri-containerd:<id>`), blanks and any other byte
/// but a newline, which the kernel refuses in names.
#[must_use]
pub fn memberships(text: &[u8]) -> Vec<Membership> {
    lines(text).filter_map(membership).collect()
}

fn membership(line: &[u8]) -> Option<Membership> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let hierarchy = number32(parts.next()?)?;
    let controllers = shown(parts.next()?, CONTROLLER_LIMIT);
    let path = parts.next()?;
    if path.first() != Some(&b'/') {
        return None;
    }
    let (path, deleted) = match path.strip_suffix(DELETED) {
        Some(rest) => (rest, true),
        None => (path, false),
    };
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Some(Membership { hierarchy, controllers, path: path.to_vec(), deleted })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: Option<(u32, &[&str], &str, bool)>) {
        let got = memberships(line.as_bytes());
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(hierarchy, controllers, path, deleted)| Membership {
                hierarchy,
                controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
                path: path.as_bytes().to_vec(),
                deleted,
            })
            .collect();
        assert_eq!(got, expected, "{line:?}");
    }

    #[test]
    fn every_form_of_a_line() {
        check("0::/\n", Some((0, &[], "/", false)));
        check("0::/a/b\n", Some((0, &[], "/a/b", false)));
        check("0::/../../krB", Some((0, &[], "/../../krB", false)));
        check("4:memory:/docker/x\n", Some((4, &["memory"], "/docker/x", false)));
        check("1:cpu,cpuacct:/x\n", Some((1, &["cpu", "cpuacct"], "/x", false)));
        check("9:name=systemd:/x\n", Some((9, &["name=systemd"], "/x", false)));
        check("0::/x (deleted)\n", Some((0, &[], "/x", true)));
        check("5:cpu:/k.slice:cri-containerd:ab\n", Some((5, &["cpu"], "/k.slice:cri-containerd:ab", false)));
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        for line in ["", ":", "0:", "0::", "x::/", "0::a", "99999999999::/"] {
            check(line, None);
        }
        assert_eq!(memberships(b"junk\n0::/ok\n7:pids").len(), 1);
    }

    #[test]
    fn names_need_not_be_text() {
        let got = memberships(b"0::/\xff\xfe\n");
        assert_eq!(got[0].path, b"/\xff\xfe");
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(prop_oneof![Just(b':'), Just(b'/'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..120)) {
            for found in memberships(&text) {
                prop_assert_eq!(found.path.first(), Some(&b'/'));
            }
        }
    }
}
