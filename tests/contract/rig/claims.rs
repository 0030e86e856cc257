//! Trace requests, made and read.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

pub fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Nanoseconds of the wall clock, `ago` before now.
pub fn wall(ago: Duration) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (now - ago).as_nanos().try_into().unwrap()
}

/// A span that began and ended this long ago.
pub fn span(began: Duration, ended: Duration) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![3; 8],
        name: "work".to_owned(),
        kind: 2,
        start_time_unix_nano: wall(began),
        end_time_unix_nano: wall(ended),
        attributes: vec![text("http.route", "/cart")],
        ..Span::default()
    }
}

/// The last 400 ms but the newest 100.
pub fn recent() -> Span {
    span(Duration::from_millis(400), Duration::from_millis(100))
}

pub fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
}

pub fn bytes(resource: Vec<KeyValue>, spans: Vec<Span>) -> Vec<u8> {
    request(resource, spans).encode_to_vec()
}

/// The values of a key, all of them.
pub fn all<'a>(attributes: &'a [KeyValue], key: &str) -> Vec<&'a Value> {
    let of = |entry: &'a KeyValue| entry.value.as_ref().and_then(|value| value.value.as_ref());
    attributes.iter().filter(|entry| entry.key == key).filter_map(of).collect()
}

/// The text under a key that stands there once.
pub fn text_of<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    match all(attributes, key)[..] {
        [Value::StringValue(text)] => text,
        ref other => panic!("{key}: {other:?} in {attributes:#?}"),
    }
}

/// The double under a key that stands there once.
pub fn double_of(attributes: &[KeyValue], key: &str) -> f64 {
    match all(attributes, key)[..] {
        [Value::DoubleValue(value)] => *value,
        ref other => panic!("{key}: {other:?} in {attributes:#?}"),
    }
}

pub fn has(attributes: &[KeyValue], key: &str) -> bool {
    attributes.iter().any(|entry| entry.key == key)
}

/// Attributes of the resource a request's only group has, over all its `resource` fields.
pub fn resource_of(request: &ExportTraceServiceRequest) -> &[KeyValue] {
    assert_eq!(request.resource_spans.len(), 1);
    request.resource_spans[0].resource.as_ref().map_or(&[], |resource| &resource.attributes)
}

/// All spans of a request.
pub fn spans_of(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    request.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|scope| &scope.spans).collect()
}
