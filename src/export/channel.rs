//! HTTP/2 connections to every address of one endpoint, taken in turn.
//!
//! One connection an address: gRPC multiplexes on it, and one connection coalesces writes best. A name is resolved
//! again whenever a connection was lost or could not be made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
/// An answer that did not come within this makes its connection suspect.
const SILENCE: Duration = Duration::from_secs(1);
/// A name is resolved at most this often.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// Bytes of response headers and trailers.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Response bytes that may come unasked on one stream; responses are small.
const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on the connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Request bytes buffered a stream.
const MAX_SEND_BUFFER: usize = 1 << 20;

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
    links: Vec<Arc<Link>>,
    resolved: Option<Instant>,
    stale: bool,
}

/// One address.
#[derive(Debug)]
struct Link {
    remote: Remote,
    state: Mutex<State>,
    /// Counts connections made.
    generation: AtomicU64,
    /// The newest connection on which an answer failed to come.
    silent: AtomicU64,
}

#[derive(Debug)]
enum State {
    Unused,
    Up(SendRequest<Frame>),
    Refused { at: Instant, why: String },
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
    since: Instant,
    answered: bool,
}

impl Waiting {
    /// Something came back.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered && instant_now().duration_since(self.since) >= SILENCE {
            self.link.silent.fetch_max(self.generation, Ordering::SeqCst);
        }
    }
}

impl Channel {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: Dialer, spawner: Spawner) -> Self {
        Self { dialer, spawner, names: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// The next connection in turn that can be had.
    ///
    /// # Errors
    /// Says why none can.
    pub async fn sender(&self) -> Result<Sender, String> {
        let links = self.links().await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = String::new();
        for place in 0..links.len() {
            let Some(link) = links.get(turn.wrapping_add(place) % links.len()) else { continue };
            match self.up(link).await {
                Ok(send) => return Ok(link.sender(send)),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn links(&self) -> Result<Vec<Arc<Link>>, String> {
        let mut names = self.names.lock().await;
        let recent = names.resolved.is_some_and(|at| instant_now().duration_since(at) < RESOLVE_AGAIN);
        if !names.links.is_empty() && (recent || !names.stale) {
            return Ok(names.links.clone());
        }
        match self.dialer.resolve().await {
            Ok(remotes) => {
                let known = std::mem::take(&mut names.links);
                names.links = remotes.into_iter().map(|remote| Link::known_or_new(&known, remote)).collect();
                names.stale = false;
            }
            Err(why) if names.links.is_empty() => return Err(why),
            // The addresses known before may still answer.
            Err(_) => {}
        }
        names.resolved = Some(instant_now());
        Ok(names.links.clone())
    }

    async fn up(&self, link: &Link) -> Result<SendRequest<Frame>, String> {
        let mut state = link.state.lock().await;
        match &*state {
            State::Up(send) if !send.is_closed() && !link.is_silent() => return Ok(send.clone()),
            State::Refused { at, why } if instant_now().duration_since(*at) < REFUSED_FOR => return Err(why.clone()),
            State::Up(_) | State::Refused { .. } => self.names.lock().await.stale = true,
            State::Unused => {}
        }
        match self.connect(&link.remote).await {
            Ok(send) => {
                link.generation.fetch_add(1, Ordering::SeqCst);
                *state = State::Up(send.clone());
                Ok(send)
            }
            Err(why) => {
                *state = State::Refused { at: instant_now(), why: why.clone() };
                Err(why)
            }
        }
    }

    async fn connect(&self, remote: &Remote) -> Result<SendRequest<Frame>, String> {
        let io = TokioIo::new(self.dialer.connect(remote).await?);
        let mut builder = Builder::new(Executor(self.spawner.clone()));
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER);
        let (send, connection) = builder.handshake(io).await.map_err(|why| format!("{remote}: {why}"))?;
        // How a connection ended is told by the requests on it.
        self.spawner.spawn(async move { drop(connection.await) });
        Ok(send)
    }
}

impl Link {
    fn known_or_new(known: &[Arc<Self>], remote: Remote) -> Arc<Self> {
        let same = known.iter().find(|link| link.remote == remote);
        let new =
            |remote| Arc::new(Self { remote, state: Mutex::new(State::Unused), generation: AtomicU64::new(0), silent: AtomicU64::new(0) });
        same.map(Arc::clone).unwrap_or_else(|| new(remote.clone()))
    }

    fn is_silent(&self) -> bool {
        let generation = self.generation.load(Ordering::SeqCst);
        generation > 0 && self.silent.load(Ordering::SeqCst) >= generation
    }

    fn sender(self: &Arc<Self>, send: SendRequest<Frame>) -> Sender {
        let generation = self.generation.load(Ordering::SeqCst);
        Sender { send, waiting: Waiting { link: Arc::clone(self), generation, since: instant_now(), answered: false } }
    }
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
