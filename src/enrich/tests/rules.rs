//! Single rules of the contract, each by an example.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;

use super::{Node, settings, target};
use crate::enrich::{Kept, Lent, MeshDelay, NodeView, Settings, Skipped, apply, apply_onto, scan, scan_little, scan_with_pauses};
use crate::model::{ClaimValue, Claims, ContainerKey, DelayKind, Match, Mesh, Mono, Peer, Scope, Subject, Wall, Window};
use crate::otlp::wire::push_len;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

fn kv(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request(container: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Some(Resource { attributes: vec![kv("container.id", container)], ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
}

fn span(start: u64, end: u64) -> Span {
    Span { start_time_unix_nano: start, end_time_unix_nano: end, ..Span::default() }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|kv| kv.key == key)?.value.clone()?.value
}

fn within(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    push_len(&mut message, number, inner);
    message
}

thread_local!(static PAUSES: Cell<usize> = const { Cell::new(0) });

fn pause() {
    PAUSES.set(PAUSES.get() + 1);
}

/// How often `work` paused.
fn pauses<T>(work: impl FnOnce() -> T) -> (usize, T) {
    PAUSES.set(0);
    let done = work();
    (PAUSES.get(), done)
}

#[test]
fn long_work_pauses() {
    let scanned = |body: Vec<u8>| scan_with_pauses(body.into(), Peer::default(), &settings(), pause).unwrap();
    let messages = within(1, &[]).repeat(100_000);
    assert_eq!(pauses(|| scanned(messages)).0, 100_000 / 8_192);
    let spans = request("here", vec![span(1, 2); 10_000]).encode_to_vec();
    let (paused, scan) = pauses(|| scanned(spans));
    assert_eq!(paused, 10_000 / 512 + 10_000 / 8_192);
    let view = Node::new();
    let targets = scan.identify(&view);
    let (paused, enriched) =
        pauses(|| apply_onto(&scan, &targets, &view, &settings(), Lent { kept: &mut Kept::default(), buffer: Vec::with_capacity, pause }));
    assert_eq!((paused, enriched.enriched), (10_000 / 256, 10_000));
}

/// Two bytes may be a message: whoever must not be kept for long goes through so many and no more.
#[test]
fn a_look_at_few_messages_ends_wherever_the_many_are() {
    const MOST: usize = 100;
    let many = |number: u32| within(number, &[]).repeat(MOST);
    let (attributes, scopes, spans) = (within(1, &many(1)), many(2), within(2, &many(2)));
    let whole = request("there", vec![span(1, 2); MOST / 2]).encode_to_vec();
    for (body, little) in
        [(many(1), false), (within(1, &attributes), false), (within(1, &scopes), false), (within(1, &spans), false), (whole, true)]
    {
        let body = Bytes::from(body);
        let at_most = |most| scan_little(most, body.clone(), Peer::default(), &settings()).unwrap();
        assert_eq!(at_most(MOST).is_some(), little);
        let (all, some) = (scan(body.clone(), Peer::default(), &settings()).unwrap(), at_most(2 * MOST).unwrap());
        assert_eq!((all.spans(), all.groups().len()), (some.spans(), some.groups().len()));
    }
    assert!(scan_little(MOST, Bytes::from_static(&[0]), Peer::default(), &settings()).is_err());
}

#[test]
fn a_request_for_nobody_here_is_the_same_bytes_not_a_copy() {
    let body = Bytes::from(request("there", vec![span(1, 2)]).encode_to_vec());
    let scan = scan(body.clone(), Peer::default(), &settings()).unwrap();
    let left = apply(&scan, &scan.identify(&Node::new()), &Node::new(), &settings());
    assert_eq!(left.body.as_ptr(), body.as_ptr());
    assert_eq!((left.spans, left.enriched, left.skipped), (1, 0, Skipped { unmatched: 1, over_limit: 0 }));
}

#[test]
fn an_empty_request_passes() {
    let scan = scan(Bytes::new(), Peer::default(), &settings()).unwrap();
    assert_eq!((scan.spans(), scan.groups().len(), scan.latest_end()), (0, 0, Wall(0)));
    assert!(apply(&scan, &[], &Node::new(), &settings()).body.is_empty());
}

#[test]
fn what_the_wiring_sees_between_the_steps() {
    let mut both = request("here-1", vec![span(1, 20), span(5, 10), span(90, 80), span(0, 99)]);
    both.resource_spans.extend(request("there", vec![span(1, 7)]).resource_spans);
    both.resource_spans.extend(request("empty", vec![]).resource_spans);
    let peer = Peer { pid: Some(7), ..Peer::default() };
    let scan = scan(both.encode_to_vec().into(), peer, &settings()).unwrap();
    let seen: Vec<_> = scan.groups().map(|group| (group.latest_end.0, group.spans, group.claims.peer)).collect();
    assert_eq!(seen, [(20, 4, peer), (7, 1, peer)], "reversed and missing times have no end to wait for");
    assert_eq!((scan.spans(), scan.latest_end()), (5, Wall(20)));
}

fn check_times(start: u64, end: u64, covered: bool) {
    let body = request("here-1", vec![span(start, end)]).encode_to_vec();
    let node = Covered;
    let scan = scan(body.into(), Peer::default(), &settings()).unwrap();
    let left = apply(&scan, &scan.identify(&node), &node, &settings());
    let left = ExportTraceServiceRequest::decode(left.body).unwrap();
    let span = &left.resource_spans[0].scope_spans[0].spans[0];
    let coverage = if covered { 1.0 } else { 0.0 };
    assert_eq!(attribute(span, "stallspan.coverage"), Some(Value::DoubleValue(coverage)), "{start} {end}");
    assert_eq!(attribute(span, "stallspan.delay.cpu").is_some(), covered, "{start} {end}");
    let unknown = attribute(span, "stallspan.verdict") == Some(Value::StringValue("unknown".to_owned()));
    assert_eq!(unknown, !covered, "{start} {end}");
}

/// A node that knows everything about everybody.
struct Covered;

impl NodeView for Covered {
    fn identify(&self, _: &Claims) -> Option<Match> {
        Some(target(Scope::Pod))
    }
    fn window(&self, _: &Match, _: Wall, _: Wall, _: Option<u32>) -> Window {
        let mut window = Window { coverage: 1.0, stalled_ns: Some(u64::MAX), longest_wait_ns: Some(u64::MAX), ..Window::default() };
        window.delay_ns.0[0] = Some(5);
        window
    }
    fn wall(&self, instant: Mono) -> Wall {
        Wall(instant.0)
    }
}

#[test]
fn missing_and_reversed_times_have_no_coverage_and_no_delays() {
    check_times(1, 2, true);
    check_times(5, 5, true);
    check_times(0, 5, false);
    check_times(5, 0, false);
    check_times(0, 0, false);
    check_times(6, 5, false);
    check_times(1, u64::MAX, true);
}

#[test]
fn past_the_limit_spans_go_on_as_they_came() {
    let body = request("here-1", vec![span(1, 2); 100]).encode_to_vec();
    let run = |max_added| {
        let settings = Settings { max_added, ..settings() };
        let scan = scan(body.clone().into(), Peer::default(), &settings).unwrap();
        let left = apply(&scan, &scan.identify(&Covered), &Covered, &settings);
        assert!(left.body.len() <= body.len() + max_added + 16, "{} bytes from {}", left.body.len(), body.len());
        assert_eq!(ExportTraceServiceRequest::decode(left.body).unwrap().resource_spans[0].scope_spans[0].spans.len(), 100);
        assert_eq!(left.enriched + left.skipped.over_limit, 100);
        left.enriched
    };
    assert_eq!(run(0), 0);
    assert_eq!(run(5_000), 0, "by arithmetic alone: 100 spans cannot fit");
    assert!((10..100).contains(&run(16_000)));
    assert_eq!(run(Settings::MAX_ADDED), 100);
}

#[test]
fn more_resources_than_are_enriched_in_one_request_pass() {
    let one = request("here-1", vec![span(1, 2)]).encode_to_vec();
    let body = one.repeat(16_385);
    let scan = scan(body.clone().into(), Peer::default(), &settings()).unwrap();
    let left = apply(&scan, &scan.identify(&Covered), &Covered, &settings());
    assert_eq!((left.enriched, left.skipped.over_limit), (0, 16_385));
    assert_eq!(left.body, body);
}

#[test]
fn a_stack_of_groups_inside_a_span_costs_no_stack() {
    let depth = 100_000;
    let mut span = vec![0x0b; depth];
    span.extend(vec![0x0c; depth]);
    let (mut scope, mut group, mut body) = (Vec::new(), Vec::new(), Vec::new());
    push_len(&mut scope, 2, &span);
    push_len(&mut group, 2, &scope);
    push_len(&mut body, 1, &group);
    let run = move || {
        let scan = scan(body.into(), Peer::default(), &settings()).unwrap();
        apply(&scan, &scan.identify(&Covered), &Covered, &settings()).enriched
    };
    let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(run);
    assert_eq!(thread.unwrap().join().unwrap(), 1);
}

/// What follows the message at fault would, read together with it, parse.
#[test]
fn no_message_reaches_into_its_neighbor() {
    const PAST: &str = "a length reaches past the end of its message";
    for (bytes, level) in [
        (&b"\x0a\x02\x1a\x02\x08\x00"[..], "ResourceSpans"),
        (b"\x0a\x06\x0a\x02\x0a\x02\x08\x00", "Resource"),
        (b"\x0a\x06\x12\x02\x0a\x02\x08\x00", "ScopeSpans"),
        (b"\x0a\x08\x12\x06\x12\x02\x0a\x02\x08\x00", "Span"),
        (b"\x0a\x0c\x12\x0a\x12\x01\x39\x1a\x06\x08\x00\x08\x00\x08\x00", "Span"),
    ] {
        let refused = scan(Bytes::copy_from_slice(bytes), Peer::default(), &settings()).unwrap_err();
        assert_eq!((refused.fault.to_string().as_str(), refused.level.word()), (PAST, level), "{bytes:02x?}");
    }
    let cut = scan(Bytes::from_static(b"\x0a\x0a\x12\x08\x12\x02\x08\x80\x1a\x02\x08\x00"), Peer::default(), &settings()).unwrap_err();
    assert_eq!(cut.fault.to_string(), "a varint is cut off");
}

fn check_refused(bytes: &[u8], expected: &str) {
    let refused = scan(Bytes::copy_from_slice(bytes), Peer::default(), &settings()).unwrap_err();
    assert_eq!(refused.to_string(), expected, "{bytes:02x?}");
}

#[test]
fn a_refusal_says_where() {
    check_refused(b"\x0a", "not protobuf: a varint is cut off (field at byte 0, in ExportTraceServiceRequest)");
    check_refused(b"\x0a\x02\x0a\x05", "not protobuf: a length reaches past the end of its message (field at byte 2, in ResourceSpans)");
    check_refused(b"\x0a\x04\x0a\x02\x00\x00", "not protobuf: a field has the number 0 (field at byte 4, in Resource)");
    check_refused(b"\x0a\x04\x12\x02\x0c\x00", "not protobuf: a group ends that did not begin (field at byte 4, in ScopeSpans)");
    check_refused(
        b"\x0a\x06\x12\x04\x12\x02\x4e\x00",
        "not protobuf: a field has a wire type that does not exist (field at byte 6, in Span)",
    );
    check_refused(b"\x0a\x06\x12\x04\x12\x02\x38\x80", "not protobuf: a varint is cut off (field at byte 6, in Span)");
}

#[test]
fn the_thread_is_told_where_asked_for() {
    struct Thread;
    impl NodeView for Thread {
        fn identify(&self, _: &Claims) -> Option<Match> {
            Some(target(Scope::Process))
        }
        fn window(&self, _: &Match, _: Wall, _: Wall, thread: Option<u32>) -> Window {
            Window { coverage: 1.0, stalled_ns: thread.map(u64::from), ..Window::default() }
        }
        fn wall(&self, instant: Mono) -> Wall {
            Wall(instant.0)
        }
        fn scope(&self, target: &Match, thread: Option<u32>) -> Scope {
            thread.map_or(target.scope, |_| Scope::Thread)
        }
    }
    let mut with_thread = span(1, 1_000_000_000_001);
    with_thread.attributes.push(kv("thread.id", "42"));
    let body = request("x", vec![with_thread, span(1, 2)]).encode_to_vec();
    let settings = Settings { thread_attribute: Some("thread.id".to_owned()), ..settings() };
    let scan = scan(body.into(), Peer::default(), &settings).unwrap();
    let left = apply(&scan, &scan.identify(&Thread), &Thread, &settings);
    let left = ExportTraceServiceRequest::decode(left.body).unwrap();
    let spans = &left.resource_spans[0].scope_spans[0].spans;
    assert_eq!(attribute(&spans[0], "stallspan.scope"), Some(Value::StringValue("thread".to_owned())));
    assert_eq!(attribute(&spans[0], "stallspan.stalled"), Some(Value::DoubleValue(42e-9)));
    assert_eq!(attribute(&spans[1], "stallspan.scope"), Some(Value::StringValue("process".to_owned())));
}

/// A pod with a proxy (container 9) and an application (container 1): whoever waited, waited as many seconds as its number.
struct Meshed;

impl NodeView for Meshed {
    fn identify(&self, _: &Claims) -> Option<Match> {
        let mesh = Mesh { app: vec![subject(1)], proxy: vec![subject(9)], of_proxy: true };
        Some(Match { subjects: vec![subject(9)], mesh: Some(Arc::new(mesh)), ..target(Scope::Container) })
    }

    fn window(&self, target: &Match, _: Wall, _: Wall, _: Option<u32>) -> Window {
        let waited = target.subjects.iter().map(|one| if *one == subject(9) { 9 } else { 1 }).sum::<u64>() * 1_000_000_000;
        let mut window = Window { coverage: 1.0, ..Window::default() };
        window.delay_ns.set(DelayKind::Cpu, Some(waited));
        window
    }

    fn mesh(&self, _: &Match, _: Wall, _: Wall) -> MeshDelay {
        MeshDelay { app_cpu_ns: Some(1_000_000_000), proxy_cpu_ns: Some(9_000_000_000) }
    }

    fn wall(&self, instant: Mono) -> Wall {
        Wall(instant.0)
    }
}

fn subject(number: u64) -> Subject {
    Subject::Container(ContainerKey(number))
}

#[test]
fn a_proxys_spans_are_charged_to_the_side_whose_time_they_were() {
    let of = |kind: i32, direction: &str| Span { kind, attributes: vec![kv("direction", direction)], ..span(1, 20_000_000_000) };
    let body = request("here-1", vec![of(3, "inbound"), of(2, "inbound"), of(2, "outbound"), of(3, "outbound")]).encode_to_vec();
    let scan = scan(body.into(), Peer::default(), &settings()).unwrap();
    let left = apply(&scan, &scan.identify(&Meshed), &Meshed, &settings());
    let left = ExportTraceServiceRequest::decode(left.body).unwrap();
    let text = |value: &str| Some(Value::StringValue(value.to_owned()));
    let told: Vec<_> = left.resource_spans[0].scope_spans[0]
        .spans
        .iter()
        .map(|span| {
            assert_eq!(attribute(span, "stallspan.app.delay.cpu"), Some(Value::DoubleValue(1.0)));
            assert_eq!(attribute(span, "stallspan.proxy.delay.cpu"), Some(Value::DoubleValue(9.0)));
            (attribute(span, "stallspan.delay.cpu"), attribute(span, "stallspan.scope"))
        })
        .collect();
    let seconds = |value: f64| Some(Value::DoubleValue(value));
    assert_eq!(
        told,
        [
            (seconds(1.0), text("container")),
            (seconds(10.0), text("pod")),
            (seconds(9.0), text("container")),
            (seconds(9.0), text("container")),
        ]
    );
}

#[test]
fn the_node_id_on_istios_spans_becomes_claims_about_the_pod() {
    let id = "sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local";
    let mut settings = settings();
    settings.claim_names.extend(["k8s.pod.ip", "k8s.pod.name", "node_id"].map(str::to_owned));
    let with_id = |id: &str| Span { attributes: vec![kv("http.method", "GET"), kv("node_id", id)], ..span(1, 2) };
    let mut body = request("", vec![with_id(id), with_id(id)]);
    body.resource_spans[0].resource = None;
    let scan = scan(body.encode_to_vec().into(), Peer::default(), &settings).unwrap();
    let claims = scan.groups().next().unwrap().claims;
    let text = |name: &str| claims.get(name).cloned();
    let expected = |value: &str| Some(ClaimValue::Text(value.to_owned()));
    assert_eq!((text("k8s.pod.ip"), text("k8s.pod.name"), text("node_id")), (expected("10.0.0.7"), expected("web-0"), expected(id)));
}
