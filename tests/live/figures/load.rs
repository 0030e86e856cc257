//! The sender: a closed loop of requests made ready beforehand, over several connections.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stallspan::framing::{Event, Fields, Session, put_field, put_indexed};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::meter::{OTHERS, on_cpu};
use super::peer::Peer;
use super::spans::prefix;

const CONNECTIONS: u32 = 4;
const IN_FLIGHT: usize = 4;
/// Before anything counts: connections made, buffers grown.
const WARM_UP: Duration = Duration::from_millis(150);
/// Between requests, where they are to come one at a time.
const PAUSE: Duration = Duration::from_millis(2);
/// `:method` POST and `:scheme` http (RFC 7541, Appendix A).
const POST: u8 = 3;
const HTTP: u8 = 6;
/// Bytes of one answer that may come before they are looked at.
const WINDOW: u32 = 64 * 1024;
/// Messages that accept all spans: the Collector always writes a partial success, an empty one.
const ACCEPTED: [&[u8]; 2] = [b"\0\0\0\0\0", b"\0\0\0\0\x02\x0a\0"];

/// How much there is to do.
#[derive(Clone, Copy)]
pub enum Load {
    /// As much as the system under test manages: four requests at a time on each connection.
    Full,
    /// One request at a time on each connection, and a pause before it.
    Little,
}

/// Sends a message again and again for so long; `begin` is called once everything is warm. How many requests were
/// accepted between the two calls: every one is asserted to be.
pub fn drive(address: &str, message: &Bytes, load: Load, long: Duration, begin: impl FnOnce()) -> u64 {
    on_runtime(async {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(Sender::connect(address).await);
        }
        let mut senders = loops(senders, message, load, WARM_UP).await;
        begin();
        senders.iter_mut().for_each(|sender| sender.accepted = 0);
        loops(senders, message, load, long).await.iter().map(|sender| sender.accepted).sum()
    })
}

/// Requests one after the other with a pause between: what each of them took, as its sender sees it.
pub fn one_by_one(address: &str, requests: usize, message: impl Fn() -> Bytes) -> Vec<Duration> {
    on_runtime(async {
        let mut sender = Sender::connect(address).await;
        let mut took = Vec::new();
        for number in 0..requests + 5 {
            sender.rest(PAUSE).await;
            let message = message();
            let begin = Instant::now();
            sender.send(&message, 1, || false).await;
            // The first ones find cold connections.
            if number >= 5 {
                took.push(begin.elapsed());
            }
        }
        took
    })
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    on_cpu(OTHERS, || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
}

async fn loops(senders: Vec<Sender>, message: &Bytes, load: Load, long: Duration) -> Vec<Sender> {
    let end = Instant::now() + long;
    let mut running = tokio::task::JoinSet::new();
    for (mut sender, place) in senders.into_iter().zip(0..) {
        let message = message.clone();
        running.spawn(async move {
            match load {
                Load::Full => sender.send(&message, IN_FLIGHT, || Instant::now() < end).await,
                Load::Little => {
                    // One after the other, not all at the same moment.
                    sender.rest(PAUSE * place / CONNECTIONS).await;
                    while Instant::now() < end {
                        sender.rest(PAUSE).await;
                        sender.send(&message, 1, || false).await;
                    }
                }
            }
            sender
        });
    }
    running.join_all().await
}

struct Sender {
    peer: Peer,
    address: String,
    /// The head of each request.
    block: Vec<u8>,
    accepted: u64,
}

impl Sender {
    async fn connect(address: &str) -> Self {
        let mut block = Vec::new();
        put_indexed(&mut block, POST);
        put_indexed(&mut block, HTTP);
        for (name, value) in [
            (":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
            (":authority", address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "OTel OTLP Exporter Go/1.38.0 grpc-go/1.76.0"),
            ("grpc-timeout", "10S"),
        ] {
            put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        }
        let peer = Peer::client(TcpStream::connect(address).await.unwrap());
        Self { peer, address: address.to_owned(), block, accepted: 0 }
    }

    /// Answers what the other side asks meanwhile.
    async fn rest(&mut self, long: Duration) {
        let gone = timeout(long, poll_fn(|context| self.peer.poll(context, |_, _| {}))).await;
        assert!(gone.is_err(), "{} closed the connection", self.address);
    }

    /// So many requests at a time, each followed by another one while it is to go on. Panics with anything but an acceptance
    /// of all spans.
    async fn send(&mut self, message: &Bytes, at_a_time: usize, go_on: impl Fn() -> bool) {
        let Self { peer, address, block, accepted } = self;
        let open = |session: &mut Session| {
            let stream = session.open(WINDOW, block);
            session.data(stream, &prefix(message), message.clone(), true);
            (stream, Vec::new())
        };
        let mut running: BTreeMap<u32, Vec<u8>> = (0..at_a_time).map(|_| open(&mut peer.session)).collect();
        poll_fn(|context| {
            let gone = peer.poll(context, |session, event| match event {
                Event::Head { end: false, .. } => {}
                Event::Data { stream, bytes, end: false } => running.get_mut(&stream).unwrap().extend_from_slice(bytes),
                Event::Trailers { stream } => {
                    let answer = running.remove(&stream).unwrap();
                    assert!(is_well(session.fields()) && ACCEPTED.contains(&&*answer), "{address} answered {answer:?}");
                    *accepted += 1;
                    if go_on() {
                        running.extend([open(session)]);
                    }
                }
                other => panic!("{address} answered {other:?}"),
            });
            assert!(gone.is_pending(), "{address} closed the connection");
            if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

fn is_well(trailers: &Fields) -> bool {
    trailers.iter().any(|field| field == (b"grpc-status", b"0"))
}
