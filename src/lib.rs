//! The map of the house.
//!
//! stallspan is one service per node. It reads from the kernel how long the tasks of each container
//! waited (for a CPU, for quota, in reclaim, for a block device), sends that as OTLP metrics, and
//! stands in the trace path as an OTLP hop that writes the waiting time of each span's own window
//! onto the span.
//!
//! ```text
//!    kernel ──► host ──► source ──► history ──┬──► metrics ─────────────► export ──► OTLP out
//!    containerd ──► containers (who is who) ──┤
//!    spans in ──► ingest ──► enrich: walk, match, window, splice ──► export ──► answer to the sender
//!                                             └──► diagnose (verdict)
//! ```
//!
//! # Rooms, in the order in which a module may name those above it
//!
//! The block below is read by `tests/tidy`: a `use` of a room that is not listed fails the build.
//! A room may always name itself. `-` means nothing of this crate.
//!
//! ```text
//! model      : -                                        | the vocabulary: clocks, keys, totals, windows, statuses
//! parse      : model                                    | kernel text and bytes -> model; pure, one format a file
//! config     : model                                    | YAML text -> Config; pure, positions in every error
//! ladder     : model config                             | probed facts + config -> which source supplies what; pure
//! otlp       : model                                    | names, wire walk and splice, status tables; pure
//! framing    : -                                        | HTTP/2 frames, header compression, windows: bytes in, bytes out; pure
//! history    : model                                    | readings over time -> windows; fixed memory; pure
//! diagnose   : model                                    | window -> verdict; pure
//! runtime    : model framing                            | the only spawner, clock reader and queue maker
//! telemetry  : model runtime otlp config                | the agent's own logs, counters and spans
//! containers : model parse config runtime telemetry     | who is who: pure index, containerd at the edge
//! metrics    : model otlp                               | snapshots -> OTLP metric messages; pure
//! enrich     : model otlp diagnose                      | request bytes + view of the node -> request bytes; pure
//! host       : model parse                              | the only code that opens kernel files and sockets
//! source     : model parse config ladder containers history host runtime telemetry | polling loops: host -> history
//! export     : model otlp framing config runtime telemetry | OTLP client: gRPC, HTTP, debug, file
//! ingest     : model otlp framing config runtime telemetry | OTLP server: gRPC and HTTP
//! app        : model parse config ladder otlp history diagnose runtime telemetry containers metrics enrich host source export ingest | wiring only
//! demo       : model config otlp runtime telemetry ingest app  | the whole job on this machine
//! cli        : model config otlp ladder runtime telemetry app demo  | command line; prints
//! ```
//!
//! # Invariants, as absences
//!
//! * The hop never decodes a trace request into structs, and never changes a byte outside our own keys.
//! * No sender is told "accepted" before downstream has accepted.
//! * No number stands for "unknown": what is not known is absent, with a reason.
//! * Nothing opens a kernel file outside `host`; nothing reads a clock outside `runtime`.
//! * No queue, map or buffer is without a bound.

#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::disallowed_methods,
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "a test fails by a panic, reads fixtures and starts servers of its own; the same code is linted without tests too"
    )
)]

pub mod app;
pub mod cli;
pub mod config;
pub mod containers;
pub mod demo;
pub mod diagnose;
pub mod enrich;
pub mod export;
pub mod framing;
pub mod history;
pub mod host;
pub mod ingest;
pub mod ladder;
pub mod metrics;
pub mod model;
pub mod otlp;
pub mod parse;
pub mod runtime;
pub mod source;
pub mod telemetry;
