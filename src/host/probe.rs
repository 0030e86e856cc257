//! What this host can supply -> [`Facts`]. Each source is really asked once; nothing is concluded from a version.

use std::path::Path;

use crate::model::{Absence, Capabilities, Capability, Facts, Namespaces, TaskstatsFacts};
use crate::parse::node::proc_schedstat;
use crate::parse::schedstat::schedstat;
use crate::parse::text::{lines, number32, shown, single, words};

use super::cgroup::Layout;
use super::error::HostError;
use super::files::{LARGE, Root, SMALL, Walk, entries, feature, read_path};
use super::identity::NodeIdentity;
use super::process::{stat, status};
use super::taskstats::Taskstats;

/// Type information that BPF programs are fitted with; sysfs stands where it always does.
/// Ten times what kernels have.
const BTF_MOST: usize = 64 << 20;
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The switch of delay accounting (5.14+).
pub(super) const DELAYACCT: &str = "sys/kernel/task_delayacct";
/// `PROC_*_INIT_INO` (include/linux/proc_ns.h). The network's became a constant only lately.
const INITIAL: [(&str, &str); 4] =
    [("pid", "pid:[4026531836]"), ("user", "user:[4026531837]"), ("cgroup", "cgroup:[4026531835]"), ("net", "net:[4026531833]")];
/// Longest namespace link.
const LINK_LIMIT: usize = 64;

pub(super) fn probe(proc: &Root, layout: &Layout, identity: &NodeIdentity) -> Facts {
    let own = status(proc, std::process::id(), "self");
    let capabilities = Capabilities(own.ok().and_then(|status| status.effective).unwrap_or(0));
    let btf = Path::new(BTF).exists();
    let namespaces = namespaces(proc);
    let taskstats = taskstats(proc);
    Facts {
        kernel_release: identity.kernel_release.clone(),
        procfs: procfs(proc),
        exits: taskstats.map(drop),
        taskstats,
        schedstat: own_schedstat(proc),
        task_delayacct: switch(proc, DELAYACCT),
        task_delayacct_writable: writable(proc, DELAYACCT),
        sched_schedstats: switch(proc, "sys/kernel/sched_schedstats"),
        proc_schedstat: node_schedstat(proc),
        psi_node: proc.read("pressure/cpu", SMALL).map(drop).map_err(|error| feature(&error)),
        psi_cgroup: psi_cgroup(layout),
        irq_time: irq_time(proc),
        cgroups: layout.facts(),
        btf,
        bpf: bpf(btf, capabilities, namespaces),
        bpf_loaded: None,
        capabilities,
        namespaces,
    }
}

/// What can be said of eBPF without loading a program (Documentation/bpf; CAP_BPF and CAP_PERFMON since 5.8).
/// The kernel asks for them in the initial user namespace (`bpf_capable`), whatever one has in another.
fn bpf(btf: bool, capabilities: Capabilities, namespaces: Namespaces) -> Result<(), Absence> {
    let held = capabilities.has(Capability::SysAdmin) || capabilities.has(Capability::Bpf) && capabilities.has(Capability::Perfmon);
    match (btf, held && namespaces.user != Some(false)) {
        (false, _) => Err(Absence::NotSupported),
        (true, false) => Err(Absence::NoPermission),
        (true, true) => Ok(()),
    }
}

/// A switch under `/proc/sys`; `None` where the kernel has none.
pub(super) fn switch(proc: &Root, name: &str) -> Option<bool> {
    single(&proc.read(name, SMALL).ok()?).map(|value| value != 0)
}

/// About 6 MiB on a distribution's kernel.
pub(super) fn kernel_btf() -> Result<Vec<u8>, HostError> {
    read_path(Path::new(BTF), BTF_MOST)
}

/// Whether a file may be opened for writing; nothing is written.
#[expect(clippy::disallowed_methods, reason = "room host opens kernel files: here is where")]
fn writable(proc: &Root, name: &str) -> bool {
    std::fs::OpenOptions::new().write(true).open(proc.path(name)).is_ok()
}

/// Processes of the host can be read where its first one can. Where it only seems not to be there, others' are hidden.
fn procfs(proc: &Root) -> Result<(), Absence> {
    stat(proc, 1).map(drop).map_err(|error| match error.absence() {
        Absence::Absent if hides_others(&proc.read("self/mountinfo", LARGE).unwrap_or_default()) => Absence::NoPermission,
        reason => reason,
    })
}

/// Whether a procfs is mounted so that processes of others do not show (`hidepid=2`, in words since 5.8; fs/proc/root.c).
fn hides_others(mountinfo: &[u8]) -> bool {
    let hides = |option: &[u8]| option.strip_prefix(b"hidepid=").is_some_and(|value| !matches!(value, b"0" | b"off"));
    lines(mountinfo).any(|line| {
        let mut after = words(line).skip_while(|word| *word != b"-").skip(1);
        after.next() == Some(b"proc") && after.nth(1).is_some_and(|options| options.split(|byte| *byte == b',').any(hides))
    })
}

/// taskstats numbers processes in the agent's own pid namespace: where the procfs belongs to another one, an answer
/// would be about somebody else.
fn taskstats(proc: &Root) -> Result<TaskstatsFacts, Absence> {
    let numbered = link(proc, "self").and_then(|id| number32(id.as_bytes()));
    if numbered.is_some_and(|id| id != std::process::id()) {
        return Err(Absence::NotSupported);
    }
    Taskstats::open().map(|taskstats| taskstats.facts()).map_err(|error| error.absence())
}

fn own_schedstat(proc: &Root) -> Result<(), Absence> {
    let text = proc.read("self/schedstat", SMALL).map_err(|error| feature(&error))?;
    schedstat(&text).map(drop).map_err(|_| Absence::Garbage)
}

fn node_schedstat(proc: &Root) -> Result<u32, Absence> {
    let text = proc.read("schedstat", LARGE).map_err(|error| feature(&error))?;
    let stat = proc_schedstat(&text).map_err(|_| Absence::Garbage)?;
    if stat.cpus.is_empty() { Err(Absence::Garbage) } else { Ok(stat.version) }
}

/// Pressure files: the root of the unified hierarchy has none on some kernels, so one level below it is tried as well.
fn psi_cgroup(layout: &Layout) -> Result<(), Absence> {
    let root = &layout.unified().ok_or(Absence::NotSupported)?.point;
    let read = |dir: &Path| read_path(&dir.join("cpu.pressure"), SMALL).map(drop);
    let at_root = match read(root) {
        Ok(()) => return Ok(()),
        Err(error) => feature(&error),
    };
    first_child(root).map_or(Err(at_root), |child| read(&child).map_err(|error: HostError| feature(&error)))
}

fn first_child(dir: &Path) -> Option<std::path::PathBuf> {
    let fd = Root::open(dir).ok()?.open_dir(".").ok()?;
    let mut found = None;
    entries(&fd, |name, is_dir| {
        if !is_dir {
            return Walk::Go;
        }
        found = Some(dir.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)));
        Walk::Stop
    })
    .ok()?;
    found
}

/// The kernel has `pressure/irq` exactly where it accounts interrupt time (6.1+); with no pressure at all nothing is known.
fn irq_time(proc: &Root) -> Option<bool> {
    if proc.read("pressure/irq", SMALL).is_ok() {
        return Some(true);
    }
    let cpu = proc.read("pressure/cpu", SMALL).ok()?;
    let release = proc.read("sys/kernel/osrelease", SMALL).ok()?;
    (!cpu.is_empty() && at_least(&release, (6, 1))).then_some(false)
}

/// Whether a kernel release (`6.1.0-27-cloud-amd64`) is this or newer.
fn at_least(release: &[u8], version: (u32, u32)) -> bool {
    let mut parts = release.split(|byte| !byte.is_ascii_digit()).map(number32);
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= version,
        _ => false,
    }
}

/// Target of a link under the procfs root.
#[expect(clippy::disallowed_methods, reason = "room host opens kernel files: here is where")]
pub(super) fn link(proc: &Root, name: &str) -> Option<String> {
    let target = std::fs::read_link(proc.path(name)).ok()?;
    Some(shown(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()), LINK_LIMIT))
}

fn namespaces(proc: &Root) -> Namespaces {
    let is_initial = |name: &str| {
        let own = link(proc, &format!("self/ns/{name}"))?;
        if INITIAL.contains(&(name, own.as_str())) {
            return Some(true);
        }
        match link(proc, &format!("1/ns/{name}")) {
            // In a pid namespace of its own the agent's process 1 is not the host's.
            Some(first) if link(proc, "self/ns/pid").as_deref() == Some(INITIAL[0].1) => Some(first == own),
            _ if name == "net" => None,
            _ => Some(false),
        }
    };
    Namespaces { pid: is_initial("pid"), net: is_initial("net"), user: is_initial("user"), cgroup: is_initial("cgroup") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(files: &[(&str, &str)]) -> Facts {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let proc = Root::open(&dir.path().join("proc")).unwrap();
        let layout = Layout::find(&proc, &dir.path().join("cgroup"));
        probe(&proc, &layout, &NodeIdentity::default())
    }

    #[test]
    fn a_tree_with_nothing_in_it() {
        let found = facts(&[]);
        assert_eq!(found.procfs, Err(Absence::Absent));
        assert_eq!(found.schedstat, Err(Absence::NotSupported));
        assert_eq!((found.task_delayacct, found.sched_schedstats, found.irq_time), (None, None, None));
        assert_eq!((found.psi_node, found.psi_cgroup), (Err(Absence::NotSupported), Err(Absence::NotSupported)));
        assert_eq!(found.proc_schedstat, Err(Absence::NotSupported));
    }

    #[test]
    fn a_tree_with_everything_in_it() {
        let found = facts(&[
            ("proc/1/stat", "1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 9 1 1\n"),
            ("proc/self/schedstat", "1 2 3\n"),
            ("proc/self/status", "CapEff:\t0000000000001000\n"),
            ("proc/sys/kernel/task_delayacct", "0\n"),
            ("proc/sys/kernel/sched_schedstats", "1\n"),
            ("proc/sys/kernel/osrelease", "6.8.0-40-generic\n"),
            ("proc/schedstat", "version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 5 6 7\n"),
            ("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("cgroup/cgroup.controllers", "cpu memory\n"),
            ("cgroup/system.slice/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
        ]);
        assert_eq!((found.procfs, found.schedstat, found.proc_schedstat), (Ok(()), Ok(()), Ok(15)));
        assert_eq!((found.task_delayacct, found.sched_schedstats, found.irq_time), (Some(false), Some(true), Some(false)));
        assert_eq!((found.psi_node, found.psi_cgroup), (Ok(()), Ok(())));
        assert_eq!(found.capabilities, Capabilities(1 << 12));
        assert_eq!(found.cgroups.v2, ["cpu", "memory"]);
    }

    #[test]
    fn what_cannot_be_read_is_garbage_and_not_absent() {
        let found = facts(&[("proc/self/schedstat", "1 2\n"), ("proc/schedstat", "version 99\n"), ("proc/1/stat", "1 (x")]);
        assert_eq!(
            (found.procfs, found.schedstat, found.proc_schedstat),
            (Err(Absence::Garbage), Err(Absence::Garbage), Err(Absence::Garbage))
        );
    }

    #[test]
    fn a_procfs_that_hides_others_denies_and_does_not_lack_them() {
        fn check(options: &str, expected: Absence) {
            let line = format!("22 26 0:21 / /proc rw,nosuid - proc proc {options}\n");
            assert_eq!(facts(&[("proc/self/mountinfo", &line)]).procfs, Err(expected), "{options}");
        }
        check("rw,hidepid=2", Absence::NoPermission);
        check("rw,hidepid=invisible,gid=7", Absence::NoPermission);
        check("rw,hidepid=ptraceable", Absence::NoPermission);
        check("rw,hidepid=0", Absence::Absent);
        check("rw,hidepid=off", Absence::Absent);
        check("rw", Absence::Absent);
        check("", Absence::Absent);
    }

    #[test]
    fn programs_need_capabilities_in_the_initial_user_namespace() {
        let all = Capabilities(u64::MAX);
        let within = |user| Namespaces { user, ..Namespaces::default() };
        for (btf, capabilities, user, expected) in [
            (true, all, Some(true), Ok(())),
            (true, all, None, Ok(())),
            (true, all, Some(false), Err(Absence::NoPermission)),
            (true, Capabilities(0), Some(true), Err(Absence::NoPermission)),
            (false, all, Some(true), Err(Absence::NotSupported)),
        ] {
            assert_eq!(bpf(btf, capabilities, within(user)), expected, "{btf} {capabilities:?} {user:?}");
        }
    }

    #[test]
    fn kernel_releases_compare() {
        fn check(release: &str, expected: bool) {
            assert_eq!(at_least(release.as_bytes(), (6, 1)), expected, "{release}");
        }
        check("6.1.0-27-cloud-amd64\n", true);
        check("6.18.44\n", true);
        check("10.0", true);
        check("6.0.9", false);
        check("5.15.0", false);
        check("x", false);
        check("", false);
    }

    #[test]
    fn this_host_has_schedstat_or_says_why() {
        let proc = Root::open(Path::new("/proc")).unwrap();
        let layout = Layout::find(&proc, Path::new("/sys/fs/cgroup"));
        let found = probe(&proc, &layout, &NodeIdentity::read(&proc));
        assert_eq!(found.procfs, Ok(()));
        assert!(found.kernel_release.is_some());
        assert!(found.namespaces.pid.is_some());
    }
}
