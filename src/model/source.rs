//! Where a number came from, and why one is missing.

/// The best evidence behind a number (`stallspan.source`), best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// Every wait seen as an event.
    Bpf,
    /// Delay accounting over netlink.
    Taskstats,
    /// `/proc/PID/task/*/schedstat`.
    Schedstat,
    /// cgroup statistics only.
    Cgroup,
}

impl Evidence {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Taskstats => "taskstats",
            Self::Schedstat => "schedstat",
            Self::Cgroup => "cgroup",
        }
    }
}

/// The rungs that `stallspan.source.enabled` tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceName {
    /// eBPF programs.
    Bpf,
    /// taskstats queries.
    Taskstats,
    /// taskstats exit listener.
    TaskstatsExits,
    /// schedstat files.
    Schedstat,
    /// cgroup files.
    Cgroup,
    /// Pressure stall information.
    Psi,
    /// `/proc/schedstat`, `/proc/vmstat`.
    Node,
    /// The container runtime.
    Containerd,
}

impl SourceName {
    /// Every source, in the contract's order.
    pub const ALL: [Self; 8] =
        [Self::Bpf, Self::Taskstats, Self::TaskstatsExits, Self::Schedstat, Self::Cgroup, Self::Psi, Self::Node, Self::Containerd];

    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Taskstats => "taskstats",
            Self::TaskstatsExits => "taskstats_exits",
            Self::Schedstat => "schedstat",
            Self::Cgroup => "cgroup",
            Self::Psi => "psi",
            Self::Node => "node",
            Self::Containerd => "containerd",
        }
    }
}

/// Why a source supplies nothing (`stallspan.reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Absence {
    /// Switched off by configuration.
    Disabled,
    /// EPERM, EACCES.
    NoPermission,
    /// The kernel was built without it, or has it off.
    NotSupported,
    /// The file, socket or directory is not there.
    Absent,
    /// Nobody answers at the socket.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// What came could not be read.
    Garbage,
    /// Anything else.
    Failed,
}

impl Absence {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoPermission => "no_permission",
            Self::NotSupported => "not_supported",
            Self::Absent => "absent",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
            Self::Failed => "failed",
        }
    }
}
