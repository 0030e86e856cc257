//! Room `framing`: HTTP/2 (RFC 9113) as far as unary calls need it, for both sides of a connection. Pure: bytes in, events and
//! bytes out.
//!
//! [`Session`] reads frames and says what they mean ([`Event`]); what is to be written piles up in its [`Output`]. It keeps
//! windows, counts what a peer costs, and ends the connection of one that breaks the rules. Who drives it owns socket, clock
//! and calls.
//!
//! Deliberately not here: server push (refused), priorities (read and ignored), HTTP/1.1 upgrades.

mod control;
mod data;
mod fields;
mod frame;
mod heads;
mod hpack;
mod output;
mod send;
mod session;
#[cfg(test)]
mod session_tests;
mod settings;
mod stream;

pub use fields::{RequestFields, request_fields};
pub use hpack::{Fields, put_field, put_indexed};
pub use output::Output;
pub use session::{Event, Fault, Limits, Role, Session};

/// What a client sends before its first frame (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Error codes (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names are the specification's")]
pub enum Code {
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    EnhanceYourCalm = 0xb,
}
