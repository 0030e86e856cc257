//! The chain with real parts: containerd and runc, the Collector, Jaeger, Tempo, telemetrygen. Needs root and the peers
//! that `make peers` builds, so it is no part of a plain `cargo test`: `make live` runs it, one test after the other,
//! because each of them measures this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

mod lab;

mod chain;
mod examples;
mod figures;
mod peers;
mod training;
