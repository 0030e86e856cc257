//! One address and the HTTP/2 connection to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dial::{Dialer, Remote};
use super::wire::Connection;
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// An address that refused is not asked again for this long, so that many requests do not queue for one refusal.
const REFUSED_FOR: Duration = Duration::from_millis(250);
/// An address that keeps refusing is passed over for up to this long while another one answers.
pub const RESTS_AT_MOST: Duration = Duration::from_secs(30);
/// An answer that did not come within this, and no other since, makes its connection suspect.
const SILENCE: Duration = Duration::from_secs(1);
/// One address.
#[derive(Debug)]
pub struct Link {
    remote: Remote,
    start: Instant,
    state: Mutex<State>,
    /// Counts connections made.
    generation: AtomicU64,
    /// The newest connection on which an answer failed to come.
    silent: AtomicU64,
    /// Milliseconds from `start` to the newest answer.
    answered: AtomicU64,
    /// Milliseconds from `start` until which it is passed over.
    rests_until: AtomicU64,
    /// A connection was lost since the name was looked up.
    lost: AtomicBool,
}

#[derive(Debug)]
enum State {
    Down { refusals: u32, last: Option<(Instant, String)> },
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

impl Link {
    /// Not connected yet.
    #[must_use]
    pub fn new(remote: Remote) -> Arc<Self> {
        Arc::new(Self {
            remote,
            start: instant_now(),
            state: Mutex::new(State::Down { refusals: 0, last: None }),
            generation: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        })
    }

    /// Where it leads.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Whether a connection was lost; told once.
    pub fn lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Whether it refused lately.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Ordering::SeqCst)
    }

    /// The connection, made if there is none.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn sender(self: &Arc<Self>, dialer: &Dialer, spawner: &Spawner) -> Result<Sender, String> {
        let mut state = self.state.lock().await;
        let refusals = match &*state {
            State::Up(connection) if !connection.is_closed() && !self.is_silent() => return Ok(self.with(connection.clone())),
            State::Up(_) => 0,
            State::Down { last: Some((at, why)), .. } if instant_now().duration_since(*at) < REFUSED_FOR => return Err(why.clone()),
            State::Down { refusals, .. } => *refusals,
        };
        if matches!(&*state, State::Up(_)) {
            self.lost.store(true, Ordering::SeqCst);
        }
        match dialer.connect(&self.remote).await {
            Ok(io) => {
                let connection = Connection::new(io, dialer.keepalive, spawner);
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.rests_until.store(0, Ordering::SeqCst);
                *state = State::Up(connection.clone());
                Ok(self.with(connection))
            }
            Err(why) => {
                let rest = REFUSED_FOR.saturating_mul(1 << refusals.min(10)).min(RESTS_AT_MOST);
                self.rests_until.store(self.now().saturating_add(milliseconds(rest)), Ordering::SeqCst);
                *state = State::Down { refusals: refusals.saturating_add(1), last: Some((instant_now(), why.clone())) };
                Err(why)
            }
        }
    }

    fn with(self: &Arc<Self>, connection: Connection) -> Sender {
        let generation = self.generation.load(Ordering::SeqCst);
        Sender { connection, waiting: Waiting { link: Arc::clone(self), generation, since: self.now(), told: false } }
    }

    fn is_silent(&self) -> bool {
        let generation = self.generation.load(Ordering::SeqCst);
        generation > 0 && self.silent.load(Ordering::SeqCst) >= generation
    }

    fn now(&self) -> u64 {
        milliseconds(instant_now().duration_since(self.start))
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
        self.link.answered.fetch_max(self.link.now(), Ordering::SeqCst);
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
        if !self.told && !others_answered && self.link.now().saturating_sub(self.since) >= milliseconds(SILENCE) {
            self.link.silent.fetch_max(self.generation, Ordering::SeqCst);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
