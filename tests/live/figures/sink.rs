//! What stands behind the measured systems: takes every request, counts it, keeps the last one of spans to be looked at.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::meter::{OTHERS, on_cpu};

/// Data in pieces, then perhaps trailers.
#[derive(Default)]
pub struct Pieces {
    pub data: VecDeque<Bytes>,
    pub trailers: Option<HeaderMap>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.pop_front().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}

/// An OTLP/gRPC server that accepts everything.
pub struct Sink {
    pub address: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    bytes: AtomicU64,
    last: Mutex<Vec<Bytes>>,
}

impl Sink {
    /// Serves from a thread of its own until the process ends.
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
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

    /// The last message of spans, framed.
    pub fn last(&self) -> Vec<u8> {
        self.seen.last.lock().unwrap().concat()
    }
}

fn serve(listener: std::net::TcpListener, seen: Arc<Seen>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            // How a connection ends is the measured system's business.
            tokio::spawn(
                async move { drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await) },
            );
        }
    });
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Pieces>, hyper::Error> {
    let of_spans = request.uri().path().ends_with("TraceService/Export");
    let plain = request.headers().get("grpc-encoding").is_none_or(|coding| coding == "identity");
    assert!(plain, "{:?}", request.headers());
    let mut body = request.into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.extend(frame?.into_data());
    }
    if of_spans {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        seen.bytes.fetch_add(u64::try_from(bytes).unwrap() - 5, Ordering::SeqCst);
        *seen.last.lock().unwrap() = pieces;
        seen.requests.fetch_add(1, Ordering::SeqCst);
    }
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Pieces { data: [Bytes::from_static(&[0; 5])].into(), trailers: Some(trailers) });
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
