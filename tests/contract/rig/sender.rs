//! Senders: OTLP over gRPC and over HTTP with any headers and any bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::downstream::framed;

pub const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Self { status: head.status.as_u16(), headers: head.headers, trailers, body: collected.to_bytes() }
    }

    /// `grpc-status`, wherever it stands.
    pub fn code(&self) -> u16 {
        self.grpc("grpc-status").parse().unwrap_or_else(|_| panic!("no gRPC status: {self:?}"))
    }

    /// A header or trailer; empty where there is none.
    pub fn grpc(&self, name: &str) -> &str {
        self.trailers.get(name).or(self.headers.get(name)).map_or("", |value| value.to_str().unwrap())
    }

    /// The response message behind the gRPC frame's head.
    pub fn message(&self) -> Bytes {
        self.body.slice(5..)
    }
}

/// A connection that speaks gRPC; clones speak on the same one.
#[derive(Clone)]
pub struct Grpc(hyper::client::conn::http2::SendRequest<Full<Bytes>>);

impl Grpc {
    pub async fn connect(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Reply {
        self.call_raw(path, headers, framed(message)).await
    }

    /// The same with a frame of one's own.
    pub async fn call_raw(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
        let mut request = Request::post(format!("http://test{path}")).body(Full::new(body)).unwrap();
        add(request.headers_mut(), &[("content-type", "application/grpc"), ("te", "trailers")]);
        add(request.headers_mut(), headers);
        Reply::read(self.0.send_request(request).await.unwrap()).await
    }

    /// One call over a connection of its own.
    pub async fn once(address: SocketAddr, path: &str, message: &[u8]) -> Reply {
        Self::connect(address).await.call(path, &[], message).await
    }
}

pub const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// One HTTP/1.1 request over a connection of its own.
pub async fn http(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    http_over(TcpStream::connect(address).await.unwrap(), method, path, headers, body.into()).await
}

/// A POST of protobuf over a unix socket.
pub async fn post_to_unix(socket: &std::path::Path, path: &str, body: impl Into<Bytes>) -> Reply {
    http_over(UnixStream::connect(socket).await.unwrap(), "POST", path, &[PROTOBUF], body.into()).await
}

async fn http_over<S>(stream: S, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "test").body(Full::new(body)).unwrap();
    add(request.headers_mut(), headers);
    Reply::read(send.send_request(request).await.unwrap()).await
}

/// A POST of protobuf.
pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Reply {
    http(address, "POST", path, &[PROTOBUF], body).await
}

fn add(to: &mut HeaderMap, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        to.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
}

/// What `/metrics` tells at this moment.
pub struct Page(pub String);

impl Page {
    pub async fn of(health: SocketAddr) -> Self {
        Self(String::from_utf8(http(health, "GET", "/metrics", &[], "").await.body.to_vec()).unwrap())
    }

    /// The value of the first sample that begins so; 0 where there is none.
    pub fn value(&self, beginning: &str) -> f64 {
        let sample = self.0.lines().find_map(|line| line.strip_prefix(beginning)?.rsplit_once(' '));
        sample.map_or(0.0, |(_, value)| value.parse().unwrap())
    }

    /// Spans of this outcome.
    pub fn spans(&self, outcome: &str) -> f64 {
        self.value(&format!("stallspan_agent_spans_total{{stallspan_outcome=\"{outcome}\"}}"))
    }

    pub fn active_requests(&self) -> f64 {
        self.value("stallspan_agent_active_requests")
    }
}
