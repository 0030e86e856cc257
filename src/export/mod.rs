//! Room `export`: the OTLP client. Sends a request's bytes to every exporter of its pipeline and brings the answer back.
//!
//! [`Exporters::send`] tries again for as long as the sender waits, and only what may pass later. gRPC
//! is spoken over room `framing`, HTTP by hyper, which stays in here.
//!
//! It deliberately has no queue and looks into no request: nothing is accepted here that downstream has not accepted.

mod addresses;
mod answer;
mod compress;
mod debug;
mod dial;
mod endpoint;
mod exporters;
mod file;
mod grpc;
mod headers;
mod http;
mod keepalive;
mod link;
mod pool;
mod proxy;
mod response;
mod rest;
mod retry;
mod spare;
mod tls;
mod tunnel;
mod turns;
mod wire;

pub use exporters::{Beside, Exporters, OpenError};
pub use file::FileExporter;
pub use proxy::Proxies;
pub use spare::Spare;
