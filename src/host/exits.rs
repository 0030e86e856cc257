//! What tasks had run and waited when they ended: a message of the kernel for each exiting thread, from every CPU.
//!
//! * Messages are counted or told as lost, never silently missing: [`ExitListener::lost`] is what the kernel dropped because
//!   the buffer was full.
//! * They go to sockets of the host's network namespace only (`genlmsg_unicast(&init_net, …)`), whatever the kernel answers
//!   to the registration elsewhere; so listening is believed only after a thread of our own was seen to end.
//! * CPU waits are exact. The run time is not: it was brought up to date by the last tick or switch and lacks what the
//!   thread ran since (up to a tick; a process of 0.7 ms was told with 0). A container's run time is better taken from its
//!   cgroup, which has all of it.
//! * A listener makes every exiting thread of the node build a message: there is one of them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, gettid, move_into_link_name_space};

use crate::parse::netlink::{Message, messages};
use crate::parse::node::netlink_drops;
use crate::parse::taskstats::{EXIT_OF_GROUP, TaskDelays};
use crate::parse::taskstats_message::{About, blocks, put_deregister, put_register};
use crate::parse::text::{lines, shown};

use super::error::{ErrorClass, HostError, Place};
use super::files::{LARGE, Root, SMALL};
use super::forks::ForkListener;
use super::netlink::{Socket, Wait, Wire};
use super::probe::link;
use super::taskstats::{Exchange, refusal};

/// Every CPU there can ever be: those that come later are listened to as well.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
/// Longest list of CPUs.
const CPUS_LIMIT: usize = 4096;
/// A message takes 1283 bytes of it, that of a group's last thread twice as much: some 12 000 exits between two looks.
const BUFFER: usize = 16 << 20;
/// Messages taken at once at most: a storm must not keep the sampler from everything else.
const BATCH: usize = 16_384;
/// Looks for the message about our own thread.
const PROBE_LOOKS: u32 = 20;
/// Time between them.
const PROBE_PAUSE_MS: i64 = 50;
/// `ac_tgid` and the flag of a group's last thread came with it.
const TELLS_GROUP: u16 = 12;

/// A thread that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its id.
    pub tid: u32,
    /// Its process; `None` before 5.19.
    pub process: Option<u32>,
    /// Process of its parent; 0 where that is outside.
    pub parent: Option<u32>,
    /// Microseconds since the process began, where told.
    pub age_us: Option<u64>,
    /// Whether it was the last of its process; `None` before 5.19, unless `group` says so.
    pub last: Option<bool>,
    /// Its own totals.
    pub thread: TaskDelays,
    /// Its process's totals, all threads there ever were; only with the last one of a process that had several.
    pub group: Option<TaskDelays>,
}

impl Exit {
    /// The final totals of the process that ended with this thread; `None` where it lives on, or nothing tells.
    #[must_use]
    pub fn final_totals(&self) -> Option<(u32, &TaskDelays)> {
        match (&self.group, self.last) {
            (Some(group), _) => Some((self.process.unwrap_or(self.tid), group)),
            // A process that never had a second thread has no block of its own.
            (None, Some(true)) => Some((self.process?, &self.thread)),
            (None, _) => None,
        }
    }

    fn of(message: &Message<'_>) -> Option<Self> {
        let (mut thread, mut group) = (None, None);
        for block in blocks(message).flatten() {
            match block.about {
                About::Thread => thread = Some(block),
                About::Process => group = Some(block),
            }
        }
        let thread = thread?;
        let delays = thread.delays;
        let tells = delays.version >= TELLS_GROUP;
        Some(Self {
            tid: thread.id,
            process: group.map(|group| group.id).or(delays.tgid),
            parent: delays.parent,
            age_us: delays.group_age_us,
            last: tells.then(|| delays.exit_flags.is_some_and(|flags| flags & EXIT_OF_GROUP != 0)),
            thread: delays,
            group: group.map(|group| group.delays),
        })
    }
}

/// What one look at the socket brought beside the exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Threads that ended.
    pub exits: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// The buffer was full: some exits are lost, and processes thought alive may be gone.
    pub overrun: bool,
}

/// Listens to exits. Deregisters when dropped.
#[derive(Debug)]
pub struct ExitListener {
    exchange: Exchange<Socket>,
    cpus: String,
    inode: Option<u64>,
}

/// To wait for exits beside whoever takes them.
#[derive(Debug)]
pub struct ExitWatch {
    exits: OwnedFd,
    births: Option<OwnedFd>,
}

impl ExitWatch {
    /// Waits until there is something to take, or so many milliseconds. True where there may be.
    #[must_use]
    pub fn wait(&self, milliseconds: i64) -> bool {
        let timeout =
            Timespec { tv_sec: milliseconds.div_euclid(1_000), tv_nsec: milliseconds.rem_euclid(1_000).saturating_mul(1_000_000) };
        // What is wrong with a socket is told by the next look at it.
        let ready = match &self.births {
            Some(births) => poll(&mut [PollFd::new(&self.exits, PollFlags::IN), PollFd::new(births, PollFlags::IN)], Some(&timeout)),
            None => poll(&mut [PollFd::new(&self.exits, PollFlags::IN)], Some(&timeout)),
        };
        ready.map_or(true, |ready| ready > 0)
    }
}

impl ExitListener {
    /// Registers and makes sure that messages arrive. Call it from a thread of its own: where the agent has a network
    /// namespace of its own, that thread moves into the host's (`CAP_SYS_ADMIN`).
    pub(super) fn open(proc: &Root) -> Result<Self, HostError> {
        Self::with_buffer(proc, BUFFER)
    }

    fn with_buffer(proc: &Root, buffer: usize) -> Result<Self, HostError> {
        enter_host_network(proc);
        let cpus = super::files::read_path(POSSIBLE.as_ref(), SMALL)?;
        let cpus = shown(lines(&cpus).next().unwrap_or_default(), CPUS_LIMIT);
        let (exchange, _facts) = Exchange::open(Socket::with_buffer(buffer)?, std::process::id())?;
        let inode = exchange.wire.inode();
        let mut listener = Self { exchange, cpus, inode };
        listener.register()?;
        listener.prove()?;
        Ok(listener)
    }

    fn register(&mut self) -> Result<(), HostError> {
        let seq = self.exchange.next_seqs(1);
        let mut request = Vec::new();
        put_register(&mut request, self.exchange.family, seq, &self.cpus);
        self.exchange.wire.send(&request)?;
        // The kernel answers only a refusal, and before `send` returns.
        loop {
            match self.exchange.wire.receive(Wait::No) {
                Ok(datagram) => {
                    if let Some(number) =
                        messages(datagram).flatten().filter(|message| message.seq == seq).find_map(|message| message.error())
                    {
                        return Err(refused(number));
                    }
                }
                Err(error) if error.class() == ErrorClass::Timeout => return Ok(()),
                Err(error) if matches!(error.class(), ErrorClass::Overrun | ErrorClass::Malformed) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A thread of our own ends; its message must come.
    fn prove(&mut self) -> Result<(), HostError> {
        let thread = std::thread::Builder::new().name("stallspan-probe".to_owned()).spawn(|| gettid().as_raw_pid());
        let tid = thread.ok().and_then(|thread| thread.join().ok()).and_then(|tid| u32::try_from(tid).ok());
        let tid = tid.ok_or(HostError::new(ErrorClass::Io, Place::Taskstats))?;
        for _ in 0..PROBE_LOOKS {
            let mut seen = false;
            self.take(|exit| seen = seen || exit.tid == tid)?;
            if seen {
                return Ok(());
            }
            let _may_have_come = self.readable(PROBE_PAUSE_MS);
        }
        // Registered and nothing comes: another network namespace than the host's.
        Err(HostError::new(ErrorClass::Unsupported, Place::Taskstats))
    }

    /// Takes the exits there are, oldest first; waits for none.
    ///
    /// # Errors
    /// Where the socket no longer works.
    pub fn take(&mut self, mut each: impl FnMut(Exit)) -> Result<Received, HostError> {
        let mut received = Received::default();
        for _ in 0..BATCH {
            match self.exchange.wire.receive(Wait::No) {
                Ok(datagram) => {
                    for message in messages(datagram) {
                        match message.ok().as_ref().and_then(Exit::of) {
                            Some(exit) => {
                                received.exits = received.exits.saturating_add(1);
                                each(exit);
                            }
                            None => received.unreadable = received.unreadable.saturating_add(1),
                        }
                    }
                }
                Err(error) => match error.class() {
                    ErrorClass::Overrun => received.overrun = true,
                    ErrorClass::Malformed => received.unreadable = received.unreadable.saturating_add(1),
                    ErrorClass::Timeout => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(received)
    }

    /// Messages the kernel dropped since the start because the buffer was full; `None` where it does not tell.
    /// To be asked from the thread that opened the listener: the file is that of its network namespace.
    #[must_use]
    pub(super) fn lost(&self, proc: &Root) -> Option<u64> {
        let own = proc.read("thread-self/net/netlink", LARGE).or_else(|_| proc.read("net/netlink", LARGE)).ok()?;
        netlink_drops(&own, self.inode?)
    }

    /// To wait for exits in another thread.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn watch(&self) -> Result<ExitWatch, HostError> {
        self.watch_with(None)
    }

    pub(super) fn watch_with(&self, births: Option<&ForkListener>) -> Result<ExitWatch, HostError> {
        Ok(ExitWatch { exits: self.exchange.wire.watch()?, births: births.map(ForkListener::watch).transpose()? })
    }

    fn readable(&self, milliseconds: i64) -> bool {
        self.watch().is_ok_and(|watch| watch.wait(milliseconds))
    }
}

impl Drop for ExitListener {
    fn drop(&mut self) {
        let seq = self.exchange.next_seqs(1);
        let mut request = Vec::new();
        put_deregister(&mut request, self.exchange.family, seq, &self.cpus);
        // A listener that stays registered is dropped by the kernel at its next message.
        let _gone_anyway = self.exchange.wire.send(&request);
    }
}

/// A refused registration: EINVAL comes from a pid namespace that is not the host's.
fn refused(number: i32) -> HostError {
    if number == Errno::INVAL.raw_os_error() { HostError::new(ErrorClass::Unsupported, Place::Taskstats) } else { refusal(number) }
}

/// Moves the calling thread to where exit messages arrive. What that buys is shown by the probe.
fn enter_host_network(proc: &Root) {
    let host = link(proc, "1/ns/net");
    if host.is_some()
        && host != link(proc, "thread-self/ns/net")
        && let Ok(fd) = proc.open_file("1/ns/net")
    {
        // Without CAP_SYS_ADMIN it stays where it is.
        let _entered = move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network));
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
