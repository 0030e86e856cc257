//! Whose a sender's TCP socket is, where the sender is on this host. Asked for only where a resource's claims do not do:
//! the search looks through the open files of many processes, so it runs beside the hop, one at a time, and what it found
//! is kept for as long as the connection's requests come.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::containers::Home;
use crate::host::{Host, SocketDiag};
use crate::model::{Mono, Peer, ProcessKey};
use crate::parse::cgroup::membership::Membership;
use crate::runtime::Tasks;
use crate::runtime::clock::mono_now;

/// Most sockets whose owner is kept; past it all are forgotten, which costs searches and nothing else. More than the
/// connections that may be open by default.
const MAX_KNOWN: usize = 4_096;
/// The search may take this part of one CPU: after one that took a millisecond the next begins in twenty.
const PAUSE_FACTOR: u64 = 20;
/// Looks before holders are said to live apart: not every kernel tells who never ran, and one is read in several steps.
const LOOKS: u32 = 4;

/// The kernel's word on senders of this host.
#[derive(Debug)]
pub struct Owners {
    host: Arc<Host>,
    tasks: Tasks,
    diag: Mutex<Option<SocketDiag>>,
    found: Arc<Found>,
    one_at_a_time: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Found(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// By inode of the sender's socket; `None`: nobody, or several of different containers.
    owners: HashMap<u64, Option<ProcessKey>>,
    not_before: Mono,
}

impl Owners {
    /// Opens the socket to the kernel. Where the kernel does not answer, connections have no owner but their address.
    pub fn new(host: Arc<Host>, tasks: Tasks) -> Self {
        let mut diag = SocketDiag::open().ok();
        if let Some(diag) = &mut diag {
            // The kernel loads what answers at the first question: now, and not when a sender waits.
            let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
            let _nobody = diag.inode(nobody, nobody);
        }
        Self { host, tasks, diag: Mutex::new(diag), found: Arc::default(), one_at_a_time: Arc::new(Semaphore::new(1)) }
    }

    /// Notes the socket of a new connection's other end, or when the process there started: one question to the kernel. Who
    /// has ended already is nobody, for its pid may be given again while the connection lasts.
    pub fn greet(&self, peer: Peer) -> Peer {
        if let Some(pid) = peer.pid {
            let started = self.host.stat(pid).ok().map(|stat| stat.start_ticks);
            return Peer { pid: started.map(|_| pid), started, ..peer };
        }
        let (Some(ip), Some(port), Some(local)) = (peer.ip, peer.port, peer.local) else { return peer };
        let mut diag = self.diag.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = diag.as_mut().and_then(|diag| diag.inode(SocketAddr::new(ip, port), local));
        Peer { socket, ..peer }
    }

    /// The peer with its owner, where that was found before.
    pub fn known(&self, peer: Peer) -> Peer {
        match peer.socket {
            Some(socket) if peer.pid.is_none() => {
                let owner = self.found.lock().owners.get(&socket).copied().flatten();
                Peer { pid: owner.map(|owner| owner.pid), started: owner.map(|owner| owner.start_ticks), ..peer }
            }
            _ => peer,
        }
    }

    /// Searches for the owner of a socket that was not searched for before; `None` where that comes to nothing by `until`.
    /// A search once begun goes on, for the requests that come after.
    pub async fn search(&self, peer: Peer, until: Instant) -> Option<Peer> {
        let socket = peer.socket.filter(|_| peer.pid.is_none())?;
        let turn = timeout_at(until, Arc::clone(&self.one_at_a_time).acquire_owned()).await.ok()?.ok()?;
        if self.found.lock().settled(socket, mono_now()) {
            return Some(self.known(peer)).filter(|peer| peer.pid.is_some());
        }
        let (host, found) = (Arc::clone(&self.host), Arc::clone(&self.found));
        let search = self.tasks.blocking("socket owner", move || {
            let began = mono_now();
            let owner = owner(&host, socket);
            found.note(socket, owner, began, mono_now());
            drop(turn);
        });
        timeout_at(until, search).await.ok()?.ok()?;
        Some(self.known(peer)).filter(|peer| peer.pid.is_some())
    }
}

/// The process that holds the socket; of several that share it the oldest, where they live in the same cgroups.
fn owner(host: &Host, socket: u64) -> Option<ProcessKey> {
    (0..LOOKS).find_map(|_| look(host, socket)).flatten()
}

/// One look at who holds the socket now; `None` where they live in different cgroups.
fn look(host: &Host, socket: u64) -> Option<Option<ProcessKey>> {
    let mut oldest: Option<(u64, u32)> = None;
    let mut home = None;
    for pid in host.socket_holders(socket).unwrap_or_default() {
        let Some((started, cgroups)) = holder(host, pid, socket) else { continue };
        if *home.get_or_insert_with(|| cgroups.clone()) != cgroups {
            return None;
        }
        oldest = Some(oldest.map_or((started, pid), |oldest| oldest.min((started, pid))));
    }
    Some(oldest.map(|(start_ticks, pid)| ProcessKey { pid, start_ticks }))
}

/// When a holder of the socket started, and where it lives. `None` where it holds the socket only in passing, as children do
/// that inherited it: it let go of it meanwhile, or is ending (a v1 hierarchy then shows it in its root, already before its
/// files are closed: `proc_cgroup_show` in kernel/cgroup/cgroup.c, `do_exit` in kernel/exit.c), or is still being born and
/// has not been put into its cgroups (`cgroup_post_fork`, kernel/fork.c).
fn holder(host: &Host, pid: u32, socket: u64) -> Option<(u64, Vec<Membership>)> {
    // In this order: who had run before was in its place, and who is not ending afterwards still is.
    let never_ran = !has_run(host, pid);
    let cgroups = host.memberships(pid).ok()?;
    let stat = host.stat(pid).ok()?;
    let in_passing = stat.is_exiting() || never_ran && Home::of(&cgroups).is_root();
    (!in_passing && host.holds_socket(pid, socket)).then_some((stat.start_ticks, cgroups))
}

/// Whether a process was ever on a CPU; true where the kernel does not tell.
fn has_run(host: &Host, pid: u32) -> bool {
    let mut turns = 0_u64;
    host.threads_schedstat(pid, |_, told| turns = turns.saturating_add(told.timeslices)).is_err() || turns > 0
}

impl Found {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, socket: u64, owner: Option<ProcessKey>, began: Mono, ended: Mono) {
        let mut memory = self.lock();
        if memory.owners.len() >= MAX_KNOWN {
            memory.owners.clear();
        }
        memory.owners.insert(socket, owner);
        memory.not_before = ended.plus(ended.since(began).saturating_mul(PAUSE_FACTOR));
    }
}

impl Memory {
    /// Whether there is no point or no time in a search now.
    fn settled(&self, socket: u64, now: Mono) -> bool {
        self.owners.contains_key(&socket) || now < self.not_before
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::runtime::clock::instant_now;

    fn owners() -> Owners {
        let host = Host::open(Path::new("/proc"), Path::new("/sys/fs/cgroup")).unwrap();
        Owners::new(Arc::new(host), Tasks::new())
    }

    async fn connection() -> (tokio::net::TcpStream, tokio::net::TcpStream, Peer) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        let peer = Peer { ip: Some(from.ip()), port: Some(from.port()), local: server.local_addr().ok(), ..Peer::default() };
        (client, server, peer)
    }

    async fn search(owners: &Owners, peer: Peer) -> Option<Peer> {
        let deadline = instant_now() + Duration::from_secs(30);
        loop {
            let found = owners.search(peer, deadline).await;
            if found.is_some() || instant_now() > deadline || owners.found.lock().owners.contains_key(&peer.socket.unwrap_or(0)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sender_of_this_host_is_known_by_its_socket() {
        let owners = owners();
        let (_client, _server, peer) = connection().await;
        let greeted = owners.greet(peer);
        assert!(greeted.socket.is_some() && greeted.pid.is_none());
        assert_eq!(owners.known(greeted), greeted, "nobody has asked yet");
        assert_eq!(search(&owners, greeted).await.and_then(|peer| peer.pid), Some(std::process::id()));
        let known = owners.known(greeted);
        let started = owners.host.stat(std::process::id()).unwrap().start_ticks;
        assert_eq!((known.pid, known.started), (Some(std::process::id()), Some(started)));
    }

    #[test]
    fn the_process_behind_a_unix_socket_is_that_very_one() {
        let owners = owners();
        let unix = |pid| owners.greet(Peer { pid: Some(pid), ..Peer::default() });
        let own = unix(std::process::id());
        assert_eq!(
            (own.pid, own.started),
            (Some(std::process::id()), owners.host.stat(std::process::id()).ok().map(|stat| stat.start_ticks))
        );
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(unix(child.id()), Peer::default(), "its pid may be another's soon");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sender_whose_children_come_and_go_is_known_in_each_search() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        // Each child inherits the socket, and is gone at once.
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; while :; do (:); done", here.port());
        let mut parent = std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap();
        let (_server, from) = listener.accept().await.unwrap();
        let socket = SocketDiag::open().unwrap().inode(from, here).unwrap();
        let host = Host::open(Path::new("/proc"), Path::new("/sys/fs/cgroup")).unwrap();
        let told: Vec<Option<u32>> = (0..500).map(|_| owner(&host, socket).map(|owner| owner.pid)).collect();
        parent.kill().and_then(|()| parent.wait()).unwrap();
        let other = told.iter().filter(|told| **told != Some(parent.id())).count();
        assert_eq!(other, 0, "{told:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_not_of_this_host_has_no_socket_here() {
        let owners = owners();
        let (_client, _server, peer) = connection().await;
        let elsewhere = owners.greet(Peer { ip: Some([192, 0, 2, 1].into()), ..peer });
        assert_eq!((elsewhere.socket, owners.search(elsewhere, instant_now()).await), (None, None));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sender_that_went_away_is_searched_for_once() {
        let owners = owners();
        let (client, server, peer) = connection().await;
        let greeted = owners.greet(peer);
        drop((client, server));
        assert_eq!(search(&owners, greeted).await, None);
        assert_eq!(owners.found.lock().owners.get(&greeted.socket.unwrap()), Some(&None));
    }

    #[test]
    fn searches_are_spaced_and_memory_is_bounded() {
        let found = Found::default();
        found.note(1, Some(ProcessKey { pid: 7, start_ticks: 1 }), Mono(100), Mono(150));
        let memory = |socket, now| found.lock().settled(socket, Mono(now));
        assert!(memory(1, 10_000), "known");
        assert!(memory(2, 1_149) && !memory(2, 1_150));
        for socket in 0..2 * MAX_KNOWN as u64 {
            found.note(socket, None, Mono(0), Mono(0));
            assert!(found.lock().owners.len() <= MAX_KNOWN);
        }
    }
}
