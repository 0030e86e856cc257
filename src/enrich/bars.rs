//! The stall spans of one `ResourceSpans`, gathered while its spans are written and put behind them in a `ScopeSpans` of
//! their own: they are not the work of any of the sender's instrumentation.

use crate::otlp::splice::Splice;
use crate::otlp::stall_span::{Parent, SCOPE_SPANS_TAG, StallSpan, push_scope};

/// Stall spans, as the inside of a `ScopeSpans`.
#[derive(Debug, Default)]
pub(super) struct Bars {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

/// How far they had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

/// Tag and length of the `ScopeSpans`.
const HEAD: usize = 6;

impl Bars {
    pub(super) fn push(&mut self, span: &StallSpan<'_>, parent: &Parent<'_>) {
        if self.bytes.is_empty() {
            push_scope(&mut self.bytes);
        }
        span.push(&mut self.bytes, &mut self.scratch, parent);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.bytes.len())
    }

    /// Bytes that what came since adds to the request.
    pub(super) fn grown(&self, since: Mark) -> usize {
        let head = if since.0 == 0 && !self.bytes.is_empty() { HEAD } else { 0 };
        self.bytes.len().saturating_sub(since.0) + head
    }

    /// Takes back what came since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.0);
    }

    /// Writes them as one more field of the `ResourceSpans` whose last byte is the last written.
    pub(super) fn hand_over(&mut self, splice: &mut Splice<'_>) {
        if self.bytes.is_empty() {
            return;
        }
        splice.insert(&[SCOPE_SPANS_TAG]);
        let open = splice.begin(self.bytes.len());
        splice.insert(&self.bytes);
        splice.close(open);
        self.bytes.clear();
    }
}
