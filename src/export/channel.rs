//! HTTP/2 connections to every address of one endpoint, taken in turn.
//!
//! One connection an address: gRPC multiplexes on it, and one connection coalesces writes best. A name is resolved
//! again after a connection was lost, and at once when none of its addresses answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dial::Dialer;
use super::link::{Link, Sender};
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// A name is resolved at most this often.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

/// All connections to one endpoint.
#[derive(Debug)]
pub struct Channel {
    dialer: Dialer,
    spawner: Spawner,
    names: Mutex<Names>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Names {
    links: Arc<[Arc<Link>]>,
    resolved: Option<Instant>,
}

impl Channel {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: Dialer, spawner: Spawner) -> Self {
        Self { dialer, spawner, names: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The next connection in turn that can be had.
    ///
    /// # Errors
    /// Says why none can.
    pub async fn sender(&self) -> Result<Sender, String> {
        let mut links = self.known();
        // That one was lost is told once: not before the name may be looked up again.
        if links.is_empty() || (self.may_resolve() && links.iter().any(|link| link.lost())) {
            links = self.resolve().await?;
        }
        let refused = match self.any_of(&links).await {
            Ok(sender) => return Ok(sender),
            Err(why) => why,
        };
        if !self.may_resolve() {
            return Err(refused);
        }
        let is_new = |link: &&Arc<Link>| !links.iter().any(|known| Arc::ptr_eq(known, link));
        let newer: Vec<_> = self.resolve().await?.iter().filter(is_new).cloned().collect();
        if newer.is_empty() { Err(refused) } else { self.any_of(&newer).await }
    }

    /// In turn: first those that are connected or may well be, then those that refused a while ago.
    async fn any_of(&self, links: &[Arc<Link>]) -> Result<Sender, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..links.len()).filter_map(|place| links.get(turn.wrapping_add(place) % links.len()));
        let mut last = String::new();
        for resting in [false, true] {
            for link in in_turn().filter(|link| link.rests() == resting) {
                match link.sender(&self.dialer, &self.spawner).await {
                    Ok(sender) => return Ok(sender),
                    Err(why) => last = why,
                }
            }
        }
        Err(last)
    }

    fn known(&self) -> Arc<[Arc<Link>]> {
        Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner).links)
    }

    fn may_resolve(&self) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.resolved.is_none_or(|at| instant_now().duration_since(at) >= RESOLVE_AGAIN)
    }

    /// Looks the name up; connections to addresses that it still has are kept.
    async fn resolve(&self) -> Result<Arc<[Arc<Link>]>, String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).resolved = Some(instant_now());
        let found = self.dialer.resolve().await;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(remotes) => {
                let known = std::mem::take(&mut names.links);
                let same = |remote: &_| known.iter().find(|link| link.remote() == remote).map(Arc::clone);
                names.links = remotes.into_iter().map(|remote| same(&remote).unwrap_or_else(|| Link::new(remote))).collect();
            }
            // The addresses known before may still answer.
            Err(why) if names.links.is_empty() => return Err(why),
            Err(_) => {}
        }
        Ok(Arc::clone(&names.links))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::super::dial::Remote;
    use super::super::link::RESTS_AT_MOST;
    use super::*;
    use crate::runtime::{Task, Tasks};

    /// Takes connections and says nothing, which is enough for an HTTP/2 client to begin.
    async fn listening(tasks: &Tasks) -> (SocketAddr, Task<()>) {
        listening_on(tasks, ([127, 0, 0, 1], 0).into())
    }

    fn listening_on(tasks: &Tasks, address: SocketAddr) -> (SocketAddr, Task<()>) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let taking = async move {
            let mut taken = Vec::new();
            while let Ok(connection) = listener.accept().await {
                taken.push(connection);
            }
        };
        (address, tasks.spawn("listening", taking))
    }

    /// Where so many requests would go.
    async fn spread(channel: &Channel, requests: usize) -> BTreeMap<SocketAddr, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            match channel.sender().await.unwrap().waiting.remote() {
                Remote::Tcp(address) => *counts.entry(*address).or_default() += 1,
                other => panic!("{other}"),
            }
        }
        counts
    }

    /// Until the end of a connection is seen, requests still go there and fail there.
    async fn until_all_go_to(channel: &Channel, address: SocketAddr) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while spread(channel, 10).await != BTreeMap::from([(address, 10)]) {
            assert!(Instant::now() < deadline, "the dead address is still used");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn addresses_take_turns_and_a_dead_one_is_passed_over() {
        let tasks = Tasks::new();
        let (first, _one) = listening(&tasks).await;
        let (second, two) = listening(&tasks).await;
        let channel = Channel::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (second, 5)]));
        two.abort();
        let _ = two.await;
        until_all_go_to(&channel, first).await;
    }

    #[tokio::test]
    async fn a_loss_soon_after_a_lookup_is_remembered_until_the_next() {
        let tasks = Tasks::new();
        let ((first, _one), (second, two), (third, _three)) = (listening(&tasks).await, listening(&tasks).await, listening(&tasks).await);
        let mut channel = Channel::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (second, 5)]));
        two.abort();
        let _ = two.await;
        until_all_go_to(&channel, first).await;
        channel.dialer.move_to(&[first, third]);
        channel.names.lock().unwrap().resolved = instant_now().checked_sub(RESOLVE_AGAIN);
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (third, 5)]));
    }

    #[tokio::test]
    async fn an_address_that_returns_has_its_share_again() {
        let tasks = Tasks::new();
        let (first, _one) = listening(&tasks).await;
        let (second, two) = listening(&tasks).await;
        two.abort();
        let _ = two.await;
        let channel = Channel::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        // Refused and refused again after each rest.
        let away = Instant::now() + Duration::from_secs(2);
        while Instant::now() < away {
            assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 10)]));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (_, _two) = listening_on(&tasks, second);
        let deadline = Instant::now() + RESTS_AT_MOST + Duration::from_secs(30);
        while spread(&channel, 10).await != BTreeMap::from([(first, 5), (second, 5)]) {
            assert!(Instant::now() < deadline, "the address that returned is not used");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_address() {
        let tasks = Tasks::new();
        let (address, gone) = listening(&tasks).await;
        gone.abort();
        let _ = gone.await;
        let channel = Channel::new(Dialer::fixed(&[address]), tasks.named("connection"));
        for _ in 0..3 {
            let why = channel.sender().await.err().unwrap();
            assert!(why.contains(&address.to_string()) && why.contains("refused"), "{why}");
        }
    }
}
