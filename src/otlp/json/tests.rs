//! The mapping against another implementation of it (opentelemetry-proto's serde), and its own rules by example.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic as pb;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use proptest::prelude::*;
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::schema::{Kind, Label, Message as Schema, root};
use super::{BadProtobuf, Message, from_protobuf, most_bytes, to_protobuf, to_protobuf_within, usual_bytes};
use crate::model::Signal;

const TRACES: Message = Message::Request(Signal::Traces);

/// Any JSON that fits a message of the table.
fn any_json(message: &'static Schema, depth: u32) -> BoxedStrategy<Json> {
    let members: Vec<_> = message
        .fields
        .iter()
        .filter(|field| depth > 0 || field.label == Label::Repeated || !matches!(field.kind, Kind::Message(_)))
        .map(|field| {
            let value = match (field.label, field.kind) {
                (Label::Repeated, Kind::Message(_)) if depth == 0 => Just(json!([])).boxed(),
                (Label::Repeated, kind) => proptest::collection::vec(any_value(kind, depth), 0..3).prop_map(Json::from).boxed(),
                (_, kind) => any_value(kind, depth),
            };
            // serde wants every field of the small messages.
            let needed = message.fields.len() <= 4 && field.label != Label::Oneof;
            let value = if needed { value.prop_map(Some).boxed() } else { prop::option::of(value).boxed() };
            (Just(field.name), value, Just(field.label == Label::Oneof))
        })
        .collect();
    let chosen = |members: Vec<(&'static str, Option<Json>, bool)>| {
        let mut object = serde_json::Map::new();
        let mut has_oneof = false;
        for (name, value, oneof) in members {
            if let Some(value) = value
                && !(oneof && has_oneof)
            {
                has_oneof |= oneof;
                object.insert(name.to_owned(), value);
            }
        }
        Json::Object(object)
    };
    members.prop_map(chosen).boxed()
}

fn any_value(kind: Kind, depth: u32) -> BoxedStrategy<Json> {
    match kind {
        Kind::Text => "[a-zäß\"\\\\\n\u{1F600}]{0,6}".prop_map(Json::from).boxed(),
        Kind::Hex => "([0-9a-fA-F]{2}){0,16}".prop_map(Json::from).boxed(),
        Kind::Base64 => {
            proptest::collection::vec(any::<u8>(), 0..7).prop_map(|bytes| json!(crate::otlp::status::base64::encode(&bytes, true))).boxed()
        }
        Kind::Bool => any::<bool>().prop_map(Json::from).boxed(),
        Kind::Double => prop_oneof![any::<f64>().prop_filter("finite", |f| f.is_finite()), Just(0.0)].prop_map(Json::from).boxed(),
        Kind::Fixed32 | Kind::Uint32 => prop_oneof![Just(0), any::<u32>()].prop_map(Json::from).boxed(),
        Kind::Fixed64 | Kind::Uint64 => (any::<bool>(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()])
            .prop_map(|(text, n)| if text { json!(n.to_string()) } else { json!(n) })
            .boxed(),
        Kind::Sfixed64 | Kind::Int64 => (any::<bool>(), prop_oneof![Just(0), Just(i64::MIN), any::<i64>()])
            .prop_map(|(text, n)| if text { json!(n.to_string()) } else { json!(n) })
            .boxed(),
        Kind::Sint32 => prop_oneof![Just(0), Just(i32::MIN), any::<i32>()].prop_map(Json::from).boxed(),
        Kind::Enum => (0..3).prop_map(Json::from).boxed(),
        Kind::Message(message) => any_json(message, depth.saturating_sub(1)),
    }
}

/// Our bytes, read by prost, are what serde makes of the same text; our text says nothing that serde's does not (which
/// writes defaults too), and says it all.
fn check_same<M>(message: Message, json: &Json) -> Result<(), TestCaseError>
where
    M: prost::Message + Default + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let read = |text: &[u8]| {
        let bytes = to_protobuf(message, text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        M::decode(bytes.as_slice()).map_err(|error| TestCaseError::fail(error.to_string()))
    };
    let theirs: M = serde_json::from_value(json.clone()).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
    prop_assert_eq!(&read(json.to_string().as_bytes())?, &theirs);
    prop_assert_eq!(&read(&serde_json::to_vec(&theirs).unwrap())?, &theirs);
    let text = from_protobuf(message, &theirs.encode_to_vec()).unwrap();
    prop_assert_eq!(&read(&text)?, &theirs);
    let (ours, full) = (serde_json::from_slice(&text).unwrap(), serde_json::to_value(&theirs).unwrap());
    prop_assert!(is_part_of(&ours, &full), "{} is not in {}", ours, full);
    Ok(())
}

fn is_part_of(part: &Json, whole: &Json) -> bool {
    match (part, whole) {
        (Json::Object(part), Json::Object(whole)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| is_part_of(value, found)))
        }
        (Json::Array(part), Json::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_part_of(part, whole))
        }
        // serde writes a message without any field as null.
        (Json::Object(part), Json::Null) => part.is_empty(),
        _ => part == whole,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn traces_are_what_serde_makes_of_them(json in any_json(root(TRACES), 6)) {
        check_same::<ExportTraceServiceRequest>(TRACES, &json)?;
    }

    #[test]
    fn metrics_are_what_serde_makes_of_them(json in any_json(root(Message::Request(Signal::Metrics)), 7)) {
        check_same::<ExportMetricsServiceRequest>(Message::Request(Signal::Metrics), &json)?;
    }

    #[test]
    fn logs_are_what_serde_makes_of_them(json in any_json(root(Message::Request(Signal::Logs)), 6)) {
        check_same::<ExportLogsServiceRequest>(Message::Request(Signal::Logs), &json)?;
    }

    #[test]
    fn bytes_of_any_kind_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}\":,a-zA-Z0-9. ]{0,60}") {
        let _ = from_protobuf(TRACES, &bytes);
        let _ = to_protobuf(TRACES, &bytes);
        let _ = to_protobuf(TRACES, text.as_bytes());
    }
}

/// The table knows each field that serde writes for an empty message, and no other but members of oneofs.
fn check_complete<M: Default + Serialize>(path: &[&str], signal: Signal) {
    let mut message = root(Message::Request(signal));
    for name in path {
        let Some(Kind::Message(inner)) = message.fields.iter().find(|field| field.name == *name).map(|field| field.kind) else {
            panic!("{name}")
        };
        message = inner;
    }
    let theirs = serde_json::to_value(M::default()).unwrap();
    let left_out = ["keyStrindex", "value", "data"];
    let theirs: BTreeSet<_> = theirs.as_object().unwrap().keys().map(String::as_str).filter(|key| !left_out.contains(key)).collect();
    let ours: BTreeSet<_> = message
        .fields
        .iter()
        .filter(|field| field.label != Label::Oneof && !left_out.contains(&field.name))
        .map(|field| field.name)
        .collect();
    assert_eq!(ours, theirs, "{path:?}");
}

#[test]
fn no_field_is_missing_from_the_table() {
    use Signal::{Logs, Metrics, Traces};
    check_complete::<pb::trace::v1::ResourceSpans>(&["resourceSpans"], Traces);
    check_complete::<pb::resource::v1::Resource>(&["resourceSpans", "resource"], Traces);
    check_complete::<pb::common::v1::KeyValue>(&["resourceSpans", "resource", "attributes"], Traces);
    check_complete::<pb::common::v1::EntityRef>(&["resourceSpans", "resource", "entityRefs"], Traces);
    check_complete::<pb::trace::v1::ScopeSpans>(&["resourceSpans", "scopeSpans"], Traces);
    check_complete::<pb::common::v1::InstrumentationScope>(&["resourceSpans", "scopeSpans", "scope"], Traces);
    check_complete::<pb::trace::v1::Span>(&["resourceSpans", "scopeSpans", "spans"], Traces);
    check_complete::<pb::trace::v1::span::Event>(&["resourceSpans", "scopeSpans", "spans", "events"], Traces);
    check_complete::<pb::trace::v1::span::Link>(&["resourceSpans", "scopeSpans", "spans", "links"], Traces);
    check_complete::<pb::trace::v1::Status>(&["resourceSpans", "scopeSpans", "spans", "status"], Traces);
    let metric = ["resourceMetrics", "scopeMetrics", "metrics"];
    let of = |more: &[&'static str]| [&metric[..], more].concat();
    check_complete::<pb::metrics::v1::ResourceMetrics>(&metric[..1], Metrics);
    check_complete::<pb::metrics::v1::ScopeMetrics>(&metric[..2], Metrics);
    check_complete::<pb::metrics::v1::Metric>(&metric, Metrics);
    check_complete::<pb::metrics::v1::Sum>(&of(&["sum"]), Metrics);
    check_complete::<pb::metrics::v1::Gauge>(&of(&["gauge"]), Metrics);
    check_complete::<pb::metrics::v1::Histogram>(&of(&["histogram"]), Metrics);
    check_complete::<pb::metrics::v1::ExponentialHistogram>(&of(&["exponentialHistogram"]), Metrics);
    check_complete::<pb::metrics::v1::Summary>(&of(&["summary"]), Metrics);
    check_complete::<pb::metrics::v1::NumberDataPoint>(&of(&["sum", "dataPoints"]), Metrics);
    check_complete::<pb::metrics::v1::Exemplar>(&of(&["sum", "dataPoints", "exemplars"]), Metrics);
    check_complete::<pb::metrics::v1::HistogramDataPoint>(&of(&["histogram", "dataPoints"]), Metrics);
    check_complete::<pb::metrics::v1::ExponentialHistogramDataPoint>(&of(&["exponentialHistogram", "dataPoints"]), Metrics);
    check_complete::<pb::metrics::v1::exponential_histogram_data_point::Buckets>(
        &of(&["exponentialHistogram", "dataPoints", "positive"]),
        Metrics,
    );
    check_complete::<pb::metrics::v1::SummaryDataPoint>(&of(&["summary", "dataPoints"]), Metrics);
    check_complete::<pb::metrics::v1::summary_data_point::ValueAtQuantile>(&of(&["summary", "dataPoints", "quantileValues"]), Metrics);
    check_complete::<pb::logs::v1::ResourceLogs>(&["resourceLogs"], Logs);
    check_complete::<pb::logs::v1::ScopeLogs>(&["resourceLogs", "scopeLogs"], Logs);
    check_complete::<pb::logs::v1::LogRecord>(&["resourceLogs", "scopeLogs", "logRecords"], Logs);
}

fn span_of(text: &str) -> pb::trace::v1::Span {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{text}]}}]}}]}}"#);
    let bytes = to_protobuf(TRACES, text.as_bytes()).unwrap();
    ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap().resource_spans[0].scope_spans[0].spans[0].clone()
}

#[test]
fn the_rules_of_otlp_json() {
    let plain = span_of(
        r#"{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","name":"a","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000}"#,
    );
    assert_eq!(plain.trace_id, [0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c]);
    assert_eq!(
        (plain.start_time_unix_nano, plain.end_time_unix_nano, plain.kind),
        (1_544_712_660_000_000_000, 1_544_712_661_000_000_000, 2)
    );
    let snake = span_of(
        r#"{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","name":"a","kind":2.0,"start_time_unix_nano":"1544712660000000000","end_time_unix_nano":1544712661000000000}"#,
    );
    assert_eq!(snake, plain);
    let odd =
        span_of(r#"{"name":null,"attributes":null,"events":[null],"status":null,"new":{"deep":[1,{"a":"b"}]},"kind":null,"flags":"257"}"#);
    assert_eq!(odd, pb::trace::v1::Span { events: vec![Default::default()], flags: 257, ..Default::default() });
}

fn check_refused(text: &str, reason: &str) {
    let refused = to_protobuf(TRACES, text.as_bytes()).unwrap_err();
    assert_eq!(refused.to_string(), reason, "{text}");
}

#[test]
fn what_is_not_otlp_json_is_refused_with_its_position() {
    let in_span = |span: &str| format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[\n{span}]}}]}}]}}");
    check_refused("", "not OTLP/JSON: EOF while parsing a value at line 1 column 0");
    check_refused("[]", "not OTLP/JSON: invalid type: sequence, expected an object at line 1 column 0");
    check_refused("null", "not OTLP/JSON: invalid type: null, expected an object at line 1 column 4");
    check_refused("{} {}", "not OTLP/JSON: trailing characters at line 1 column 4");
    check_refused(
        &in_span(r#"{"kind":"SPAN_KIND_SERVER"}"#),
        "not OTLP/JSON: a string for `kind`, which wants the enum's number at line 2 column 26",
    );
    check_refused(
        &in_span(r#"{"traceId":"abc"}"#),
        "not OTLP/JSON: another text for `traceId`, which wants hexadecimal digits at line 2 column 16",
    );
    check_refused(&in_span(r#"{"startTimeUnixNano":-1}"#), "not OTLP/JSON: -1 does not fit `startTimeUnixNano` at line 2 column 23");
    check_refused(&in_span(r#"{"flags":4294967296}"#), "not OTLP/JSON: 4294967296 does not fit `flags` at line 2 column 19");
    check_refused(
        &in_span(r#"{"flags":1.5}"#),
        "not OTLP/JSON: a number that is no exact integer for `flags`, which wants an integer at line 2 column 12",
    );
    check_refused(&in_span(r#"{"name":7}"#), "not OTLP/JSON: a number for `name`, which wants a string at line 2 column 9");
    check_refused(
        &in_span(r#"{"attributes":{}}"#),
        "not OTLP/JSON: invalid type: map, expected an array for `attributes` at line 2 column 16",
    );
    check_refused(&in_span(r#"{"name":"\ud800"}"#), "not OTLP/JSON: unexpected end of hex escape at line 2 column 16");
}

#[test]
fn nesting_is_bounded_in_both_directions() {
    let nested = |levels: usize, open: &str, close: &str| format!("{{\"resourceSpans\":{}{}}}", open.repeat(levels), close.repeat(levels));
    assert!(to_protobuf(TRACES, nested(1_000_000, "[", "]").as_bytes()).is_err());
    let (open, close) = ("{\"arrayValue\":{\"values\":[", "]}}");
    let value = format!(
        "{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"value\":{}{}}}]}}}}]}}",
        open.repeat(100_000),
        close.repeat(100_000)
    );
    assert_eq!(to_protobuf(TRACES, value.as_bytes()).unwrap_err().reason, "recursion limit exceeded");
    assert!(to_protobuf(TRACES, nested(1_000_000, "[{\"resource\":", "}]").as_bytes()).is_err());
    assert_eq!(to_protobuf(TRACES, format!("{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100)).as_bytes()), Ok(vec![]));
    let mut value = Vec::new();
    for _ in 0..super::MAX_DEPTH {
        let mut array = Vec::new();
        crate::otlp::wire::push_len(&mut array, 1, &value);
        value.clear();
        crate::otlp::wire::push_len(&mut value, 5, &array);
    }
    let mut request = value;
    for number in [2, 1, 1, 1] {
        let mut outer = Vec::new();
        crate::otlp::wire::push_len(&mut outer, number, &request);
        request = outer;
    }
    let thread = std::thread::Builder::new().stack_size(512 * 1024);
    let written = thread.spawn(move || from_protobuf(TRACES, &request)).unwrap().join().unwrap();
    assert_eq!(written, Err(BadProtobuf::TooDeep));
}

#[test]
fn what_stands_for_nothing_takes_no_bytes() {
    let metrics = Message::Request(Signal::Metrics);
    let point = |point: &str| {
        to_protobuf(
            metrics,
            format!(
                "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"histogram\":{{\"dataPoints\":[{{{point}}}]}}}}]}}]}}]}}"
            )
            .as_bytes(),
        )
        .unwrap()
    };
    let empty = point("");
    for nothing in ["\"count\":0", "\"bucketCounts\":[]", "\"bucketCounts\":null", "\"exemplars\":[]", "\"flags\":\"0\"", "\"sum\":null"] {
        assert_eq!(point(nothing), empty, "{nothing}");
    }
    assert_ne!(point("\"sum\":0"), empty);
    assert_eq!(point("\"bucketCounts\":[0,null]").len(), empty.len() + 2 + 16);
}

#[test]
fn fields_of_one_kind_are_gathered_and_of_a_oneof_the_last_counts() {
    let value = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for number in [2, 1, 1, 1] {
            let mut outer = Vec::new();
            crate::otlp::wire::push_len(&mut outer, number, &bytes);
            bytes = outer;
        }
        String::from_utf8(from_protobuf(TRACES, &bytes).unwrap()).unwrap()
    };
    let expect = |value: &str| format!("{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"value\":{value}}}]}}}}]}}");
    assert_eq!(value(b"\x0a\x01a\x18\x07"), expect("{\"intValue\":\"7\"}"));
    assert_eq!(value(b"\x18\x07\x0a\x01a"), expect("{\"stringValue\":\"a\"}"));
    let interleaved = from_protobuf(TRACES, b"\x0a\x0b\x12\x00\x1a\x01u\x12\x04\x1a\x02ab").unwrap();
    assert_eq!(interleaved, br#"{"resourceSpans":[{"scopeSpans":[{},{"schemaUrl":"ab"}],"schemaUrl":"u"}]}"#);
}

#[test]
fn numbers_that_json_cannot_say() {
    let span = span_of(
        r#"{"attributes":[{"key":"n","value":{"doubleValue":"NaN"}},{"key":"i","value":{"doubleValue":"-Infinity"}},{"key":"b","value":{"boolValue":false}}]}"#,
    );
    let request = ExportTraceServiceRequest {
        resource_spans: vec![pb::trace::v1::ResourceSpans {
            scope_spans: vec![pb::trace::v1::ScopeSpans { spans: vec![span], ..Default::default() }],
            ..Default::default()
        }],
    };
    let text = String::from_utf8(from_protobuf(TRACES, &request.encode_to_vec()).unwrap()).unwrap();
    assert_eq!(
        text,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"n","value":{"doubleValue":"NaN"}},{"key":"i","value":{"doubleValue":"-Infinity"}},{"key":"b","value":{"boolValue":false}}]}]}]}]}"#
    );
}

#[test]
fn split_messages_are_one_and_bad_utf8_is_replaced() {
    // resource twice: {attributes: [{key: 0xff}]} and {dropped_attributes_count: 3}; then an unknown field.
    let bytes = [&b"\x0a\x0d"[..], b"\x0a\x05\x0a\x03\x0a\x01\xff", b"\x0a\x02\x10\x03", b"\x78\x01"].concat();
    let text = String::from_utf8(from_protobuf(TRACES, &bytes).unwrap()).unwrap();
    assert_eq!(text, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"\u{fffd}\"}],\"droppedAttributesCount\":3}}]}");
}

#[test]
fn answers_are_mapped_too() {
    let answer = Message::Response(Signal::Traces);
    let bytes = to_protobuf(answer, br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#).unwrap();
    let partial = ExportTraceServiceResponse::decode(bytes.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (3, "too old"));
    assert_eq!(from_protobuf(answer, &bytes).unwrap(), br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#);
    assert_eq!(from_protobuf(answer, b"").unwrap(), b"{}");
    assert_eq!(to_protobuf(answer, b"{}"), Ok(vec![]));
}

#[test]
fn room_that_does_not_suffice_is_told_and_none_is_taken_beyond_it() {
    let metrics = Message::Request(Signal::Metrics);
    let list = |item: &str| vec![item; 10_000].join(",");
    let bounds = |list: &str| {
        let point = format!("{{\"histogram\":{{\"dataPoints\":[{{\"explicitBounds\":[{list}]}}]}}}}");
        format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{point}]}}]}}]}}")
    };
    for text in [bounds(&list("0")), bounds(&list("\"0\""))] {
        let text = text.as_bytes();
        assert_eq!(to_protobuf_within(metrics, text, usual_bytes(text), || ()), None);
        let most = most_bytes(text);
        let read = to_protobuf_within(metrics, text, most, || ()).unwrap().unwrap();
        assert!(read.len() > 80_000 && read.capacity() == most, "{} of {most}", read.capacity());
    }
    let strings = format!("{{\"resourceSpans\":[{{\"schemaUrl\":\"{}\"}}]}}", "x".repeat(10_000));
    assert_eq!(to_protobuf_within(TRACES, strings.as_bytes(), 9_000, || ()), None);
    assert!(to_protobuf_within(TRACES, strings.as_bytes(), usual_bytes(strings.as_bytes()), || ()).unwrap().is_ok());
}

#[test]
fn packed_and_unpacked_numbers_are_read() {
    let metrics = Message::Request(Signal::Metrics);
    let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":["1","2"],"explicitBounds":[0.5]}]}}]}]}]}"#;
    let packed = to_protobuf(metrics, json.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(from_protobuf(metrics, &packed).unwrap()).unwrap(), json);
    let point = b"\x31\x01\0\0\0\0\0\0\0\x31\x02\0\0\0\0\0\0\0\x39\0\0\0\0\0\0\xe0\x3f";
    let mut unpacked = point.to_vec();
    for number in [1, 9, 2, 2, 1] {
        let mut outer = Vec::new();
        crate::otlp::wire::push_len(&mut outer, number, &unpacked);
        unpacked = outer;
    }
    assert_eq!(String::from_utf8(from_protobuf(metrics, &unpacked).unwrap()).unwrap(), json);
}

#[test]
fn long_work_pauses() {
    thread_local!(static PAUSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    let spans = vec!["{\"kind\":2,\"x\":0}"; 10_000].join(",");
    let text = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{spans}]}}]}}]}}");
    let most = usual_bytes(text.as_bytes());
    to_protobuf_within(TRACES, text.as_bytes(), most, || PAUSES.set(PAUSES.get() + 1)).unwrap().unwrap();
    // Two keys of each object, and the object itself.
    assert_eq!(PAUSES.get(), 3 * 10_000 / 1024);
}
