//! What an answer is called in gRPC and in HTTP, which answers are worth another try, and how they are written.
//!
//! * [`codes`]: gRPC codes, HTTP status codes, and the way between them.
//! * [`rpc_status`]: `google.rpc.Status` with its `RetryInfo`, as protobuf, JSON and `grpc-status-details-bin`.
//! * [`retry_after`]: the `Retry-After` header.
//! * [`grpc_text`]: `grpc-message` and `grpc-timeout`.

pub mod base64;
pub mod codes;
pub mod grpc_text;
pub mod retry_after;
pub mod rpc_status;

pub use codes::{code_from_number, from_grpc, from_grpc_http, from_http, http_status, number, retryable, retryable_http};
pub use grpc_text::{decode_message, encode_message, format_timeout, parse_timeout};
pub use retry_after::{parse_retry_after, render_retry_after};
pub use rpc_status::{RpcStatus, details_header, from_details_header};
