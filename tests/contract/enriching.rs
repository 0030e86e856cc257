//! What is written onto spans, and what is left alone (contract §1).

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{all, bytes, double, double_of, has, int, recent, request, resource_of, span, spans_of, text, text_of};
use crate::downstream::Downstream;
use crate::scene::{Container, container_id, pod_uid};
use crate::sender::{Grpc, TRACES, post};

const DOUBLES: [&str; 17] = [
    "stallspan.delay.cpu",
    "stallspan.delay.throttled",
    "stallspan.delay.block_io",
    "stallspan.delay.swapin",
    "stallspan.delay.reclaim",
    "stallspan.delay.compaction",
    "stallspan.delay.thrashing",
    "stallspan.delay.write_protect_copy",
    "stallspan.delay.irq",
    "stallspan.stalled",
    "stallspan.stall_ratio",
    "stallspan.longest_wait",
    "stallspan.culprit.share",
    "stallspan.app.delay.cpu",
    "stallspan.proxy.delay.cpu",
    "stallspan.coverage",
    "stallspan.resolution",
];
const TEXTS: [&str; 4] = ["stallspan.verdict", "stallspan.culprit.name", "stallspan.scope", "stallspan.source"];
const VERDICTS: [&str; 9] = ["none", "neighbor", "self", "throttled", "cpu", "memory", "block_io", "mixed", "unknown"];

/// Whatever is written onto a span obeys the contract.
pub fn obeys(span: &Span) {
    let ours: Vec<&KeyValue> = span.attributes.iter().filter(|entry| entry.key.starts_with("stallspan.")).collect();
    for entry in &ours {
        assert_eq!(all(&span.attributes, &entry.key).len(), 1, "{} is doubled", entry.key);
        let value = entry.value.as_ref().unwrap().value.as_ref().unwrap();
        match value {
            Value::DoubleValue(value) => {
                assert!(DOUBLES.contains(&entry.key.as_str()), "{} is no double", entry.key);
                assert!(value.is_finite() && *value >= 0.0, "{} is {value}", entry.key);
            }
            Value::StringValue(value) => {
                assert!(TEXTS.contains(&entry.key.as_str()), "{} is no text", entry.key);
                assert!(!value.is_empty());
            }
            other => panic!("{} is {other:?}", entry.key),
        }
    }
    for key in ["stallspan.scope", "stallspan.source", "stallspan.coverage", "stallspan.resolution", "stallspan.verdict"] {
        assert!(has(&span.attributes, key), "{key} is missing: {ours:#?}");
    }
    let duration = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) as f64 / 1e9;
    for key in ["stallspan.coverage", "stallspan.stall_ratio", "stallspan.culprit.share"] {
        assert!(!has(&span.attributes, key) || double_of(&span.attributes, key) <= 1.0, "{key} is over 1");
    }
    for key in ["stallspan.stalled", "stallspan.longest_wait"] {
        assert!(!has(&span.attributes, key) || double_of(&span.attributes, key) <= duration, "{key} is over the duration");
    }
    assert!(VERDICTS.contains(&text_of(&span.attributes, "stallspan.verdict")));
    assert!(["thread", "process", "container", "pod", "node"].contains(&text_of(&span.attributes, "stallspan.scope")));
    assert!(["bpf", "taskstats", "schedstat", "cgroup"].contains(&text_of(&span.attributes, "stallspan.source")));
}

/// Everything about a span that was not put there by the agent.
fn bare(span: &Span) -> Span {
    let mut bare = span.clone();
    bare.attributes.retain(|entry| !DOUBLES.contains(&entry.key.as_str()) && !TEXTS.contains(&entry.key.as_str()));
    bare.events.retain(|event| event.name != "stallspan.stall");
    bare
}

pub fn unknown(span: &Span) {
    obeys(span);
    assert_eq!(double_of(&span.attributes, "stallspan.coverage"), 0.0, "{span:#?}");
    assert_eq!(text_of(&span.attributes, "stallspan.verdict"), "unknown");
    let told = |entry: &&KeyValue| entry.key.starts_with("stallspan.delay.") || entry.key.starts_with("stallspan.culprit.");
    assert_eq!(span.attributes.iter().find(told), None);
    assert!(span.events.iter().all(|event| event.name != "stallspan.stall"));
}

/// Sends a request; as it arrived.
pub async fn passed(agent: &Agent, downstream: &Downstream, request: Vec<u8>) -> ExportTraceServiceRequest {
    let before = downstream.of("traces").len();
    assert_eq!(post(agent.http(), "/v1/traces", request).await.status, 200);
    ExportTraceServiceRequest::decode(downstream.of("traces")[before].body.clone()).unwrap()
}

/// Sends spans of a container in one request; as they arrived.
pub async fn through(agent: &Agent, downstream: &Downstream, id: &str, spans: Vec<Span>) -> Vec<Span> {
    let got = passed(agent, downstream, bytes(vec![text("container.id", id)], spans)).await;
    let got: Vec<Span> = spans_of(&got).into_iter().cloned().collect();
    got.iter().for_each(obeys);
    got
}

/// An agent that has read this container, and what it sends to.
async fn ready_for(id: &str) -> (Downstream, Agent) {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    warmed(&agent, &downstream, id).await;
    (downstream, agent)
}

/// Sends spans of a container until one is covered, so that its readings are known to be taken. Returns the covered span.
pub async fn warmed(agent: &Agent, downstream: &Downstream, id: &str) -> Span {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let sent = span(Duration::from_millis(120), Duration::from_millis(20));
        let got = passed(agent, downstream, bytes(vec![text("container.id", id)], vec![sent])).await;
        let span = spans_of(&got)[0];
        if has(&span.attributes, "stallspan.coverage") && double_of(&span.attributes, "stallspan.coverage") > 0.99 {
            return span.clone();
        }
        assert!(std::time::Instant::now() < deadline, "never covered: {span:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_covered_span_has_its_numbers_and_everything_it_came_with() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let covered = warmed(&agent, &downstream, &id).await;
    obeys(&covered);
    assert!(has(&covered.attributes, "stallspan.delay.cpu"));
    assert_eq!(text_of(&covered.attributes, "stallspan.scope"), "container");
    assert!(double_of(&covered.attributes, "stallspan.resolution") > 0.0, "polled readings have a distance");
    assert!(double_of(&covered.attributes, "stallspan.resolution") <= 1.0);
    for single in ["stallspan.stalled", "stallspan.stall_ratio", "stallspan.longest_wait"] {
        let source = text_of(&covered.attributes, "stallspan.source");
        assert_eq!(has(&covered.attributes, single), source == "bpf", "{single} from {source}");
    }
    assert_eq!(text_of(&covered.attributes, "http.route"), "/cart");
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_is_replaced_and_everything_else_is_kept() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    let stall = Event { name: "stallspan.stall".to_owned(), time_unix_nano: 5, ..Event::default() };
    let own = Event {
        name: "cache miss".to_owned(),
        time_unix_nano: 6,
        attributes: vec![text("stallspan.delay.type", "cpu")],
        ..Event::default()
    };
    let mut sent = recent();
    for key in DOUBLES {
        sent.attributes.push(double(key, 9999.0));
        sent.attributes.push(double(key, 8888.0));
    }
    for key in TEXTS {
        sent.attributes.push(text(key, "stale"));
    }
    // Ours whatever their type is.
    sent.attributes.push(int("stallspan.verdict", 1));
    sent.attributes.extend([text("stallspan.mine", "kept"), text("stallspan.delay.cpux", "kept"), text("stallspan.delay", "kept")]);
    sent.events = vec![stall.clone(), own.clone(), stall];
    sent.links.push(opentelemetry_proto::tonic::trace::v1::span::Link {
        trace_id: vec![1; 16],
        attributes: vec![text("stallspan.verdict", "of a link")],
        ..Default::default()
    });
    let mut message = request(vec![text("container.id", &id), text("stallspan.verdict", "of the resource")], vec![sent.clone()]);
    message.resource_spans[0].scope_spans[0].scope = Some(opentelemetry_proto::tonic::common::v1::InstrumentationScope {
        name: "lib".to_owned(),
        attributes: vec![text("stallspan.scope", "of the scope")],
        ..Default::default()
    });
    let before = downstream.of("traces").len();
    let reply = Grpc::once(agent.grpc(), TRACES, &message.encode_to_vec()).await;
    assert_eq!(reply.code(), 0);
    let read = |body| ExportTraceServiceRequest::decode(body).unwrap();
    let first = downstream.of("traces")[before].body.clone();
    let check = |got: &ExportTraceServiceRequest| {
        let span = spans_of(got)[0];
        obeys_beside_kept(span);
        assert_eq!(bare(span), bare(&sent));
        assert_eq!(text_of(resource_of(got), "stallspan.verdict"), "of the resource");
        let scope = got.resource_spans[0].scope_spans[0].scope.as_ref().unwrap();
        assert_eq!(text_of(&scope.attributes, "stallspan.scope"), "of the scope");
    };
    check(&read(first.clone()));
    // What has been enriched comes again, as behind another agent.
    let reply = Grpc::once(agent.grpc(), TRACES, &first).await;
    assert_eq!(reply.code(), 0);
    let again = read(downstream.of("traces")[before + 1].body.clone());
    check(&again);
    assert_eq!(resource_of(&again), resource_of(&read(first)), "resource attributes are not doubled");
}

fn obeys_beside_kept(span: &Span) {
    for kept in ["stallspan.mine", "stallspan.delay.cpux", "stallspan.delay"] {
        assert_eq!(text_of(&span.attributes, kept), "kept");
    }
    let mut ours = span.clone();
    ours.attributes.retain(|entry| !["stallspan.mine", "stallspan.delay.cpux", "stallspan.delay"].contains(&entry.key.as_str()));
    obeys(&ours);
    assert!(double_of(&ours.attributes, "stallspan.coverage") > 0.0, "{ours:#?}");
}

/// More than a mebibyte, and more spans than are enriched between two requests: on threads of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_very_many_spans_is_enriched_as_any_other() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    let many: Vec<Span> = (0..20_000_u64).map(|number| Span { span_id: number.to_be_bytes().to_vec(), ..recent() }).collect();
    let size = bytes(vec![], many.clone()).len();
    assert!(size > 1 << 20, "{size}");
    let got = through(&agent, &downstream, &id, many.clone()).await;
    assert_eq!(got.len(), many.len());
    for (got, sent) in got.iter().zip(&many) {
        assert_eq!(bare(got), *sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_nobody_known_pass_byte_for_byte() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let mut odd = recent();
    odd.attributes.extend([text("stallspan.verdict", "theirs"), double("stallspan.delay.cpu", 7.0)]);
    odd.events.push(Event { name: "stallspan.stall".to_owned(), ..Event::default() });
    let mut known_fields = bytes(vec![text("container.id", &container_id())], vec![odd]);
    // An unknown field, and the same as a group, at the end of the request.
    known_fields.extend([0xF8, 0x3F, 0x01, 0xF3, 0x3F, 0xF4, 0x3F]);
    let shapes: Vec<Vec<u8>> = vec![Vec::new(), known_fields, bytes(vec![], vec![]), bytes(vec![], vec![recent()])];
    for (number, sent) in shapes.iter().enumerate() {
        assert_eq!(Grpc::once(agent.grpc(), TRACES, sent).await.code(), 0);
        assert_eq!(post(agent.http(), "/v1/traces", sent.clone()).await.status, 200);
        let got = downstream.of("traces");
        assert_eq!(got.len(), 2 * number + 2);
        for got in &got[2 * number..] {
            assert_eq!(&got.body[..], &sent[..], "shape {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_told_to_be_unknown() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    let hour = Duration::from_secs(3600);
    let (mut no_start, mut no_end, mut neither, mut reversed) = (recent(), recent(), recent(), recent());
    no_start.start_time_unix_nano = 0;
    no_end.end_time_unix_nano = 0;
    (neither.start_time_unix_nano, neither.end_time_unix_nano) = (0, 0);
    (reversed.start_time_unix_nano, reversed.end_time_unix_nano) = (reversed.end_time_unix_nano, reversed.start_time_unix_nano);
    let long_ago = span(hour, hour - Duration::from_millis(300));
    let mut future = recent();
    future.start_time_unix_nano += 3_600_000_000_000;
    future.end_time_unix_nano += 3_600_000_000_000;
    let mut end_of_time = recent();
    (end_of_time.start_time_unix_nano, end_of_time.end_time_unix_nano) = (u64::MAX - 5, u64::MAX);
    let cases = [no_start, no_end, neither, reversed, long_ago, future, end_of_time];
    let got = through(&agent, &downstream, &id, cases.to_vec()).await;
    for (number, (got, sent)) in got.iter().zip(&cases).enumerate() {
        assert_eq!(bare(got), bare(sent), "case {number}");
        unknown(got);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_covered_span_says_so() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    let long = span(Duration::from_secs(3600), Duration::from_millis(20));
    let mut instant = recent();
    instant.end_time_unix_nano = instant.start_time_unix_nano;
    let spans = through(&agent, &downstream, &id, vec![long, instant]).await;
    let coverage = double_of(&spans[0].attributes, "stallspan.coverage");
    assert!(coverage > 0.0 && coverage < 0.1, "{coverage}");
    assert_eq!(text_of(&spans[0].attributes, "stallspan.verdict"), "unknown", "covered by less than a half");
    assert!(has(&spans[0].attributes, "stallspan.delay.cpu"), "a lower bound is told: {:#?}", spans[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_under_quota_is_throttled() {
    let id = container_id();
    let container = Container::busy(&format!("/docker/{id}"));
    // So little that the quota and not the neighbors on a busy machine holds it back.
    container.quota(4);
    let (downstream, agent) = ready_for(&id).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(40);
    let (cpu, throttled, verdict) = loop {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let long = span(Duration::from_millis(1_400), Duration::from_millis(100));
        let span = through(&agent, &downstream, &id, vec![long]).await.remove(0);
        let (cpu, throttled) =
            (double_of(&span.attributes, "stallspan.delay.cpu"), double_of(&span.attributes, "stallspan.delay.throttled"));
        assert!(cpu < 1.4 && throttled <= cpu, "{span:#?}");
        // One thread that always wants to run, on 4 ms of each 100, waits for all the rest. A crowded machine may make it
        // wait across the window's end, which a polled source cannot see.
        if cpu > 1.1 || std::time::Instant::now() > deadline {
            break (cpu, throttled, text_of(&span.attributes, "stallspan.verdict").to_owned());
        }
    };
    assert!(cpu > 1.1, "{cpu}");
    assert!(throttled > 0.1 * cpu, "{throttled} of {cpu}");
    assert!(verdict == "throttled" || throttled < 0.51 * cpu, "{verdict}: {throttled} of {cpu}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_gets_what_it_lacks_and_keeps_what_it_has() {
    let (id, uid) = (container_id(), pod_uid());
    let _container = Container::idle(&format!("/kubepods/burstable/pod{uid}/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let got = passed(&agent, &downstream, bytes(vec![text("container.id", &id), text("service.name", "cart")], vec![recent()])).await;
    let resource = resource_of(&got);
    assert_eq!(text_of(resource, "container.id"), id);
    assert_eq!(text_of(resource, "k8s.pod.uid"), uid);
    assert_eq!(text_of(resource, "host.name"), host);
    assert_eq!(text_of(resource, "service.name"), "cart");
    // Present keys are kept, whatever stands there, empty values and other types too.
    let own = vec![text("container.id", &id), int("host.name", 5), text("k8s.pod.uid", &uid), text("k8s.node.name", "")];
    let got = passed(&agent, &downstream, bytes(own.clone(), vec![recent()])).await;
    assert_eq!(&resource_of(&got)[..own.len()], &own[..]);
    let keys: Vec<&str> = resource_of(&got).iter().map(|entry| entry.key.as_str()).collect();
    let mut once = keys.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), keys.len(), "{keys:?}");
    obeys(spans_of(&got)[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_split_over_several_fields_is_one() {
    let id = container_id();
    let _container = Container::idle(&format!("/docker/{id}"));
    let (downstream, agent) = ready_for(&id).await;
    // ResourceSpans: resource {container.id}, the scope, resource {host.name}, in this order. A parser merges the two.
    let field = |tag: u8, payload: Vec<u8>| [vec![tag], varint(payload.len()), payload].concat();
    let resource = |entry: KeyValue| field(0x0A, field(0x0A, entry.encode_to_vec()));
    let scope = request(vec![], vec![recent()]).resource_spans[0].scope_spans[0].encode_to_vec();
    let group = [resource(text("container.id", &id)), field(0x12, scope), resource(text("host.name", "theirs"))].concat();
    let got = passed(&agent, &downstream, field(0x0A, group)).await;
    assert_eq!(text_of(resource_of(&got), "container.id"), id);
    assert_eq!(text_of(resource_of(&got), "host.name"), "theirs");
    obeys(spans_of(&got)[0]);
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
