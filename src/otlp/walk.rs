//! Walks a trace request over its wire bytes: checks what contract §5 says must parse, and tells a [`Visitor`] where
//! things lie. Nothing is decoded into structs, nothing is allocated, every byte is looked at a bounded number of times.
//!
//! What must parse: request, `ResourceSpans`, `Resource`, `ScopeSpans` and `Span`, each field of them. What these fields
//! hold (attributes, events, links, status, unknown messages) passes as it came. A known number with another wire type is
//! just an unknown field.

use super::attribute::{self, SPAN_ATTRIBUTE, SPAN_ATTRIBUTE_TAG, SPAN_EVENT, SPAN_EVENT_TAG};
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

/// Walks a whole request.
pub fn request<V: Visitor>(body: &[u8], wanted: Wanted<'_>, visitor: &mut V) -> Result<(), NotProtobuf> {
    messages(body, 0, Level::Request, |number, extent| {
        if number == RESOURCE_SPANS {
            visitor.resource_spans(extent);
            resource_spans(upto(body, extent.end), extent.begin, wanted, visitor)?;
            visitor.resource_spans_end();
        }
        Ok(())
    })
}

fn resource_spans<V: Visitor>(body: &[u8], begin: usize, wanted: Wanted<'_>, visitor: &mut V) -> Result<(), NotProtobuf> {
    messages(body, begin, Level::ResourceSpans, |number, extent| {
        let inner = upto(body, extent.end);
        match number {
            RESOURCE => {
                visitor.resource(extent);
                messages(inner, extent.begin, Level::Resource, |number, attribute| {
                    if number == RESOURCE_ATTRIBUTES {
                        visitor.resource_attribute(inner.get(attribute.begin..attribute.end).unwrap_or_default());
                    }
                    Ok(())
                })
            }
            SCOPE_SPANS => {
                visitor.scope_spans(extent);
                messages(inner, extent.begin, Level::ScopeSpans, |number, extent| {
                    if number == SPANS {
                        let facts = span(upto(inner, extent.end), extent.begin, wanted)?;
                        visitor.span(extent, facts);
                    }
                    Ok(())
                })
            }
            _ => Ok(()),
        }
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

/// Checks the span `body[begin..]`.
fn span(body: &[u8], begin: usize, wanted: Wanted<'_>) -> Result<SpanFacts, NotProtobuf> {
    let mut facts = SpanFacts::default();
    let mut at = begin;
    while let Some(&first) = body.get(at) {
        let here = |fault| NotProtobuf { fault, level: Level::Span, offset: at };
        let (number, kind, next) = wire::tag(body, at).map_err(here)?;
        at = if kind == wire_type::LEN {
            let (begin, end) = wire::length(body, next).map_err(here)?;
            // Tags need not be minimal, so the number decides; for a one-byte tag this is one comparison.
            if first == SPAN_ATTRIBUTE_TAG || (first >= 0x80 && number == SPAN_ATTRIBUTE) {
                let payload = body.get(begin..end).unwrap_or_default();
                facts.carries_ours |= attribute::is_ours(payload);
                if let Some(key) = wanted.thread_attribute {
                    facts.thread = facts.thread.or_else(|| attribute::thread_id(payload, key));
                }
            } else if first == SPAN_EVENT_TAG || (first >= 0x80 && number == SPAN_EVENT) {
                facts.carries_ours |= attribute::is_our_event(body.get(begin..end).unwrap_or_default());
            }
            end
        } else {
            if kind == wire_type::FIXED64 && (number == SPAN_START || number == SPAN_END) {
                let time = wire::fixed64(body, next).ok_or(here(Fault::PastEnd))?;
                if number == SPAN_START { facts.start = time } else { facts.end = time }
            }
            other_field(body, number, kind, next).map_err(here)?
        };
    }
    Ok(facts)
}
