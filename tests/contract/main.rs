//! The contract, sentence by sentence, against the real binary: what is tried here knows the agent only by its command line, its
//! configuration, its sockets and what arrives downstream.
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

#[path = "rig/agent.rs"]
mod agent;
#[path = "rig/claims.rs"]
mod claims;
#[path = "rig/downstream.rs"]
mod downstream;
#[path = "rig/scene.rs"]
mod scene;
#[path = "rig/sender.rs"]
mod sender;
#[path = "../support/session.rs"]
mod session;

mod acknowledging;
mod association;
mod commands;
mod configuration;
mod encoding;
mod enriching;
mod health;
mod holding;
mod hostile_cgroups;
mod metrics;
mod own_telemetry;
mod passing;
mod proxies;
mod starting;
mod stopping;
mod times;
