//! Room `host`: the only code that opens kernel files and sockets, all of it under roots it is given.
//!
//! It asks and hands over what came, read by `parse`. It decides nothing (which source counts is `ladder`'s), keeps
//! nothing between calls but open files (history is `history`'s), reads no clock, logs nothing and never panics; every
//! read has a bound and every wait an end. What cannot be told is an error with a class, or an absent field.

mod allocator;
mod cgroup;
mod error;
mod exits;
mod files;
mod forks;
mod identity;
mod netlink;
mod node;
mod probe;
mod process;
mod sockets;
mod taskstats;
mod turns;

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::{CgroupStat, Facts, NodeCpu, NodeSnapshot};
use crate::parse::cgroup::membership::{Membership, memberships};
use crate::parse::process::ProcessStat;
use crate::parse::schedstat::Schedstat;

pub use allocator::give_back_large_blocks;
pub use cgroup::{Above, CgroupDirs, MOST_ABOVE, Throttle};
pub use error::{ErrorClass, HostError, Place};
pub use exits::{Exit, ExitListener, ExitWatch, Received};
pub use forks::ForkListener;
pub use identity::NodeIdentity;
pub use process::{ProcessHandle, ThreadHandle};
pub use sockets::SocketDiag;
pub use taskstats::Taskstats;
pub use turns::{look_whether_over, stand_back, take_short_turns};

use cgroup::Layout;
use files::{Root, SMALL};

/// A host: its `/proc` and its cgroups. Holds no changing state; share it.
#[derive(Debug)]
pub struct Host {
    proc: Root,
    layout: Layout,
    identity: NodeIdentity,
}

impl Host {
    /// Opens the roots. Fails only where `procfs_root` is no directory; cgroups may be missing.
    pub fn open(procfs_root: &Path, cgroupfs_root: &Path) -> Result<Self, HostError> {
        let proc = Root::open(procfs_root)?;
        let layout = Layout::find(&proc, cgroupfs_root);
        let identity = NodeIdentity::read(&proc);
        Ok(Self { proc, layout, identity })
    }

    /// Facts that do not change while the agent runs.
    #[must_use]
    pub const fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Asks every source once.
    #[must_use]
    pub fn probe(&self) -> Facts {
        probe::probe(&self.proc, &self.layout, &self.identity)
    }

    /// Process ids (thread groups), ascending; clears `into` first.
    pub fn pids(&self, into: &mut Vec<u32>) -> Result<(), HostError> {
        process::pids(&self.proc, into)
    }

    /// Takes hold of a process so that pid reuse cannot confuse it. Keeps one file open.
    pub fn attach(&self, pid: u32) -> Result<ProcessHandle, HostError> {
        process::attach(&self.proc, pid)
    }

    /// Takes hold of a thread. Keeps one file open.
    pub fn attach_thread(&self, pid: u32, tid: u32) -> Result<ThreadHandle, HostError> {
        process::attach_thread(&self.proc, pid, tid)
    }

    /// `/proc/PID/stat`
    pub fn stat(&self, pid: u32) -> Result<ProcessStat, HostError> {
        process::stat(&self.proc, pid)
    }

    /// Where a process stands in every hierarchy, its paths made the host's where the agent has a cgroup namespace of
    /// its own. On version 1 an exiting process shows `/`: ask while it lives.
    pub fn memberships(&self, pid: u32) -> Result<Vec<Membership>, HostError> {
        let mut found = memberships(&self.proc.read_process(pid, &format!("{pid}/cgroup"), SMALL)?);
        self.layout.make_absolute(&mut found);
        Ok(found)
    }

    /// The process's ids in its pid namespaces, outermost first; empty before kernel 4.1.
    pub fn namespace_pids(&self, pid: u32) -> Result<Vec<u32>, HostError> {
        process::status(&self.proc, pid, &pid.to_string()).map(|status| status.ns_tgids)
    }

    /// The same of one thread.
    pub fn namespace_tids(&self, pid: u32, tid: u32) -> Result<Vec<u32>, HostError> {
        process::status(&self.proc, tid, &format!("{pid}/task/{tid}")).map(|status| status.ns_pids)
    }

    /// Processes of the agent's network namespace that hold the socket with this inode, ascending. Looks through all of their
    /// open files: milliseconds, not microseconds.
    pub fn socket_holders(&self, inode: u64) -> Result<Vec<u32>, HostError> {
        sockets::holders(&self.proc, inode)
    }

    /// Whether the process holds the socket with this inode. Looks through its open files.
    #[must_use]
    pub fn holds_socket(&self, pid: u32, inode: u64) -> bool {
        sockets::is_holder(&self.proc, pid, inode)
    }

    /// The CPUs that a process's main thread may run on, a bit each, the lowest word first; empty where that is not told.
    pub fn allowed_cpus(&self, pid: u32) -> Result<Vec<u32>, HostError> {
        process::status(&self.proc, pid, &pid.to_string()).map(|status| status.cpus_allowed)
    }

    /// Threads of a process, ascending; clears `into` first.
    pub fn thread_ids(&self, pid: u32, into: &mut Vec<u32>) -> Result<(), HostError> {
        process::thread_ids(&self.proc, pid, into)
    }

    /// Totals of every thread alive, by thread id. Threads that exited are not in it.
    pub fn threads_schedstat(&self, pid: u32, each: impl FnMut(u32, Schedstat)) -> Result<(), HostError> {
        process::threads_schedstat(&self.proc, pid, each)
    }

    /// Where the cgroup that carries `mark` (a container id, a unit's or any other cgroup's name) stands in each
    /// hierarchy. A hierarchy whose path does not carry it is left out: its numbers would be about others too.
    #[must_use]
    pub fn cgroup_dirs(&self, memberships: &[Membership], mark: &str) -> CgroupDirs {
        CgroupDirs::find(&self.layout, memberships, mark)
    }

    /// Everything the files of one container say now. Never fails: what cannot be read is absent.
    #[must_use]
    pub fn cgroup_stat(&self, dirs: &CgroupDirs) -> CgroupStat {
        cgroup::stat(dirs, self.identity.clock_ticks)
    }

    /// Listens to exits, once it was seen that they are told here. Call it from a thread of its own, which may move into
    /// the host's network namespace and is the one to ask [`Host::lost_exits`].
    pub fn listen_to_exits(&self) -> Result<ExitListener, HostError> {
        ExitListener::open(&self.proc)
    }

    /// Listens to births of processes. To be called in the thread that listens to exits.
    pub fn listen_to_births(&self) -> Result<ForkListener, HostError> {
        ForkListener::open()
    }

    /// To wait for exits and births beside whoever takes them.
    pub fn watch(&self, exits: &ExitListener, births: Option<&ForkListener>) -> Result<ExitWatch, HostError> {
        exits.watch_with(births)
    }

    /// Exits the kernel could not tell this listener because its buffer was full; `None` where it does not say.
    #[must_use]
    pub fn lost_exits(&self, listener: &ExitListener) -> Option<u64> {
        listener.lost(&self.proc)
    }

    /// Processes of a container, those in cgroups below its own included, ascending; clears `into` first.
    /// `Gone` when the cgroup was removed.
    pub fn cgroup_pids(&self, dirs: &CgroupDirs, into: &mut Vec<u32>) -> Result<(), HostError> {
        into.clear();
        dirs.members().map_or(Ok(()), |(dir, open)| cgroup::pids(dir, open, into))
    }

    /// The node's counters: everything but `sources`, `unexplained_ratio` and `mesh_proxies`, which others know.
    #[must_use]
    pub fn node(&self) -> NodeSnapshot {
        node::node(&self.proc, &self.layout, &self.identity)
    }

    /// `/proc/schedstat` alone; empty where the kernel has none.
    #[must_use]
    pub fn node_cpus(&self) -> Vec<NodeCpu> {
        node::cpus(&self.proc)
    }

    /// `kernel.task_delayacct`; `None` where the kernel has no such switch.
    #[must_use]
    pub fn task_delayacct(&self) -> Option<bool> {
        probe::switch(&self.proc, probe::DELAYACCT)
    }

    /// Switches delay accounting of tasks born from now on. Needs `CAP_SYS_ADMIN`; the caller restores what it found.
    #[expect(clippy::disallowed_methods, reason = "room host opens kernel files: here is where")]
    pub fn set_task_delayacct(&self, on: bool) -> Result<(), HostError> {
        let path = self.proc.path(probe::DELAYACCT);
        let text: &[u8] = if on { b"1\n" } else { b"0\n" };
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).open(&path)?;
            std::io::Write::write_all(&mut file, text)
        };
        write().map_err(|error| HostError::file(&path, rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))
    }
}

/// The kernel's description of its own types; `Absent` where it was built without `CONFIG_DEBUG_INFO_BTF`.
pub fn kernel_btf() -> Result<Vec<u8>, HostError> {
    probe::kernel_btf()
}

/// Raises the soft limit of open files to the hard one, for a file is kept open for each process. Returns what holds now.
#[must_use]
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum || setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        return limit.current.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}
