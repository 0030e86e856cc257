//! Hosts where something is missing or forbidden: `check` names it with its cure, nothing crashes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::agent::program;

/// A user who owns nothing.
const NOBODY: u32 = 65534;
/// In front of everything: what follows is run by a shell in namespaces of its own.
const MOUNTS: [&str; 4] = ["unshare", "-m", "sh", "-c"];

/// What the demo says where it found a delay, but not the one that the victim had: on a machine that starves, a place in which
/// little can be read may cost that much.
const DISAGREES: &str = "stallspan demo: the delay on the spans";

/// What stands before a command of stallspan to bring it into an odd place.
struct Place<'a> {
    before: &'a [&'a str],
    /// Done by the shell first.
    first: &'a str,
    user: Option<u32>,
    program: PathBuf,
}

impl Place<'_> {
    /// Runs a command of stallspan there.
    fn run(&self, arguments: &str) -> Output {
        let line = format!("{} exec {} {arguments}", self.first, self.program.display());
        let (program, words) = self.before.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(words).arg(line);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal().is_none() && !errors.contains("panicked"), "{arguments}: {} {errors}", output.status);
        output
    }

    /// Whether `check` says this of an item: status, and words of its detail, loss or cure.
    #[track_caller]
    fn says(&self, id: &str, status: &str, words: &str) {
        let output = self.run("check -o json");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let item = told["checks"].as_array().unwrap().iter().find(|item| item["id"] == id).unwrap();
        assert!(item["status"] == status && item.to_string().contains(words), "{item}");
    }

    /// The demo has found the delay, or says why it cannot.
    #[track_caller]
    fn demo(&self) {
        let output = self.run("demo --seconds 2");
        let errors = String::from_utf8_lossy(&output.stderr);
        let told = output.status.success() || errors.lines().any(|line| line.starts_with("stallspan: ") || line.starts_with(DISAGREES));
        assert!(told, "{}: {} {errors}", output.status, String::from_utf8_lossy(&output.stdout));
    }
}

pub fn without_root() {
    // A copy: the folder it was built in need not be open to everybody.
    let everybody = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().prefix("stallspan-numbers-").permissions(everybody).tempdir().unwrap();
    let copy = folder.path().join("stallspan");
    std::fs::copy(program(), &copy).unwrap();
    let place = Place { before: &["sh", "-c"], first: "", user: Some(NOBODY), program: copy };
    place.says("taskstats", "warn", "setcap cap_net_admin");
    place.says("capabilities", "warn", "");
    place.demo();
}

pub fn in_a_user_namespace() {
    let place = Place { before: &["unshare", "-U", "-r", "sh", "-c"], first: "", user: None, program: program() };
    place.says("taskstats", "warn", "hostUsers");
    place.says("bpf", "warn", "");
    place.demo();
}

pub fn in_a_pid_namespace() {
    let place = Place { before: &["unshare", "-p", "-f", "sh", "-c"], first: "", user: None, program: program() };
    place.says("procfs", "warn", "hostPID");
    place.demo();
}

pub fn without_cgroups() {
    let place = Place { before: &MOUNTS, first: "umount -l /sys/fs/cgroup;", user: None, program: program() };
    place.says("procfs", "pass", "");
    place.says("cgroup", "warn", "sources.cgroupfs.root");
    place.demo();
}

pub fn with_a_read_only_sysctl() {
    let first = "mount -o bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys;";
    let place = Place { before: &MOUNTS, first, user: None, program: program() };
    place.says("task_delayacct", if delay_accounting() { "pass" } else { "warn" }, "");
    if !delay_accounting() {
        let asked = place.run("check -o json --set sources.task_delayacct=on");
        assert!(String::from_utf8_lossy(&asked.stdout).contains("/proc/sys is read-only here"), "{asked:?}");
    }
    place.demo();
}

/// The first argument that makes this program run another without CAP_SYS_ADMIN.
pub const CONFINED: &str = "confined";

/// Runs another program in place of this one, without the right to enter namespaces.
pub fn confined(command: &[String]) -> ! {
    rustix::thread::remove_capability_from_bounding_set(rustix::thread::CapabilitySet::SYS_ADMIN).unwrap();
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    panic!("{command:?}: {error}");
}

/// In a network namespace of its own, which it may not leave: questions are answered there, ends are told to others.
pub fn without_the_hosts_network() {
    let own = std::env::current_exe().unwrap();
    let before = ["unshare", "-n", own.to_str().unwrap(), CONFINED, "sh", "-c"];
    let place = Place { before: &before, first: "", user: None, program: program() };
    place.says("taskstats", "pass", "");
    place.says("taskstats_exits", "warn", "hostNetwork");
    place.says("taskstats_exits", "warn", "processes that live shorter");
}

pub fn without_proc() {
    let place = Place { before: &MOUNTS, first: "umount -l /proc;", user: None, program: program() };
    place.says("procfs", "fail", "sources.procfs.root");
    assert_eq!(place.run("check").status.code(), Some(1));
    place.demo();
}

fn delay_accounting() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|text| text.trim() == "1")
}
