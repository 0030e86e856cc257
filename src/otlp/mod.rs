//! Room `otlp`: what the protocol says, as values. Pure: no transport, no clock, no allocation without a bound.
//!
//! * [`wire`]: the protobuf wire format.
//! * [`status`]: what an answer is called in gRPC and in HTTP, and which answers are worth another try.
//!
//! It deliberately decodes no span into structs and knows nothing of containers: what is written onto a span is decided
//! in `enrich`.

pub mod status;
pub mod wire;
