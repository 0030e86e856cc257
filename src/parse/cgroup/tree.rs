//! Files about the tree itself: `cgroup.procs`, `cgroup.stat`, `cgroup.controllers`, `/proc/cgroups`.

use procfs::{CGroupControllers, FromBufRead};

use super::super::text::{lines, number32, shown, value, words};

/// Longest controller name kept.
const CONTROLLER_LIMIT: usize = 64;

/// `cgroup.procs`: process ids. 0 stands for a process outside of the reader's pid namespace and is left out.
pub fn procs(text: &[u8]) -> impl Iterator<Item = u32> {
    lines(text).filter_map(|line| words(line).next().and_then(number32)).filter(|pid| *pid != 0)
}

/// `cgroup.controllers`: names.
#[must_use]
pub fn controllers(text: &[u8]) -> Vec<String> {
    words(text).map(|word| shown(word, CONTROLLER_LIMIT)).collect()
}

/// `cgroup.stat` of the root: removed memory cgroups that are not yet freed. 6.12 counts them by controller; before,
/// all removed cgroups are counted, of which on a unified hierarchy the memory controller keeps nearly all.
#[must_use]
pub fn dying(text: &[u8]) -> Option<u64> {
    value(text, b"nr_dying_subsys_memory").or_else(|| value(text, b"nr_dying_descendants"))
}

/// `/proc/cgroups`: (hierarchy, cgroups alive or dying) of a controller; `None` where the kernel does not list it.
#[must_use]
pub fn cgroup_count(text: &[u8], controller: &str) -> Option<(u32, u64)> {
    let CGroupControllers(all) = CGroupControllers::from_buf_read(text).ok()?;
    let found = all.into_iter().find(|found| found.name == controller && found.enabled)?;
    Some((found.hierarchy, u64::from(found.num_cgroups)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn processes_are_numbers_but_zero() {
        let got: Vec<_> = procs(b"1\n42\n0\nx\n99999999999\n7").collect();
        assert_eq!(got, [1, 42, 7]);
        assert_eq!(procs(b"").count(), 0);
    }

    #[test]
    fn dying_cgroups_by_controller_or_all() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(dying(text.as_bytes()), expected, "{text}");
        }
        check("nr_descendants 12\nnr_dying_descendants 30\n", Some(30));
        check("nr_descendants 12\nnr_subsys_memory 12\nnr_dying_descendants 30\nnr_dying_subsys_memory 28\n", Some(28));
        check("nr_descendants 12\n", None);
        check("", None);
    }

    #[test]
    fn controllers_are_words() {
        assert_eq!(controllers(b"cpuset cpu io memory\n"), ["cpuset", "cpu", "io", "memory"]);
        assert!(controllers(b"\n").is_empty());
    }

    #[test]
    fn counts_of_a_controller() {
        let text = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t23\t1\nnet_cls\t0\t1\t0\n";
        assert_eq!(cgroup_count(text, "memory"), Some((4, 23)));
        assert_eq!(cgroup_count(text, "net_cls"), None);
        assert_eq!(cgroup_count(text, "io"), None);
        assert_eq!(cgroup_count(b"memory\t4\n", "memory"), None);
        assert_eq!(cgroup_count(b"memory\t4\t99999999999\t1\n", "memory"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(prop_oneof![Just(b'\t'), Just(b'\n'), Just(b'1'), Just(b'm'), any::<u8>()], 0..80)) {
            let _ = (procs(&text).count(), dying(&text), controllers(&text), cgroup_count(&text, "m"));
        }
    }
}
