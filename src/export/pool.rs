//! HTTP/1.1 connections to one address, kept alive between requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::addresses::{Addresses, Place};
use super::dial::{Dialer, Remote};
use super::rest::Rest;
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// Connections to one address kept for later.
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

/// The connections to one address that nobody uses now.
#[derive(Debug)]
pub struct Pool {
    remote: Remote,
    rest: Rest,
    idle: Mutex<Vec<Idle>>,
    /// One failed since the name was looked up.
    lost: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    send: SendRequest<Body>,
    since: Instant,
}

/// A connection that is nobody else's meanwhile.
pub struct Lent {
    send: SendRequest<Body>,
    from: Arc<Pool>,
    /// It carried a request before, and may have been closed meanwhile.
    was_idle: bool,
}

/// No response came.
pub struct Lost {
    /// Why.
    pub why: String,
    /// The connection had carried a request before, and may have been closed meanwhile.
    pub was_idle: bool,
}

impl Lent {
    /// Sends a request and waits for the head of its response. Dropping the future closes the connection.
    ///
    /// # Errors
    /// Where no response came.
    pub async fn send(mut self, request: Request<Body>) -> Result<(Response<Incoming>, Self), Lost> {
        match self.send.send_request(request).await {
            Ok(response) => Ok((response, self)),
            Err(why) => {
                self.from.lost.store(true, Ordering::SeqCst);
                Err(Lost { why: format!("the connection to downstream failed: {why}"), was_idle: self.was_idle })
            }
        }
    }

    /// Goes back once its response was read to the end.
    pub fn give_back(self) {
        let mut idle = self.from.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !self.send.is_closed() {
            idle.push(Idle { send: self.send, since: instant_now() });
        }
    }
}

impl Pool {
    fn has_idle(&self) -> bool {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.last().is_some_and(|newest| instant_now().duration_since(newest.since) <= IDLE_FOR)
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

    async fn connect(&self, dialer: &Dialer, spawner: &Spawner) -> Result<SendRequest<Body>, String> {
        let io = dialer.connect(&self.remote).await?;
        let mut builder = Builder::new();
        builder.max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS);
        let (send, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|why| format!("{}: {why}", self.remote))?;
        // How a connection ended is told by the requests on it.
        spawner.spawn(async move { drop(connection.await) });
        Ok(send)
    }
}

impl Place for Pool {
    type Reached = Lent;

    fn at(remote: Remote) -> Self {
        Self { remote, rest: Rest::new(), idle: Mutex::default(), lost: AtomicBool::new(false) }
    }

    fn remote(&self) -> &Remote {
        &self.remote
    }

    fn lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst) || !self.has_idle()
    }

    fn looked_up(&self) {
        self.lost.store(false, Ordering::SeqCst);
    }

    /// One that takes no more connections is used over those that there are.
    fn rests(&self) -> bool {
        !self.has_idle() && self.rest.rests()
    }

    async fn reach(self: &Arc<Self>, dialer: &Dialer, spawner: &Spawner) -> Result<Lent, String> {
        let from = Arc::clone(self);
        if let Some(send) = self.idle_connection().await {
            return Ok(Lent { send, from, was_idle: true });
        }
        let made = self.connect(dialer, spawner).await.inspect_err(|_| self.rest.refused())?;
        self.rest.taken();
        Ok(Lent { send: made, from, was_idle: false })
    }
}

/// All connections to one endpoint.
pub type Pools = Addresses<Pool>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::runtime::{Task, Tasks};

    const RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nserver: ";

    /// Answers every request with its own address; connections live as long as it does.
    async fn answering(tasks: &Tasks) -> (SocketAddr, Task<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taking = async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                served.spawn(answers(stream, address));
            }
        };
        (address, tasks.spawn("answering", taking))
    }

    async fn answers(mut stream: TcpStream, own: SocketAddr) {
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                stream.write_all(format!("{RESPONSE}{own}\r\n\r\n").as_bytes()).await.unwrap();
            }
        }
    }

    /// Where so many requests went, one after the other, and over how many connections.
    async fn spread(pools: &Pools, requests: usize) -> (BTreeMap<String, usize>, usize) {
        let (mut counts, mut made) = (BTreeMap::new(), 0);
        while counts.values().sum::<usize>() < requests {
            let lent = pools.next().await.unwrap();
            made += usize::from(!lent.was_idle);
            let request = Request::get("/").header("host", "test").body(Body::default()).unwrap();
            match lent.send(request).await {
                Ok((response, lent)) => {
                    *counts.entry(response.headers()["server"].to_str().unwrap().to_owned()).or_default() += 1;
                    drop(response);
                    lent.give_back();
                }
                Err(lost) => assert!(lost.was_idle, "{}", lost.why),
            }
        }
        (counts, made)
    }

    fn told(counts: &[(SocketAddr, usize)]) -> BTreeMap<String, usize> {
        counts.iter().map(|(address, count)| (address.to_string(), *count)).collect()
    }

    #[tokio::test]
    async fn requests_go_to_all_addresses_in_turn_over_one_connection_each() {
        let tasks = Tasks::new();
        let ((first, _one), (second, two)) = (answering(&tasks).await, answering(&tasks).await);
        let pools = Pools::new(Dialer::fixed(&[first, second]), tasks.named("connection"));
        assert_eq!(spread(&pools, 10).await, (told(&[(first, 5), (second, 5)]), 2));
        two.abort();
        let _ = two.await;
        assert_eq!(spread(&pools, 10).await.0, told(&[(first, 10)]), "the one that is gone is passed over");
    }

    #[tokio::test]
    async fn who_takes_no_more_connections_is_used_over_those_there_are_and_the_name_looked_up_where_there_is_none() {
        let tasks = Tasks::new();
        let (address, _one) = answering(&tasks).await;
        let pools = Pools::new(Dialer::fixed(&[address]), tasks.named("connection"));
        let lent = pools.next().await.unwrap();
        let pool = Arc::clone(&lent.from);
        pool.rest.refused();
        assert_eq!((pool.rests(), pool.lost()), (true, true), "while its only connection is lent");
        lent.give_back();
        assert_eq!((pool.rests(), pool.lost()), (false, false));
        let _lent = pools.next().await.unwrap();
        assert_eq!((pool.rests(), pool.lost()), (true, true));
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_address() {
        let tasks = Tasks::new();
        let (address, gone) = answering(&tasks).await;
        gone.abort();
        let _ = gone.await;
        let pools = Pools::new(Dialer::fixed(&[address]), tasks.named("connection"));
        for _ in 0..3 {
            let why = pools.next().await.err().unwrap();
            assert!(why.contains(&address.to_string()) && why.contains("refused"), "{why}");
        }
    }
}
