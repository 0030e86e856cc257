//! What `check` tells of this host: what is lost in a user's words, and what mends it.

use crate::config::meaning::{Method, Sources, TaskDelayacct};
use crate::model::{Absence, BpfFacts, Capability, CgroupLayout, DelayKind, Facts, Namespaces, SourceName};

use super::Plan;

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckStatus {
    /// Nothing is lost.
    Pass,
    /// Something is lost.
    Warn,
    /// Something the configuration asks for cannot work at all.
    Fail,
}

impl CheckStatus {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckItem {
    /// Stable name.
    pub id: &'static str,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What is missing in the output; with `Pass` nothing is.
    pub lost: Option<String>,
    /// A command that can be run as it stands, or a sentence.
    pub cure: Option<String>,
}

impl CheckItem {
    /// Nothing is lost.
    #[must_use]
    pub fn pass(id: &'static str, detail: impl Into<String>) -> Self {
        Self { id, status: CheckStatus::Pass, detail: detail.into(), lost: None, cure: None }
    }

    /// Something is lost.
    #[must_use]
    pub fn warn(id: &'static str, detail: impl Into<String>, lost: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { id, status: CheckStatus::Warn, detail: detail.into(), lost: Some(lost.into()), cure: Some(cure.into()) }
    }

    /// Something asked for cannot work.
    #[must_use]
    pub fn fail(id: &'static str, detail: impl Into<String>, lost: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { status: CheckStatus::Fail, ..Self::warn(id, detail, lost, cure) }
    }

    /// The same item as a failure where the configuration asks for exactly this.
    fn fail_if(self, asked: bool) -> Self {
        if asked && self.status == CheckStatus::Warn { Self { status: CheckStatus::Fail, ..self } } else { self }
    }
}

/// Every item about the host, in the order shown. Those about the runtime and downstream are added by the wiring.
#[must_use]
pub fn checks(facts: &Facts, plan: &Plan, sources: &Sources) -> Vec<CheckItem> {
    let asked = |method| plan.method_missing.is_some_and(|(missing, _)| missing == method);
    let nothing_left = plan.best().is_none();
    vec![
        procfs(facts),
        bpf(facts, sources.method).fail_if(asked(Method::Bpf)),
        taskstats(facts, plan).fail_if(asked(Method::Taskstats) || nothing_left),
        taskstats_exits(facts, plan),
        task_delayacct(facts, plan, sources.task_delayacct).fail_if(sources.task_delayacct == TaskDelayacct::On),
        schedstat(facts).fail_if(asked(Method::Schedstat) || nothing_left),
        cgroup(facts).fail_if(nothing_left),
        psi(facts),
        proc_schedstat(facts),
        capabilities(facts, plan),
    ]
}

const HOST_PIDS: &str = "run it in the host's pid namespace: `hostPID: true` in Kubernetes, `--pid=host` in Docker";
const BPF_HOST_USERS: &str = "the kernel loads programs only for the initial user namespace, whatever capabilities are held in another: run it there: `hostUsers: true` in Kubernetes, `--userns=host` in Docker";
/// Stands in cures for the path of the agent's own binary, which only the wiring knows; a shell understands it too.
pub const THIS_BINARY: &str = "\"$(command -v stallspan)\"";
const NET_ADMIN: &str = "setcap cap_net_admin+ep \"$(command -v stallspan)\"";

fn procfs(facts: &Facts) -> CheckItem {
    const ID: &str = "procfs";
    match facts.procfs {
        Ok(()) if facts.namespaces.pid == Some(false) => CheckItem::warn(
            ID,
            "the agent has a pid namespace of its own",
            "processes and containers outside of the agent's own container",
            HOST_PIDS,
        ),
        Ok(()) => CheckItem::pass(ID, format!("processes can be read (kernel {})", facts.kernel_release.as_deref().unwrap_or("unknown"))),
        Err(Absence::NoPermission) => CheckItem::fail(
            ID,
            "processes of other users may not be read (`hidepid` in the mount of /proc, or a missing capability)",
            "every delay of every container that does not run as the agent's own user",
            "mount -o remount,hidepid=0 /proc  # lets every user see every process; or give the agent CAP_SYS_PTRACE, which sees through it",
        ),
        Err(reason) => CheckItem::fail(
            ID,
            format!("the first process of the host cannot be read ({})", reason.word()),
            "every delay of every process",
            "set sources.procfs.root to where the host's /proc is mounted",
        ),
    }
}

fn bpf(facts: &Facts, method: Method) -> CheckItem {
    const ID: &str = "bpf";
    match method {
        Method::Taskstats | Method::Schedstat => CheckItem::pass(ID, "not used: sources.method begins below it"),
        Method::Auto | Method::Bpf => match facts.bpf {
            Ok(()) => bpf_loaded(facts.bpf_loaded),
            Err(absence) => CheckItem::warn(
                ID,
                format!("eBPF programs cannot be loaded ({})", absence.word()),
                "single waits: stall events, longest wait, wall-clock time stalled, and who ran meanwhile",
                bpf_cure(absence, facts.namespaces),
            ),
        },
    }
}

fn bpf_loaded(loaded: Option<BpfFacts>) -> CheckItem {
    const ID: &str = "bpf";
    let detail = "the programs load with CAP_BPF and CAP_PERFMON: every wait is seen, and who ran meanwhile";
    let Some(loaded) = loaded else { return CheckItem::pass(ID, detail) };
    let tenths = (loaded.map_bytes.saturating_mul(10) >> 20).max(1);
    let form = if loaded.raw { "; in their form for older kernels" } else { "" };
    let detail = format!("{detail}; maps of {}.{} MiB{form}", tenths / 10, tenths % 10);
    let memory = (!loaded.memory).then_some("reclaim and compaction as single events");
    let waiting = (!loaded.waiting).then_some("waits still in progress when a span ends");
    let lost: Vec<&str> = [loaded.throttled_lost, memory, waiting].into_iter().flatten().collect();
    if lost.is_empty() {
        return CheckItem::pass(ID, detail);
    }
    CheckItem::warn(ID, detail, lost.join("; "), "use a kernel of 6.6 or later; the other delays are not affected")
}

fn bpf_cure(absence: Absence, namespaces: Namespaces) -> &'static str {
    match absence {
        Absence::NoPermission if namespaces.user == Some(false) => BPF_HOST_USERS,
        Absence::NoPermission => "setcap cap_bpf,cap_perfmon,cap_net_admin+ep \"$(command -v stallspan)\"",
        Absence::Absent | Absence::NotSupported => {
            "use a kernel of 5.8 or later built with CONFIG_DEBUG_INFO_BTF; until then delays are read from delay accounting"
        }
        _ => "see the log of `stallspan run`: it holds the verifier's last lines; until then delays are read from delay accounting",
    }
}

fn taskstats(facts: &Facts, plan: &Plan) -> CheckItem {
    const ID: &str = "taskstats";
    let lost = "block I/O, swap-in, reclaim, compaction and the other delays besides CPU, and the delays of threads that exited between two readings";
    let Err(reason) = plan.source(SourceName::Taskstats) else {
        let detail = facts.taskstats.map_or_else(|_| String::new(), |found| format!("version {}, {} bytes", found.version, found.len));
        return CheckItem::pass(ID, detail);
    };
    if reason == Absence::Disabled {
        return CheckItem::pass(ID, "not used: sources.method is schedstat");
    }
    let detail = format!("the kernel does not answer ({})", reason.word());
    match reason {
        Absence::NoPermission if facts.namespaces.user == Some(false) => CheckItem::warn(
            ID,
            detail,
            lost,
            "run it in the host's user namespace: `hostUsers: true` in Kubernetes, `--userns=host` in Docker",
        ),
        Absence::NoPermission => CheckItem::warn(ID, detail, lost, NET_ADMIN),
        Absence::NotSupported if facts.taskstats.is_ok() => {
            CheckItem::warn(ID, "the kernel answers with zeros", lost, "take `nodelayacct` off the kernel's command line and boot again")
        }
        Absence::NotSupported if facts.namespaces.pid == Some(false) => CheckItem::warn(ID, detail, lost, HOST_PIDS),
        Absence::NotSupported if facts.namespaces.net == Some(false) => CheckItem::warn(
            ID,
            detail,
            lost,
            "run it in the host's network namespace (kernels before 6.1): `hostNetwork: true` in Kubernetes, `--network=host` in Docker",
        ),
        Absence::NotSupported => CheckItem::warn(ID, detail, lost, "use a kernel built with CONFIG_TASKSTATS and CONFIG_TASK_DELAY_ACCT"),
        _ => CheckItem::warn(ID, detail, lost, "start the agent again; if it stays so, report the kernel's release"),
    }
}

fn taskstats_exits(facts: &Facts, plan: &Plan) -> CheckItem {
    const ID: &str = "taskstats_exits";
    const LOST: &str = "the delays of processes that live shorter than the time between two readings, and the last ones of all others";
    match (plan.source(SourceName::Taskstats), plan.source(SourceName::TaskstatsExits)) {
        (_, Ok(())) => CheckItem::pass(ID, "the kernel tells what every thread had waited when it ended"),
        (Err(_), _) => CheckItem::pass(ID, "not used: taskstats is not"),
        (Ok(()), Err(reason)) => {
            let detail = format!("the kernel tells of no exits ({})", reason.word());
            let cure = if facts.namespaces.net == Some(true) {
                "start the agent again; if it stays so, report the kernel's release"
            } else {
                "run it in the host's network namespace: `hostNetwork: true` in Kubernetes, `--network=host` in Docker; or give it CAP_SYS_ADMIN and the host's pid namespace"
            };
            CheckItem::warn(ID, detail, LOST, cure)
        }
    }
}

fn task_delayacct(facts: &Facts, plan: &Plan, wanted: TaskDelayacct) -> CheckItem {
    const ID: &str = "task_delayacct";
    const LOST: &str = "block I/O, swap-in, reclaim, compaction, thrashing and write-protect-copy delays";
    match facts.task_delayacct {
        Some(true) => CheckItem::pass(ID, "on: tasks count all their delays from birth; those born before it was on stay unknown"),
        None if facts.taskstats.is_ok_and(|found| found.counting) => {
            CheckItem::pass(ID, "this kernel counts since it booted and has no switch")
        }
        Some(false) if plan.switch_delayacct_on => {
            CheckItem::pass(ID, "off: switched on while the agent runs, for tasks born meanwhile (sources.task_delayacct: on)")
        }
        Some(false) if wanted == TaskDelayacct::On && facts.capabilities.has(Capability::SysAdmin) => CheckItem::warn(
            ID,
            "kernel.task_delayacct is 0, and /proc/sys is read-only here: it cannot be switched on (sources.task_delayacct: on)",
            LOST,
            "sysctl -w kernel.task_delayacct=1  # on the node itself; or mount the node's /proc writable (`procMount: Unmasked`, or a hostPath volume named in sources.procfs.root)",
        ),
        Some(false) if wanted == TaskDelayacct::On => CheckItem::warn(
            ID,
            "kernel.task_delayacct is 0, and the agent may not switch it on without CAP_SYS_ADMIN (sources.task_delayacct: on)",
            LOST,
            "sysctl -w kernel.task_delayacct=1  # on the node itself; or give the agent CAP_SYS_ADMIN in the host's user namespace",
        ),
        Some(false) => CheckItem::warn(
            ID,
            "kernel.task_delayacct is 0",
            LOST,
            "sysctl -w kernel.task_delayacct=1  # tasks started from then on count all their delays; costs a clock reading at each wait",
        ),
        None => CheckItem::warn(
            ID,
            "this kernel counts no delays and has no switch for it",
            LOST,
            "use a kernel built with CONFIG_TASK_DELAY_ACCT, booted without `nodelayacct`",
        ),
    }
}

fn schedstat(facts: &Facts) -> CheckItem {
    const ID: &str = "schedstat";
    match facts.schedstat {
        Ok(()) => CheckItem::pass(ID, "run time and run-queue wait of every thread"),
        Err(reason) => CheckItem::warn(
            ID,
            format!("/proc/PID/schedstat cannot be read ({})", reason.word()),
            "CPU delay of single threads, and of processes where taskstats does not answer",
            "use a kernel built with CONFIG_SCHED_INFO",
        ),
    }
}

fn cgroup(facts: &Facts) -> CheckItem {
    const ID: &str = "cgroup";
    let cgroups = &facts.cgroups;
    if cgroups.layout == CgroupLayout::Missing {
        return CheckItem::warn(
            ID,
            "no cgroup mount was found",
            "throttled time, CPU limits, memory use, and containers that no runtime names",
            "set sources.cgroupfs.root to where the host's /sys/fs/cgroup is mounted",
        );
    }
    if cgroups.relative_paths {
        return CheckItem::warn(
            ID,
            "cgroup paths are relative to the agent's own cgroup namespace",
            "throttled time, CPU limits and memory use of other containers",
            "run it in the host's cgroup namespace (`--cgroupns=host` in Docker), or mount the host's /sys/fs/cgroup and set sources.cgroupfs.root to it",
        );
    }
    let missing: Vec<&str> = ["cpu", "memory"].into_iter().filter(|controller| !cgroups.has(controller)).collect();
    if missing.is_empty() {
        return CheckItem::pass(ID, format!("layout {}", cgroups.layout.word()));
    }
    let lost = match missing.as_slice() {
        ["cpu"] => "throttled time and CPU limits",
        ["memory"] => "memory use, faults, events and reclaim",
        _ => "throttled time, CPU limits, memory use, faults, events and reclaim",
    };
    CheckItem::warn(
        ID,
        format!("layout {}, without controller {}", cgroups.layout.word(), missing.join(" and ")),
        lost,
        "take `cgroup_disable=` off the kernel's command line, or use a kernel built with the controller, and boot again",
    )
}

fn psi(facts: &Facts) -> CheckItem {
    const ID: &str = "psi";
    match (facts.psi_node, facts.psi_cgroup) {
        (Ok(()), Ok(())) => CheckItem::pass(ID, "pressure of the node and of cgroups"),
        (Ok(()), Err(_)) if facts.cgroups.layout == CgroupLayout::V1 => CheckItem::warn(
            ID,
            "pressure of the node only: cgroups of version 1 have none",
            "stallspan.container.pressure.time",
            "boot with systemd.unified_cgroup_hierarchy=1, so that cgroups are of version 2",
        ),
        (Ok(()), Err(reason)) => CheckItem::warn(
            ID,
            format!("pressure of the node only; that of cgroups cannot be read ({})", reason.word()),
            "stallspan.container.pressure.time",
            "set sources.cgroupfs.root to where the host's /sys/fs/cgroup is mounted",
        ),
        (Err(reason), _) => CheckItem::warn(
            ID,
            format!("pressure stall information cannot be read ({})", reason.word()),
            "stallspan.container.pressure.time and stallspan.node.pressure.time",
            "add `psi=1` to the kernel's command line and boot again",
        ),
    }
}

fn proc_schedstat(facts: &Facts) -> CheckItem {
    const ID: &str = "proc_schedstat";
    match facts.proc_schedstat {
        Ok(version) => CheckItem::pass(ID, format!("version {version}")),
        Err(reason) => CheckItem::warn(
            ID,
            format!("/proc/schedstat cannot be read ({})", reason.word()),
            "run-queue wait, run time and time slices of each CPU of the node, and the agent's own conservation error",
            "use a kernel built with CONFIG_SCHEDSTATS",
        ),
    }
}

fn capabilities(facts: &Facts, plan: &Plan) -> CheckItem {
    const ID: &str = "capabilities";
    let held: Vec<&str> = Capability::ALL.into_iter().filter(|one| facts.capabilities.has(*one)).map(Capability::word).collect();
    let detail = if held.is_empty() { "none of those that buy something here".to_owned() } else { held.join(" ") };
    let denied = plan.source(SourceName::Taskstats) == Err(Absence::NoPermission);
    if denied && !facts.capabilities.has(Capability::NetAdmin) {
        let lost = match plan.delay(DelayKind::Cpu) {
            Ok(_) => "every delay but that of the CPU",
            Err(_) => "every delay",
        };
        return CheckItem::warn(ID, detail, lost, NET_ADMIN);
    }
    CheckItem::pass(ID, detail)
}
