//! The hop's transports from outside: real clients in front, real and scripted servers behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

mod downstream;
mod grpc_in;
mod hop;
mod hostile;
mod http_in;
mod keepalive;
mod leaving;
mod limits_in;
mod out;
mod peers;
mod proxy;
mod rig;
#[path = "../support/session.rs"]
mod session;
mod shutdown;
mod slow_in;
mod tls;
mod unix;
