//! What enrichment asks of the allocator does not depend on how many spans a request has: nothing is allocated for a span.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stdout, reason = "a test: a panic is how it fails")]

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
use stallspan::enrich::{self, EventSettings, Look, NodeView, Seen, Settings};
use stallspan::history::{self, Store};
use stallspan::model::{
    Claims, ContainerKey, CulpritKey, DelayKind, EventFields, Evidence, Match, Mono, Peer, Reading, Scope, Subject, Totals, Wait, Wall,
    Window,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

const MS: u64 = 1_000_000;
const BASE: u64 = 1_790_000_000_000_000_000;

fn container(key: u64) -> Subject {
    Subject::Container(ContainerKey(key))
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A node that knows everybody, with a real history.
struct Node {
    store: Store,
    subjects: Vec<Subject>,
}

impl NodeView for Node {
    fn identify(&self, _: &Claims) -> Option<Match> {
        Some(Match { scope: Scope::Container, subjects: self.subjects.clone(), container: None, pod_of: None, process: None, mesh: None })
    }

    fn window(&self, target: &Match, start: Wall, end: Wall, _: Option<u32>) -> Window {
        self.store.window_of(&target.subjects, start, end)
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.store.to_wall(instant).unwrap()
    }

    fn look_at(&self, target: &Match, work: &mut dyn FnMut(&mut dyn Look)) {
        work(&mut AtHand(self.store.look(&target.subjects)));
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
fn read(store: &mut Store, subject: Subject) {
    for tenth in 1..1200_u64 {
        let mut totals = Totals { throttled_ns: Some(tenth), run_ns: Some(tenth * MS), ..Totals::default() };
        totals.delay_ns.set(DelayKind::Cpu, Some(tenth * 10 * MS));
        totals.delay_ns.set(DelayKind::BlockIo, Some(tenth / 7 * MS));
        let at = Mono(tenth * 100 * MS);
        store.observe_clock(at, Wall(BASE + at.0));
        store.record(Reading { subject, at, totals, evidence: Evidence::Taskstats, tasks: 4, uncounted: 0, blur_ns: 0 });
    }
}

fn store(subjects: &[Subject]) -> Store {
    let settings = history::Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory: 64 << 20 };
    let mut store = Store::new(settings);
    subjects.iter().for_each(|subject| read(&mut store, *subject));
    store
}

/// What is known from readings alone.
fn polled() -> Node {
    let subjects = vec![container(1)];
    Node { store: store(&subjects), subjects }
}

/// Of each of so many containers every wait is known: three in every 20 ms, with a culprit who has a name.
fn seen(containers: u64) -> Node {
    let subjects: Vec<Subject> = (1..=containers).map(container).collect();
    let mut store = store(&subjects);
    let fields = EventFields { throttled: true, culprits: true, memory: true, some_subjects: false };
    store.events_begin(Mono(0), fields);
    store.culprit_name(CulpritKey(7), "batch/crunch/burner", None);
    for (index, subject) in (0_u32..).zip(&subjects) {
        store.culprit_name(CulpritKey(100 + index), "shop/cart/app", Some(*subject));
        for number in 0..18_000 {
            let begin = number * 20 / 3 * MS;
            let mut wait = Wait::new(40 + index, DelayKind::Cpu, Mono(begin), Mono(begin + 3 * MS));
            wait.blame(CulpritKey(7), 2 * MS);
            store.record_wait(&[*subject], wait);
        }
    }
    store.events_until(Mono(120_000 * MS));
    Node { store, subjects }
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

/// How often the allocator is asked for the enrichment of a request of so many spans, and how many bytes that added.
fn allocations(node: &Node, spans: u64) -> (usize, usize) {
    let stalls = EventSettings { min_wait_ns: MS, max_per_span: 8 };
    let settings = Settings {
        claim_names: vec!["container.id".to_owned()],
        thread_attribute: None,
        events: Some(stalls),
        stall_spans: Some(stalls),
        verdict: Box::new(diagnose::verdict),
        best_evidence: Evidence::Taskstats,
        resolution_ns: 100 * MS,
        max_added: Settings::MAX_ADDED,
    };
    let body = request(spans);
    let length = body.len();
    let asked = Region::new(ALLOCATOR);
    let scan = enrich::scan(body, Peer::default(), &settings).unwrap();
    let enriched = enrich::apply(&scan, &scan.identify(node), node, &settings);
    let asked = asked.change();
    assert_eq!((enriched.spans, enriched.enriched), (spans, spans));
    (asked.allocations + asked.reallocations, enriched.body.len() - length)
}

#[test]
fn nothing_is_allocated_for_a_span() {
    // Lists of spans and of stall spans double now and then, and so may the output.
    let doublings = 24;
    for (name, node, added_to_each) in [("readings", polled(), 200), ("a container", seen(1), 1_000), ("a pod", seen(3), 1_000)] {
        let ((few, _), (many, added)) = (allocations(&node, 10), allocations(&node, 5_000));
        println!("{name}: {few} allocations for 10 spans, {many} for 5 000, which grew by {added} bytes");
        assert!(few < 80 && many <= few + doublings, "{name}: {few} for 10 spans, {many} for 5 000");
        assert!(added > 5_000 * added_to_each, "{name}: {added} bytes added");
    }
}
