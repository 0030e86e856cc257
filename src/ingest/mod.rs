//! Room `ingest`: the OTLP server, gRPC and HTTP. Knows transports, sizes and status codes; knows nothing of spans.
//!
//! [`serve`] listens on every endpoint and hands each request, inflated and as protobuf, to the [`Handler`]; the
//! handler's answer becomes the sender's. gRPC is served over room `framing`, HTTP by hyper, which stays in here.
//!
//! It deliberately does not look into requests, does not retry, does not queue: what finds no room in the budget is
//! refused as retryable.

mod body;
mod connection;
mod counters;
mod door;
mod grpc;
mod heavy;
mod http;
pub mod inflate;
mod keepalive;
mod listen;
mod message;
mod pages;
pub mod problem;
mod reply;
mod running;
mod server;
mod stream;
mod tls;
mod unary;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{Answer, Peer, Signal};
use crate::runtime::budget::Room;

pub use crate::runtime::budget;
pub use counters::{Counter, Counters};
pub use listen::{Address, BindError};
pub use pages::{Page, Pages, serve_pages};
pub use server::{Protocol, Running, serve};

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
    /// Its bytes in flight, and where copies of it take room.
    pub room: Room,
}

/// What takes requests off the wire. Dropping the future is how a sender that went away ends its attempt.
pub trait Handler: Send + Sync + 'static {
    /// Looks at a new connection, once, before its first request; what it learns goes with each of them. Must not wait.
    fn greet(&self, peer: Peer) -> Peer {
        peer
    }

    /// What is held for as long as a connection lasts, such as a count of them.
    fn connected(&self) -> Box<dyn Any + Send> {
        Box::new(())
    }

    /// Answers one request.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}
