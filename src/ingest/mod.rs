//! Room `ingest`: the OTLP server, gRPC and HTTP. Knows transports, sizes and status codes; knows nothing of spans.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{Answer, Peer, Signal};

/// One OTLP request, inflated, as protobuf bytes (JSON is transcoded before it gets here).
#[derive(Clone, Debug)]
pub struct Request {
    /// Which service.
    pub signal: Signal,
    /// `Export…ServiceRequest`, protobuf.
    pub body: Bytes,
    /// When the sender stops waiting: its own deadline or `max_wait`, whichever is earlier.
    pub deadline: Instant,
    /// The connection.
    pub peer: Peer,
}

/// What takes requests off the wire. Dropping the future is how a sender that went away ends its attempt.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}
