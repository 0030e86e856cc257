//! Starting, accepting and stopping.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Handler;
use super::budget::{Budget, Share};
use super::connection::{self, Speaks};
use super::counters::Counters;
use super::door::{Door, House};
use super::http::Bounds;
use super::listen::{Address, BindError, Listener};
use super::tls::Acceptor;
use crate::config::meaning::{GrpcServer, HttpServer, Limits, Receiver, ServerTls};
use crate::model::Peer;
use crate::runtime::{Backoff, Buffers, Heavy, InTurn, Io, Line, Spawner, Standing, Stop, Tasks};

/// Time for answers to get out after requests in flight were cut short.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pauses after a failed `accept`: descriptors come back as connections end.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Bytes of buffers kept for the next messages.
const KEPT_BUFFERS: usize = 8 << 20;

/// A protocol of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

impl Protocol {
    const fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// A server at work.
pub struct Running {
    /// Where it listens; a name with several addresses has several lines.
    pub addresses: Vec<(Protocol, Address)>,
    house: Arc<House>,
    places: Arc<Semaphore>,
    max_connections: u32,
}

/// Listens on every endpoint of `receiver`, then serves all of them.
///
/// # Errors
/// Names the endpoint that cannot be listened on, and why. Nothing is left listening then.
pub async fn serve(
    receiver: &Receiver,
    limits: Limits,
    handler: Arc<dyn Handler>,
    tasks: &Tasks,
    counters: Arc<Counters>,
) -> Result<Running, BindError> {
    let mut entrances = Vec::new();
    if let Some(grpc) = &receiver.grpc {
        entrances.extend(entrance(Protocol::Grpc, &grpc.endpoint, grpc.tls.as_ref(), grpc_speaks(grpc)).await?);
    }
    if let Some(http) = &receiver.http {
        entrances.extend(entrance(Protocol::Http, &http.endpoint, http.tls.as_ref(), http_speaks(http)).await?);
    }
    let house = Arc::new(House {
        handler,
        budget: Budget::new(limits.memory),
        stop: Stop::new(),
        cut: Stop::new(),
        end: Stop::new(),
        max_wait: receiver.max_wait,
        heavy: Heavy::new(tasks.clone(), "inflate large"),
        counters,
        buffers: Buffers::new(KEPT_BUFFERS.min(limits.memory / 8)),
        line: Line::new(tasks.named("ingest line")),
    });
    let max_connections = u32::try_from(limits.max_connections.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let places = Arc::new(Semaphore::new(usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
    let addresses = entrances.iter().filter_map(|entrance| Some((entrance.protocol, entrance.listener.address()?))).collect();
    for entrance in entrances {
        let (house, places, tasks) = (Arc::clone(&house), Arc::clone(&places), tasks.clone());
        let name = match entrance.protocol {
            Protocol::Grpc => "ingest grpc listener",
            Protocol::Http => "ingest http listener",
        };
        tasks.clone().spawn(name, async move { entrance.accept_all(house, places, &tasks).await });
    }
    Ok(Running { addresses, house, places, max_connections })
}

impl Running {
    /// Takes no new work, lets requests in flight finish for `grace`, refuses the rest as retryable, and returns once
    /// every connection has ended.
    pub async fn shutdown(&self, grace: Duration) {
        self.house.stop.request();
        if timeout(grace, self.places.acquire_many(self.max_connections)).await.is_ok() {
            return;
        }
        self.house.cut.request();
        if timeout(LAST_WORDS, self.places.acquire_many(self.max_connections)).await.is_ok() {
            return;
        }
        self.house.end.request();
        // A connection that does not end now is stuck in the kernel; the process ends without it.
        let _ = timeout(LAST_WORDS, self.places.acquire_many(self.max_connections)).await;
    }

    /// Bytes of requests in flight.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.house.budget.used()
    }
}

struct Entrance {
    protocol: Protocol,
    listener: Listener,
    acceptor: Option<Arc<Acceptor>>,
    speaks: Speaks,
}

async fn entrance(protocol: Protocol, endpoint: &str, tls: Option<&ServerTls>, speaks: Speaks) -> Result<Vec<Entrance>, BindError> {
    let alpn: &[&str] = match protocol {
        Protocol::Grpc => &["h2"],
        Protocol::Http => &["h2", "http/1.1"],
    };
    let (name, word) = (|| endpoint.to_owned(), protocol.word());
    let acceptor = tls.map(|tls| Acceptor::open(tls, alpn)).transpose();
    let acceptor = acceptor.map_err(|why| BindError::Tls { endpoint: name(), protocol: word, why })?.map(Arc::new);
    let listeners = Listener::open(endpoint).await.map_err(|why| BindError::Listen { endpoint: name(), protocol: word, why })?;
    Ok(listeners.into_iter().map(|listener| Entrance { protocol, listener, acceptor: acceptor.clone(), speaks }).collect())
}

impl Entrance {
    async fn accept_all(self, house: Arc<House>, places: Arc<Semaphore>, tasks: &Tasks) {
        let (connections, streams) = (tasks.named("ingest connection"), tasks.named("ingest stream"));
        let mut backoff = Backoff::new(ACCEPT_PAUSE.0, ACCEPT_PAUSE.1);
        loop {
            let accepted = tokio::select! {
                biased;
                () = house.stop.wait() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((io, peer)) => {
                    backoff.reset();
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        house.counters.connections_refused.add_one();
                        continue;
                    };
                    connections.spawn(self.admitted(io, peer, place, Arc::clone(&house), streams.clone()));
                }
                Err(why) => {
                    house.counters.accept_errors.add_one();
                    if !concerns_one_connection(&why) {
                        tracing::warn!(%why, protocol = self.protocol.word(), "cannot accept connections for now");
                        sleep(backoff.pause()).await;
                    }
                }
            }
        }
    }

    fn admitted(
        &self,
        io: Box<dyn Io>,
        peer: Peer,
        place: OwnedSemaphorePermit,
        house: Arc<House>,
        streams: Spawner,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (acceptor, speaks) = (self.acceptor.clone(), self.speaks);
        let (standing, open) = (Standing::default(), Open::new(Arc::clone(&house)));
        standing.clone().take_turns(house.line.clone(), async move {
            let (_place, _open) = (place, open);
            let io: Box<dyn Io> = Box::new(InTurn::new(io, standing.clone()));
            let secured = match acceptor {
                None => Some(io),
                Some(acceptor) => tokio::select! {
                    secured = acceptor.accept(io) => secured,
                    () = house.stop.wait() => return,
                },
            };
            let peer = house.handler.greet(peer);
            let door = Arc::new(Door { share: Share::new(&house.budget), house: Arc::clone(&house), peer, standing });
            match secured {
                Some(io) => connection::serve(io, speaks, door, streams).await,
                None => house.counters.handshakes_failed.add_one(),
            }
        })
    }
}

/// Counts a connection's begin and end, however it ends.
struct Open {
    house: Arc<House>,
    _connected: Box<dyn Any + Send>,
}

impl Open {
    fn new(house: Arc<House>) -> Self {
        house.counters.connections_accepted.add_one();
        let connected = house.handler.connected();
        Self { house, _connected: connected }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.house.counters.connections_ended.add_one();
    }
}

/// Errors that `accept` passes on from a connection that died in the queue (accept(2), "Error handling").
fn concerns_one_connection(why: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkDown, TimedOut};
    matches!(why.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkDown | TimedOut)
}

const fn grpc_speaks(grpc: &GrpcServer) -> Speaks {
    Speaks::Grpc { message: grpc.max_recv_msg_size, streams: grpc.max_concurrent_streams, keepalive: grpc.keepalive }
}

const fn http_speaks(http: &HttpServer) -> Speaks {
    Speaks::Http {
        bounds: Bounds { body: http.max_request_body_size, read_timeout: http.read_timeout },
        head_timeout: http.read_header_timeout,
        idle_timeout: http.idle_timeout,
    }
}
