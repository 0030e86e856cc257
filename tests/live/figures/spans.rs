//! Requests as an instrumented HTTP server sends them, and what stands on the spans that arrive.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// Attributes of each span.
pub const ATTRIBUTES: usize = 8;
/// How large a span may be to pass for a usual one, bytes.
const USUAL: std::ops::RangeInclusive<usize> = 400..=700;

/// A request of so many spans of a container, which ended `age` ago or a little before.
pub fn request(spans: usize, container: &str, age: Duration) -> Bytes {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age;
    let end = u64::try_from(end.as_nanos()).unwrap();
    let scope = InstrumentationScope { name: "io.opentelemetry.http-server".to_owned(), version: "2.1.0".to_owned(), ..Default::default() };
    let spans: Vec<Span> = (0..u64::try_from(spans).unwrap()).map(|number| span(number, end)).collect();
    let size = spans[0].encoded_len();
    assert!(USUAL.contains(&size), "a span of {size} bytes");
    let attributes = [
        ("service.name", "checkout"),
        ("service.version", "1.14.3"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "go"),
        ("telemetry.sdk.version", "1.38.0"),
        ("container.id", container),
    ];
    let resource = Resource { attributes: attributes.map(|(key, value)| text(key, value)).to_vec(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
    let group = ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec().into()
}

fn span(number: u64, newest: u64) -> Span {
    // Requests of 20 ms, one after the other at a tenth of a millisecond.
    let end = newest - number * 100_000;
    let identity = number.wrapping_add(newest).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let attributes = vec![
        text("http.request.method", "POST"),
        text("url.path", "/api/v2/carts/7f3c9a/checkout"),
        text("url.scheme", "https"),
        text("http.route", "/api/v2/carts/{cart}/checkout"),
        text("server.address", "checkout.shop.svc.cluster.local"),
        text("client.address", "10.244.3.17"),
        text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        keyed("http.response.status_code", Value::IntValue(200)),
    ];
    assert_eq!(attributes.len(), ATTRIBUTES);
    Span {
        trace_id: (u128::from(identity) << 64 | u128::from(newest)).to_be_bytes().to_vec(),
        span_id: identity.to_be_bytes().to_vec(),
        parent_span_id: newest.to_be_bytes().to_vec(),
        name: "POST /api/v2/carts/{cart}/checkout".to_owned(),
        kind: 2,
        start_time_unix_nano: end - 20_000_000,
        end_time_unix_nano: end,
        flags: 0x101,
        attributes,
        status: Some(Default::default()),
        ..Default::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    keyed(key, Value::StringValue(value.to_owned()))
}

fn keyed(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// What stands before a message: not compressed, and its length.
pub fn prefix(message: &[u8]) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(message.len()).unwrap().to_be_bytes();
    [0, a, b, c, d]
}

/// What stands on the spans of a request beyond what was sent: how many spans have each attribute, with one of its values.
pub struct Arrived {
    pub spans: usize,
    pub added: BTreeMap<String, (usize, Value)>,
}

impl Arrived {
    /// Of a message with its [`prefix`].
    pub fn of(message: &[u8]) -> Self {
        let request = ExportTraceServiceRequest::decode(&message[5..]).unwrap();
        let mut arrived = Self { spans: 0, added: BTreeMap::new() };
        let sent = span(0, 1_000_000_000).attributes;
        for span in request.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|scope| &scope.spans) {
            arrived.spans += 1;
            let (ours, others): (Vec<_>, Vec<_>) = span.attributes.iter().partition(|kv| sent.iter().all(|sent| sent.key != kv.key));
            assert_eq!(others.len(), ATTRIBUTES, "{span:?}");
            for kv in ours {
                let value = kv.value.clone().unwrap().value.unwrap();
                arrived.added.entry(kv.key.clone()).or_insert((0, value)).0 += 1;
            }
        }
        arrived
    }

    /// Attributes that every span got.
    pub fn on_all(&self) -> Vec<(&str, &Value)> {
        self.added.iter().filter(|(_, (count, _))| *count == self.spans).map(|(key, (_, value))| (&**key, value)).collect()
    }
}
