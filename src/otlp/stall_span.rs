//! A single wait as a span of its own, a child of the span that waited, as bytes.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use super::attribute::{SPAN_ATTRIBUTE_TAG, push_double, push_text};
use super::names;
use super::wire::{self, Fields, Value, wire_type};

const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const TRACE_STATE: u32 = 3;
const PARENT_SPAN_ID: u32 = 4;
const NAME: u32 = 5;
const KIND: u32 = 6;
const START: u32 = 7;
const END: u32 = 8;
/// `SPAN_KIND_INTERNAL`
const INTERNAL: u64 = 1;

/// `ScopeSpans.scope`, `ScopeSpans.spans`.
const SCOPE: u32 = 1;
const SPANS: u32 = 2;
/// `InstrumentationScope.name`, `.version`.
const SCOPE_NAME: u32 = 1;
const SCOPE_VERSION: u32 = 2;

/// Tag of `ResourceSpans.scope_spans`.
pub const SCOPE_SPANS_TAG: u8 = 2 << 3 | wire_type::LEN;

/// The ids of a span that others can be children of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
}

impl<'a> Parent<'a> {
    /// `None` where a span has no valid ids (16 and 8 bytes, not all zero), or does not parse.
    #[must_use]
    pub fn of(span: &'a [u8]) -> Option<Self> {
        let mut parent = Self { trace_id: &[], span_id: &[], trace_state: &[] };
        for field in Fields::of(span) {
            let field = field.ok()?;
            let Value::Len(payload) = field.value else { continue };
            match field.number {
                TRACE_ID => parent.trace_id = payload,
                SPAN_ID => parent.span_id = payload,
                TRACE_STATE => parent.trace_state = payload,
                _ => {}
            }
        }
        let valid = |id: &[u8], len: usize| id.len() == len && id.iter().any(|byte| *byte != 0);
        (valid(parent.trace_id, 16) && valid(parent.span_id, 8)).then_some(parent)
    }
}

/// One wait, as it becomes a span.
#[derive(Clone, Copy, Debug)]
pub struct StallSpan<'a> {
    /// What was waited for, the span's name: a word of `stallspan.delay.type`.
    pub kind: &'static str,
    /// Begin and end, unix nanoseconds.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Length of the part of the wait inside the parent, seconds.
    pub seconds: f64,
    /// Who ran meanwhile, where known.
    pub culprit: Option<&'a str>,
    /// `stallspan.scope` of the parent.
    pub scope: &'static str,
    /// When the wait began on the kernel's clock, and the host's id of the thread: with the parent's ids, what makes the span's.
    pub began: u64,
    /// See `began`.
    pub tid: u32,
}

impl StallSpan<'_> {
    /// The same wait of the same span has the same id whenever it is told, so that a retry makes no second one.
    #[must_use]
    pub fn id(&self, parent: &Parent<'_>) -> [u8; 8] {
        let mut hash = Fnv::new();
        hash.add(parent.trace_id);
        hash.add(parent.span_id);
        hash.add(&self.began.to_le_bytes());
        hash.add(&self.tid.to_le_bytes());
        hash.add(self.kind.as_bytes());
        // An id of zeros is none (W3C trace context).
        hash.mixed().max(1).to_be_bytes()
    }

    /// Appends the span as a field of a `ScopeSpans`. `scratch` is any buffer; it is cleared.
    pub fn push(&self, out: &mut Vec<u8>, scratch: &mut Vec<u8>, parent: &Parent<'_>) {
        scratch.clear();
        wire::push_len(scratch, TRACE_ID, parent.trace_id);
        wire::push_len(scratch, SPAN_ID, &self.id(parent));
        if !parent.trace_state.is_empty() {
            wire::push_len(scratch, TRACE_STATE, parent.trace_state);
        }
        wire::push_len(scratch, PARENT_SPAN_ID, parent.span_id);
        wire::push_len(scratch, NAME, self.kind.as_bytes());
        wire::push_tag(scratch, KIND, wire_type::VARINT);
        wire::push_varint(scratch, INTERNAL);
        for (number, time) in [(START, self.start), (END, self.end)] {
            wire::push_tag(scratch, number, wire_type::FIXED64);
            scratch.extend_from_slice(&time.to_le_bytes());
        }
        push_text(scratch, SPAN_ATTRIBUTE_TAG, names::SCOPE.key, self.scope);
        push_text(scratch, SPAN_ATTRIBUTE_TAG, names::EVENT_DELAY_TYPE.key, self.kind);
        push_double(scratch, SPAN_ATTRIBUTE_TAG, names::EVENT_DURATION.key, self.seconds);
        if let Some(culprit) = self.culprit {
            push_text(scratch, SPAN_ATTRIBUTE_TAG, names::EVENT_CULPRIT.key, culprit);
        }
        wire::push_len(out, SPANS, scratch);
    }
}

/// Appends the `scope` of the `ScopeSpans` that holds these spans.
pub fn push_scope(out: &mut Vec<u8>) {
    let mut scope = Vec::with_capacity(32);
    wire::push_len(&mut scope, SCOPE_NAME, names::STALL_SPAN_SCOPE.as_bytes());
    wire::push_len(&mut scope, SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
    wire::push_len(out, SCOPE, &scope);
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same on every machine and in every version.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// With every bit depending on every other (the finalizer of SplitMix64): ids are sampled and sharded by their bits.
    const fn mixed(&self) -> u64 {
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
    use prost::Message;
    use std::collections::HashSet;

    fn parent_bytes(trace_id: &[u8], span_id: &[u8]) -> Vec<u8> {
        let span = Span { trace_id: trace_id.to_vec(), span_id: span_id.to_vec(), trace_state: "ot=th:8".to_owned(), ..Span::default() };
        span.encode_to_vec()
    }

    const WAIT: StallSpan<'_> =
        StallSpan { kind: "cpu", start: 5, end: 9, seconds: 4e-9, culprit: Some("ns/pod/app"), scope: "thread", began: 3, tid: 7 };

    #[test]
    fn only_a_span_with_valid_ids_has_children() {
        let check = |trace_id: &[u8], span_id: &[u8], expected: bool| {
            assert_eq!(Parent::of(&parent_bytes(trace_id, span_id)).is_some(), expected, "{trace_id:?} {span_id:?}");
        };
        check(&[1; 16], &[1; 8], true);
        check(&[0; 16], &[1; 8], false);
        check(&[1; 16], &[0; 8], false);
        check(&[1; 15], &[1; 8], false);
        check(&[1; 16], &[1; 9], false);
        check(&[], &[], false);
        assert_eq!(Parent::of(b"\x0a"), None);
    }

    #[test]
    fn another_implementation_reads_the_child() {
        let bytes = parent_bytes(&[1; 16], &[2; 8]);
        let parent = Parent::of(&bytes).unwrap();
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        push_scope(&mut out);
        WAIT.push(&mut out, &mut scratch, &parent);
        let scope = ScopeSpans::decode(out.as_slice()).unwrap();
        assert_eq!(scope.scope.unwrap().name, "stallspan");
        let child = &scope.spans[0];
        assert_eq!((child.trace_id.as_slice(), child.parent_span_id.as_slice()), (&[1; 16][..], &[2; 8][..]));
        assert_eq!((child.name.as_str(), child.kind, child.trace_state.as_str()), ("cpu", 1, "ot=th:8"));
        assert_eq!((child.start_time_unix_nano, child.end_time_unix_nano, child.attributes.len()), (5, 9, 4));
        assert_eq!(child.span_id, WAIT.id(&parent));
    }

    /// Pinned: another value here makes doubles of every stall span told by two versions of the agent.
    #[test]
    fn an_id_stays_and_tells_waits_apart() {
        let bytes = parent_bytes(&[1; 16], &[2; 8]);
        let other = parent_bytes(&[1; 16], &[3; 8]);
        let parent = Parent::of(&bytes).unwrap();
        let longer = StallSpan { end: 90, seconds: 1.0, culprit: None, ..WAIT };
        assert_eq!(WAIT.id(&parent), longer.id(&parent), "a wait told before it ended");
        let ids: HashSet<[u8; 8]> = [
            WAIT.id(&parent),
            WAIT.id(&Parent::of(&other).unwrap()),
            StallSpan { began: 4, ..WAIT }.id(&parent),
            StallSpan { tid: 8, ..WAIT }.id(&parent),
            StallSpan { kind: "reclaim", ..WAIT }.id(&parent),
        ]
        .into();
        assert_eq!(ids.len(), 5);
    }
}
