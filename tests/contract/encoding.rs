//! JSON in and out, the `file` and `debug` exporters, URLs of single signals.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde_json::{Value, json};

use crate::agent::{Agent, BASE, to_grpc, to_grpc_quietly};
use crate::claims::{all, bytes, recent, request, resource_of, spans_of, text, text_of};
use crate::downstream::{Answer, Downstream, until};
use crate::sender::{Grpc, TRACES, http, post};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn json_comes_in_by_otlps_rules() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let spellings = [
        json!({"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}, "scopeSpans": [{"spans": [{
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "parentSpanId": "", "name": "work", "kind": 2,
            "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1544712661000000000_u64, "traceState": null, "status": {},
            "attributes": [{"key": "n", "value": {"intValue": "-7"}}, {"key": "m", "value": {"intValue": 8}}], "whoKnows": {"a": [1, {}]}}]}], "more": 1}], "x": null}),
        json!({"resource_spans": [{"resource": {"attributes": [{"key": "service.name", "value": {"string_value": "cart"}}]}, "scope_spans": [{"spans": [{
            "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "EEE19B7EC3C1B174", "name": "work", "kind": 2,
            "start_time_unix_nano": 1544712660000000000_u64, "end_time_unix_nano": "1544712661000000000",
            "attributes": [{"key": "n", "value": {"int_value": -7}}, {"key": "m", "value": {"int_value": "8"}}]}]}]}]}),
    ];
    for sent in spellings {
        let before = downstream.of("traces").len();
        let reply = http(agent.http(), "POST", "/v1/traces", &[JSON], sent.to_string()).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]), "{sent}");
        assert_eq!(reply.headers["content-type"], "application/json");
        let body = downstream.of("traces")[before].body.clone();
        let got = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(body).unwrap();
        assert_eq!(text_of(resource_of(&got), "service.name"), "cart");
        let span = spans_of(&got)[0];
        assert_eq!((span.trace_id[0], span.span_id[0], span.kind, span.name.as_str()), (0x5B, 0xEE, 2, "work"));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_544_712_660_000_000_000, 1_544_712_661_000_000_000));
        assert_eq!((all(&span.attributes, "n")[0], all(&span.attributes, "m")[0]), (&Any::IntValue(-7), &Any::IntValue(8)));
    }
    assert_eq!(http(agent.http(), "POST", "/v1/logs", &[JSON], "{}").await.status, 200);
    assert_eq!(downstream.of("logs")[0].body.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_metrics_and_of_logs_comes_in_by_the_same_rules() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start_with(&to_grpc(downstream.address), &["--set", "sources.collection_interval=1h"]);
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "waits", "unit": "s", "histogram": {"aggregationTemporality": 2,
        "dataPoints": [{"startTimeUnixNano": "1544712660000000000", "timeUnixNano": 1544712661000000000_u64, "count": "3", "sum": 1.5,
            "bucketCounts": ["1", 2], "explicitBounds": [0.5], "exemplars": [{"traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "eee19b7ec3c1b174", "asDouble": 0.25, "new": true}]}], "later": [1]}}]}]}]});
    assert_eq!(http(agent.http(), "POST", "/v1/metrics", &[JSON], metrics.to_string()).await.status, 200);
    let histogram = downstream.resource_metrics().into_iter().flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
    let Some(Data::Histogram(histogram)) = histogram.filter(|metric| metric.name == "waits").find_map(|metric| metric.data) else {
        panic!("the histogram did not come");
    };
    let point = &histogram.data_points[0];
    assert_eq!((histogram.aggregation_temporality, point.count, point.sum, &point.bucket_counts[..]), (2, 3, Some(1.5), &[1, 2][..]));
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_544_712_660_000_000_000, 1_544_712_661_000_000_000));
    assert_eq!((point.exemplars[0].trace_id[0], point.exemplars[0].span_id[0]), (0x5B, 0xEE));

    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1544712660000000000", "severityNumber": 10, "body": {"bytesValue": "AQI="},
        "traceId": "5B8EFFF798038103D269B633813FC60C", "flags": 1, "of tomorrow": null}]}]}]});
    assert_eq!(http(agent.http(), "POST", "/v1/logs", &[JSON], logs.to_string()).await.status, 200);
    let got = ExportLogsServiceRequest::decode(downstream.of("logs")[0].body.clone()).unwrap();
    let record = &got.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.time_unix_nano, record.trace_id[0], record.flags), (10, 1_544_712_660_000_000_000, 0x5B, 1));
    assert_eq!(record.body.clone().unwrap().value, Some(Any::BytesValue(vec![1, 2])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_refused_in_json() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let bad = [
        "",
        "{",
        "[]",
        "7",
        "{\"resourceSpans\": 5}",
        "{\"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [{\"traceId\": \"xy\"}]}]}]}",
        "\u{feff}nope",
    ];
    let deep = format!("{{\"x\": {}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    for sent in bad {
        let reply = http(agent.http(), "POST", "/v1/traces", &[JSON], sent.to_owned()).await;
        let shown = &sent[..sent.len().min(40)];
        assert_eq!(reply.status, 400, "{shown}");
        assert_eq!(reply.headers["content-type"], "application/json");
        let told: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(told["code"] == 3 && told["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown}: {told}");
    }
    assert!(downstream.got().is_empty());
    // Legal, if odd: an unknown field is dropped however deep it is.
    assert_eq!(http(agent.http(), "POST", "/v1/traces", &[JSON], deep).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_reaches_a_sender_of_json() {
    // 5 rejected, "no!"
    let partial = bytes::Bytes::from_static(&[0x0A, 0x07, 0x08, 0x05, 0x12, 0x03, b'n', b'o', b'!']);
    let downstream = Downstream::start(move |_, _| Answer::Accept(partial.clone())).await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let reply = http(agent.http(), "POST", "/v1/traces", &[JSON], "{}").await;
    let told: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(told["partialSuccess"], json!({"rejectedSpans": "5", "errorMessage": "no!"}), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_goes_out_where_it_is_asked_for() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&format!(
        "{BASE}exporters: {{ otlp_http: {{ encoding: json, compression: none, traces_endpoint: \"http://{0}/my/traces\", logs_endpoint: \"http://{0}/v1/logs\" }} }}\n\
         service: {{ pipelines: {{ traces: {{ exporters: [otlp_http] }}, logs: {{ exporters: [otlp_http] }} }} }}\n",
        downstream.address
    ));
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![text("service.name", "cart")], vec![recent()])).await.code(), 0);
    let got = &downstream.got()[0];
    assert_eq!((got.path.as_str(), got.headers["content-type"].to_str().unwrap()), ("/my/traces", "application/json"));
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["name"]), (&json!("07070707070707070707070707070707"), &json!("work")));
    assert!(span["startTimeUnixNano"].is_string(), "{span}");
    assert_eq!(post(agent.http(), "/v1/logs", "").await.status, 200);
    assert_eq!((downstream.got()[1].path.as_str(), &downstream.got()[1].body[..]), ("/v1/logs", &b"{}"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_one_request_a_line() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("out.jsonl");
    let agent = Agent::start(&format!(
        "{BASE}exporters: {{ file: {{ path: {} }} }}\nservice: {{ pipelines: {{ traces: {{ exporters: [file] }}, logs: {{ exporters: [file] }} }} }}\n",
        path.display()
    ));
    for name in ["one", "two\nlines"] {
        let mut span = recent();
        span.name = name.to_owned();
        let message = request(vec![], vec![span]);
        assert_eq!(post(agent.http(), "/v1/traces", message.encode_to_vec()).await.status, 200);
    }
    let lines: Vec<Value> = std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&Value> = lines.iter().map(|line| &line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"]).collect();
    assert_eq!(names, ["one", "two\nlines"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_prints_what_passes() {
    // What each shows last of a span.
    for (verbosity, last) in [("basic", ""), ("normal", "checkout-work"), ("detailed", "/cart")] {
        let configuration = format!(
            "{BASE}exporters: {{ debug: {{ verbosity: {verbosity} }} }}\nservice: {{ pipelines: {{ traces: {{ exporters: [debug] }} }} }}\n"
        );
        let agent = Agent::start(&configuration);
        let mut span = recent();
        span.name = "checkout-work".to_owned();
        assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![span])).await.status, 200);
        // The answer may be here before the last of its lines.
        let shown = |printed: &str| printed.lines().next().is_some() && printed.contains(last);
        until("what it shows", || shown(&agent.printed()).then_some(())).await;
        let printed = agent.printed();
        assert_eq!(printed.contains("checkout-work"), verbosity != "basic", "{verbosity}: {printed}");
        assert!(verbosity != "basic" || !printed.contains("http.route"), "{printed}");
        assert!(verbosity != "detailed" || printed.contains("http.route") && printed.contains("/cart"), "{printed}");
    }
}
