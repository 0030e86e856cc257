//! One address and the HTTP/2 connection to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytes::buf::Chain;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dial::{Dialer, Remote};
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// A message behind its length prefix, neither copied into one.
pub type Frame = Full<Chain<Bytes, Bytes>>;

/// An address that refused is not asked again for this long, so that many requests do not queue for one refusal.
const REFUSED_FOR: Duration = Duration::from_millis(250);
/// An address that keeps refusing is passed over for up to this long while another one answers.
pub const RESTS_AT_MOST: Duration = Duration::from_secs(30);
/// An answer that did not come within this, and no other since, makes its connection suspect.
const SILENCE: Duration = Duration::from_secs(1);
/// Bytes of response headers and trailers.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Response bytes that may come unasked on one stream; responses are small …
const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on the connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Request bytes buffered a stream.
const MAX_SEND_BUFFER: usize = 1 << 20;

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
    Up(SendRequest<Frame>),
}

/// A connection to send one request on.
pub struct Sender {
    /// Sends it.
    pub send: SendRequest<Frame>,
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
            State::Up(send) if !send.is_closed() && !self.is_silent() => return Ok(self.with(send.clone())),
            State::Up(_) => 0,
            State::Down { last: Some((at, why)), .. } if instant_now().duration_since(*at) < REFUSED_FOR => return Err(why.clone()),
            State::Down { refusals, .. } => *refusals,
        };
        if matches!(&*state, State::Up(_)) {
            self.lost.store(true, Ordering::SeqCst);
        }
        match connect(&self.remote, dialer, spawner).await {
            Ok(send) => {
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.rests_until.store(0, Ordering::SeqCst);
                *state = State::Up(send.clone());
                Ok(self.with(send))
            }
            Err(why) => {
                let rest = REFUSED_FOR.saturating_mul(1 << refusals.min(10)).min(RESTS_AT_MOST);
                self.rests_until.store(self.now().saturating_add(milliseconds(rest)), Ordering::SeqCst);
                *state = State::Down { refusals: refusals.saturating_add(1), last: Some((instant_now(), why.clone())) };
                Err(why)
            }
        }
    }

    fn with(self: &Arc<Self>, send: SendRequest<Frame>) -> Sender {
        let generation = self.generation.load(Ordering::SeqCst);
        Sender { send, waiting: Waiting { link: Arc::clone(self), generation, since: self.now(), told: false } }
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

async fn connect(remote: &Remote, dialer: &Dialer, spawner: &Spawner) -> Result<SendRequest<Frame>, String> {
    let io = TokioIo::new(dialer.connect(remote).await?);
    let mut builder = Builder::new(Executor(spawner.clone()));
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER);
    let (send, connection) = builder.handshake(io).await.map_err(|why| format!("{remote}: {why}"))?;
    // How a connection ended is told by the requests on it.
    spawner.spawn(async move { drop(connection.await) });
    Ok(send)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tasks of hyper are tasks of ours.
#[derive(Clone, Debug)]
struct Executor(Spawner);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
