//! What stands behind the agent: answers each request as it is told and keeps what came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

/// A request that arrived, inflated and without its gRPC frame.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the sender was told that it was accepted.
    pub accepted: bool,
    pub at: Instant,
}

/// What the sender is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Accepted, with this response message.
    Accept(Bytes),
    /// gRPC: this status and these further headers.
    Grpc(u16, Vec<(&'static str, String)>),
    /// HTTP: status, headers, body.
    Http(u16, Vec<(&'static str, String)>, Bytes),
    /// Nothing, ever.
    Silence,
    /// Accepted, after a while.
    Later(Duration),
}

type Script = dyn Fn(usize, &Got) -> Answer + Send + Sync;

/// gRPC and HTTP on one port.
#[derive(Clone)]
pub struct Downstream {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Script>,
}

impl Downstream {
    pub async fn accepting() -> Self {
        Self::start(|_, _| Answer::Accept(Bytes::new())).await
    }

    /// `script`: the number of the request, counted from 0, and the request.
    pub async fn start(script: impl Fn(usize, &Got) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let downstream = Self { address: listener.local_addr().unwrap(), got: Arc::default(), script: Arc::new(script) };
        let serving = downstream.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        downstream
    }

    async fn serve(self, stream: TcpStream) {
        let mut first = [0; 3];
        let http2 = stream.peek(&mut first).await.is_ok_and(|length| first.starts_with(b"PRI") || length < 3);
        let service = service_fn(|request| self.clone().answer(request));
        let io = TokioIo::new(stream);
        let _ended = match http2 {
            true => hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
            false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        };
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return std::future::pending().await };
        let grpc = head.version == Version::HTTP_2;
        let body = plain(&head.headers, body.to_bytes(), grpc);
        let got = Got { path: head.uri.path().to_owned(), headers: head.headers, body, accepted: false, at: Instant::now() };
        let (number, answer) = {
            let mut all = self.got.lock().unwrap();
            let answer = (self.script)(all.len(), &got);
            all.push(got.clone());
            (all.len() - 1, answer)
        };
        let message = match answer {
            Answer::Silence => return std::future::pending().await,
            Answer::Grpc(code, more) => {
                let mut response = pieces(200, &more, vec![]);
                response.headers_mut().insert("grpc-status", code.into());
                response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                return Ok(response);
            }
            Answer::Http(status, headers, body) => return Ok(pieces(status, &headers, vec![Frame::data(body)])),
            Answer::Later(pause) => {
                tokio::time::sleep(pause).await;
                Bytes::new()
            }
            Answer::Accept(message) => message,
        };
        self.got.lock().unwrap()[number].accepted = true;
        let kind = got.headers["content-type"].to_str().unwrap().to_owned();
        if !grpc {
            return Ok(pieces(200, &[("content-type", kind)], vec![Frame::data(message)]));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        Ok(pieces(200, &[("content-type", kind)], vec![Frame::data(framed(&message)), Frame::trailers(trailers)]))
    }

    /// Everything that came.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// What came for one signal: `traces`, `metrics` or `logs`.
    pub fn of(&self, signal: &str) -> Vec<Got> {
        let service = match signal {
            "traces" => "TraceService",
            "metrics" => "MetricsService",
            _ => "LogsService",
        };
        self.got().into_iter().filter(|got| got.path.contains(service) || got.path.ends_with(&format!("/v1/{signal}"))).collect()
    }

    /// The only trace request that came.
    pub fn only_trace(&self) -> ExportTraceServiceRequest {
        let all = self.of("traces");
        assert_eq!(all.len(), 1, "trace requests downstream");
        ExportTraceServiceRequest::decode(all[0].body.clone()).unwrap()
    }

    /// All `ResourceMetrics`, in the order in which they came.
    pub fn resource_metrics(&self) -> Vec<ResourceMetrics> {
        let decode = |got: Got| ExportMetricsServiceRequest::decode(got.body).unwrap().resource_metrics;
        self.of("metrics").into_iter().flat_map(decode).collect()
    }
}

fn plain(headers: &HeaderMap, body: Bytes, grpc: bool) -> Bytes {
    let coding = headers.get(if grpc { "grpc-encoding" } else { "content-encoding" }).map_or("", |value| value.to_str().unwrap());
    let (packed, message) = if grpc { (body[0] == 1, body.slice(5..)) } else { (!coding.is_empty(), body) };
    match coding {
        _ if !packed => message,
        "gzip" => {
            let mut out = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&message[..]), &mut out).unwrap();
            out.into()
        }
        "zstd" => zstd::decode_all(&message[..]).unwrap().into(),
        other => panic!("coding {other}"),
    }
}

/// A gRPC frame.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.extend_from_slice(message);
    frame.freeze()
}

type Pieces = StreamBody<Frames>;

/// The frames of a response body.
pub struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl tonic::codegen::tokio_stream::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

fn pieces(status: u16, headers: &[(&'static str, String)], frames: Vec<Frame<Bytes>>) -> Response<Pieces> {
    let mut response = Response::new(StreamBody::new(Frames(frames.into_iter())));
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// How long a starved machine may take for what happens at once on a quiet one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` yields something; fails when [`PATIENCE`] is over.
pub async fn until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
