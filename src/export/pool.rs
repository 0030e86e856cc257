//! HTTP/1.1 connections to one endpoint, kept alive between requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::dial::Dialer;
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// Connections kept for later.
const MAX_IDLE: usize = 16;
/// A connection unused for longer is not trusted: servers close theirs after about a minute, and the request that
/// meets the closing is lost.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Bytes of a response's head.
const MAX_BUFFER: usize = 64 * 1024;
/// Header fields of a response.
const MAX_HEADERS: usize = 100;
/// Bytes of request bodies.
type Body = Full<Bytes>;

/// All connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    dialer: Dialer,
    spawner: Spawner,
    idle: Mutex<Vec<Idle>>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Idle {
    send: SendRequest<Body>,
    since: Instant,
}

/// A response, and the connection it came on.
pub struct Taken {
    /// The response, its body not read yet.
    pub response: Response<Incoming>,
    send: SendRequest<Body>,
}

/// No response came.
pub struct Lost {
    /// Why.
    pub why: String,
    /// The connection had carried a request before, and may have been closed meanwhile.
    pub was_idle: bool,
}

impl Pool {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: Dialer, spawner: Spawner) -> Self {
        Self { dialer, spawner, idle: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Sends a request and waits for the head of its response. Dropping the future closes the connection.
    ///
    /// # Errors
    /// Where no response came.
    pub async fn send(&self, request: Request<Body>) -> Result<Taken, Lost> {
        let (mut send, was_idle) = match self.idle_connection().await {
            Some(send) => (send, true),
            None => (self.connect().await.map_err(|why| Lost { why, was_idle: false })?, false),
        };
        match send.send_request(request).await {
            Ok(response) => Ok(Taken { response, send }),
            Err(why) => Err(Lost { why: format!("the connection to downstream failed: {why}"), was_idle }),
        }
    }

    /// Takes a connection back once its response was read to the end.
    pub fn give_back(&self, taken: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !taken.is_closed() {
            idle.push(Idle { send: taken, since: instant_now() });
        }
    }

    async fn idle_connection(&self) -> Option<SendRequest<Body>> {
        loop {
            let newest = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if instant_now().duration_since(newest.since) > IDLE_FOR {
                // All others are older.
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return None;
            }
            let mut send = newest.send;
            if send.ready().await.is_ok() {
                return Some(send);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let remotes = self.dialer.resolve().await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = String::new();
        for place in 0..remotes.len() {
            let Some(remote) = remotes.get(turn.wrapping_add(place) % remotes.len()) else { continue };
            match self.dialer.connect(remote).await {
                Ok(io) => {
                    let mut builder = Builder::new();
                    builder.max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS);
                    let (send, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|why| format!("{remote}: {why}"))?;
                    // How a connection ended is told by the requests on it.
                    self.spawner.spawn(async move { drop(connection.await) });
                    return Ok(send);
                }
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl Taken {
    /// The response, and what to give back once it was read to the end.
    pub fn into_parts(self) -> (Response<Incoming>, SendRequest<Body>) {
        (self.response, self.send)
    }
}
