//! A downstream that does as it is told, request by request, over gRPC and HTTP on one port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stallspan::config::meaning::{Compression, Encoding, Exporter, OtlpExporter, Retry};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::rig::framed;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Accepted, with this message.
    Accept(Bytes),
    /// gRPC: trailers-only with these headers.
    Grpc(Vec<(&'static str, String)>),
    /// HTTP: a status, headers and a body.
    Http(u16, Vec<(&'static str, String)>, Bytes),
    /// Refused for now, in the words of the transport.
    Unavailable,
    /// Never answered.
    Hang,
    /// The connection is dropped after the request was read.
    Drop,
}

type Script = Arc<dyn Fn(usize) -> Act + Send + Sync>;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub accepted: bool,
    pub connection: usize,
}

#[derive(Clone)]
pub struct Downstream {
    pub address: SocketAddr,
    pub got: Arc<Mutex<Vec<Got>>>,
    script: Script,
    listening: Arc<Mutex<Option<JoinHandle<()>>>>,
    goodbye_every: Arc<AtomicUsize>,
}

impl Downstream {
    pub async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let downstream = Self {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            script: Arc::new(script),
            listening: Arc::default(),
            goodbye_every: Arc::default(),
        };
        downstream.listen(listener);
        downstream
    }

    pub async fn accepting() -> Self {
        Self::start(|_| Act::Accept(Bytes::new())).await
    }

    /// HTTP/2 connections say goodbye after so many requests.
    pub fn goodbye_every(&self, requests: usize) {
        self.goodbye_every.store(requests, Ordering::SeqCst);
    }

    fn listen(&self, listener: TcpListener) {
        let downstream = self.clone();
        let task = tokio::spawn(async move {
            // Dropped with the listener: all connections die when it does.
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(downstream.clone().serve(stream, number));
            }
        });
        *self.listening.lock().unwrap() = Some(task);
    }

    /// Closes the port and all connections.
    pub async fn die(&self) {
        let task = self.listening.lock().unwrap().take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Listens again on the same port.
    pub async fn rise(&self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.listen(socket.listen(64).unwrap());
    }

    async fn serve(self, stream: TcpStream, connection: usize) {
        stream.set_nodelay(true).unwrap();
        let mut first = [0; 3];
        let http2 = stream.peek(&mut first).await.is_ok() && &first == b"PRI";
        let dropped = Arc::new(tokio::sync::Notify::new());
        let (served, goodbye) = (AtomicUsize::new(0), tokio::sync::Notify::new());
        let service = service_fn(|request| {
            if served.fetch_add(1, Ordering::SeqCst) + 1 == self.goodbye_every.load(Ordering::SeqCst) {
                goodbye.notify_one();
            }
            self.clone().answer(request, connection, Arc::clone(&dropped))
        });
        let io = TokioIo::new(stream);
        if http2 {
            let mut serving = std::pin::pin!(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
            loop {
                tokio::select! {
                    _ = serving.as_mut() => break,
                    () = dropped.notified() => break,
                    () = goodbye.notified() => serving.as_mut().graceful_shutdown(),
                }
            }
        } else {
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            tokio::select! { _ = serving => {}, () = dropped.notified() => {} }
        }
    }

    async fn answer(
        self,
        request: http::Request<Incoming>,
        connection: usize,
        dropped: Arc<tokio::sync::Notify>,
    ) -> Result<http::Response<Outgoing>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { std::future::pending().await };
        let body = body.to_bytes();
        let act = {
            let mut got = self.got.lock().unwrap();
            let act = (self.script)(got.len());
            let accepted = matches!(act, Act::Accept(_));
            got.push(Got { path: head.uri.path().to_owned(), headers: head.headers.clone(), body, accepted, connection });
            act
        };
        let grpc = head.version == http::Version::HTTP_2;
        Ok(match act {
            Act::Hang => std::future::pending().await,
            Act::Drop => {
                dropped.notify_one();
                std::future::pending().await
            }
            Act::Accept(message) if grpc => {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let frames = vec![Ok(Frame::data(framed(false, &message))), Ok(Frame::trailers(trailers))];
                response(200, &[("content-type", "application/grpc".to_owned())], frames)
            }
            Act::Accept(message) => {
                let kind = head.headers["content-type"].to_str().unwrap().to_owned();
                response(200, &[("content-type", kind)], vec![Ok(Frame::data(message))])
            }
            Act::Unavailable if grpc => {
                response(200, &[("content-type", "application/grpc".to_owned()), ("grpc-status", "14".to_owned())], vec![])
            }
            Act::Unavailable => response(503, &[], vec![]),
            Act::Grpc(headers) => response(200, &[headers, vec![("content-type", "application/grpc".to_owned())]].concat(), vec![]),
            Act::Http(status, headers, body) => response(status, &headers, vec![Ok(Frame::data(body))]),
        })
    }

    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    pub fn last(&self) -> Got {
        self.got.lock().unwrap().last().unwrap().clone()
    }

    /// Bodies it accepted, in order.
    pub fn accepted(&self) -> Vec<Bytes> {
        self.got.lock().unwrap().iter().filter(|got| got.accepted).map(|got| got.body.clone()).collect()
    }

    pub fn grpc_exporter(&self) -> OtlpExporter {
        otlp(format!("http://{}", self.address))
    }

    pub fn http_exporter(&self) -> OtlpExporter {
        otlp(format!("http://{}", self.address))
    }
}

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;
type Outgoing = StreamBody<Pieces>;

/// Frames as a stream.
pub struct Pieces(std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>);

impl tonic::codegen::tokio_stream::Stream for Pieces {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

fn response(status: u16, headers: &[(&'static str, String)], frames: Frames) -> http::Response<Outgoing> {
    let mut response = http::Response::new(StreamBody::new(Pieces(frames.into_iter())));
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// An exporter with quick retries.
pub fn otlp(endpoint: String) -> OtlpExporter {
    OtlpExporter {
        endpoint,
        tls: None,
        compression: Compression::None,
        timeout: Duration::from_secs(20),
        headers: BTreeMap::new(),
        retry: Retry {
            enabled: true,
            initial_interval: Duration::from_millis(50),
            max_interval: Duration::from_millis(200),
            max_elapsed_time: Duration::from_secs(60),
        },
        keepalive: None,
        encoding: Encoding::Proto,
        traces_endpoint: None,
        metrics_endpoint: None,
        logs_endpoint: None,
    }
}

/// Exporters by name.
pub fn exporters(entries: Vec<(&str, Exporter)>) -> BTreeMap<String, Exporter> {
    entries.into_iter().map(|(name, exporter)| (name.to_owned(), exporter)).collect()
}
