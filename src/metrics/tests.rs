use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, ExponentialHistogramDataPoint, NumberDataPoint, ResourceMetrics};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::model::{
    Absence, Blamed, CgroupStat, Container, ContainerKey, CulpritKind, DelayKind, DoorCounters, Durations, EventSource, NodeCpu, Pod,
    SingleWaits, SourceName, Totals,
};
use crate::otlp::metric_names as names;
use crate::otlp::metric_names::{Instrument, Level};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_700_000_000 * SECOND;

fn about() -> About {
    About { host_name: "node-a".to_owned(), node_name: Some("worker-1".to_owned()), version: "0.1.0".to_owned() }
}

/// A container of Kubernetes of which everything is known.
fn known(key: u64) -> ContainerSnapshot {
    let mut totals = Totals { run_ns: Some(7 * SECOND), throttled_ns: Some(SECOND), ..Totals::default() };
    for (index, kind) in (1..).zip(DelayKind::ALL) {
        totals.delay_ns.set(kind, Some(index * SECOND / 2));
        totals.delay_count.set(kind, Some(index));
    }
    ContainerSnapshot {
        container: Arc::new(Container {
            key: ContainerKey(key),
            id: format!("{key:064x}"),
            runtime: Some("containerd"),
            runtime_namespace: Some("k8s.io".to_owned()),
            name: Some("app".to_owned()),
            image: Some("registry.example/shop/app:1".to_owned()),
            k8s_container_name: Some("app".to_owned()),
            pod: Some(Pod {
                uid: "0f5b7c9e-0000-4000-8000-000000000001".to_owned(),
                name: Some("checkout-7d9".to_owned()),
                namespace: Some("shop".to_owned()),
                ip: Some("10.1.2.3".to_owned()),
            }),
            started: Some(Wall(NOW - 3_600 * SECOND)),
            sandbox: false,
        }),
        since: Wall(NOW - 60 * SECOND),
        totals,
        cgroup: CgroupStat {
            cpu_usage_ns: Some(100 * SECOND),
            cpu_user_ns: Some(70 * SECOND),
            cpu_system_ns: Some(30 * SECOND),
            periods: Some(500),
            throttled_periods: Some(50),
            throttled_ns: Some(2 * SECOND),
            throttled_local_ns: Some(3 * SECOND),
            cpu_limit: Some(0.5),
            cpu_limit_known: true,
            cpu_burst_ns: Some(20_000_000),
            cpus: Some(4),
            cpu_weight: Some(79.0),
            memory_usage: Some(64 << 20),
            memory_working_set: Some(48 << 20),
            faults_minor: Some(1_000),
            faults_major: Some(10),
            memory_events: [Some(1), Some(2), Some(3), Some(4), Some(5)],
            reclaim_pages: [Some(40), Some(30), Some(20), Some(10)],
            refaults: [Some(5), Some(6)],
            pressure_ns: [[Some(SECOND), Some(SECOND / 2)]; 4],
        },
        singles: Some(singles()),
    }
}

fn durations(counts: &[(usize, u64)], sum_ns: u64) -> Durations {
    let mut durations = Durations { scale: 2, first: -80, below: 4, counts: vec![0; 96], sum_ns };
    for (bucket, count) in counts {
        durations.counts[*bucket] = *count;
    }
    durations
}

fn singles() -> SingleWaits {
    let blamed = |name: &str, kind, seconds| Blamed { name: name.to_owned(), kind, since: Wall(NOW - 50 * SECOND), ns: seconds * SECOND };
    SingleWaits {
        since: Wall(NOW - 55 * SECOND),
        cpu: durations(&[(30, 7), (31, 0), (32, 2), (40, 1)], 3 * SECOND),
        reclaim: Some(durations(&[(0, 1)], SECOND)),
        compaction: Some(Durations { below: 0, ..durations(&[], 0) }),
        long_waits: vec![(1_000_000, 40), (10_000_000, 12), (50_000_000, 3), (100_000_000, 0)],
        blamed: vec![
            blamed("shop/noisy-1/worker", CulpritKind::Neighbor, 9),
            blamed("host:kworker/0:1", CulpritKind::Host, 2),
            blamed("other", CulpritKind::Neighbor, 1),
            blamed("shop/checkout-7d9/app", CulpritKind::Own, 4),
            blamed("throttled", CulpritKind::Throttled, 6),
            blamed("idle", CulpritKind::Idle, 0),
        ],
    }
}

/// A container of which nothing but the id is known.
fn unknown(key: u64) -> ContainerSnapshot {
    ContainerSnapshot {
        container: Arc::new(Container {
            key: ContainerKey(key),
            id: format!("{key:064x}"),
            runtime: None,
            runtime_namespace: None,
            name: None,
            image: None,
            k8s_container_name: None,
            pod: None,
            started: None,
            sandbox: false,
        }),
        since: Wall(NOW - 60 * SECOND),
        totals: Totals::default(),
        cgroup: CgroupStat::default(),
        singles: None,
    }
}

fn host() -> NodeSnapshot {
    NodeSnapshot {
        cpus: (0..2).map(|cpu| NodeCpu { cpu, wait_ns: 5 * SECOND, run_ns: 900 * SECOND, timeslices: 12_345 }).collect(),
        pressure_ns: [
            [Some(8 * SECOND), None],
            [Some(SECOND), Some(SECOND / 4)],
            [Some(2 * SECOND), Some(SECOND)],
            [None, Some(SECOND / 8)],
        ],
        reclaim_pages: [Some(400), Some(300), Some(200), Some(100)],
        allocation_stalls: Some(12),
        compaction_stalls: Some(3),
        swap_pages: [Some(6), Some(9)],
        faults: [Some(100_000), Some(700)],
        irq_ns: [Some(3 * SECOND), Some(7 * SECOND)],
        cgroups_dying: Some(17),
        boot: Some(Wall(NOW - 86_400 * SECOND)),
        cpus_since: None,
        events: Some(EventSource { since: Wall(NOW - 56 * SECOND), map_bytes: 10 << 20, records: 1_234, lost: 5 }),
        sources: vec![
            (SourceName::Bpf, Err(Absence::NotSupported)),
            (SourceName::Taskstats, Ok(())),
            (SourceName::Containerd, Err(Absence::Unreachable)),
        ],
        unexplained_ratio: Some(0.015),
        mesh_proxies: vec![("istio-proxy".to_owned(), 1), ("linkerd-proxy".to_owned(), 4)],
    }
}

fn counters() -> AgentCounters {
    AgentCounters {
        since: Wall(NOW - 120 * SECOND),
        spans: [100, 90, 8, 97, 2, 1],
        unenriched: [8, 1, 0, 1, 0, 0],
        requests: [[9, 1, 0], [0, 0, 0], [3, 0, 0]],
        door: DoorCounters { turned_away: [1, 2, 3, 4, 5, 6], unserved: [7, 8, 9] },
        active_requests: 1,
        request_memory: 2_048,
        active_connections: 2,
        metric_exports: [12, 0, 0],
        resources_left_out: 0,
        points_held_back: 0,
        lines_left_out: [5, 0],
        telemetry_failures: [0, 0, 0],
        exits: [900, 3, 2],
    }
}

struct Given {
    containers: Vec<ContainerSnapshot>,
    node: NodeSnapshot,
    agent: Option<AgentCounters>,
    cap: usize,
}

impl Given {
    fn of(containers: Vec<ContainerSnapshot>) -> Self {
        Self { containers, node: NodeSnapshot::default(), agent: None, cap: DEFAULT_RESOURCE_CAP }
    }

    /// Encodes at so many seconds past the hour.
    fn encode(&self, second: u64, memory: &mut Memory) -> Encoded {
        let collection = Collection {
            at: Mono(second * SECOND),
            wall: Wall(NOW + second * SECOND),
            containers: &self.containers,
            node: &self.node,
            agent: self.agent.as_ref(),
            about: &about(),
            resource_cap: self.cap,
        };
        encode(&collection, memory)
    }
}

fn decoded(encoded: &Encoded) -> Vec<ResourceMetrics> {
    encoded
        .requests
        .iter()
        .flat_map(|bytes| ExportMetricsServiceRequest::decode(bytes.clone()).expect("our own bytes").resource_metrics)
        .collect()
}

fn string(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

fn resource_string(message: &ResourceMetrics, key: &str) -> Option<String> {
    string(&message.resource.as_ref()?.attributes, key)
}

fn points<'a>(message: &'a ResourceMetrics, name: &str) -> &'a [NumberDataPoint] {
    let mut metrics = message.scope_metrics.iter().flat_map(|scope| &scope.metrics);
    match metrics.find(|metric| metric.name == name).and_then(|metric| metric.data.as_ref()) {
        Some(Data::Sum(sum)) => &sum.data_points,
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        _ => &[],
    }
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(Value::AsDouble(value)) => value,
        Some(Value::AsInt(value)) => value as f64,
        None => f64::NAN,
    }
}

#[track_caller]
fn only(message: &ResourceMetrics, name: &str) -> f64 {
    let points = points(message, name);
    assert_eq!(points.len(), 1, "{name}");
    value(&points[0])
}

#[test]
fn the_fixed_snapshot_is_the_golden_file() {
    let mut given = Given::of(vec![known(1), unknown(2)]);
    given.node = host();
    given.agent = Some(counters());
    let mut memory = Memory::default();
    given.encode(0, &mut memory);
    let mut later = known(1);
    later.cgroup.cpu_usage_ns = Some(105 * SECOND);
    given.containers = vec![later, unknown(2)];
    let encoded = given.encode(10, &mut memory);
    let request = ExportMetricsServiceRequest { resource_metrics: decoded(&encoded) };
    let fresh = serde_json::to_string_pretty(&request).expect("serializable") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("a directory");
        std::fs::write(path, &fresh).expect("golden file can be written");
        panic!("tests/golden/metrics.json was written anew: look at the difference and run again without UPDATE_GOLDEN");
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == fresh, "the encoder's output changed; UPDATE_GOLDEN=1 writes tests/golden/metrics.json anew");
}

#[test]
fn every_metric_this_evidence_can_supply_is_sent_as_the_table_says() {
    let mut given = Given::of(vec![known(1)]);
    given.node = host();
    given.agent = Some(counters());
    let mut memory = Memory::default();
    given.encode(0, &mut memory);
    let messages = decoded(&given.encode(10, &mut memory));
    let mut sent = BTreeSet::new();
    for (message, level) in messages.iter().zip([Level::Container, Level::Host, Level::Agent]) {
        for metric in message.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let row = names::all().find(|row| row.name == metric.name).expect("a row of the table");
            assert_eq!(row.level, level, "{}", row.name);
            assert_eq!((metric.unit.as_str(), metric.description.as_str()), (row.unit, row.description));
            let shape = match metric.data.as_ref().expect("data") {
                Data::Sum(sum) => {
                    assert_eq!(sum.aggregation_temporality, i32::from(AggregationTemporality::Cumulative));
                    if sum.is_monotonic { Instrument::Counter } else { Instrument::UpDownCounter }
                }
                Data::ExponentialHistogram(histogram) => {
                    assert_eq!(histogram.aggregation_temporality, i32::from(AggregationTemporality::Cumulative));
                    Instrument::ExponentialHistogram
                }
                _ => Instrument::Gauge,
            };
            assert_eq!(shape, row.instrument, "{}", row.name);
            let keys: BTreeSet<_> = row.attributes.iter().map(|attribute| attribute.key).collect();
            for point in points(message, &metric.name) {
                assert!(point.attributes.iter().all(|attribute| keys.contains(attribute.key.as_str())), "{}", row.name);
            }
            assert!(sent.insert(row.name), "{} is sent twice", row.name);
        }
    }
    assert_eq!(sent, names::all().map(|row| row.name).collect());
}

fn distribution(message: &ResourceMetrics, name: &str) -> ExponentialHistogramDataPoint {
    let mut metrics = message.scope_metrics.iter().flat_map(|scope| &scope.metrics);
    match metrics.find(|metric| metric.name == name).and_then(|metric| metric.data.as_ref()) {
        Some(Data::ExponentialHistogram(histogram)) if histogram.data_points.len() == 1 => histogram.data_points[0].clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn durations_are_exponential_histograms_cut_to_what_they_hold() {
    let messages = decoded(&Given::of(vec![known(1)]).encode(0, &mut Memory::default()));
    let waits = distribution(&messages[0], "stallspan.container.cpu.wait.duration");
    assert_eq!((waits.scale, waits.zero_count, waits.count, waits.sum), (2, 4, 14, Some(3.0)));
    assert_eq!((waits.start_time_unix_nano, waits.time_unix_nano), (NOW - 55 * SECOND, NOW));
    assert_eq!(waits.zero_threshold, 2f64.powi(-20));
    let buckets = waits.positive.unwrap();
    assert_eq!((buckets.offset, buckets.bucket_counts.as_slice()), (-50, [7, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1].as_slice()));
    let none = distribution(&messages[0], "stallspan.container.compaction.duration");
    assert_eq!((none.count, none.sum, none.positive), (0, Some(0.0), None));
}

#[test]
fn thresholds_are_told_in_seconds_and_culprits_by_name_and_type() {
    let messages = decoded(&Given::of(vec![known(1)]).encode(0, &mut Memory::default()));
    let long: Vec<_> = points(&messages[0], "stallspan.container.long_waits")
        .iter()
        .map(|point| (point.attributes[0].value.clone(), value(point)))
        .collect();
    let double = |seconds| Some(any_value::Value::DoubleValue(seconds));
    assert_eq!(
        long.iter().map(|(threshold, _)| threshold.clone().unwrap().value).collect::<Vec<_>>(),
        [0.001, 0.01, 0.05, 0.1].map(double)
    );
    assert_eq!(long.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [40.0, 12.0, 3.0, 0.0]);
    let blamed = points(&messages[0], "stallspan.container.cpu.wait.blamed.time");
    let told: Vec<_> = blamed
        .iter()
        .map(|point| {
            let text = |key| string(&point.attributes, key).unwrap();
            (text("stallspan.culprit.name"), text("stallspan.culprit.type"), value(point))
        })
        .collect();
    assert_eq!(told[0], ("shop/noisy-1/worker".to_owned(), "neighbor".to_owned(), 9.0));
    assert_eq!(told[3], ("shop/checkout-7d9/app".to_owned(), "self".to_owned(), 4.0));
    assert_eq!(told.len(), 6);
    assert!(blamed.iter().all(|point| point.start_time_unix_nano == NOW - 50 * SECOND));
}

#[test]
fn what_is_not_known_is_absent() {
    let encoded = Given::of(vec![unknown(1)]).encode(0, &mut Memory::default());
    assert!(encoded.requests.is_empty(), "nothing is known of the container, the host or the agent");

    let mut idle = unknown(1);
    idle.totals.delay_ns.set(DelayKind::Cpu, Some(0));
    let messages = decoded(&Given::of(vec![idle]).encode(0, &mut Memory::default()));
    let names: Vec<_> = messages[0].scope_metrics[0].metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["stallspan.container.delay.time"], "a measured zero is sent, and nothing else");
    assert_eq!(only(&messages[0], names[0]), 0.0);
}

#[test]
fn every_resource_says_its_host_and_containers_say_their_pod() {
    let mut given = Given::of(vec![known(1)]);
    given.node = host();
    given.agent = Some(counters());
    let messages = decoded(&given.encode(0, &mut Memory::default()));
    assert_eq!(messages.len(), 3);
    for message in &messages {
        assert_eq!(resource_string(message, "host.name").as_deref(), Some("node-a"));
        assert_eq!(resource_string(message, "k8s.node.name").as_deref(), Some("worker-1"));
        assert_eq!(message.schema_url, names::SCHEMA_URL);
        let scope = message.scope_metrics[0].scope.as_ref().expect("a scope");
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("stallspan", "0.1.0"));
    }
    for (key, expected) in [
        ("container.id", format!("{:064x}", 1)),
        ("container.name", "app".to_owned()),
        ("container.image.name", "registry.example/shop/app:1".to_owned()),
        ("container.runtime.name", "containerd".to_owned()),
        ("k8s.container.name", "app".to_owned()),
        ("k8s.pod.uid", "0f5b7c9e-0000-4000-8000-000000000001".to_owned()),
        ("k8s.pod.name", "checkout-7d9".to_owned()),
        ("k8s.namespace.name", "shop".to_owned()),
        ("k8s.pod.ip", "10.1.2.3".to_owned()),
    ] {
        assert_eq!(resource_string(&messages[0], key), Some(expected), "{key}");
    }
    assert_eq!(resource_string(&messages[2], "service.name").as_deref(), Some("stallspan"));
}

#[test]
fn starts_are_the_container_s_life_for_the_kernel_s_counters_and_ours_for_our_own() {
    let mut given = Given::of(vec![known(1)]);
    given.node = host();
    let messages = decoded(&given.encode(0, &mut Memory::default()));
    let start = |message: usize, name| points(&messages[message], name)[0].start_time_unix_nano;
    assert_eq!(start(0, "container.cpu.time"), NOW - 3_600 * SECOND);
    assert_eq!(start(0, "stallspan.container.cpu.periods"), NOW - 3_600 * SECOND);
    assert_eq!(start(0, "stallspan.container.delay.time"), NOW - 60 * SECOND);
    assert_eq!(start(1, "stallspan.node.cpu.wait.time"), NOW - 86_400 * SECOND);
    assert_eq!(start(1, "stallspan.node.cgroups.dying"), 0, "a gauge has no start");
}

#[test]
fn usage_is_the_growth_since_the_collection_before() {
    let mut memory = Memory::default();
    let at = |used: Option<u64>| {
        let mut snapshot = known(1);
        snapshot.cgroup.cpu_usage_ns = used.map(|used| used * SECOND);
        Given::of(vec![snapshot])
    };
    #[track_caller]
    fn check(encoded: &Encoded, expected: Option<f64>) {
        assert_eq!(points(&decoded(encoded)[0], "container.cpu.usage").first().map(value), expected);
    }
    check(&at(Some(100)).encode(0, &mut memory), None);
    check(&at(Some(105)).encode(10, &mut memory), Some(0.5));
    check(&at(Some(105)).encode(20, &mut memory), Some(0.0));
    check(&at(Some(104)).encode(30, &mut memory), None);
    check(&at(Some(106)).encode(40, &mut memory), Some(0.2));
    check(&at(None).encode(50, &mut memory), None);
    check(&at(Some(110)).encode(60, &mut memory), None);
    check(&at(Some(111)).encode(60, &mut memory), None);
}

#[test]
fn cpu_time_carries_modes_on_all_points_or_on_none() {
    let modes = |snapshot| {
        let messages = decoded(&Given::of(vec![snapshot]).encode(0, &mut Memory::default()));
        points(&messages[0], "container.cpu.time")
            .iter()
            .map(|point| (string(&point.attributes, "cpu.mode"), value(point)))
            .collect::<Vec<_>>()
    };
    assert_eq!(modes(known(1)), [(Some("user".to_owned()), 70.0), (Some("system".to_owned()), 30.0)]);
    let mut without = known(1);
    without.cgroup.cpu_system_ns = None;
    assert_eq!(modes(without), [(None, 100.0)]);
}

#[test]
fn throttled_time_counts_an_ancestor_s_quota_where_the_kernel_tells_it() {
    let throttled = |own, local| {
        let mut snapshot = known(1);
        (snapshot.cgroup.throttled_ns, snapshot.cgroup.throttled_local_ns) = (own, local);
        let messages = decoded(&Given::of(vec![snapshot]).encode(0, &mut Memory::default()));
        points(&messages[0], "stallspan.container.cpu.throttled.time").first().map(value)
    };
    assert_eq!(throttled(Some(2 * SECOND), None), Some(2.0));
    assert_eq!(throttled(Some(0), Some(3 * SECOND)), Some(3.0));
    assert_eq!(throttled(None, None), None);
}

#[test]
fn sources_that_do_not_work_say_why() {
    let mut given = Given::of(Vec::new());
    given.node = host();
    let messages = decoded(&given.encode(0, &mut Memory::default()));
    let told: BTreeMap<_, _> = points(&messages[0], "stallspan.source.enabled")
        .iter()
        .map(|point| {
            (string(&point.attributes, "stallspan.source").unwrap(), (value(point), string(&point.attributes, "stallspan.reason")))
        })
        .collect();
    assert_eq!(told["taskstats"], (1.0, None));
    assert_eq!(told["bpf"], (0.0, Some("not_supported".to_owned())));
    assert_eq!(told["containerd"], (0.0, Some("unreachable".to_owned())));
}

#[test]
fn sandboxes_have_no_metrics() {
    let mut sandbox = known(1);
    Arc::make_mut(&mut sandbox.container).sandbox = true;
    assert!(Given::of(vec![sandbox]).encode(0, &mut Memory::default()).requests.is_empty());
}

#[test]
fn over_the_cap_those_known_longest_stay_and_the_rest_is_counted() {
    let mut given = Given::of([5, 3, 9, 1, 7].map(known).to_vec());
    given.cap = 3;
    let encoded = given.encode(0, &mut Memory::default());
    let ids: Vec<_> = decoded(&encoded).iter().filter_map(|message| resource_string(message, "container.id")).collect();
    assert_eq!(ids, [1, 3, 5].map(|key| format!("{key:064x}")));
    assert_eq!(encoded.resources_left_out, 2);
}

#[test]
fn counters_that_fall_are_held_and_counted() {
    let mut memory = Memory::default();
    Given::of(vec![known(1)]).encode(0, &mut memory);
    let mut fallen = known(1);
    fallen.cgroup.periods = Some(499);
    fallen.totals.delay_ns.set(DelayKind::Irq, Some(0));
    let encoded = Given::of(vec![fallen]).encode(10, &mut memory);
    assert_eq!(encoded.points_held_back, 2);
    assert_eq!(only(&decoded(&encoded)[0], "stallspan.container.cpu.periods"), 500.0);
}

#[test]
fn a_wall_clock_set_back_puts_no_point_before_its_start() {
    let mut snapshot = known(1);
    snapshot.since = Wall(NOW + 50 * SECOND);
    let messages = decoded(&Given::of(vec![snapshot]).encode(0, &mut Memory::default()));
    for point in points(&messages[0], "stallspan.container.delay.time") {
        assert!(point.time_unix_nano >= point.start_time_unix_nano);
    }
}

#[test]
fn a_machine_with_every_cpu_linux_allows_is_split_over_requests() {
    let mut given = Given::of(Vec::new());
    given.node.cpus = (0..8_192).map(|cpu| NodeCpu { cpu, wait_ns: u64::MAX, run_ns: u64::MAX, timeslices: u64::MAX }).collect();
    let encoded = given.encode(0, &mut Memory::default());
    assert!(encoded.requests.iter().all(|request| request.len() <= MAX_REQUEST_BYTES));
    let total: usize = decoded(&encoded).iter().map(|message| points(message, "stallspan.node.cpu.timeslices").len()).sum();
    assert_eq!(total, 8_192);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However long the names are: no request is too large, and no container is lost or doubled.
    #[test]
    fn requests_are_bounded_and_complete(lengths in prop::collection::vec(0usize..40_000, 1..200), long in 0usize..4_000_000) {
        let mut containers: Vec<_> = (1..).map(known).take(lengths.len()).collect();
        for (snapshot, length) in containers.iter_mut().zip(&lengths) {
            let container = Arc::make_mut(&mut snapshot.container);
            container.name = Some("n".repeat(*length));
            container.image = Some("i".repeat(*length));
            container.pod.as_mut().unwrap().name = Some("p".repeat(*length));
        }
        Arc::make_mut(&mut containers[0].container).name = Some("x".repeat(long));
        let encoded = Given::of(containers).encode(0, &mut Memory::default());
        prop_assert!(encoded.requests.iter().all(|request| request.len() <= MAX_REQUEST_BYTES));
        let ids: Vec<_> = decoded(&encoded).iter().filter_map(|message| resource_string(message, "container.id")).collect();
        prop_assert_eq!(ids.len(), lengths.len());
        prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), lengths.len());
    }
}
