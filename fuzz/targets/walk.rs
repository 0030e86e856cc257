//! The walker of trace requests, against a second reader that shares no code with it.

use std::hint::black_box;

use stallspan::otlp::walk::{self, Extent, SpanFacts, Visitor, Wanted};
use stallspan::otlp::{attribute, count};

use super::oracle;

/// Anything: what the walker accepts the other reader accepts, and the other way round; spans lie where they are said to lie.
pub fn walk(data: &[u8]) {
    let mut seen = Seen { body: data, spans: 0, behind: 0, inside: Vec::new() };
    let accepted = walk::request(data, Wanted { thread_attribute: Some("thread.id") }, &mut seen).is_ok();
    assert_eq!(accepted, oracle::accepts(data));
    black_box(count::records(data));
    if accepted {
        assert_eq!(seen.spans, spans(data), "spans");
    }
    // An attribute by itself.
    black_box((attribute::key(data), attribute::claim_value(data), attribute::thread_id(data, "thread.id")));
    black_box((attribute::is_ours(data), attribute::is_our_event(data)));
}

/// Spans of an accepted request, by the other reader.
fn spans(data: &[u8]) -> usize {
    let inner = |message: &[u8], number: u64| -> Vec<Vec<u8>> {
        oracle::fields(message).unwrap().iter().filter_map(|raw| raw.message(number)).map(<[u8]>::to_vec).collect()
    };
    let groups = inner(data, 1);
    let scopes = groups.iter().flat_map(|group| inner(group, 2));
    scopes.map(|scope| inner(&scope, 2).len()).sum()
}

struct Seen<'a> {
    body: &'a [u8],
    spans: usize,
    /// End of the last span: they come in wire order.
    behind: usize,
    /// The group and the scope being walked.
    inside: Vec<Extent>,
}

impl Seen<'_> {
    fn check(&mut self, extent: Extent) {
        assert!(extent.length < extent.begin && extent.begin <= extent.end && extent.end <= self.body.len(), "{extent:?}");
        if let Some(around) = self.inside.last() {
            assert!(extent.length >= around.begin && extent.end <= around.end, "{extent:?} is not inside {around:?}");
        }
    }
}

impl Visitor for Seen<'_> {
    fn resource_spans(&mut self, extent: Extent) {
        self.inside.clear();
        self.check(extent);
        self.inside.push(extent);
    }

    fn resource(&mut self, extent: Extent) {
        self.inside.truncate(1);
        self.check(extent);
    }

    fn resource_attribute(&mut self, key_value: &[u8]) {
        black_box((attribute::key(key_value), attribute::claim_value(key_value)));
    }

    fn scope_spans(&mut self, extent: Extent) {
        self.inside.truncate(1);
        self.check(extent);
        self.inside.push(extent);
    }

    fn span(&mut self, extent: Extent, facts: SpanFacts) {
        self.check(extent);
        assert!(extent.length >= self.behind, "{extent:?} comes before the end of the last span");
        self.behind = extent.end;
        self.spans += 1;
        let span = oracle::fields(&self.body[extent.begin..extent.end]).unwrap();
        assert_eq!((facts.start, facts.end), oracle::times(&span), "times");
        assert_eq!(facts.carries_ours, span.iter().any(oracle::is_ours), "ours");
    }

    fn resource_spans_end(&mut self) {
        self.inside.clear();
    }
}
