//! OTLP/JSON from and to protobuf bytes, without structs in between (OTLP specification, "JSON Protobuf Encoding").
//!
//! In: lowerCamelCase and snake_case keys, `null` is the default, unknown fields are dropped, integers as number or
//! string, enums as numbers only, ids as hex in either case, other bytes as base64. Nesting is bounded by serde_json
//! (128 levels of JSON). Out: lowerCamelCase, 64-bit integers as strings, defaults left out, text that is no UTF-8
//! replaced. Memory is linear in the input in both directions: what is read is written at once, into room that is known before.

mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use crate::model::Signal;

pub use read::{SPARE, most_bytes, to_protobuf, to_protobuf_within, usual_bytes};
pub use write::from_protobuf;

/// Which message of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `Export…ServiceRequest`
    Request(Signal),
    /// `Export…ServiceResponse`
    Response(Signal),
}

/// Why a text is not OTLP/JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not OTLP/JSON: {reason} at line {line} column {column}")]
pub struct BadJson {
    /// 1-based; 0 where unknown.
    pub line: usize,
    /// 1-based; 0 where unknown.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

/// Why bytes cannot be told as OTLP/JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProtobuf {
    /// A message that must be read does not parse.
    #[error("not protobuf: {0}")]
    Wire(super::wire::Fault),
    /// Values inside values, deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} messages")]
    TooDeep,
}

/// Deepest nesting of messages that is written as JSON.
pub const MAX_DEPTH: usize = 200;
