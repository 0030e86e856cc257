//! What probing this host brought to light. Plain data: `host` fills it, `ladder` decides from it alone.

use super::Absence;

/// Everything known about the host that decides which source supplies what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`
    pub kernel_release: Option<String>,
    /// Whether the processes of the host can be listed and read.
    pub procfs: Result<(), Absence>,
    /// taskstats over generic netlink, asked about the agent itself.
    pub taskstats: Result<TaskstatsFacts, Absence>,
    /// Whether taskstats tells of exits, as far as was tried.
    pub exits: Result<(), Absence>,
    /// `/proc/self/schedstat`
    pub schedstat: Result<(), Absence>,
    /// `kernel.task_delayacct`; `None`: the kernel has no such switch (before 5.14: counting unless booted with `nodelayacct`).
    pub task_delayacct: Option<bool>,
    /// Whether the agent may write `kernel.task_delayacct`.
    pub task_delayacct_writable: bool,
    /// `kernel.sched_schedstats`; `None`: built without `CONFIG_SCHEDSTATS`.
    pub sched_schedstats: Option<bool>,
    /// `/proc/schedstat`: its version.
    pub proc_schedstat: Result<u32, Absence>,
    /// `/proc/pressure`
    pub psi_node: Result<(), Absence>,
    /// Pressure files of cgroups.
    pub psi_cgroup: Result<(), Absence>,
    /// Whether interrupt time is accounted (`CONFIG_IRQ_TIME_ACCOUNTING`); `None`: could not be found out.
    pub irq_time: Option<bool>,
    /// cgroup hierarchies.
    pub cgroups: CgroupFacts,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// Whether eBPF programs can be loaded, as far as was tried.
    pub bpf: Result<(), Absence>,
    /// What they told when they were loaded; `None`: they were not.
    pub bpf_loaded: Option<BpfFacts>,
    /// Effective capabilities of the agent.
    pub capabilities: Capabilities,
    /// Which of the agent's namespaces are the host's.
    pub namespaces: Namespaces,
}

impl Facts {
    /// Facts of a host nothing is known of: every source absent.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            kernel_release: None,
            procfs: Err(Absence::Absent),
            taskstats: Err(Absence::Absent),
            exits: Err(Absence::Absent),
            schedstat: Err(Absence::Absent),
            task_delayacct: None,
            task_delayacct_writable: false,
            sched_schedstats: None,
            proc_schedstat: Err(Absence::Absent),
            psi_node: Err(Absence::Absent),
            psi_cgroup: Err(Absence::Absent),
            irq_time: None,
            cgroups: CgroupFacts::default(),
            btf: false,
            bpf: Err(Absence::NotSupported),
            bpf_loaded: None,
            capabilities: Capabilities::default(),
            namespaces: Namespaces::default(),
        }
    }
}

/// What the eBPF programs can tell on this kernel, and what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfFacts {
    /// Memory of their maps, bytes.
    pub map_bytes: u64,
    /// They had to be loaded in their form for older kernels.
    pub raw: bool,
    /// The throttled part of each wait is known (`None`), approximate, or unknown: what is lost.
    pub throttled_lost: Option<&'static str>,
    /// Direct reclaim and direct compaction are seen.
    pub memory: bool,
    /// Waits that have not ended are seen.
    pub waiting: bool,
}

/// What a taskstats answer about the agent itself looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskstatsFacts {
    /// `version` of the struct.
    pub version: u16,
    /// Bytes of the struct.
    pub len: usize,
    /// Whether the CPU fields count: before 5.14 `nodelayacct` makes the kernel answer with zeros.
    pub counting: bool,
}

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupLayout {
    /// No cgroup mount was found.
    #[default]
    Missing,
    /// Version 1 hierarchies only.
    V1,
    /// The unified hierarchy only.
    V2,
    /// Both.
    Hybrid,
}

impl CgroupLayout {
    /// The word shown to people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Where the controllers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupFacts {
    /// How they are mounted.
    pub layout: CgroupLayout,
    /// Controllers on version 1 hierarchies.
    pub v1: Vec<String>,
    /// Controllers on the unified hierarchy.
    pub v2: Vec<String>,
    /// The agent stands in a cgroup namespace of its own and could not find out where: paths of others are relative to it.
    pub relative_paths: bool,
}

impl CgroupFacts {
    /// Whether this controller is on any hierarchy.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.v1.iter().chain(&self.v2).any(|name| name == controller)
    }
}

/// A capability set as `/proc/self/status` shows it (`CapEff`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// The capabilities that buy something here (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// taskstats.
    NetAdmin = 12,
    /// Files of processes of other users.
    SysPtrace = 19,
    /// Writing sysctls, entering namespaces, BPF before 5.8.
    SysAdmin = 21,
    /// PSI triggers with short windows, the open file limit.
    SysResource = 24,
    /// Tracing programs.
    Perfmon = 38,
    /// BPF.
    Bpf = 39,
}

impl Capability {
    /// Those told of, in numeric order.
    pub const ALL: [Self; 6] = [Self::NetAdmin, Self::SysPtrace, Self::SysAdmin, Self::SysResource, Self::Perfmon, Self::Bpf];

    /// The kernel's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Capabilities {
    /// Whether it is in the set.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }
}

/// Whether the agent's namespaces are the initial ones; `None`: could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Option<bool>,
    /// Network.
    pub net: Option<bool>,
    /// Users.
    pub user: Option<bool>,
    /// cgroups.
    pub cgroup: Option<bool>,
}
