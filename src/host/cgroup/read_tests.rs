//! Trees of each layout, made by hand from the documented files.

use std::path::PathBuf;

use crate::parse::cgroup::membership::memberships;

use super::super::super::files::Root;
use super::super::layout::Layout;
use super::*;

const ID: &str = "4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d";
const NOISE: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=";

struct Tree {
    dir: tempfile::TempDir,
    layout: Layout,
}

/// `mounts`: (place below the cgroup root, file system and options). `files`: (path below the cgroup root, text).
fn tree(mounts: &[(&str, &str)], files: &[(String, &str)]) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let mut mountinfo = "22 27 0:21 / /proc rw - proc proc rw\n".to_owned();
    for (place, options) in mounts {
        std::fs::create_dir_all(dir.path().join("cgroup").join(place)).unwrap();
        mountinfo.push_str(&format!("31 23 0:28 / {} rw - {options}\n", std::path::Path::new("/sys/fs/cgroup").join(place).display()));
    }
    put(dir.path().join("proc/self/mountinfo"), &mountinfo);
    for (path, text) in files {
        put(dir.path().join("cgroup").join(path), text);
    }
    let layout = Layout::find(&Root::open(&dir.path().join("proc")).unwrap(), &dir.path().join("cgroup"));
    Tree { dir, layout }
}

impl Tree {
    fn dirs(&self, cgroup: &str) -> CgroupDirs {
        CgroupDirs::find(&self.layout, &memberships(cgroup.replace("{id}", ID).as_bytes()), ID)
    }

    fn stat(&self, cgroup: &str) -> CgroupStat {
        stat(&self.dirs(cgroup), 100)
    }
}

fn v2() -> Tree {
    let pod = "kubepods.slice/kubepods-pod1.slice";
    let own = format!("{pod}/cri-containerd-{ID}.scope");
    let at = |name: &str| format!("{own}/{name}");
    let files = [
        ("cgroup.controllers".to_owned(), "cpu io memory\n"),
        (format!("{pod}/cpu.max"), "50000 100000\n"),
        ("kubepods.slice/cpu.max".to_owned(), "max 100000\n"),
        (at("cpu.max"), "200000 100000\n"),
        (at("cpu.max.burst"), "2000\n"),
        (at("cpu.weight"), "79\n"),
        ("kubepods.slice/cpuset.cpus.effective".to_owned(), "0-2,5\n"),
        ("cpuset.cpus.effective".to_owned(), "0-7\n"),
        (at("cpu.stat"), "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 5\nnr_throttled 4\nthrottled_usec 3\n"),
        (at("cpu.stat.local"), "throttled_usec 9\n"),
        (at("memory.current"), "1000\n"),
        (
            at("memory.stat"),
            "inactive_file 100\npgfault 50\npgmajfault 5\npgscan_direct 1\npgsteal_direct 2\npgscan_kswapd 3\npgsteal_kswapd 4\n\
             workingset_refault_anon 8\nworkingset_refault_file 9\n",
        ),
        (at("memory.events"), "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n"),
        (at("cpu.pressure"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n"),
        (at("io.pressure"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=8\n"),
    ];
    tree(&[("", "cgroup2 cgroup2 rw")], &files)
}

#[test]
fn version_two_in_full() {
    let expected = CgroupStat {
        cpu_usage_ns: Some(30_000),
        cpu_user_ns: Some(10_000),
        cpu_system_ns: Some(20_000),
        periods: Some(5),
        throttled_periods: Some(4),
        throttled_ns: Some(3_000),
        throttled_local_ns: Some(9_000),
        cpu_limit: Some(0.5),
        cpu_limit_known: true,
        cpu_burst_ns: Some(2_000_000),
        cpus: Some(4),
        cpu_weight: Some(79.0),
        memory_usage: Some(1000),
        memory_working_set: Some(900),
        faults_minor: Some(45),
        faults_major: Some(5),
        memory_events: [Some(1), Some(2), Some(3), Some(4), Some(5)],
        reclaim_pages: [Some(1), Some(2), Some(3), Some(4)],
        refaults: [Some(8), Some(9)],
        pressure_ns: [[Some(7000), Some(6000)], [None; 2], [Some(8000), None], [None; 2]],
    };
    let path = "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope";
    assert_eq!(v2().stat(path), expected);
    assert_eq!(v2().stat(&format!("{path}/init.scope")), expected, "a systemd inside changes nothing");
}

#[test]
fn a_task_elsewhere_has_no_numbers_of_the_container() {
    let tree = v2();
    for path in ["0::/", "0::/kubepods.slice", "0::/system.slice/containerd.service", ""] {
        assert!(tree.dirs(path).is_empty(), "{path}");
        assert_eq!(tree.stat(path), CgroupStat::default(), "{path}");
    }
}

#[test]
fn a_removed_cgroup_is_empty() {
    assert!(v2().dirs("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope (deleted)").is_empty());
}

const V1: [(&str, &str); 5] = [
    ("cpuset", "cgroup cgroup rw,cpuset"),
    ("cpu", "cgroup cgroup rw,cpu"),
    ("cpuacct", "cgroup cgroup rw,cpuacct"),
    ("memory", "cgroup cgroup rw,memory"),
    ("systemd", "cgroup cgroup rw,xattr,name=systemd"),
];
const V1_PATHS: &str =
    "5:cpuset:/docker/{id}\n4:memory:/docker/{id}\n2:cpuacct:/docker/{id}\n1:cpu:/docker/{id}\n9:name=systemd:/docker/{id}\n";

fn v1_files() -> Vec<(String, &'static str)> {
    let at = |name: &str| format!("{}/docker/{ID}/{}", name.split('|').next().unwrap(), name.split('|').nth(1).unwrap());
    vec![
        (at("cpu|cpu.stat"), "nr_periods 5\nnr_throttled 4\nthrottled_time 3000\n"),
        (at("cpu|cpu.shares"), "512\n"),
        (at("cpuset|cpuset.cpus"), "\n"),
        (at("cpuset|cpuset.effective_cpus"), "1,3\n"),
        (at("cpu|cpu.cfs_quota_us"), "150000\n"),
        (at("cpu|cpu.cfs_period_us"), "100000\n"),
        ("cpu/docker/cpu.cfs_quota_us".to_owned(), "-1\n"),
        ("cpu/docker/cpu.cfs_period_us".to_owned(), "100000\n"),
        (at("cpu|cpu.cfs_burst_us"), "0\n"),
        (at("cpuacct|cpuacct.usage"), "30000\n"),
        (at("cpuacct|cpuacct.stat"), "user 1\nsystem 2\n"),
        (at("memory|memory.usage_in_bytes"), "1000\n"),
        (at("memory|memory.stat"), "inactive_file 1\ntotal_inactive_file 100\ntotal_pgfault 50\ntotal_pgmajfault 5\n"),
        (at("memory|memory.failcnt"), "7\n"),
        (at("memory|memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ]
}

fn v1_stat() -> CgroupStat {
    CgroupStat {
        cpu_usage_ns: Some(30_000),
        cpu_user_ns: Some(10_000_000),
        cpu_system_ns: Some(20_000_000),
        periods: Some(5),
        throttled_periods: Some(4),
        throttled_ns: Some(3_000),
        cpu_limit: Some(1.5),
        cpu_limit_known: true,
        cpu_burst_ns: Some(0),
        cpus: Some(2),
        cpu_weight: Some(50.0),
        memory_usage: Some(1000),
        memory_working_set: Some(900),
        faults_minor: Some(45),
        faults_major: Some(5),
        memory_events: [None, None, Some(7), None, Some(2)],
        ..CgroupStat::default()
    }
}

#[test]
fn version_one_in_full() {
    assert_eq!(tree(&V1, &v1_files()).stat(V1_PATHS), v1_stat());
}

#[test]
fn both_controllers_may_share_a_mount() {
    let mounts = [("cpu,cpuacct", "cgroup cgroup rw,cpu,cpuacct")];
    let files =
        [(format!("cpu,cpuacct/docker/{ID}/cpuacct.usage"), "5\n"), (format!("cpu,cpuacct/docker/{ID}/cpu.stat"), "nr_periods 1\n")];
    let stat = tree(&mounts, &files).stat("3:cpu,cpuacct:/docker/{id}");
    assert_eq!((stat.cpu_usage_ns, stat.periods), (Some(5), Some(1)));
}

#[test]
fn on_a_hybrid_pressure_comes_from_the_unified_tree() {
    let mounts = [&V1[..], &[("unified", "cgroup2 cgroup2 rw")]].concat();
    let mut files = v1_files();
    let total = format!("{NOISE}9\n");
    files.push((format!("unified/docker/{ID}/cpu.pressure"), &total));
    files.push(("unified/cpu.pressure".to_owned(), "some total=1234567\n"));
    files.push(("unified/cgroup.controllers".to_owned(), "\n"));
    let tree = tree(&mounts, &files);
    let with = CgroupStat { pressure_ns: [[Some(9000), None], [None; 2], [None; 2], [None; 2]], ..v1_stat() };
    assert_eq!(tree.stat(&format!("{V1_PATHS}0::/docker/{{id}}\n")), with);
    // Where the tasks stand at the unified root, its pressure is the node's and not the container's.
    assert_eq!(tree.stat(&format!("{V1_PATHS}0::/\n")), v1_stat());
}

#[test]
fn a_controller_of_version_one_is_not_looked_for_in_the_unified_tree() {
    let mounts = [&V1[..], &[("unified", "cgroup2 cgroup2 rw")]].concat();
    let files =
        [(format!("unified/docker/{ID}/cpu.stat"), "usage_usec 5\nnr_periods 1\n"), (format!("unified/docker/{ID}/memory.current"), "7\n")];
    let stat = tree(&mounts, &files).stat("4:memory:/\n2:cpuacct:/\n1:cpu:/\n0::/docker/{id}\n");
    assert_eq!(stat, CgroupStat { cpu_usage_ns: Some(5000), ..CgroupStat::default() });
}

#[test]
fn damaged_files_cost_their_own_fields() {
    let files = [
        (format!("docker/{ID}/cpu.max"), "max"),
        (format!("docker/{ID}/cpu.stat"), "usage_usec \nnr_periods 99999999999999999999\nnr_throttled 4"),
        (format!("docker/{ID}/memory.current"), "12 34\n"),
        (format!("docker/{ID}/memory.stat"), "\u{0}\n"),
        (format!("docker/{ID}/memory.events"), "max\n"),
        (format!("docker/{ID}/cpu.pressure"), "garbage"),
        (format!("docker/{ID}/cpu.weight"), "idle\n"),
        (format!("docker/{ID}/cpuset.cpus.effective"), "3-\n"),
    ];
    let stat = tree(&[("", "cgroup2 cgroup2 rw")], &files).stat("0::/docker/{id}");
    assert_eq!(stat, CgroupStat { throttled_periods: Some(4), ..CgroupStat::default() });
}

#[test]
fn unlimited_is_known_and_absent() {
    let files = [(format!("docker/{ID}/cpu.max"), "max 100000\n")];
    let tree = tree(&[("", "cgroup2 cgroup2 rw")], &files);
    let stat = tree.stat("0::/docker/{id}");
    assert_eq!((stat.cpu_limit, stat.cpu_limit_known), (None, true));
    let dirs = tree.dirs("0::/docker/{id}");
    assert_eq!(dirs.members().map(|(dir, _)| dir), Some(tree.dir.path().join("cgroup/docker").join(ID).as_path()));
}
