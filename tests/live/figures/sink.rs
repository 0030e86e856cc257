//! What stands behind the measured systems: takes every request, counts it, keeps the last one of spans to be looked at.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stallspan::framing::{Event, Fields, Session, put_field, put_indexed};
use tokio::net::{TcpListener, TcpStream};

use super::meter::{OTHERS, on_cpu};
use super::peer::Peer;

/// `:status` 200 (RFC 7541, Appendix A).
const OK: u8 = 8;

/// An OTLP/gRPC server that accepts everything.
pub struct Sink {
    pub address: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Whether messages may be compressed, of which nothing can be seen.
    compressed: bool,
    requests: AtomicU64,
    bytes: AtomicU64,
    last: Mutex<Vec<u8>>,
}

impl Sink {
    /// Serves from a thread of its own until the process ends.
    pub fn start() -> Self {
        Self::start_with(Seen::default())
    }

    /// The same for compressed messages.
    pub fn of_compressed() -> Self {
        Self::start_with(Seen { compressed: true, ..Seen::default() })
    }

    fn start_with(seen: Seen) -> Self {
        let seen = Arc::new(seen);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = Arc::clone(&seen);
        on_cpu(OTHERS, || std::thread::spawn(move || serve(listener, served)));
        Self { address, seen }
    }

    /// Requests of spans so far, and the bytes of their messages.
    pub fn counts(&self) -> (u64, u64) {
        (self.seen.requests.load(Ordering::SeqCst), self.seen.bytes.load(Ordering::SeqCst))
    }

    /// The last message of spans, with its length before it.
    pub fn last(&self) -> Vec<u8> {
        self.seen.last.lock().unwrap().clone()
    }
}

fn serve(listener: std::net::TcpListener, seen: Arc<Seen>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_all(stream, Arc::clone(&seen)));
        }
    });
}

/// How a connection ends is the measured system's business.
async fn answer_all(stream: TcpStream, seen: Arc<Seen>) {
    let Some(mut peer) = Peer::server(stream).await else { return };
    let (mut head, mut trailers) = (Vec::new(), Vec::new());
    put_indexed(&mut head, OK);
    put_field(&mut head, b"content-type", b"application/grpc", false);
    put_field(&mut trailers, b"grpc-status", b"0", false);
    let trailers = Bytes::from(trailers);
    let answer = |session: &mut Session, stream: u32, (of_spans, message): (bool, Vec<u8>)| {
        if of_spans {
            assert_eq!(message[0] == 1, seen.compressed, "whether a message is compressed");
            seen.took(message);
        }
        session.head(stream, &head, false);
        session.data(stream, &[0; 5], Bytes::new(), false);
        session.end_with(stream, trailers.clone());
    };
    let mut coming = BTreeMap::new();
    poll_fn(|context| {
        peer.poll(context, |session, event| match event {
            Event::Head { stream, end } => {
                assert!(!end, "a request without a message");
                coming.insert(stream, (is_of_spans(session.fields()), Vec::new()));
            }
            Event::Data { stream, bytes, end } => {
                coming.get_mut(&stream).unwrap().1.extend_from_slice(bytes);
                if end {
                    answer(session, stream, coming.remove(&stream).unwrap());
                }
            }
            Event::Trailers { stream } => answer(session, stream, coming.remove(&stream).unwrap()),
            Event::Reset { stream, .. } => drop(coming.remove(&stream)),
            Event::GoAway { .. } => {}
        })
    })
    .await;
}

/// Whether a request is one of spans.
fn is_of_spans(head: &Fields) -> bool {
    head.iter().any(|(name, value)| name == b":path" && value.ends_with(b"TraceService/Export"))
}

impl Seen {
    fn took(&self, message: Vec<u8>) {
        self.bytes.fetch_add(u64::try_from(message.len()).unwrap() - 5, Ordering::SeqCst);
        *self.last.lock().unwrap() = message;
        self.requests.fetch_add(1, Ordering::SeqCst);
    }
}
