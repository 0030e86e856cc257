//! Stall spans: they come in a `ScopeSpans` of their own and change nothing else, and a retry makes the same ones.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::message::request;
use super::oracle;
use super::{Node, settings};
use crate::enrich::{Enriched, EventSettings, Settings, apply, scan};
use crate::model::Peer;

fn with_stall_spans() -> Settings {
    Settings { stall_spans: Some(EventSettings { min_wait_ns: 2_000_000, max_per_span: 2 }), ..settings() }
}

fn enrich(body: &[u8], settings: &Settings) -> Enriched {
    let node = Node::new();
    let scan = scan(Bytes::copy_from_slice(body), Peer::default(), settings).unwrap();
    apply(&scan, &scan.identify(&node), &node, settings)
}

/// The stall spans of a request, and what is left of each of its groups without them.
fn parted(body: &[u8]) -> (Vec<Span>, Vec<Vec<oracle::Raw<'_>>>) {
    let mut spans = Vec::new();
    let groups = oracle::fields(body).unwrap().into_iter().map(|raw| {
        let Some(group) = raw.message(1) else { return vec![raw] };
        let mut fields = oracle::fields(group).unwrap();
        let own = fields.last().and_then(|last| last.message(2)).and_then(|scope| ScopeSpans::decode(scope).ok());
        if let Some(own) = own.filter(|scope| scope.scope.as_ref().is_some_and(|scope| scope.name == "stallspan")) {
            fields.pop();
            spans.extend(own.spans);
        }
        fields
    });
    let groups = groups.collect();
    (spans, groups)
}

/// Every span of a request that has the ids of one, with its times.
fn parents(body: &[u8]) -> HashMap<(Vec<u8>, Vec<u8>), (u64, u64)> {
    let inner = |message: &[u8], number: u64| -> Vec<Vec<u8>> {
        oracle::fields(message).unwrap().iter().filter_map(|raw| raw.message(number)).map(<[u8]>::to_vec).collect()
    };
    let groups = inner(body, 1).into_iter().flat_map(|group| inner(&group, 2)).flat_map(|scope| inner(&scope, 2));
    let ids = |span: &[u8]| (oracle::last(span, 1).unwrap().to_vec(), oracle::last(span, 2).unwrap().to_vec());
    groups.map(|span| (ids(&span), oracle::times(&oracle::fields(&span).unwrap()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn stall_spans_stand_apart_and_change_nothing_else(came in request()) {
        let (without, with) = (enrich(&came, &settings()), enrich(&came, &with_stall_spans()));
        prop_assert!(oracle::accepts(&with.body));
        prop_assert_eq!((with.spans, with.enriched, with.skipped), (without.spans, without.enriched, without.skipped));
        let (spans, left) = parted(&with.body);
        let (none, as_it_was) = parted(&without.body);
        prop_assert!(none.is_empty());
        prop_assert_eq!(left, as_it_was);
        let parents = parents(&came);
        for span in &spans {
            let parent = parents.get(&(span.trace_id.clone(), span.parent_span_id.clone()));
            prop_assert!(parent.is_some(), "no parent of {span:?}");
            let (start, end) = parent.unwrap();
            prop_assert!(start <= &span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
            prop_assert!(&span.end_time_unix_nano <= end, "{span:?} ends after {end}");
            prop_assert!(span.span_id.len() == 8 && span.span_id != span.parent_span_id);
        }
    }

    #[test]
    fn a_retry_makes_the_same_stall_spans(came in request()) {
        let ids = |body: &[u8]| parted(body).0.into_iter().map(|span| span.span_id).collect::<Vec<_>>();
        let settings = with_stall_spans();
        let once = enrich(&came, &settings);
        prop_assert_eq!(ids(&once.body), ids(&enrich(&came, &settings).body));
        // A second hop on the way adds none.
        let twice = enrich(&once.body, &settings);
        prop_assert_eq!(ids(&once.body).into_iter().collect::<HashSet<_>>(), ids(&twice.body).into_iter().collect());
    }

    #[test]
    fn the_limit_holds_with_stall_spans(came in request(), max_added in 0..6_000_usize) {
        let left = enrich(&came, &Settings { max_added, ..with_stall_spans() });
        prop_assert!(oracle::accepts(&left.body));
        // Lengths of the messages around may grow by some bytes each.
        let messages = oracle::fields(&came).unwrap().len() * 64 + 64;
        prop_assert!(left.body.len() <= came.len() + max_added + messages, "{} from {}", left.body.len(), came.len());
    }
}

/// The generator makes requests that have some: 400 requests of which none did would prove nothing.
#[test]
fn the_generator_makes_spans_that_stall() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let made = (0..200).map(|_| request().new_tree(&mut runner).unwrap().current());
    let found: usize = made.map(|came| parted(&enrich(&came, &with_stall_spans()).body).0.len()).sum();
    assert!(found > 5, "{found} stall spans in 200 requests");
}

#[test]
fn a_stall_span_reads_as_the_contract_says() {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        start_time_unix_nano: 1_790_000_000_000_000_004,
        end_time_unix_nano: 1_790_000_000_500_000_000,
        ..Span::default()
    };
    let mut asked = ExportTraceServiceRequest::default();
    let id = Some(AnyValue { value: Some(Value::StringValue("here-1".to_owned())) });
    let here =
        Resource { attributes: vec![KeyValue { key: "container.id".to_owned(), value: id, ..KeyValue::default() }], ..Resource::default() };
    asked.resource_spans.push(ResourceSpans {
        resource: Some(here),
        scope_spans: vec![ScopeSpans { spans: vec![span; 40], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    for (index, span) in asked.resource_spans[0].scope_spans[0].spans.iter_mut().enumerate() {
        span.span_id[7] = u8::try_from(index).unwrap();
        span.end_time_unix_nano += index as u64 * 7_919;
    }
    let left = enrich(&asked.encode_to_vec(), &with_stall_spans());
    let (bars, _) = parted(&left.body);
    assert!(!bars.is_empty());
    for bar in bars {
        let keys: Vec<&str> = bar.attributes.iter().map(|kv| kv.key.as_str()).collect();
        assert!(keys.starts_with(&["stallspan.scope", "stallspan.delay.type", "stallspan.stall.duration"]), "{keys:?}");
        assert!(crate::otlp::names::EVENT_DELAY_TYPE.unit.split(", ").any(|word| word == bar.name), "{}", bar.name);
    }
}
