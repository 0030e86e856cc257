//! The hop's transports from outside: real clients in front, real and scripted servers behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so"
)]

mod downstream;
mod grpc_in;
mod hop;
mod hostile;
mod http_in;
mod limits_in;
mod out;
mod peers;
mod rig;
mod shutdown;
mod tls;
mod unix;
