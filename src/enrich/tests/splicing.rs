//! The property of the splice: everything but our own keys leaves byte for byte as it came, and ours are right.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::Message;

use super::message::request;
use super::oracle::{self, Raw};
use super::{Node, made_up_window, settings};
use crate::enrich::{Enriched, NodeView, apply, scan};
use crate::model::{Peer, Wall};

/// Runs all three steps.
pub fn enrich(body: &[u8], node: &dyn NodeView) -> Enriched {
    let settings = settings();
    let scan = scan(Bytes::copy_from_slice(body), Peer::default(), &settings).unwrap();
    apply(&scan, &scan.identify(node), node, &settings)
}

type Checked = Result<u64, TestCaseError>;

fn raw_equal(came: &Raw<'_>, left: &Raw<'_>) -> Result<(), TestCaseError> {
    prop_assert_eq!(came, left);
    Ok(())
}

/// Checks one level: fields that `inner` does not take for its own must be equal byte for byte; a message that it does
/// must have its tag as it came and a minimal length.
fn level<'a>(
    came: &[Raw<'a>],
    left: &[Raw<'a>],
    inner: &mut dyn FnMut(&Raw<'a>, &Raw<'a>) -> Result<Option<u64>, TestCaseError>,
) -> Checked {
    prop_assert_eq!(came.len(), left.len());
    let mut spans = 0;
    for (came, left) in came.iter().zip(left) {
        match inner(came, left)? {
            Some(found) => {
                prop_assert_eq!(came.tag, left.tag);
                prop_assert!(oracle::is_minimal(left.prefix, left.payload.len()), "length {:02x?}", left.prefix);
                spans += found;
            }
            None => raw_equal(came, left)?,
        }
    }
    Ok(spans)
}

/// Returns the number of spans that must have been enriched.
fn check_request(came: &[u8], left: &[u8], node: &Node) -> Checked {
    prop_assert!(oracle::accepts(left));
    level(&oracle::fields(came).unwrap(), &oracle::fields(left).unwrap(), &mut |came, left| match (came.message(1), left.message(1)) {
        (Some(came), Some(left)) => check_resource_spans(came, left, node),
        _ => Ok(None),
    })
}

/// `None`: this group must be as it came.
fn check_resource_spans(came: &[u8], left: &[u8], node: &Node) -> Result<Option<u64>, TestCaseError> {
    let (came, mut left) = (oracle::fields(came).unwrap(), oracle::fields(left).unwrap());
    let has_spans =
        came.iter().filter_map(|raw| raw.message(2)).any(|scope| oracle::fields(scope).unwrap().iter().any(|raw| raw.message(2).is_some()));
    let known = oracle::claim(&came, "container.id").is_some_and(|id| id.starts_with("here"));
    if !(known && has_spans) {
        return Ok(None);
    }
    let stamps: Vec<_> = node.stamps.iter().filter(|(key, _)| !oracle::has_key(&came, key)).cloned().collect();
    let last_resource = came.iter().rposition(|raw| raw.message(1).is_some());
    let stamped = if let Some(position) = last_resource { left[position] } else { left.remove(0) };
    let came_resource = last_resource.map(|position| came[position].payload).unwrap_or_default();
    check_stamps(came_resource, stamped.payload, &stamps)?;
    let spans = level(&came, &left, &mut |came, left| match (came.message(2), left.message(2)) {
        (Some(came), Some(left)) => check_scope_spans(came, left),
        // The resource that got the stamps was checked already; with nothing to add it is as it came.
        _ if *left == stamped && !stamps.is_empty() => Ok(Some(0)),
        _ => Ok(None),
    })?;
    Ok(Some(spans))
}

fn check_stamps(came: &[u8], left: &[u8], stamps: &[(&str, String)]) -> Result<(), TestCaseError> {
    prop_assert!(left.starts_with(came));
    let added = oracle::fields(&left[came.len()..]).unwrap();
    let added: Vec<_> =
        added.iter().map(|raw| KeyValue::decode(raw.message(1).unwrap()).unwrap()).map(|kv| (kv.key.clone(), text(&kv))).collect();
    let expected: Vec<_> = stamps.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    prop_assert_eq!(added, expected);
    Ok(())
}

fn check_scope_spans(came: &[u8], left: &[u8]) -> Result<Option<u64>, TestCaseError> {
    let (came, left) = (oracle::fields(came).unwrap(), oracle::fields(left).unwrap());
    if !came.iter().any(|raw| raw.message(2).is_some()) {
        return Ok(None);
    }
    level(&came, &left, &mut |came, left| match (came.message(2), left.message(2)) {
        (Some(came), Some(left)) => check_span(came, left).map(|()| Some(1)),
        _ => Ok(None),
    })
    .map(Some)
}

fn check_span(came: &[u8], left: &[u8]) -> Result<(), TestCaseError> {
    let (came, left) = (oracle::fields(came).unwrap(), oracle::fields(left).unwrap());
    let kept: Vec<_> = came.iter().filter(|raw| !oracle::is_ours(raw)).copied().collect();
    let (left_kept, added) = left.split_at(kept.len().min(left.len()));
    prop_assert_eq!(&kept[..], left_kept);
    let bytes: Vec<u8> = added.iter().flat_map(|raw| [raw.tag, raw.prefix, raw.payload].concat()).collect();
    prop_assert!(added.iter().all(oracle::is_ours));
    let (start, end) = oracle::times(&came);
    check_added(&Span::decode(bytes.as_slice()).unwrap(), start, end)
}

fn text(kv: &KeyValue) -> String {
    match &kv.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// What the contract says a span with this made-up window gets.
fn check_added(added: &Span, start: u64, end: u64) -> Result<(), TestCaseError> {
    let mut seen = BTreeMap::new();
    for kv in &added.attributes {
        prop_assert!(seen.insert(kv.key.clone(), kv.value.clone().unwrap().value.unwrap()).is_none(), "{} twice", kv.key);
    }
    let expected = expected_attributes(start, end);
    prop_assert_eq!(seen, expected.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>());
    check_events(added, start, end)
}

fn usable(start: u64, end: u64) -> bool {
    start != 0 && end >= start
}

fn expected_attributes(start: u64, end: u64) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::StringValue(text.to_owned());
    let window = if usable(start, end) { made_up_window(Wall(start), Wall(end)) } else { Default::default() };
    let coverage = if window.coverage.is_nan() { 0.0 } else { window.coverage.min(1.0) };
    let s = |ns: u64| Value::DoubleValue(ns as f64 / 1e9);
    let mut list = vec![
        ("stallspan.scope", text("container")),
        ("stallspan.source", text(if window.evidence.is_some() { "bpf" } else { "schedstat" })),
        ("stallspan.coverage", Value::DoubleValue(coverage)),
        ("stallspan.resolution", if window.evidence.is_some() { s(window.resolution_ns) } else { Value::DoubleValue(0.1) }),
    ];
    if coverage == 0.0 {
        list.push(("stallspan.verdict", text("unknown")));
        return list;
    }
    let delay_keys = ["cpu", "block_io", "swapin", "reclaim", "compaction", "thrashing", "write_protect_copy", "irq"]
        .map(|word| &*Box::leak(format!("stallspan.delay.{word}").into_boxed_str()));
    list.extend(delay_keys.into_iter().zip(window.delay_ns.0).filter_map(|(key, ns)| Some((key, s(ns?)))));
    list.push(("stallspan.verdict", text(if window.delay_ns.0[0].is_some() { "cpu" } else { "none" })));
    list.extend(window.throttled_ns.map(|ns| ("stallspan.delay.throttled", s(ns.min(window.delay_ns.0[0].unwrap_or(ns))))));
    let stalled = window.stalled_ns.map(|ns| ns.min(end - start));
    list.extend(stalled.map(|ns| ("stallspan.stalled", s(ns))));
    if end > start {
        list.extend(stalled.map(|ns| ("stallspan.stall_ratio", Value::DoubleValue(ns as f64 / (end - start) as f64))));
    }
    list.extend(window.longest_wait_ns.map(|ns| ("stallspan.longest_wait", s(ns.min(stalled.unwrap_or(end - start))))));
    if let Some(culprit) = &window.culprit {
        list.push(("stallspan.culprit.name", text(&culprit.name)));
        list.push(("stallspan.culprit.share", Value::DoubleValue(culprit.share.min(1.0))));
    }
    if start % 7 == 0 {
        list.push(("stallspan.app.delay.cpu", s(start % 1000)));
    }
    list
}

fn check_events(added: &Span, start: u64, end: u64) -> Result<(), TestCaseError> {
    let window = if usable(start, end) { made_up_window(Wall(start), Wall(end)) } else { Default::default() };
    let covered = window.coverage > 0.0;
    let expected = window.stalls.iter().filter(|stall| covered && stall.duration_ns >= 1_000_000).take(3).count();
    prop_assert_eq!(added.events.len(), expected);
    for event in &added.events {
        prop_assert_eq!(event.name.as_str(), "stallspan.stall");
        prop_assert!((start..=end).contains(&event.time_unix_nano));
        let duration = event.attributes.iter().find(|kv| kv.key == "stallspan.stall.duration").and_then(|kv| kv.value.clone()?.value);
        let Some(Value::DoubleValue(seconds)) = duration else { panic!("{event:?}") };
        prop_assert!(seconds * 1e9 <= (end - start) as f64 + 0.5, "{seconds} s in {} ns", end - start);
        prop_assert!(event.attributes.iter().any(|kv| kv.key == "stallspan.delay.type"));
    }
    prop_assert!(added.events.is_sorted_by_key(|event| event.time_unix_nano));
    Ok(())
}

/// decode(what left) = decode(what came) less ours, plus ours: as another implementation sees it.
fn check_decoded(came: &[u8], left: &[u8]) -> Result<(), TestCaseError> {
    let Ok(mut came) = ExportTraceServiceRequest::decode(came) else { return Ok(()) };
    let left = ExportTraceServiceRequest::decode(left);
    prop_assert!(left.is_ok(), "{left:?}");
    let mut left = left.unwrap();
    for (came, left) in came.resource_spans.iter_mut().zip(&mut left.resource_spans) {
        let kept = came.resource.as_ref().map_or(0, |resource| resource.attributes.len());
        if let Some(resource) = &mut left.resource {
            resource.attributes.truncate(kept);
            came.resource.get_or_insert_default();
        }
        for (came, left) in came.scope_spans.iter_mut().zip(&mut left.scope_spans) {
            for (came, left) in came.spans.iter_mut().zip(&mut left.spans) {
                let enriched = left.attributes.last().is_some_and(|kv| kv.key.starts_with("stallspan."));
                if enriched {
                    for span in [&mut *came, &mut *left] {
                        span.attributes.retain(|kv| !crate::otlp::names::is_own_span_key(kv.key.as_bytes()));
                        span.events.retain(|event| event.name != "stallspan.stall");
                    }
                }
            }
        }
    }
    // By its debug text, in which NaN equals NaN.
    prop_assert_eq!(format!("{came:?}"), format!("{left:?}"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn everything_but_our_keys_leaves_as_it_came(came in request()) {
        prop_assert!(oracle::accepts(&came), "the generator makes legal requests");
        let node = Node::new();
        let left = enrich(&came, &node);
        let enriched = check_request(&came, &left.body, &node)?;
        prop_assert_eq!(left.enriched, enriched);
        prop_assert_eq!(left.spans, left.enriched + left.skipped.unmatched + left.skipped.over_limit);
        check_decoded(&came, &left.body)?;
    }

    #[test]
    fn a_second_hop_replaces_what_the_first_one_wrote(came in request()) {
        let node = Node::new();
        let once = enrich(&came, &node);
        let twice = enrich(&once.body, &node);
        prop_assert_eq!(once.body, twice.body);
    }
}
