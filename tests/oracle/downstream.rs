//! A downstream with moods: accepts, refuses, hangs, drops connections, dies and returns.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::request::strip;

/// It lives so long at a time …
const ALIVE: Duration = Duration::from_millis(700);
/// … and is dead so long.
const DEAD: Duration = Duration::from_millis(80);

/// gRPC and HTTP on one port.
#[derive(Clone)]
pub struct Downstream {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    ledger: Ledger,
}

impl Downstream {
    /// `seed`: another order of moods for each.
    pub async fn start(ledger: Ledger, seed: u64) -> Self {
        // Bound for as long as the test runs and never listening: nobody else gets the port while downstream is dead.
        let port = socket(([127, 0, 0, 1], 0).into()).unwrap();
        let downstream = Self { address: port.local_addr().unwrap(), requests: Arc::new(AtomicU64::new(seed * 1000)), ledger };
        tokio::spawn({
            let downstream = downstream.clone();
            async move {
                let _port = port;
                loop {
                    let _over = tokio::time::timeout(ALIVE, downstream.live()).await;
                    tokio::time::sleep(DEAD).await;
                }
            }
        });
        downstream
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until dropped: then the port is closed and all connections are cut.
    async fn live(&self) {
        let listener = self.listen().await;
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(self.clone().serve(stream));
        }
    }

    /// A connection of somebody else may stand on the port for a moment: then downstream stays dead a little longer.
    async fn listen(&self) -> TcpListener {
        loop {
            match socket(self.address).and_then(|socket| socket.listen(64)) {
                Ok(listener) => return listener,
                Err(taken) if taken.kind() == std::io::ErrorKind::AddrInUse => tokio::time::sleep(DEAD).await,
                Err(error) => panic!("{}: {error}", self.address),
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        let mut first = [0; 3];
        let http2 = stream.peek(&mut first).await.is_ok() && &first == b"PRI";
        let cut = Arc::new(Notify::new());
        let service = service_fn(|request| self.clone().answer(request, Arc::clone(&cut)));
        let io = TokioIo::new(stream);
        let serving = async {
            let _ended = match http2 {
                true => hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
                false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
            };
        };
        tokio::select! { () = serving => {}, () = cut.notified() => {} }
    }

    async fn answer(self, request: Request<Incoming>, cut: Arc<Notify>) -> Result<Response<Answer>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return std::future::pending().await };
        let grpc = head.version == Version::HTTP_2;
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        Ok(match number % 11 {
            3 => refusal(grpc, 14, 503),
            5 => refusal(grpc, 8, 429),
            7 if number.is_multiple_of(3) => std::future::pending().await,
            9 => {
                // It came, and nobody is told what became of it.
                if number.is_multiple_of(2) {
                    self.accept(&plain(&head.headers, &body.to_bytes(), grpc));
                }
                cut.notify_one();
                std::future::pending().await
            }
            _ => {
                self.accept(&plain(&head.headers, &body.to_bytes(), grpc));
                acceptance(grpc)
            }
        })
    }

    /// Taken down before anybody is told.
    fn accept(&self, body: &[u8]) {
        let stripped = strip(body);
        self.ledger.accept(&stripped.name, &stripped.bytes, stripped.enriched);
    }
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Inflated and without its gRPC frame.
fn plain(headers: &HeaderMap, body: &[u8], grpc: bool) -> Vec<u8> {
    let coding = headers.get(if grpc { "grpc-encoding" } else { "content-encoding" }).map(|value| value.to_str().unwrap());
    let message = if grpc { &body[5..] } else { body };
    match coding {
        None => message.to_vec(),
        Some("gzip") => {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(message).read_to_end(&mut out).unwrap();
            out
        }
        Some(other) => panic!("coding {other}"),
    }
}

type Answer = StreamBody<Frames>;

/// The frames of a response body.
pub struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl tonic::codegen::tokio_stream::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

fn acceptance(grpc: bool) -> Response<Answer> {
    if !grpc {
        return response(200, "application/x-protobuf", vec![]);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    response(200, "application/grpc", vec![Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)])
}

/// Code 8 comes without a hint: such a request is not tried again by the hop, but by its sender.
fn refusal(grpc: bool, code: u16, status: u16) -> Response<Answer> {
    if !grpc {
        return response(status, "text/plain", vec![]);
    }
    let mut response = response(200, "application/grpc", vec![]);
    response.headers_mut().insert("grpc-status", code.into());
    response
}

fn response(status: u16, kind: &'static str, frames: Vec<Frame<Bytes>>) -> Response<Answer> {
    let mut response = Response::new(StreamBody::new(Frames(frames.into_iter())));
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    response
}
