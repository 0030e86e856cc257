//! Requests as senders make them, and what is left of one without our keys; both on the level of bytes, so that a byte
//! moved, lost or added anywhere is seen.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A field that no version of OTLP has.
const UNKNOWN: u32 = 1000;

/// A few spans, the first one called `name`, with fields nobody knows. `container`: whose they say they are.
pub fn make(name: &str, number: u64, container: Option<&str>) -> Vec<u8> {
    let mut resource = attribute("service.name", "oracle");
    if let Some(id) = container {
        resource.extend(attribute("container.id", id));
    }
    let mut scope = Vec::new();
    for place in 0..1 + number % 23 {
        let own = if place == 0 { name.to_owned() } else { format!("{name} {place}") };
        let text = "x".repeat(usize::try_from(number * 37 % 900).unwrap());
        scope.extend(field(2, &[span(own, text), field(UNKNOWN, b"unknown")].concat()));
    }
    let group = [field(1, &resource), field(2, &scope), field(UNKNOWN, b"beside")].concat();
    [field(1, &group), field(UNKNOWN, b"at the end")].concat()
}

fn span(name: String, text: String) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let nanos = |ago: u64| u64::try_from(now.as_nanos()).unwrap() - ago * 1_000_000;
    let value = Some(AnyValue { value: Some(Value::StringValue(text)) });
    Span {
        trace_id: vec![7; 16],
        span_id: vec![3; 8],
        name,
        kind: 2,
        start_time_unix_nano: nanos(300),
        end_time_unix_nano: nanos(150),
        attributes: vec![KeyValue { key: "text".to_owned(), value, ..KeyValue::default() }],
        ..Span::default()
    }
    .encode_to_vec()
}

/// Field 1 of a Resource.
fn attribute(key: &str, value: &str) -> Vec<u8> {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    field(1, &KeyValue { key: key.to_owned(), value, ..KeyValue::default() }.encode_to_vec())
}

/// A length-delimited field.
fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A request without what the hop may add.
pub struct Stripped {
    pub bytes: Vec<u8>,
    /// The name of its first span.
    pub name: String,
    /// Whether anything was taken away.
    pub enriched: bool,
}

/// Takes our keys and events off every span, and off the resource what these senders never say.
pub fn strip(request: &[u8]) -> Stripped {
    let (mut name, mut ours) = (String::new(), 0);
    let bytes = each(request, |number, group| match number {
        1 => Some(each(group, |number, part| match number {
            1 => {
                let resource = each(part, |_, attribute| keep(!["service.name", "container.id"].contains(&&*key(attribute)), attribute));
                (!resource.is_empty()).then_some(resource)
            }
            2 => Some(each(part, |number, span| match number {
                2 => {
                    let seen = Span::decode(span).unwrap();
                    if name.is_empty() {
                        name = seen.name;
                    }
                    Some(each(span, |number, part| {
                        let added = match number {
                            9 => key(part).starts_with("stallspan."),
                            11 => part.windows(15).any(|text| text == b"stallspan.stall"),
                            _ => false,
                        };
                        ours += usize::from(added);
                        keep(added, part)
                    }))
                }
                _ => Some(span.to_vec()),
            })),
            _ => Some(part.to_vec()),
        })),
        _ => Some(group.to_vec()),
    });
    Stripped { bytes, name, enriched: ours > 0 }
}

fn keep(added: bool, part: &[u8]) -> Option<Vec<u8>> {
    (!added).then(|| part.to_vec())
}

fn key(attribute: &[u8]) -> String {
    KeyValue::decode(attribute).unwrap().key
}

/// Every field of a message in its order; length-delimited ones as `change` wants them, `None` is left out.
fn each(mut message: &[u8], mut change: impl FnMut(u32, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let mut out = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let (number, wire) = decode_key(&mut message).unwrap();
        if wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).unwrap()).unwrap();
            let (payload, rest) = message.split_at(length);
            message = rest;
            out.extend(change(number, payload).map(|payload| field(number, &payload)).unwrap_or_default());
        } else {
            skip_field(wire, number, &mut message, DecodeContext::default()).unwrap();
            out.extend_from_slice(&whole[..whole.len() - message.len()]);
        }
    }
    out
}

#[test]
fn what_is_stripped_of_nothing_is_as_it_was_and_a_changed_byte_shows() {
    let sent = make("a", 5, Some("c"));
    let stripped = strip(&sent);
    assert_eq!((stripped.bytes == sent, stripped.name.as_str(), stripped.enriched), (true, "a", false));
    let place = sent.windows(7).position(|window| window == b"unknown").unwrap();
    let mut altered = sent.clone();
    altered[place] = b'U';
    assert_ne!(strip(&altered).bytes, sent);
}
