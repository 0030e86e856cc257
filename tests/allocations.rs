//! What enrichment asks of the allocator does not depend on how many spans a request has: nothing is allocated for a span.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test: a panic is how it fails")]

use std::alloc::System;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use stallspan::diagnose;
use stallspan::enrich::{self, Look, NodeView, Seen, Settings};
use stallspan::history::{self, Store};
use stallspan::model::{Claims, ContainerKey, DelayKind, Evidence, Match, Mono, Peer, Reading, Scope, Subject, Totals, Wall, Window};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

const MS: u64 = 1_000_000;
const BASE: u64 = 1_790_000_000_000_000_000;
const SUBJECT: Subject = Subject::Container(ContainerKey(1));

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A node that knows everybody, with a real history.
struct Node(Store);

impl NodeView for Node {
    fn identify(&self, _: &Claims) -> Option<Match> {
        Some(Match { scope: Scope::Container, subjects: vec![SUBJECT], container: None, pod_of: None, process: None, mesh: None })
    }

    fn window(&self, target: &Match, start: Wall, end: Wall, _: Option<u32>) -> Window {
        self.0.window_of(&target.subjects, start, end)
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.0.to_wall(instant).unwrap()
    }

    fn look_at(&self, target: &Match, work: &mut dyn FnMut(&mut dyn Look)) {
        work(&mut AtHand(self.0.look(&target.subjects)));
    }
}

struct AtHand<'s>(history::Look<'s>);

impl Look for AtHand<'_> {
    fn seen(&mut self, seen: &mut Seen, start: Wall, end: Wall) {
        self.0.window(&mut seen.window, start, end);
    }

    fn mesh(&self, _: Wall, _: Wall) -> enrich::MeshDelay {
        enrich::MeshDelay::default()
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.0.wall(instant).unwrap()
    }
}

/// Readings of two minutes, ten a second, with a CPU wait that grows.
fn node() -> Node {
    let mut store =
        Store::new(history::Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory: 8 << 20 });
    for tenth in 1..1200_u64 {
        let mut totals = Totals { throttled_ns: Some(tenth), run_ns: Some(tenth * MS), ..Totals::default() };
        totals.delay_ns.set(DelayKind::Cpu, Some(tenth * 10 * MS));
        totals.delay_ns.set(DelayKind::BlockIo, Some(tenth / 7 * MS));
        let at = Mono(tenth * 100 * MS);
        store.observe_clock(at, Wall(BASE + at.0));
        store.record(Reading { subject: SUBJECT, at, totals, evidence: Evidence::Taskstats, tasks: 4, uncounted: 0, blur_ns: 0 });
    }
    Node(store)
}

fn request(spans: u64) -> Bytes {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    let span = |number: u64| Span {
        trace_id: vec![7; 16],
        span_id: number.to_be_bytes().to_vec(),
        name: "GET /".to_owned(),
        start_time_unix_nano: BASE + 1_000 * MS + number % 100_000 * MS,
        end_time_unix_nano: BASE + 1_020 * MS + number % 100_000 * MS,
        attributes: vec![text("http.request.method", "GET"), text("url.path", "/")],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: vec![text("container.id", "abc")], ..Resource::default() });
    let group = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec().into()
}

/// How often the allocator is asked for the enrichment of a request of so many spans.
fn allocations(node: &Node, spans: u64) -> usize {
    let settings = Settings {
        claim_names: vec!["container.id".to_owned()],
        thread_attribute: None,
        events: None,
        stall_spans: None,
        verdict: Box::new(diagnose::verdict),
        best_evidence: Evidence::Taskstats,
        resolution_ns: 100 * MS,
        max_added: Settings::MAX_ADDED,
    };
    let body = request(spans);
    let asked = Region::new(ALLOCATOR);
    let scan = enrich::scan(body, Peer::default(), &settings).unwrap();
    let enriched = enrich::apply(&scan, &scan.identify(node), node, &settings);
    let asked = asked.change();
    assert_eq!((enriched.spans, enriched.enriched), (spans, spans));
    asked.allocations + asked.reallocations
}

#[test]
fn nothing_is_allocated_for_a_span() {
    let node = node();
    let (few, many) = (allocations(&node, 10), allocations(&node, 10_000));
    // The list of spans doubles now and then, and so may the output.
    let doublings = 12;
    assert!(few < 60 && many <= few + doublings, "{few} for 10 spans, {many} for 10 000");
}
