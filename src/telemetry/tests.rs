use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tracing::{Dispatch, debug, error, info, info_span, warn};

use super::*;
use crate::model::{Answer, Code, Ending, LeftOutLine, Refusal, Signal};

/// Longest any test waits for something that should come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an outlet does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Accepts,
    Refuses,
    NeverAnswers,
    Panics,
    /// Talks while it sends, as hyper and our own rooms would.
    Talks,
}

struct FakeOutlet {
    manner: Manner,
    dispatch: Dispatch,
    received: Mutex<Vec<(Signal, Vec<String>, Bytes)>>,
}

impl Outlet for FakeOutlet {
    fn send<'a>(&'a self, signal: Signal, exporters: &'a [String], body: Bytes) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            self.received.lock().unwrap().push((signal, exporters.to_vec(), body));
            match self.manner {
                Manner::Accepts => Ok(Bytes::new()),
                Manner::Refuses => Err(Refusal::new(Code::Unavailable, "away")),
                Manner::NeverAnswers => std::future::pending().await,
                Manner::Panics => panic!("an exporter's bug"),
                Manner::Talks => {
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                        dispatcher::with_default(&self.dispatch, || {
                            let _work = info_span!("sending").entered();
                            warn!(target: "hyper::client", "loop: connection lost");
                            warn!(target: "stallspan::export::grpc", "loop: downstream is slow");
                            error!(target: "stallspan::app", "loop: said by any room on behalf of this export");
                        });
                    }
                    Ok(Bytes::new())
                }
            }
        })
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Fixture {
    telemetry: Telemetry,
    dispatch: Dispatch,
    outlet: Arc<FakeOutlet>,
    sink: Sink,
}

fn config(logs: &[&str], traces: &[&str], metrics: &[&str]) -> meaning::Telemetry {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    meaning::Telemetry {
        level: meaning::LogLevel::Info,
        encoding: meaning::LogEncoding::Console,
        log_exporters: names(logs),
        trace_exporters: names(traces),
        sampling_ratio: 1.0,
        metric_exporters: names(metrics),
    }
}

impl Fixture {
    fn start(config: &meaning::Telemetry, manner: Manner) -> Self {
        let setup = Setup {
            config,
            host_name: "node-a",
            node_name: Some("worker-1"),
            version: "0.1.0",
            metric_interval: Duration::from_secs(3_600),
            runtime: Handle::current(),
        };
        let sink = Sink::default();
        let (telemetry, dispatch) = build(&setup, Box::new(sink.clone()), false).expect("telemetry starts");
        let outlet = Arc::new(FakeOutlet { manner, dispatch: dispatch.clone(), received: Mutex::default() });
        Self { telemetry, dispatch, outlet, sink }
    }

    fn connect(&self) {
        self.telemetry.connect(Arc::<FakeOutlet>::clone(&self.outlet));
    }

    fn run(&self, work: impl FnOnce()) {
        dispatcher::with_default(&self.dispatch, work);
    }

    fn received<M: Message + Default>(&self, wanted: Signal) -> Vec<M> {
        let received = self.outlet.received.lock().unwrap();
        received
            .iter()
            .filter(|(signal, ..)| *signal == wanted)
            .map(|(_, exporters, body)| {
                assert_eq!(exporters, &["otlp_grpc/own"], "the configured exporters are asked");
                M::decode(body.clone()).expect("valid OTLP")
            })
            .collect()
    }

    fn records(&self) -> Vec<LogRecord> {
        let requests: Vec<ExportLogsServiceRequest> = self.received(Signal::Logs);
        let resources = requests.into_iter().flat_map(|request| request.resource_logs);
        resources.flat_map(|resource| resource.scope_logs).flat_map(|scope| scope.log_records).collect()
    }

    fn bodies(&self) -> Vec<String> {
        self.records().into_iter().map(|record| text(record.body.unwrap().value)).collect()
    }

    fn written(&self) -> String {
        String::from_utf8(self.sink.0.lock().unwrap().clone()).unwrap()
    }
}

fn text(value: Option<any_value::Value>) -> String {
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.clone()?.value))
}

#[track_caller]
fn check_resource(resource: Option<&Resource>) {
    let attributes = &resource.expect("a resource").attributes;
    let expected = [("service.name", "stallspan"), ("service.version", "0.1.0"), ("host.name", "node-a"), ("k8s.node.name", "worker-1")];
    for (key, value) in expected {
        assert_eq!(attribute(attributes, key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_leave_as_otlp_through_the_outlet() {
    let fixture = Fixture::start(&config(&["otlp_grpc/own"], &[], &[]), Manner::Accepts);
    fixture.connect();
    fixture.run(|| {
        warn!(target: "stallspan::app", containers = 3, "containerd went away");
        debug!(target: "stallspan::app", "below the level");
        warn!(target: "stallspan::export::grpc", "downstream is slow");
        warn!(target: "h2::client", "connection reset");
    });
    fixture.telemetry.shutdown(PATIENCE).await;
    let requests: Vec<ExportLogsServiceRequest> = fixture.received(Signal::Logs);
    check_resource(requests[0].resource_logs[0].resource.as_ref());
    let records = fixture.records();
    assert_eq!(fixture.bodies(), ["containerd went away"]);
    assert_eq!(records[0].severity_text, "WARN");
    assert_eq!(records[0].attributes[0].key, "containers");
    let written = fixture.written();
    assert!(written.contains("containerd went away containers=3"), "{written}");
    assert!(written.contains("downstream is slow") && written.contains("connection reset"), "standard error gets all: {written}");
    assert!(!written.contains("below the level"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_about_own_work_leave_as_otlp() {
    let fixture = Fixture::start(&config(&[], &["otlp_grpc/own"], &[]), Manner::Accepts);
    fixture.connect();
    fixture.run(|| {
        info_span!("collect", containers = 3).in_scope(|| info_span!("encode").in_scope(|| info!(target: "stallspan::app", "encoded")));
    });
    fixture.telemetry.shutdown(PATIENCE).await;
    let requests: Vec<ExportTraceServiceRequest> = fixture.received(Signal::Traces);
    check_resource(requests[0].resource_spans[0].resource.as_ref());
    let resources = requests.into_iter().flat_map(|request| request.resource_spans);
    let spans: Vec<_> = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect();
    let find = |name| spans.iter().find(|span| span.name == name).expect("the span");
    assert_eq!(find("encode").parent_span_id, find("collect").span_id);
    assert_eq!(find("encode").trace_id, find("collect").trace_id);
    assert!(find("collect").end_time_unix_nano >= find("encode").end_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_span_leaves_where_none_is_sampled() {
    let unsampled = meaning::Telemetry { sampling_ratio: 0.0, ..config(&[], &["otlp_grpc/own"], &[]) };
    let fixture = Fixture::start(&unsampled, Manner::Accepts);
    fixture.connect();
    fixture.run(|| info_span!("collect").in_scope(|| ()));
    fixture.telemetry.shutdown(PATIENCE).await;
    assert!(fixture.received::<ExportTraceServiceRequest>(Signal::Traces).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_leave_as_otlp_where_they_have_exporters() {
    let fixture = Fixture::start(&config(&[], &[], &["otlp_grpc/own"]), Manner::Accepts);
    fixture.connect();
    fixture.telemetry.counters().settled(Signal::Traces, Ending::Forwarded, 42);
    fixture.telemetry.shutdown(PATIENCE).await;
    let requests: Vec<ExportMetricsServiceRequest> = fixture.received(Signal::Metrics);
    check_resource(requests[0].resource_metrics[0].resource.as_ref());
    let metrics: Vec<_> = requests[0].resource_metrics[0].scope_metrics.iter().flat_map(|scope| &scope.metrics).collect();
    let spans = metrics.iter().find(|metric| metric.name == "stallspan.agent.spans").expect("the counter");
    let Some(Data::Sum(sum)) = &spans.data else { panic!("a sum") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality, 2, "cumulative");
    let forwarded = sum.data_points.iter().find(|point| attribute(&point.attributes, "stallspan.outcome").as_deref() == Some("forwarded"));
    let value = forwarded.and_then(|point| point.value).expect("a point");
    assert_eq!(value, opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(42));
    let memory = metrics.iter().find(|metric| metric.name == "stallspan.agent.request.memory").expect("the level");
    let Some(Data::Sum(sum)) = &memory.data else { panic!("a sum") };
    assert!(!sum.is_monotonic);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_exporting_is_not_exported() {
    let fixture = Fixture::start(&config(&["otlp_grpc/own"], &["otlp_grpc/own"], &[]), Manner::Talks);
    fixture.connect();
    fixture.run(|| {
        info!(target: "stallspan::app", "first");
        info_span!("work").in_scope(|| ());
    });
    let until = tokio::time::Instant::now() + PATIENCE;
    while fixture.outlet.received.lock().unwrap().len() < 2 && tokio::time::Instant::now() < until {
        tokio::task::yield_now().await;
    }
    fixture.run(|| info!(target: "stallspan::app", "second"));
    fixture.telemetry.shutdown(PATIENCE).await;
    assert_eq!(fixture.bodies(), ["first", "second"]);
    assert_eq!(fixture.received::<ExportTraceServiceRequest>(Signal::Traces).len(), 1, "no span about the export");
    assert!(fixture.written().contains("loop: downstream is slow"), "it is still said on standard error");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_before_the_outlet_waits_for_it() {
    let fixture = Fixture::start(&config(&["otlp_grpc/own"], &[], &[]), Manner::Accepts);
    fixture.run(|| info!(target: "stallspan::app", "starting"));
    let telemetry = &fixture.telemetry;
    tokio::join!(telemetry.shutdown(PATIENCE), async {
        tokio::task::yield_now().await;
        fixture.connect();
    });
    assert_eq!(fixture.bodies(), ["starting"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_panic_below_are_counted_and_no_more() {
    for manner in [Manner::Refuses, Manner::Panics] {
        let fixture = Fixture::start(&config(&["otlp_grpc/own"], &[], &[]), manner);
        fixture.connect();
        fixture.run(|| info!(target: "stallspan::app", "lost"));
        fixture.telemetry.shutdown(PATIENCE).await;
        let failures = fixture.telemetry.counters().snapshot().telemetry_failures;
        assert_eq!(failures[Signal::Logs as usize], 1, "{manner:?}: not retried here, the exporters below do that");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_keeps_its_deadline_whatever_downstream_does() {
    let all = config(&["otlp_grpc/own"], &["otlp_grpc/own"], &["otlp_grpc/own"]);
    for connected in [true, false] {
        let fixture = Fixture::start(&all, Manner::NeverAnswers);
        if connected {
            fixture.connect();
        }
        fixture.run(|| {
            info!(target: "stallspan::app", "never to arrive");
            info_span!("work").in_scope(|| ());
        });
        let deadline = Duration::from_millis(200);
        let begin = tokio::time::Instant::now();
        fixture.telemetry.shutdown(deadline).await;
        assert!(begin.elapsed() < deadline + Duration::from_secs(2), "{:?}", begin.elapsed());
        fixture.run(|| info!(target: "stallspan::app", "said after the end"));
        fixture.telemetry.shutdown(deadline).await;
        assert!(fixture.written().contains("said after the end"), "the log goes on");
        // The providers' threads still wait for downstream; dropping them would wait with them.
        std::mem::forget(fixture);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_could_not_start_does_not_wait_for_exporters_it_never_had() {
    let all = config(&["otlp_grpc/own"], &["otlp_grpc/own"], &["otlp_grpc/own"]);
    let fixture = Fixture::start(&all, Manner::Accepts);
    fixture.run(|| error!(target: "stallspan::app", "port in use"));
    let begin = tokio::time::Instant::now();
    drop(fixture);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_for_signals_without_exporters() {
    let fixture = Fixture::start(&config(&[], &[], &[]), Manner::Accepts);
    fixture.connect();
    fixture.run(|| info!(target: "stallspan::app", "only here"));
    fixture.telemetry.shutdown(PATIENCE).await;
    assert!(fixture.outlet.received.lock().unwrap().is_empty());
    assert!(fixture.written().contains("only here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_of_line_is_written_ten_times_a_second_and_the_rest_is_told() {
    let json = meaning::Telemetry { encoding: meaning::LogEncoding::Json, ..config(&["otlp_grpc/own"], &[], &[]) };
    let fixture = Fixture::start(&json, Manner::Accepts);
    fixture.connect();
    let complain = |round: u32| fixture.run(|| warn!(target: "stallspan::app", round, "still \"bad\""));
    // Lines are counted by what was written, so that a slow machine may need more than a second for them.
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut rounds = 0;
    while !fixture.written().contains("\"left_out\":") && tokio::time::Instant::now() < until {
        complain(rounds);
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fixture.telemetry.shutdown(PATIENCE).await;
    let written = fixture.written();
    let lines: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let left_out = fixture.telemetry.counters().snapshot().lines_left_out[LeftOutLine::Repeated as usize];
    assert_eq!(lines.len() as u64 + left_out, u64::from(rounds));
    let told: u64 = lines.iter().filter_map(|line| line.get("left_out")?.as_u64()).sum();
    assert!(told > 0 && told <= left_out);
    assert!(lines.iter().all(|line| line["message"] == "still \"bad\"" && line["level"] == "WARN"), "{written}");
    assert!((fixture.bodies().len() as u64) < u64::from(rounds), "what leaves over OTLP is limited too");
}
