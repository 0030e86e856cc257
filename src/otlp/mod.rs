//! Room `otlp`: what the protocol says, as values. Pure: no transport, no clock, no allocation without a bound.
//!
//! * [`names`]: the one table of span attributes, events and resource keys of the contract.
//! * [`wire`]: the protobuf wire format; [`walk`]: a trace request, checked and told without decoding it.
//! * [`attribute`]: a `KeyValue` as bytes; [`splice`]: a copy of a request with bytes put in and taken out.
//! * [`status`]: what an answer is called in gRPC and in HTTP, and which answers are worth another try.
//! * [`count`]: how many records a request carries.
//! * [`json`]: OTLP/JSON from and to protobuf bytes.
//!
//! It deliberately decodes no span into structs and knows nothing of containers: what is written onto a span is decided
//! in `enrich`.

pub mod attribute;
pub mod count;
pub mod json;
pub mod metric_names;
pub mod names;
pub mod splice;
pub mod stall_span;
pub mod status;
pub mod walk;
pub mod wire;
