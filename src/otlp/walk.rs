//! Walks a trace request over its wire bytes: checks what contract §5 says must parse, and tells a [`Visitor`] where
//! things lie. Nothing is decoded into structs, nothing is allocated, every byte is looked at a bounded number of times.
//!
//! What must parse: request, `ResourceSpans`, `Resource`, `ScopeSpans` and `Span`, each field of them. What these fields
//! hold (attributes, events, links, status, unknown messages) passes as it came. A known number with another wire type is
//! just an unknown field.

use super::attribute::{self, SPAN_ATTRIBUTE, SPAN_ATTRIBUTE_TAG, SPAN_EVENT};
use super::wire::{self, Fault, wire_type};

/// The messages that must parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `ExportTraceServiceRequest`
    Request,
    /// `ResourceSpans`
    ResourceSpans,
    /// `Resource`
    Resource,
    /// `ScopeSpans`
    ScopeSpans,
    /// `Span`
    Span,
}

impl Level {
    /// The name of the message.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Request => "ExportTraceServiceRequest",
            Self::ResourceSpans => "ResourceSpans",
            Self::Resource => "Resource",
            Self::ScopeSpans => "ScopeSpans",
            Self::Span => "Span",
        }
    }
}

/// Why and where a request is not protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not protobuf: {fault} (field at byte {offset}, in {})", level.word())]
pub struct NotProtobuf {
    /// What is wrong.
    pub fault: Fault,
    /// In which message.
    pub level: Level,
    /// Offset in the request of the field at fault.
    pub offset: usize,
}

/// Where a field of wire type 2 lies in the request: its length varint begins at `length`, its payload is `begin..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the length varint.
    pub length: usize,
    /// Offset of the payload.
    pub begin: usize,
    /// Offset just behind the payload.
    pub end: usize,
}

/// What is told of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanFacts {
    /// `start_time_unix_nano`, 0 where absent.
    pub start: u64,
    /// `end_time_unix_nano`, 0 where absent.
    pub end: u64,
    /// Whether it came with attributes or events that are ours to write.
    pub carries_ours: bool,
    /// The OS thread, where asked for and told.
    pub thread: Option<u32>,
}

/// What is told while walking, in wire order.
pub trait Visitor {
    /// A `ResourceSpans` begins.
    fn resource_spans(&mut self, extent: Extent);
    /// One of its `resource` fields.
    fn resource(&mut self, extent: Extent);
    /// An attribute of the resource just told: a `KeyValue`, unchecked.
    fn resource_attribute(&mut self, key_value: &[u8]);
    /// A `ScopeSpans` of it begins.
    fn scope_spans(&mut self, extent: Extent);
    /// A span of the scope just told.
    fn span(&mut self, extent: Extent, facts: SpanFacts);
    /// The `ResourceSpans` is over.
    fn resource_spans_end(&mut self);
    /// After each field of wire type 2 outside spans: whether it wants to be told more; otherwise the walk ends with
    /// [`Fault::Stopped`].
    #[inline(always)]
    fn goes_on(&mut self) -> bool {
        true
    }
}

/// What to look for besides structure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Key of the span attribute that holds an OS thread id.
    pub thread_attribute: Option<&'a str>,
}

// Field numbers, from `opentelemetry/proto/{collector/trace,trace,resource}/v1/*.proto`.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SPANS: u32 = 2;
const RESOURCE_ATTRIBUTES: u32 = 1;
const SPAN_START: u32 = 7;
const SPAN_END: u32 = 8;
const SPAN_START_TAG: u8 = 7 << 3 | wire_type::FIXED64;
const SPAN_END_TAG: u8 = 8 << 3 | wire_type::FIXED64;
/// `flags`, number 16 of wire type 5, as a varint.
const FLAGS_TAG: [u8; 2] = [0x85, 0x01];

/// Walks a whole request.
pub fn request<V: Visitor>(body: &[u8], wanted: Wanted<'_>, visitor: &mut V) -> Result<(), NotProtobuf> {
    messages(body, 0, Level::Request, |number, extent| {
        if number == RESOURCE_SPANS {
            visitor.resource_spans(extent);
            resource_spans(upto(body, extent.end), extent.begin, wanted, visitor)?;
            visitor.resource_spans_end();
        }
        go_on(visitor, Level::Request, extent)
    })
}

#[inline(always)]
fn go_on<V: Visitor>(visitor: &mut V, level: Level, extent: Extent) -> Result<(), NotProtobuf> {
    if visitor.goes_on() { Ok(()) } else { Err(NotProtobuf { fault: Fault::Stopped, level, offset: extent.end }) }
}

fn resource_spans<V: Visitor>(body: &[u8], begin: usize, wanted: Wanted<'_>, visitor: &mut V) -> Result<(), NotProtobuf> {
    messages(body, begin, Level::ResourceSpans, |number, extent| {
        let inner = upto(body, extent.end);
        let walked = match number {
            RESOURCE => {
                visitor.resource(extent);
                messages(inner, extent.begin, Level::Resource, |number, attribute| {
                    if number == RESOURCE_ATTRIBUTES {
                        visitor.resource_attribute(inner.get(attribute.begin..attribute.end).unwrap_or_default());
                    }
                    go_on(visitor, Level::Resource, attribute)
                })
            }
            SCOPE_SPANS => {
                visitor.scope_spans(extent);
                messages(inner, extent.begin, Level::ScopeSpans, |number, extent| {
                    if number == SPANS {
                        let facts = span(inner.get(extent.begin..extent.end).unwrap_or_default(), extent.begin, wanted)?;
                        visitor.span(extent, facts);
                    }
                    go_on(visitor, Level::ScopeSpans, extent)
                })
            }
            _ => Ok(()),
        };
        walked.and_then(|()| go_on(visitor, Level::ResourceSpans, extent))
    })
}

/// The request up to `end`: offsets stay those of the request, lengths cannot reach past their message.
#[inline(always)]
fn upto(body: &[u8], end: usize) -> &[u8] {
    body.get(..end).unwrap_or_default()
}

/// Checks every field of the message `body[begin..]` and tells `inner` those of wire type 2.
#[inline(always)]
fn messages<F>(body: &[u8], begin: usize, level: Level, mut inner: F) -> Result<(), NotProtobuf>
where
    F: FnMut(u32, Extent) -> Result<(), NotProtobuf>,
{
    let mut at = begin;
    while at < body.len() {
        let here = |fault| NotProtobuf { fault, level, offset: at };
        let (number, kind, next) = wire::tag(body, at).map_err(here)?;
        at = if kind == wire_type::LEN {
            let (begin, end) = wire::length(body, next).map_err(here)?;
            inner(number, Extent { length: next, begin, end })?;
            end
        } else {
            other_field(body, number, kind, next).map_err(here)?
        };
    }
    Ok(())
}

/// The offset behind a field that is not of wire type 2.
fn other_field(body: &[u8], number: u32, kind: u8, next: usize) -> Result<usize, Fault> {
    let end = match kind {
        wire_type::VARINT => return wire::varint(body, next).map(|(_, end)| end),
        wire_type::GROUP_START => return wire::group(body, next, number),
        wire_type::FIXED64 => next + 8,
        wire_type::FIXED32 => next + 4,
        wire_type::GROUP_END => return Err(Fault::GroupEnd),
        _ => return Err(Fault::WireType),
    };
    if end <= body.len() { Ok(end) } else { Err(Fault::PastEnd) }
}

/// The first eight bytes of nearly every attribute, as a little-endian word: tag and length of the attribute, tag and
/// length of its key, four bytes of the key. Both lengths are of one byte where their top bit is clear.
const SHORT_ATTRIBUTE: u64 = SPAN_ATTRIBUTE_TAG as u64 | (attribute::KEY_TAG as u64) << 16;
const SHORT_ATTRIBUTE_MASK: u64 = 0x80ff_80ff;

/// Bit i: a field with tag i, of wire type 2, holds nothing that is looked at: ids, names, states, links, status.
const OPAQUE_TAGS: u128 = 1 << 0x0a | 1 << 0x12 | 1 << 0x1a | 1 << 0x22 | 1 << 0x2a | 1 << 0x6a | 1 << 0x7a;

/// Checks a span that begins at `begin` of the request.
///
/// The fields that nearly every span is made of are told by their first eight bytes, or two; whatever looks different in any way
/// goes through [`any_field`], which alone decides what is refused.
fn span(span: &[u8], begin: usize, wanted: Wanted<'_>) -> Result<SpanFacts, NotProtobuf> {
    let mut facts = SpanFacts::default();
    let mut rest = span;
    while !rest.is_empty() {
        if let Some(behind) = common_field(rest, wanted, &mut facts) {
            rest = behind;
        } else {
            let at = span.len() - rest.len();
            let end =
                any_field(span, at, wanted, &mut facts).map_err(|fault| NotProtobuf { fault, level: Level::Span, offset: begin + at })?;
            rest = span.get(end..).unwrap_or_default();
        }
    }
    Ok(facts)
}

/// What lies behind a field of a common form; `None`: not of a common form, or not whole.
#[inline(always)]
fn common_field<'a>(rest: &'a [u8], wanted: Wanted<'_>, facts: &mut SpanFacts) -> Option<&'a [u8]> {
    let Some(bytes) = rest.first_chunk::<8>() else { return short_field(rest) };
    let [tag, len, _, key_len, ..] = *bytes;
    let word = u64::from_le_bytes(*bytes);
    if word & SHORT_ATTRIBUTE_MASK == SHORT_ATTRIBUTE {
        let (field, behind) = rest.split_at_checked(2 + usize::from(len))?;
        // What stands behind the key must be a value that ends with the attribute: then there is no second key.
        let plain = u16::from_le_bytes([attribute::VALUE_TAG, len.wrapping_sub(key_len).wrapping_sub(4)]);
        let behind_key = field.get(4 + usize::from(key_len)..).and_then(<[u8]>::first_chunk).map(|two| u16::from_le_bytes(*two));
        let looks_like_ours = word >> 32 == u64::from(u32::from_le_bytes(*b"stal"));
        if behind_key != Some(plain) || looks_like_ours || wanted.thread_attribute.is_some() {
            look_at_attribute(field.get(2..).unwrap_or_default(), wanted, facts);
        }
        return Some(behind);
    }
    if tag == SPAN_START_TAG || tag == SPAN_END_TAG {
        let (field, behind) = rest.split_first_chunk::<9>()?;
        let [_, time @ ..] = *field;
        let slot = if tag == SPAN_START_TAG { &mut facts.start } else { &mut facts.end };
        *slot = u64::from_le_bytes(time);
        return Some(behind);
    }
    short_field(rest)
}

/// The same of fields that nothing is read of: opaque ones, numbers of one byte, flags.
#[inline(always)]
fn short_field(rest: &[u8]) -> Option<&[u8]> {
    let (&[tag, value], behind) = rest.split_first_chunk()?;
    if tag < 0x80 && value < 0x80 {
        if OPAQUE_TAGS >> tag & 1 == 1 {
            return behind.get(usize::from(value)..);
        }
        return (tag >= 8 && tag & 7 == wire_type::VARINT).then_some(behind);
    }
    if [tag, value] == FLAGS_TAG { behind.get(4..) } else { None }
}

#[inline(never)]
fn look_at_attribute(key_value: &[u8], wanted: Wanted<'_>, facts: &mut SpanFacts) {
    facts.carries_ours |= attribute::is_ours(key_value);
    if let Some(key) = wanted.thread_attribute {
        facts.thread = facts.thread.or_else(|| attribute::thread_id(key_value, key));
    }
}

/// Checks the field of a span at `at`, whatever it is, and returns the offset behind it.
#[inline(never)]
fn any_field(span: &[u8], at: usize, wanted: Wanted<'_>, facts: &mut SpanFacts) -> Result<usize, Fault> {
    let (number, kind, next) = wire::tag(span, at)?;
    if kind == wire_type::LEN {
        let (begin, end) = wire::length(span, next)?;
        if number == SPAN_ATTRIBUTE {
            look_at_attribute(span.get(begin..end).unwrap_or_default(), wanted, facts);
        } else if number == SPAN_EVENT {
            facts.carries_ours |= attribute::is_our_event(span.get(begin..end).unwrap_or_default());
        }
        return Ok(end);
    }
    if kind == wire_type::FIXED64 {
        let time = wire::fixed64(span, next).ok_or(Fault::PastEnd)?;
        if number == SPAN_START {
            facts.start = time;
        } else if number == SPAN_END {
            facts.end = time;
        }
        return Ok(next + 8);
    }
    other_field(span, number, kind, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// A span with this attribute among other fields, as seen by the walker.
    fn carries_ours(key_value: &[u8]) -> bool {
        let mut bytes = b"\x0a\x02id\x39\x01\0\0\0\0\0\0\0".to_vec();
        wire::push_len(&mut bytes, SPAN_ATTRIBUTE, key_value);
        bytes.extend(b"\x41\x02\0\0\0\0\0\0\0\x7a\x00\x85\x01\x01\0\0\0");
        let facts = span(&bytes, 0, Wanted::default()).unwrap();
        assert_eq!((facts.start, facts.end), (1, 2), "{key_value:02x?}");
        facts.carries_ours
    }

    fn key_then_value(key: &str, value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::push_len(&mut bytes, 1, key.as_bytes());
        wire::push_len(&mut bytes, 2, &vec![0x7a; value]);
        bytes
    }

    #[test]
    fn lengths_of_two_bytes_are_not_taken_for_short_ones() {
        for value in (0..300).chain(1_200..1_500) {
            assert!(!carries_ours(&key_then_value("http.method", value)), "{value}");
            assert!(carries_ours(&key_then_value("stallspan.delay.cpu", value)), "{value}");
            assert!(!carries_ours(&key_then_value("stallspan.mine", value)), "{value}");
        }
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        let key = select(&["stallspan.delay.cpu", "stallspan.scope", "stallspan.x", "stall", "http.method", ""][..]);
        let key = key.prop_map(|key| key_then_value(key, 0).split_at(2 + key.len()).0.to_vec());
        let value = (0_usize..140).prop_map(|value| key_then_value("", value).split_off(2));
        prop_oneof![3 => key, 3 => value, 1 => proptest::collection::vec(any::<u8>(), 0..3)]
    }

    /// Field by field through [`any_field`] alone.
    fn slowly(span: &[u8]) -> Result<SpanFacts, (Fault, usize)> {
        let (mut facts, mut at) = (SpanFacts::default(), 0);
        while at < span.len() {
            at = any_field(span, at, Wanted::default(), &mut facts).map_err(|fault| (fault, at))?;
        }
        Ok(facts)
    }

    /// A field such as spans have, or nearly.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let tag = (1..18_u32, select(&[0_u8, 1, 2, 2, 5][..]));
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            (0_u8..140).prop_map(|len| [vec![len], vec![0x7a; len.into()]].concat())
        ];
        let fixed = |kind: u8, mut value: Vec<u8>| {
            let size = match kind {
                wire_type::FIXED64 => 8,
                wire_type::FIXED32 => 4,
                _ => return value,
            };
            value.resize(size, 7);
            value
        };
        (tag, value).prop_map(move |((number, kind), value)| {
            let mut bytes = Vec::new();
            wire::push_tag(&mut bytes, number, kind);
            bytes.extend(fixed(kind, value));
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_quick_way_through_a_span_finds_what_the_slow_one_does(fields in prop::collection::vec(field(), 0..8), cut in 0_usize..40) {
            let mut bytes = fields.concat();
            bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(20)));
            let quick = span(&bytes, 0, Wanted::default()).map_err(|fault| (fault.fault, fault.offset));
            prop_assert_eq!(quick, slowly(&bytes), "{:02x?}", bytes);
        }

        #[test]
        fn the_quick_look_at_an_attribute_is_as_good_as_the_slow_one(parts in proptest::collection::vec(part(), 0..4)) {
            let key_value = parts.concat();
            prop_assert_eq!(carries_ours(&key_value), attribute::key(&key_value).is_some_and(crate::otlp::names::is_own_span_key));
        }
    }
}
