//! One address and the HTTP/2 connection to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::addresses::Place;
use super::dial::{Dialer, Remote};
use super::rest::{REFUSED_FOR, Rest, milliseconds};
use super::wire::Connection;
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// An answer that did not come within this, and no other since, makes its connection suspect.
const SILENCE: Duration = Duration::from_secs(1);

/// One address.
#[derive(Debug)]
pub struct Link {
    remote: Remote,
    rest: Rest,
    state: Mutex<State>,
    /// Counts connections made.
    generation: AtomicU64,
    /// The newest connection on which an answer failed to come.
    silent: AtomicU64,
    /// Milliseconds from the link's beginning to the newest answer.
    answered: AtomicU64,
    /// A connection was lost since the name was looked up.
    lost: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// With the last refusal.
    Down(Option<(Instant, String)>),
    Up(Connection),
}

/// A connection to send one request on.
pub struct Sender {
    /// Sends it.
    pub connection: Connection,
    /// To be told when its answer comes.
    pub waiting: Waiting,
}

/// A request that waits for its answer. Dropped without one after a while, the connection is not used again: it may
/// lead nowhere any more. Requests in flight on it keep it.
pub struct Waiting {
    link: Arc<Link>,
    generation: u64,
    since: u64,
    told: bool,
}

impl Place for Link {
    type Reached = Sender;

    fn at(remote: Remote) -> Self {
        Self {
            remote,
            rest: Rest::new(),
            state: Mutex::new(State::Down(None)),
            generation: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    fn remote(&self) -> &Remote {
        &self.remote
    }

    fn lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    fn looked_up(&self) {
        self.lost.store(false, Ordering::SeqCst);
    }

    fn rests(&self) -> bool {
        self.rest.rests()
    }

    /// One connection for all requests, made if there is none.
    async fn reach(self: &Arc<Self>, dialer: &Dialer, spawner: &Spawner) -> Result<Sender, String> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Up(connection) if !connection.is_closed() && !self.is_silent() => return Ok(self.with(connection.clone())),
            State::Up(_) => self.lost.store(true, Ordering::SeqCst),
            State::Down(Some((at, why))) if instant_now().duration_since(*at) < REFUSED_FOR => return Err(why.clone()),
            State::Down(_) => {}
        }
        match dialer.connect(&self.remote).await {
            Ok(io) => {
                let connection = Connection::new(io, dialer.keepalive, spawner);
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.rest.taken();
                *state = State::Up(connection.clone());
                Ok(self.with(connection))
            }
            Err(why) => {
                self.rest.refused();
                *state = State::Down(Some((instant_now(), why.clone())));
                Err(why)
            }
        }
    }
}

impl Link {
    fn with(self: &Arc<Self>, connection: Connection) -> Sender {
        let generation = self.generation.load(Ordering::SeqCst);
        Sender { connection, waiting: Waiting { link: Arc::clone(self), generation, since: self.rest.now(), told: false } }
    }

    fn is_silent(&self) -> bool {
        let generation = self.generation.load(Ordering::SeqCst);
        generation > 0 && self.silent.load(Ordering::SeqCst) >= generation
    }
}

impl Waiting {
    /// Where the request went.
    #[cfg(test)]
    pub fn remote(&self) -> &Remote {
        &self.link.remote
    }

    /// Downstream answered.
    pub fn answered(mut self) {
        self.link.answered.fetch_max(self.link.rest.now(), Ordering::SeqCst);
        self.told = true;
    }

    /// The connection failed, and says so itself.
    pub fn failed(mut self) {
        self.told = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let others_answered = self.link.answered.load(Ordering::SeqCst) > self.since;
        if !self.told && !others_answered && self.link.rest.now().saturating_sub(self.since) >= milliseconds(SILENCE) {
            self.link.silent.fetch_max(self.generation, Ordering::SeqCst);
        }
    }
}
