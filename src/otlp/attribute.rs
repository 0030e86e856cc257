//! `KeyValue` and `Span.Event` as bytes: whose they are, and how ours are written.
//!
//! Field numbers are those of `opentelemetry/proto/common/v1/common.proto` and `trace/v1/trace.proto`. Inside a
//! `KeyValue` nothing need parse (contract §5): one that does not is nobody's, and stays.

use super::names;
use super::wire::{self, Fields, Value, wire_type};
use crate::model::ClaimValue;

const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 1;
const INT_VALUE: u32 = 3;
const EVENT_NAME: u32 = 2;

/// Tag of `KeyValue.key`.
pub const KEY_TAG: u8 = 1 << 3 | wire_type::LEN;
/// Tag of `KeyValue.value`.
pub const VALUE_TAG: u8 = 2 << 3 | wire_type::LEN;
const STRING_VALUE_TAG: u8 = 1 << 3 | wire_type::LEN;
const DOUBLE_VALUE_TAG: u8 = 4 << 3 | wire_type::FIXED64;

/// Number of `Span.attributes`.
pub const SPAN_ATTRIBUTE: u32 = 9;
/// Number of `Span.events`.
pub const SPAN_EVENT: u32 = 11;
/// Tag of `Span.attributes`.
pub const SPAN_ATTRIBUTE_TAG: u8 = 9 << 3 | wire_type::LEN;
/// Tag of `Span.events`.
const SPAN_EVENT_TAG: u8 = 11 << 3 | wire_type::LEN;
/// Tag of `ResourceSpans.resource`.
pub const RESOURCE_TAG: u8 = 1 << 3 | wire_type::LEN;
/// Tag of `Resource.attributes`.
pub const RESOURCE_ATTRIBUTE_TAG: u8 = 1 << 3 | wire_type::LEN;
/// Tag of `Event.attributes`.
const EVENT_ATTRIBUTE_TAG: u8 = 3 << 3 | wire_type::LEN;

/// The key of a `KeyValue`: the last one, as protobuf wants it; empty where it has none. `None` where it does not parse.
#[must_use]
pub fn key(key_value: &[u8]) -> Option<&[u8]> {
    last_len(key_value, KEY)
}

fn last_len(message: &[u8], number: u32) -> Option<&[u8]> {
    let mut last: &[u8] = &[];
    for field in Fields::of(message) {
        if let wire::Field { number: found, value: Value::Len(payload), .. } = field.ok()?
            && found == number
        {
            last = payload;
        }
    }
    Some(last)
}

/// Whether a span's `KeyValue` carries a key that an enriched span gets from us alone.
///
/// Nearly every `KeyValue` is `0a L key 12 L value` and nothing more: then its only key is looked at, eight bytes at once.
#[inline(always)]
#[must_use]
pub fn is_ours(key_value: &[u8]) -> bool {
    match plain_key(key_value) {
        Some(key) => key.first_chunk() == Some(b"stallspa") && names::is_own_span_key(key),
        None => is_ours_at_length(key_value),
    }
}

#[inline(always)]
fn plain_key(key_value: &[u8]) -> Option<&[u8]> {
    let [KEY_TAG, key_len, rest @ ..] = key_value else { return None };
    // A longer length varint has its top bit set, and so would never fit a short key.
    let (key, value) = rest.split_at_checked(usize::from(*key_len))?;
    let [VALUE_TAG, value_len, value @ ..] = value else { return None };
    (*key_len < 0x80 && *value_len < 0x80 && usize::from(*value_len) == value.len()).then_some(key)
}

#[inline(never)]
fn is_ours_at_length(key_value: &[u8]) -> bool {
    key(key_value).is_some_and(names::is_own_span_key)
}

/// Whether a `Span.Event` is a stall event.
#[must_use]
pub fn is_our_event(event: &[u8]) -> bool {
    last_len(event, EVENT_NAME) == Some(names::STALL_EVENT.as_bytes())
}

/// A `KeyValue`'s value where it is a text or an integer; `None` where it is anything else or does not parse.
#[must_use]
pub fn claim_value(key_value: &[u8]) -> Option<ClaimValue> {
    // Several `value` fields are one message in pieces; of a oneof the last member counts.
    let mut found = None;
    for field in Fields::of(key_value) {
        let wire::Field { number: VALUE, value: Value::Len(any_value), .. } = field.ok()? else { continue };
        for member in Fields::of(any_value) {
            found = match member.ok()? {
                wire::Field { number: STRING_VALUE, value: Value::Len(text), .. } => {
                    std::str::from_utf8(text).ok().map(|text| ClaimValue::Text(text.to_owned()))
                }
                wire::Field { number: INT_VALUE, value: Value::Varint(int), .. } => Some(ClaimValue::Int(int.cast_signed())),
                wire::Field { number: 1..=8, .. } => None,
                _ => found,
            };
        }
    }
    found
}

/// A `KeyValue`'s value where it is a text, without a copy. Of a value in pieces only the last piece is looked at.
#[must_use]
pub fn claim_text(key_value: &[u8]) -> Option<&str> {
    match Fields::of(last_len(key_value, VALUE)?).next()?.ok()? {
        wire::Field { number: STRING_VALUE, value: Value::Len(text), .. } => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// The OS thread id in a span attribute of this key: an integer, or its decimal text.
#[must_use]
pub fn thread_id(key_value: &[u8], wanted: &str) -> Option<u32> {
    if key(key_value)? != wanted.as_bytes() {
        return None;
    }
    match claim_value(key_value)? {
        ClaimValue::Int(id) => u32::try_from(id).ok(),
        ClaimValue::Text(text) => text.parse().ok(),
    }
}

/// Appends an attribute with a double, under a field tag of one byte. `key` has less than 100 bytes.
pub fn push_double(out: &mut Vec<u8>, tag: u8, key: &str, value: f64) {
    push_head(out, tag, key, 9);
    out.push(DOUBLE_VALUE_TAG);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends an attribute with a text, under a field tag of one byte.
pub fn push_text(out: &mut Vec<u8>, tag: u8, key: &str, value: &str) {
    push_head(out, tag, key, 1 + wire::varint_len(value.len() as u64) + value.len());
    out.push(STRING_VALUE_TAG);
    wire::push_varint(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

fn push_head(out: &mut Vec<u8>, tag: u8, key: &str, value_len: usize) {
    let key_len = key.len() as u64;
    let value_len = value_len as u64;
    let whole = 1 + wire::varint_len(key_len) as u64 + key_len + 1 + wire::varint_len(value_len) as u64 + value_len;
    out.push(tag);
    wire::push_varint(out, whole);
    out.push(KEY_TAG);
    wire::push_varint(out, key_len);
    out.extend_from_slice(key.as_bytes());
    out.push(VALUE_TAG);
    wire::push_varint(out, value_len);
}

/// Appends a stall event to a span. `scratch` is any buffer; it is cleared.
pub fn push_stall_event(out: &mut Vec<u8>, scratch: &mut Vec<u8>, time: u64, kind: &str, seconds: f64, culprit: Option<&str>) {
    scratch.clear();
    scratch.push(1 << 3 | wire_type::FIXED64);
    scratch.extend_from_slice(&time.to_le_bytes());
    wire::push_len(scratch, EVENT_NAME, names::STALL_EVENT.as_bytes());
    push_text(scratch, EVENT_ATTRIBUTE_TAG, names::EVENT_DELAY_TYPE.key, kind);
    push_double(scratch, EVENT_ATTRIBUTE_TAG, names::EVENT_DURATION.key, seconds);
    if let Some(culprit) = culprit {
        push_text(scratch, EVENT_ATTRIBUTE_TAG, names::EVENT_CULPRIT.key, culprit);
    }
    out.push(SPAN_EVENT_TAG);
    wire::push_varint(out, scratch.len() as u64);
    out.extend_from_slice(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message;

    fn plain(key: &str, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        wire::push_len(&mut out, KEY, key.as_bytes());
        wire::push_len(&mut out, VALUE, value);
        out
    }

    fn check_ours(key_value: &[u8], ours: bool) {
        assert_eq!(is_ours(key_value), ours, "{key_value:02x?}");
    }

    #[test]
    fn our_keys_are_found_however_they_are_written() {
        let cpu = "stallspan.delay.cpu";
        check_ours(&plain(cpu, b""), true);
        check_ours(&plain(cpu, &[0x21; 200]), true);
        check_ours(&plain("stallspan.delay.mine", b""), false);
        check_ours(&plain("http.method", b""), false);
        check_ours(&plain("", b""), false);
        check_ours(b"", false);
        let only_key = |key: &str| plain(key, b"").split_at(2 + key.len()).0.to_vec();
        check_ours(&only_key(cpu), true);
        check_ours(&[&b"\x12\x00"[..], &only_key(cpu)].concat(), true);
        check_ours(&[only_key("other"), only_key(cpu)].concat(), true);
        check_ours(&[only_key(cpu), only_key("other")].concat(), false);
        check_ours(&[plain("other", b""), only_key(cpu)].concat(), true);
        check_ours(&[plain(cpu, b""), only_key("other")].concat(), false);
        check_ours(&[&b"\x8a\x00\x93\x80\x00"[..], cpu.as_bytes()].concat(), true);
        check_ours(&[plain(cpu, b""), vec![0x0c]].concat(), false);
        check_ours(&[plain(cpu, b""), vec![0x1b, 0x1c]].concat(), true);
    }

    #[test]
    fn stall_events_are_found_by_their_last_name() {
        let name = |text: &str| [&[0x12, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        for (event, ours) in [
            (name("stallspan.stall"), true),
            ([&b"\x09\x00\x00\x00\x00\x00\x00\x00\x00"[..], &name("stallspan.stall"), &[0x1a, 0x00]].concat(), true),
            ([name("stallspan.stall"), name("x")].concat(), false),
            ([name("x"), name("stallspan.stall")].concat(), true),
            (name("stallspan.stalls"), false),
            ([name("stallspan.stall"), vec![0x08]].concat(), false),
            (vec![], false),
        ] {
            assert_eq!(is_our_event(&event), ours, "{event:02x?}");
        }
    }

    #[test]
    fn values_that_can_be_claims() {
        let text = |text: &str| Some(ClaimValue::Text(text.to_owned()));
        for (value, expected) in [
            (&b"\x0a\x02ab"[..], text("ab")),
            (b"\x18\x07", Some(ClaimValue::Int(7))),
            (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some(ClaimValue::Int(-1))),
            (b"\x0a\x02ab\x18\x07", Some(ClaimValue::Int(7))),
            (b"\x0a\x02ab\x10\x01", None),
            (b"\x0a\x02ab\x78\x01", text("ab")),
            (b"\x0a\x02\xff\xff", None),
            (b"\x0a\x05ab", None),
            (b"", None),
        ] {
            assert_eq!(claim_value(&plain("k", value)), expected, "{value:02x?}");
        }
        assert_eq!(claim_value(&[plain("k", b"\x18\x01"), plain("k", b"\x18\x02")].concat()), Some(ClaimValue::Int(2)));
    }

    #[test]
    fn thread_ids_are_numbers_or_decimal_texts() {
        for (value, expected) in [
            (&b"\x18\x07"[..], Some(7)),
            (b"\x0a\x02\x34\x32", Some(42)),
            (b"\x0a\x01x", None),
            (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
        ] {
            assert_eq!(thread_id(&plain("thread.id", value), "thread.id"), expected, "{value:02x?}");
        }
        assert_eq!(thread_id(&plain("thread.name", b"\x18\x07"), "thread.id"), None);
    }

    #[test]
    fn another_implementation_reads_what_is_written() {
        let long = "x".repeat(300);
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        push_double(&mut out, SPAN_ATTRIBUTE_TAG, "a.double", 0.25);
        push_text(&mut out, SPAN_ATTRIBUTE_TAG, "a.text", &long);
        push_stall_event(&mut out, &mut scratch, 17, "cpu", 1.5, Some("ns/pod/app"));
        push_stall_event(&mut out, &mut scratch, 18, "reclaim", 0.5, None);
        let span = Span::decode(out.as_slice()).unwrap();
        let seen = |list: &[KeyValue]| list.iter().map(|kv| (kv.key.clone(), kv.value.clone().unwrap().value.unwrap())).collect::<Vec<_>>();
        let text = |text: &str| any_value::Value::StringValue(text.to_owned());
        assert_eq!(
            seen(&span.attributes),
            [("a.double".to_owned(), any_value::Value::DoubleValue(0.25)), ("a.text".to_owned(), text(&long))]
        );
        assert_eq!((span.events[0].time_unix_nano, span.events[0].name.as_str()), (17, "stallspan.stall"));
        assert_eq!(
            seen(&span.events[0].attributes),
            [
                ("stallspan.delay.type".to_owned(), text("cpu")),
                ("stallspan.stall.duration".to_owned(), any_value::Value::DoubleValue(1.5)),
                ("stallspan.culprit.name".to_owned(), text("ns/pod/app")),
            ]
        );
        assert_eq!(span.events[1].attributes.len(), 2);
    }
}
