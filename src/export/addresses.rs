//! The addresses of one endpoint, taken in turn.
//!
//! Each request goes to the next address, whatever connections there are. A name is resolved again after a connection was
//! lost, and at once when none of its addresses answers.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::dial::{Dialer, MAX_ADDRESSES, Remote};
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// A name is resolved at most this often.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

/// One address, and the connections to it.
pub trait Place: Send + Sync + 'static {
    /// What a request is sent on.
    type Reached: Send;

    /// Not connected yet.
    fn at(remote: Remote) -> Self;

    /// Where it leads.
    fn remote(&self) -> &Remote;

    /// Whether the name may have other addresses by now: a connection was lost since it was looked up, or there is none.
    fn lost(&self) -> bool;

    /// The name is looked up.
    fn looked_up(&self);

    /// Whether it refused lately. Where that was a while ago, whoever asks first is told no, and is to try.
    fn rests(&self) -> bool;

    /// A connection, made if there is none.
    ///
    /// # Errors
    /// Says why there is none.
    fn reach(self: &Arc<Self>, dialer: &Dialer, spawner: &Spawner) -> impl Future<Output = Result<Self::Reached, String>> + Send;
}

/// All addresses of one endpoint.
#[derive(Debug)]
pub struct Addresses<P> {
    dialer: Dialer,
    spawner: Spawner,
    names: Mutex<Names<P>>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Names<P> {
    places: Arc<[Arc<P>]>,
    resolved: Option<Instant>,
}

impl<P: Place> Addresses<P> {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: Dialer, spawner: Spawner) -> Self {
        Self { dialer, spawner, names: Mutex::new(Names { places: Arc::default(), resolved: None }), turn: AtomicUsize::new(0) }
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// A connection to the next address in turn that can be had.
    ///
    /// # Errors
    /// Says why none can.
    pub async fn next(&self) -> Result<P::Reached, String> {
        let mut places = self.known();
        if places.is_empty() || (places.iter().any(|place| place.lost()) && self.may_resolve()) {
            places = self.resolve().await?;
        }
        let refused = match self.any_of(&places).await {
            Ok(reached) => return Ok(reached),
            Err(why) => why,
        };
        if !self.may_resolve() {
            return Err(refused);
        }
        let is_new = |place: &&Arc<P>| !places.iter().any(|known| Arc::ptr_eq(known, place));
        let newer: Vec<_> = self.resolve().await?.iter().filter(is_new).cloned().collect();
        if newer.is_empty() { Err(refused) } else { self.any_of(&newer).await }
    }

    /// In turn: first those that are connected or may well be, then those that refused a while ago.
    async fn any_of(&self, places: &[Arc<P>]) -> Result<P::Reached, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..places.len()).filter_map(|number| places.get(turn.wrapping_add(number) % places.len()));
        let (mut last, mut resting) = (String::new(), SmallVec::<[&Arc<P>; MAX_ADDRESSES]>::new());
        for first in [true, false] {
            for place in if first { in_turn().collect() } else { std::mem::take(&mut resting) } {
                if first && place.rests() {
                    resting.push(place);
                    continue;
                }
                match place.reach(&self.dialer, &self.spawner).await {
                    Ok(reached) => return Ok(reached),
                    Err(why) => last = why,
                }
            }
        }
        Err(last)
    }

    fn known(&self) -> Arc<[Arc<P>]> {
        Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner).places)
    }

    fn may_resolve(&self) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.resolved.is_none_or(|at| instant_now().duration_since(at) >= RESOLVE_AGAIN)
    }

    /// Looks the name up; connections to addresses that it still has are kept.
    async fn resolve(&self) -> Result<Arc<[Arc<P>]>, String> {
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.resolved = Some(instant_now());
            // What is lost from here on, the next time is for.
            names.places.iter().for_each(|place| place.looked_up());
        }
        let found = self.dialer.resolve().await;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(remotes) => {
                let known = std::mem::take(&mut names.places);
                let same = |remote: &_| known.iter().find(|place| place.remote() == remote).map(Arc::clone);
                names.places = remotes.into_iter().map(|remote| same(&remote).unwrap_or_else(|| Arc::new(P::at(remote)))).collect();
            }
            // The addresses known before may still answer.
            Err(why) if names.places.is_empty() => return Err(why),
            Err(_) => {}
        }
        Ok(Arc::clone(&names.places))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::super::link::Link;
    use super::super::rest::RESTS_AT_MOST;
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
    async fn spread(channel: &Addresses<Link>, requests: usize) -> BTreeMap<SocketAddr, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            match channel.next().await.unwrap().waiting.remote() {
                Remote::Tcp(address) => *counts.entry(*address).or_default() += 1,
                other => panic!("{other}"),
            }
        }
        counts
    }

    /// Until the end of a connection is seen, requests still go there and fail there.
    async fn until_all_go_to(channel: &Addresses<Link>, address: SocketAddr) {
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
        let channel = Addresses::<Link>::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (second, 5)]));
        two.abort();
        let _ = two.await;
        until_all_go_to(&channel, first).await;
    }

    #[tokio::test]
    async fn a_loss_soon_after_a_lookup_is_remembered_until_the_next() {
        let tasks = Tasks::new();
        let ((first, _one), (second, two), (third, _three)) = (listening(&tasks).await, listening(&tasks).await, listening(&tasks).await);
        let mut channel = Addresses::<Link>::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (second, 5)]));
        two.abort();
        let _ = two.await;
        until_all_go_to(&channel, first).await;
        channel.dialer.move_to(&[first, third]);
        channel.names.lock().unwrap().resolved = instant_now().checked_sub(RESOLVE_AGAIN);
        assert_eq!(spread(&channel, 10).await, BTreeMap::from([(first, 5), (third, 5)]));
    }

    #[tokio::test]
    async fn one_lookup_is_enough_for_what_was_lost_before_it() {
        let tasks = Tasks::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taking = async move {
            drop(listener.accept().await);
            let mut taken = Vec::new();
            while let Ok(connection) = listener.accept().await {
                taken.push(connection);
            }
        };
        let _taking = tasks.spawn("listening", taking);
        let channel = Addresses::<Link>::new(Dialer::fixed(&[address]), tasks.named("connection"));
        let lost = || channel.known().iter().any(|place| place.lost());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !lost() {
            assert!(Instant::now() < deadline, "the end of the first connection is not seen");
            channel.next().await.unwrap();
            tokio::task::yield_now().await;
        }
        channel.next().await.unwrap();
        assert!(lost(), "not looked up so soon after the first time");
        channel.names.lock().unwrap().resolved = instant_now().checked_sub(RESOLVE_AGAIN);
        channel.next().await.unwrap();
        assert!(!lost() && !channel.may_resolve(), "looked up");
    }

    #[tokio::test]
    async fn an_address_that_returns_has_its_share_again() {
        let tasks = Tasks::new();
        let (first, _one) = listening(&tasks).await;
        let (second, two) = listening(&tasks).await;
        two.abort();
        let _ = two.await;
        let channel = Addresses::<Link>::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
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
        let channel = Addresses::<Link>::new(Dialer::fixed(&[address]), tasks.named("connection"));
        for _ in 0..3 {
            let why = channel.next().await.err().unwrap();
            assert!(why.contains(&address.to_string()) && why.contains("refused"), "{why}");
        }
    }
}
