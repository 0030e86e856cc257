//! The agent's own metrics (contract §2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
};

use crate::agent::{Agent, to_grpc};
use crate::claims::{bytes, has, recent, text, text_of, wall};
use crate::downstream::{Downstream, until};
use crate::scene::{Container, container_id, pod_uid};
use crate::sender::post;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// Every metric of the contract with its instrument and unit; standard names as their convention has them.
const TABLE: &[(&str, Kind, &str)] = &[
    ("container.cpu.time", Counter, "s"),
    ("container.cpu.usage", Gauge, "{cpu}"),
    ("container.memory.usage", Gauge, "By"),
    ("container.memory.working_set", Gauge, "By"),
    ("container.paging.faults", Counter, "{fault}"),
    ("container.uptime", Gauge, "s"),
    ("system.paging.operations", Counter, "{operation}"),
    ("system.paging.faults", Counter, "{fault}"),
    ("stallspan.container.delay.time", Counter, "s"),
    ("stallspan.container.delays", Counter, "{delay}"),
    ("stallspan.container.cpu.run.time", Counter, "s"),
    ("stallspan.container.cpu.throttled.time", Counter, "s"),
    ("stallspan.container.cpu.periods", Counter, "{period}"),
    ("stallspan.container.cpu.throttled_periods", Counter, "{period}"),
    ("stallspan.container.cpu.limit", Gauge, "{cpu}"),
    ("stallspan.container.cpu.burst", Gauge, "s"),
    ("stallspan.container.pressure.time", Counter, "s"),
    ("stallspan.container.cpu.wait.duration", Histogram, "s"),
    ("stallspan.container.reclaim.duration", Histogram, "s"),
    ("stallspan.container.compaction.duration", Histogram, "s"),
    ("stallspan.container.long_waits", Counter, "{wait}"),
    ("stallspan.container.cpu.wait.blamed.time", Counter, "s"),
    ("stallspan.container.memory.reclaim.pages", Counter, "{page}"),
    ("stallspan.container.memory.events", Counter, "{event}"),
    ("stallspan.node.cpu.wait.time", Counter, "s"),
    ("stallspan.node.cpu.run.time", Counter, "s"),
    ("stallspan.node.cpu.timeslices", Counter, "{timeslice}"),
    ("stallspan.node.pressure.time", Counter, "s"),
    ("stallspan.node.memory.reclaim.pages", Counter, "{page}"),
    ("stallspan.node.memory.allocation_stalls", Counter, "{stall}"),
    ("stallspan.node.memory.compaction_stalls", Counter, "{stall}"),
    ("stallspan.node.cgroups.dying", Gauge, "{cgroup}"),
    ("stallspan.node.mesh.proxies", Gauge, "{container}"),
    ("stallspan.source.enabled", Gauge, "{source}"),
    ("stallspan.agent.unexplained_delay.ratio", Gauge, "1"),
    ("stallspan.agent.spans", Counter, "{span}"),
];

fn quick(downstream: &Downstream) -> String {
    format!("{}sources: {{ collection_interval: 1s }}\n", to_grpc(downstream.address))
}

fn resource(metrics: &ResourceMetrics) -> &[opentelemetry_proto::tonic::common::v1::KeyValue] {
    &metrics.resource.as_ref().unwrap().attributes
}

fn metrics_of(metrics: &ResourceMetrics) -> impl DoubleEndedIterator<Item = &Metric> {
    metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics)
}

fn of_container(id: &str) -> impl Fn(&ResourceMetrics) -> bool {
    move |metrics| has(resource(metrics), "container.id") && text_of(resource(metrics), "container.id") == id
}

fn points(metric: &Metric) -> Vec<NumberDataPoint> {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.clone(),
        Data::Gauge(gauge) => gauge.data_points.clone(),
        // Their count stands for them: it only grows too.
        Data::ExponentialHistogram(histogram) => histogram.data_points.iter().map(count_of).collect(),
        other => panic!("{}: {other:?}", metric.name),
    }
}

fn count_of(point: &ExponentialHistogramDataPoint) -> NumberDataPoint {
    let buckets = point.positive.iter().flat_map(|buckets| &buckets.bucket_counts).sum::<u64>();
    assert_eq!(point.count, buckets + point.zero_count, "{point:?}");
    assert!(point.sum.is_some_and(|sum| sum >= 0.0) && point.negative.is_none(), "{point:?}");
    NumberDataPoint {
        attributes: point.attributes.clone(),
        start_time_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        value: Some(Value::AsInt(point.count.try_into().unwrap())),
        ..NumberDataPoint::default()
    }
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value.unwrap() {
        Value::AsDouble(value) => value,
        Value::AsInt(value) => value as f64,
    }
}

/// Attributes of a point as `key=value` words.
fn labels(point: &NumberDataPoint) -> String {
    let mut words: Vec<String> =
        point.attributes.iter().map(|entry| format!("{}={:?}", entry.key, entry.value.as_ref().unwrap().value)).collect();
    words.sort();
    words.join(",")
}

fn label(point: &NumberDataPoint, key: &str) -> String {
    text_of(&point.attributes, key).to_owned()
}

/// Checks every metric against its line, and names those there are.
fn seen(all: &[ResourceMetrics]) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for metrics in all {
        assert!(!text_of(resource(metrics), "host.name").is_empty());
        for metric in metrics_of(metrics) {
            assert!(!metric.description.is_empty(), "{} has no description", metric.name);
            if let Some((name, kind, unit)) = TABLE.iter().find(|(name, ..)| *name == metric.name) {
                assert_eq!(metric.unit, *unit, "{name}");
                assert!(is_right(name, kind, metric.data.as_ref().unwrap()), "{metric:?}");
                seen.insert(*name);
            } else {
                assert!(metric.name.starts_with("stallspan."), "{}", metric.name);
            }
            points_are_sound(metric);
        }
    }
    seen
}

fn is_right(name: &str, kind: &Kind, data: &Data) -> bool {
    match (kind, data) {
        (Counter, Data::Sum(sum)) => sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Cumulative as i32,
        (Gauge, Data::Gauge(_)) | (Histogram, Data::ExponentialHistogram(_)) => true,
        // An up-down counter is what the conventions call memory usage.
        (Gauge, Data::Sum(sum)) => !sum.is_monotonic && name.starts_with("container.memory"),
        _ => false,
    }
}

fn points_are_sound(metric: &Metric) {
    for point in points(metric) {
        // The conservation error is negative where more was counted than there was.
        let least = if metric.name == "stallspan.agent.unexplained_delay.ratio" { -1.0 } else { 0.0 };
        assert!(value(&point).is_finite() && value(&point) >= least, "{}: {point:?}", metric.name);
        assert!(point.time_unix_nano > 0);
        let started = point.start_time_unix_nano > 0 && point.start_time_unix_nano <= point.time_unix_nano;
        assert!(started || !matches!(metric.data, Some(Data::Sum(_))), "{}: {point:?}", metric.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_metric_is_what_its_line_of_the_contract_says() {
    let (id, uid) = (container_id(), pod_uid());
    let _container = Container::busy(&format!("/kubepods/burstable/pod{uid}/{id}"));
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&quick(&downstream));
    post(agent.http(), "/v1/traces", bytes(vec![text("container.id", &id)], vec![recent()])).await;
    until("three collections", || (downstream.resource_metrics().iter().filter(|one| of_container(&id)(one)).count() >= 3).then_some(()))
        .await;
    let all = downstream.resource_metrics();
    let seen = seen(&all);
    // What every Linux node with cgroups can supply.
    for name in [
        "container.cpu.time",
        "container.memory.usage",
        "container.memory.working_set",
        "container.uptime",
        "container.paging.faults",
        "stallspan.container.delay.time",
        "stallspan.container.cpu.run.time",
        "stallspan.container.memory.events",
        "stallspan.source.enabled",
        "stallspan.agent.spans",
        "stallspan.node.memory.reclaim.pages",
        "system.paging.faults",
        "system.paging.operations",
    ] {
        assert!(seen.contains(name), "{name} is missing; there are {seen:?}");
    }
    let ours = all.iter().rfind(|one| of_container(&id)(one)).unwrap();
    assert_eq!(text_of(resource(ours), "k8s.pod.uid"), uid);
    let delays = metrics_of(ours).find(|metric| metric.name == "stallspan.container.delay.time").unwrap();
    let kinds: BTreeSet<String> = points(delays).iter().map(|point| label(point, "stallspan.delay.type")).collect();
    assert!(kinds.contains("cpu"), "{kinds:?}");
    let known = ["cpu", "block_io", "swapin", "reclaim", "compaction", "thrashing", "write_protect_copy", "irq"];
    assert!(kinds.iter().all(|kind| known.contains(&kind.as_str())), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_resource_metrics_a_container_in_each_collection_and_counters_that_only_grow() {
    let ids = [container_id(), container_id()];
    let _containers = [Container::busy(&format!("/docker/{}", ids[0])), Container::idle(&format!("/docker/{}", ids[1]))];
    let downstream = Downstream::accepting().await;
    let _agent = Agent::start(&quick(&downstream));
    let count = |id: &str| downstream.resource_metrics().iter().filter(|one| of_container(id)(one)).count();
    until("four collections of both", || ids.iter().all(|id| count(id) >= 4).then_some(())).await;
    let all = downstream.resource_metrics();
    for id in &ids {
        let mut times = BTreeSet::new();
        let mut last: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for one in all.iter().filter(|one| of_container(id)(one)) {
            let time = metrics_of(one).flat_map(points).map(|point| point.time_unix_nano).max().unwrap();
            assert!(times.insert(time), "two ResourceMetrics of one container in a collection");
            for metric in metrics_of(one).filter(|metric| matches!(metric.data, Some(Data::Sum(ref sum)) if sum.is_monotonic)) {
                for point in points(metric) {
                    let series = format!("{} {}", metric.name, labels(&point));
                    let (start, before) = last
                        .insert(series.clone(), (point.start_time_unix_nano, value(&point)))
                        .unwrap_or((point.start_time_unix_nano, 0.0));
                    assert!(value(&point) >= before && point.start_time_unix_nano == start, "{series} went back");
                }
            }
        }
        let (_, cpu) =
            last.iter().find(|(series, _)| series.starts_with("stallspan.container.delay.time") && series.contains("\"cpu\"")).unwrap();
        assert!(cpu.0 > 0, "an idle container has its points too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_metrics_are_out_within_one_interval_of_its_start() {
    let downstream = Downstream::accepting().await;
    let _agent = Agent::start(&quick(&downstream).replace("1s", "2s"));
    until("the first collection", || (!downstream.resource_metrics().is_empty()).then_some(())).await;
    for _ in 0..3 {
        let id = container_id();
        let before = wall(Duration::ZERO);
        let _container = Container::idle(&format!("/docker/{id}"));
        let collections = downstream.of("metrics").len();
        let first =
            until("metrics of a new container", || downstream.resource_metrics().into_iter().find(|one| of_container(&id)(one))).await;
        // The one under way may have begun before it; a starved machine finds a new container a little later.
        let missed = downstream.of("metrics")[collections..].iter().position(|got| got.body.windows(64).any(|text| text == id.as_bytes()));
        assert!(missed.is_some_and(|missed| missed <= 3), "it was missing in {missed:?} collections");
        let delays = metrics_of(&first).find(|metric| metric.name == "stallspan.container.delay.time").unwrap();
        let cpu = points(delays).into_iter().find(|point| label(point, "stallspan.delay.type") == "cpu").unwrap();
        assert!(value(&cpu) < 0.5 && cpu.start_time_unix_nano + 1_000_000_000 > before, "{cpu:?}, started after {before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_values_of_a_container_that_ends_are_sent() {
    let downstream = Downstream::accepting().await;
    let _agent = Agent::start(&quick(&downstream).replace("1s", "3s"));
    until("the first collection", || (!downstream.resource_metrics().is_empty()).then_some(())).await;
    let id = container_id();
    let mut container = Container::busy(&format!("/docker/{id}"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    container.end();
    let last =
        until("metrics of the ended container", || downstream.resource_metrics().into_iter().rfind(|one| of_container(&id)(one))).await;
    let run = metrics_of(&last).find(|metric| metric.name == "stallspan.container.cpu.run.time").map(|metric| value(&points(metric)[0]));
    assert!(run.is_some_and(|run| run > 0.0), "{last:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_say_whether_they_work_and_why_not() {
    let downstream = Downstream::accepting().await;
    let _agent = Agent::start(&quick(&downstream));
    let node = until("the node's metrics", || {
        downstream.resource_metrics().into_iter().find(|one| metrics_of(one).any(|metric| metric.name == "stallspan.source.enabled"))
    })
    .await;
    assert!(!has(resource(&node), "container.id"));
    let enabled = metrics_of(&node).find(|metric| metric.name == "stallspan.source.enabled").unwrap();
    let mut told = BTreeMap::new();
    for point in points(enabled) {
        let reason = has(&point.attributes, "stallspan.reason").then(|| label(&point, "stallspan.reason"));
        assert!(told.insert(label(&point, "stallspan.source"), (value(&point), reason)).is_none());
    }
    let names: Vec<&str> = told.keys().map(String::as_str).collect();
    assert_eq!(names, ["bpf", "cgroup", "containerd", "node", "psi", "schedstat", "taskstats", "taskstats_exits"]);
    let reasons = ["disabled", "no_permission", "not_supported", "absent", "unreachable", "timeout", "garbage", "failed"];
    for (source, (value, reason)) in &told {
        match reason {
            None => assert_eq!(*value, 1.0, "{source}"),
            Some(reason) => assert!(*value == 0.0 && reasons.contains(&reason.as_str()), "{source}: {value} {reason}"),
        }
    }
    assert_eq!(told["containerd"].1.as_deref(), Some("disabled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_told_with_what_it_cost() {
    let (limited, free) = (container_id(), container_id());
    let container = Container::busy(&format!("/docker/{limited}"));
    container.quota(4);
    let _free = Container::idle(&format!("/docker/{free}"));
    let downstream = Downstream::accepting().await;
    let _agent = Agent::start(&quick(&downstream));
    let of = |id: &str, name: &str| {
        let all = downstream.resource_metrics();
        let last = all.iter().rfind(|one| of_container(id)(one))?;
        let metric = metrics_of(last).find(|metric| metric.name == name)?;
        Some(points(metric).iter().map(value).sum::<f64>())
    };
    let told = |name: &str| of(&limited, &format!("stallspan.container.cpu.{name}"));
    until("throttling", || told("throttled.time").filter(|seconds| *seconds > 0.1)).await;
    assert_eq!(told("limit"), Some(0.04));
    assert!(told("throttled_periods").unwrap() >= 1.0 && told("periods").unwrap() >= told("throttled_periods").unwrap());
    assert_eq!(of(&free, "stallspan.container.cpu.limit"), None, "absent when unlimited");
    assert_eq!(of(&free, "stallspan.container.cpu.throttled.time"), Some(0.0), "measured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_not_there_is_told_from_the_first_collection_on() {
    let downstream = Downstream::accepting().await;
    let directory = tempfile::TempDir::new().unwrap();
    let socket = format!("containerd: {{ endpoint: \"unix://{}\" }}", directory.path().join("none.sock").display());
    let _agent = Agent::start(&quick(&downstream).replace("containerd: { enabled: false }", &socket));
    let first = until("the node's metrics", || {
        downstream.resource_metrics().iter().flat_map(metrics_of).find(|metric| metric.name == "stallspan.source.enabled").cloned()
    })
    .await;
    let containerd = points(&first).into_iter().find(|point| label(point, "stallspan.source") == "containerd").unwrap();
    assert_eq!((value(&containerd), label(&containerd, "stallspan.reason").as_str()), (0.0, "absent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_counted_by_outcome() {
    let id = container_id();
    let _container = Container::idle(&format!("/docker/{id}"));
    let downstream = Downstream::start(|_, got| {
        let refused = got.path.contains("TraceService") && got.body.windows(6).any(|window| window == b"refuse");
        if refused { crate::downstream::Answer::Grpc(3, vec![]) } else { crate::downstream::Answer::Accept(bytes::Bytes::new()) }
    })
    .await;
    let agent = Agent::start(&quick(&downstream));
    let send = async |claims, spans| post(agent.http(), "/v1/traces", bytes(claims, spans)).await.status;
    assert_eq!(send(vec![text("container.id", &id)], vec![recent(); 3]).await, 200);
    assert_eq!(send(vec![], vec![recent(); 2]).await, 200);
    assert_eq!(send(vec![text("service.name", "refuse")], vec![recent(); 4]).await, 400);
    let outcome = |name: &str| {
        let all = downstream.resource_metrics();
        let metric = all.iter().flat_map(metrics_of).rfind(|metric| metric.name == "stallspan.agent.spans")?;
        // By reason too where there is one: the sum counts.
        Some(points(metric).iter().filter(|point| label(point, "stallspan.outcome") == name).map(value).sum::<f64>())
    };
    until("the counts", || (outcome("received") == Some(9.0)).then_some(())).await;
    for (name, count) in [("enriched", 3.0), ("unmatched", 6.0), ("forwarded", 5.0), ("refused", 4.0), ("failed", 0.0)] {
        assert_eq!(outcome(name), Some(count), "{name}");
    }
}
