//! Mount tables as found on hosts and in containers.

use super::*;

fn find(mountinfo: &str, make: &[&str], files: &[(&str, &str)]) -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cgroup");
    std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    for name in make {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let text = mountinfo.replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("proc/self/mountinfo"), text).unwrap();
    let layout = Layout::find(&Root::open(&dir.path().join("proc")).unwrap(), &root);
    (dir, layout)
}

#[test]
fn layouts_are_told_by_file_system_type() {
    fn check(mountinfo: &str, expected: CgroupLayout, v1: &[&str]) {
        let (_dir, layout) = find(mountinfo, &["cgroup/cpu", "cgroup/memory", "cgroup/systemd", "cgroup/unified"], &[]);
        let facts = layout.facts();
        assert_eq!((facts.layout, facts.v1.iter().map(String::as_str).collect::<Vec<_>>()), (expected, v1.to_vec()), "{mountinfo}");
    }
    let cpu = "1 1 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    let systemd = "1 1 0:1 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    let unified = "1 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    check("1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", CgroupLayout::V2, &[]);
    check(&format!("{cpu}{systemd}"), CgroupLayout::V1, &["cpu", "cpuacct"]);
    check(&format!("{cpu}{systemd}{unified}"), CgroupLayout::Hybrid, &["cpu", "cpuacct"]);
}

#[test]
fn without_a_mount_table_the_usual_names_are_tried() {
    fn check(make: &[&str], files: &[(&str, &str)], expected: CgroupLayout) {
        let (_dir, layout) = find("", make, files);
        assert_eq!(layout.facts().layout, expected, "{make:?}");
    }
    check(&[], &[("cgroup/cgroup.controllers", "cpu memory\n")], CgroupLayout::V2);
    check(&["cgroup/cpu,cpuacct", "cgroup/memory"], &[], CgroupLayout::V1);
    check(&["cgroup/cpu", "cgroup/unified"], &[("cgroup/unified/cgroup.controllers", "\n")], CgroupLayout::Hybrid);
    check(&[], &[], CgroupLayout::Missing);
}

#[test]
fn mounts_under_the_configured_root_come_first() {
    let mountinfo = "\
1 1 0:1 /docker/me /sys/fs/cgroup rw - cgroup2 cgroup2 rw
1 1 0:1 / {dir}/cgroup rw - cgroup2 cgroup2 rw
";
    let (dir, layout) = find(mountinfo, &[], &[("cgroup/cgroup.controllers", "cpu\n")]);
    assert_eq!(layout.mounts.len(), 1);
    assert_eq!(layout.unified().unwrap().point, dir.path().join("cgroup"));
    assert_eq!(layout.facts().v2, ["cpu"]);
}

#[test]
fn paths_seen_from_a_cgroup_namespace_become_the_hosts() {
    // The agent stands in /kubepods/pod1/me; its own mount shows that as "/", the host's mount two levels up.
    let mountinfo = "\
1 1 0:1 / {dir}/cgroup-own/me rw - cgroup2 cgroup2 rw
1 1 0:1 /../../.. {dir}/cgroup rw - cgroup2 cgroup2 rw
";
    let make = ["cgroup/kubepods/pod1/me", "cgroup/kubepods/pod2/you", "cgroup-own"];
    let dir = tempfile::tempdir().unwrap();
    for name in make {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("cgroup/kubepods/pod1/me"), dir.path().join("cgroup-own/me")).unwrap();
    std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    std::fs::write(dir.path().join("proc/self/mountinfo"), mountinfo.replace("{dir}", dir.path().to_str().unwrap())).unwrap();
    let layout = Layout::find(&Root::open(&dir.path().join("proc")).unwrap(), &dir.path().join("cgroup"));
    assert!(!layout.facts().relative_paths);

    let mut found = crate::parse::cgroup::membership::memberships(b"0::/../../pod2/you\n");
    layout.make_absolute(&mut found);
    assert_eq!(found[0].path, b"/kubepods/pod2/you");
    let mount = layout.mount_of(&found[0]).unwrap();
    assert_eq!(mount.directory(&found[0].path), Some(dir.path().join("cgroup/kubepods/pod2/you")));
}

#[test]
fn where_its_own_root_cannot_be_found_it_says_so() {
    let (_dir, layout) = find("1 1 0:1 /../.. {dir}/cgroup rw - cgroup2 cgroup2 rw\n", &[], &[]);
    assert!(layout.facts().relative_paths);
}

#[test]
fn this_host_has_a_layout() {
    let layout = Layout::find(&Root::open(Path::new("/proc")).unwrap(), Path::new("/sys/fs/cgroup"));
    assert_ne!(layout.facts().layout, CgroupLayout::Missing);
}
