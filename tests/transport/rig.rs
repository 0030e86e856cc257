//! What the tests start: a server with a handler of theirs, and clients that can say anything.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stallspan::config::meaning::{GrpcServer, HttpServer, Limits, Receiver, ServerKeepalive};
use stallspan::export::{Beside, Exporters};
use stallspan::ingest::{self, Address, Counters, Handler, Protocol, Request, Running};
use stallspan::model::Answer;
use stallspan::runtime::Tasks;
use stallspan::runtime::budget::Room;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub const GRPC_LIMIT: usize = 100_000;
pub const HTTP_LIMIT: usize = 200_000;
pub const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A configuration on free ports with small limits.
pub fn receiver() -> Receiver {
    Receiver {
        grpc: Some(GrpcServer {
            endpoint: "127.0.0.1:0".to_owned(),
            max_recv_msg_size: GRPC_LIMIT,
            max_concurrent_streams: 100,
            keepalive: ServerKeepalive::default(),
            tls: None,
        }),
        http: Some(HttpServer {
            endpoint: "127.0.0.1:0".to_owned(),
            max_request_body_size: HTTP_LIMIT,
            read_header_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(3),
            tls: None,
        }),
        max_wait: Duration::from_secs(5),
    }
}

pub fn limits() -> Limits {
    Limits { memory: 8 << 20, max_connections: 64 }
}

/// A server at work.
pub struct Hop {
    pub running: Running,
    pub counters: Arc<Counters>,
    pub tasks: Tasks,
}

impl Hop {
    pub async fn start(handler: impl Handler) -> Self {
        Self::start_with(handler, receiver(), limits()).await
    }

    pub async fn start_with(handler: impl Handler, receiver: Receiver, limits: Limits) -> Self {
        let (tasks, counters) = (Tasks::new(), Arc::new(Counters::default()));
        let running = ingest::serve(&receiver, limits, Arc::new(handler), &tasks, Arc::clone(&counters)).await.unwrap();
        Self { running, counters, tasks }
    }

    fn tcp(&self, wanted: Protocol) -> SocketAddr {
        let found = self.running.addresses.iter().find_map(|(protocol, address)| match address {
            Address::Tcp(address) if *protocol == wanted => Some(*address),
            _ => None,
        });
        found.unwrap()
    }

    pub fn unix(&self) -> PathBuf {
        let found = self.running.addresses.iter().find_map(|(_, address)| match address {
            Address::Unix(path) => Some(path.clone()),
            Address::Tcp(_) => None,
        });
        found.unwrap()
    }

    pub fn grpc(&self) -> SocketAddr {
        self.tcp(Protocol::Grpc)
    }

    pub fn http(&self) -> SocketAddr {
        self.tcp(Protocol::Http)
    }
}

type Answering = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// Keeps what it gets, then answers as told.
#[derive(Clone)]
pub struct Recorder {
    pub got: Arc<Mutex<Vec<Request>>>,
    answering: Arc<Answering>,
}

impl Recorder {
    pub fn accepting() -> Self {
        Self::answering(|_| async { Ok(Bytes::new()) })
    }

    pub fn answering<F>(answer: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let answering: Answering = Box::new(move |request| Box::pin(answer(request)));
        Self { got: Arc::default(), answering: Arc::new(answering) }
    }

    pub fn bodies(&self) -> Vec<Bytes> {
        self.got.lock().unwrap().iter().map(|request| request.body.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

impl Handler for Recorder {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        // Its bytes are not in flight for as long as this remembers it.
        self.got.lock().unwrap().push(Request { room: Room::default(), ..request.clone() });
        (self.answering)(request)
    }
}

/// Passes everything to exporters.
pub struct Forward {
    pub exporters: Exporters,
    pub names: Vec<String>,
}

impl Handler for Forward {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move {
            let Request { signal, body, deadline, room, .. } = request;
            self.exporters.send_within(&self.names, signal, body, deadline, Beside { room: &room, spare: None }).await
        })
    }
}

/// What came back, whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub trailers: http::HeaderMap,
}

impl Reply {
    async fn read(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Self { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `grpc-status`, wherever it stands.
    pub fn code(&self) -> &str {
        self.trailers.get("grpc-status").or(self.headers.get("grpc-status")).map_or("", |value| value.to_str().unwrap())
    }
}

pub type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;
pub type Http1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

pub async fn http2(address: SocketAddr) -> Http2 {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    send
}

pub async fn http1(address: SocketAddr) -> Http1 {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A gRPC frame.
pub fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(u8::from(compressed));
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    frame.freeze()
}

/// A gRPC call with any headers and any bytes.
pub async fn call(send: &mut Http2, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
    let mut request = http::Request::post(format!("http://test{path}")).body(Full::new(body)).unwrap();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    Reply::read(send.send_request(request).await.unwrap()).await
}

/// An HTTP/1.1 request with any headers and any bytes.
pub async fn post(send: &mut Http1, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
    let mut request = http::Request::builder().method(method).uri(path).header("host", "test").body(Full::new(body)).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    send.ready().await.unwrap();
    Reply::read(send.send_request(request).await.unwrap()).await
}

pub const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// How long a starved machine may take for what happens at once on a quiet one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; fails when [`PATIENCE`] is over.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Compressible bytes of a length.
pub fn bytes(length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>().into()
}

pub fn gzip(body: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().into()
}

pub fn zstd(body: &[u8]) -> Bytes {
    zstd::encode_all(body, 1).unwrap().into()
}

/// Tells that a future was dropped.
pub struct SetOnDrop(pub Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A handler that answers when it is let go.
pub fn gate() -> (Recorder, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let recorder = Recorder::answering(move |_| {
        let gate = Arc::clone(&inside);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(Bytes::new())
        }
    });
    (recorder, gate)
}
