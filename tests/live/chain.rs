//! The whole chain: a container that starves behind a neighbor, its spans in Jaeger and Tempo with the time it waited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::agent::{Agent, Setting};
use crate::lab::backends::{Jaeger, Span, Tempo};
use crate::lab::collector::Collector;
use crate::lab::containers::{Container, Containerd, Spec};
use crate::lab::process::{installed, run};
use crate::lab::{Lab, free_address, http, ours, wait_for};

const SPANS: usize = 200;
const POD: &str = "checkout-6f7c9b-x2x4q";
const NAMESPACE: &str = "shop";
const UID: &str = "3b1f7a52-6c0e-4d7a-9b1e-5a0d1c2e3f40";
/// One CPU for all of them, as a mask.
const CPU: &str = "1";
/// How far the sums may be apart: within 1.5 % on a calm machine (`make accuracy` prints it).
const TOLERANCE: f64 = 0.05;
/// So many spans of the container's last moments may have come after its last reading.
const UNREAD: usize = SPANS / 20;

/// Nobody asks for a container before its first span comes: until then it is read once an interval.
const RESOLUTION_S: f64 = 5.0;

/// What the service printed of one of its spans.
struct Truth {
    span_id: String,
    trace_id: String,
    /// All its threads together, as the container's scope counts.
    run_delay_s: f64,
    /// The one that the span is about.
    thread_delay_s: f64,
    duration_s: f64,
}

struct Chain {
    agent: Agent,
    _behind: Collector,
    jaeger: Jaeger,
    tempo: Tempo,
    containerd: Containerd,
    scrape: String,
    /// Last, because the others write into it.
    lab: Lab,
}

impl Chain {
    /// `set`: what of the agent's configuration is not the default.
    fn start(set: &[&str]) -> Self {
        let lab = Lab::new();
        let mut tempo = Tempo::start(&lab);
        let jaeger = Jaeger::start(&lab);
        let containerd = Containerd::start(&lab);
        let (behind, scrape) = (free_address(), free_address());
        let files = ["behind-jaeger.yaml", "behind-tempo.yaml", "metrics-prometheus.yaml"];
        let endpoints = [
            ("BEHIND_GRPC", &*behind),
            ("JAEGER_ENDPOINT", &*jaeger.otlp),
            ("TEMPO_ENDPOINT", &*tempo.otlp),
            ("PROMETHEUS_SCRAPE", &*scrape),
        ];
        let collector = Collector::start(&lab, "behind", &files, &endpoints);
        let setting = Setting { downstream: &behind, containerd: Some(&containerd.socket), interval: "1s", set };
        let agent = Agent::start(&lab, &setting);
        tempo.ready();
        Self { agent, _behind: collector, jaeger, tempo, containerd, scrape, lab }
    }

    /// Two busy loops in a container of their own, on the victim's CPU.
    fn neighbor(&mut self) -> Container {
        let labels =
            [("io.kubernetes.pod.name", "batch-0"), ("io.kubernetes.pod.namespace", "jobs"), ("io.kubernetes.container.name", "cruncher")];
        let loops = "while :; do :; done & while :; do :; done & wait";
        let command = ["/bin/taskset", CPU, "/bin/sh", "-c", loops];
        let spec = Spec { namespace: "k8s.io", id: "neighbor", labels: &labels, environment: &[], bound: &[], command: &command };
        self.containerd.run(&self.lab, &spec)
    }

    /// The service of `examples/`, told where to send and who it is by the standard variables.
    fn victim(&mut self, id: &str, endpoint: &str, claims: &str, threads: usize) -> Vec<Truth> {
        let program = ours("CHECKOUT_BIN", "examples/checkout");
        let endpoint = format!("http://{endpoint}");
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_SERVICE_NAME", id),
            ("OTEL_RESOURCE_ATTRIBUTES", claims),
            // Milliseconds. A thread that ended before its first span came cannot be found by its number any more.
            ("OTEL_BSP_SCHEDULE_DELAY", "300"),
        ];
        let labels = [
            ("io.kubernetes.pod.name", POD),
            ("io.kubernetes.pod.namespace", NAMESPACE),
            ("io.kubernetes.pod.uid", UID),
            ("io.kubernetes.container.name", "app"),
            ("io.cri-containerd.kind", "container"),
        ];
        let (requests, threads) = ((SPANS / threads).to_string(), threads.to_string());
        let work = ["--requests", &requests, "--threads", &threads, "--cpu-ms", "10"];
        let command = [&["/bin/taskset", CPU, program.to_str().unwrap()][..], &work].concat();
        let spec = Spec { namespace: "k8s.io", id, labels: &labels, environment: &environment, bound: &[&program], command: &command };
        let container = self.containerd.run(&self.lab, &spec);
        container.wait(Duration::from_secs(240));
        let output = container.output();
        let truths: Vec<Truth> = output.lines().filter(|line| line.starts_with('{')).map(truth).collect();
        assert_eq!((truths.len(), output.lines().count()), (SPANS, SPANS), "what the service printed:\n{output}");
        truths
    }
}

fn truth(line: &str) -> Truth {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let seconds = |from: u64| Duration::from_nanos(from).as_secs_f64();
    Truth {
        span_id: line["span_id"].as_str().unwrap().to_owned(),
        trace_id: line["trace_id"].as_str().unwrap().to_owned(),
        run_delay_s: seconds(line["process_ns"].as_u64().unwrap()),
        thread_delay_s: seconds(line["thread_ns"].as_u64().unwrap()),
        duration_s: seconds(line["end_ns"].as_u64().unwrap() - line["start_ns"].as_u64().unwrap()),
    }
}

#[test]
fn a_containers_wait_stands_on_its_spans_in_jaeger_and_tempo_and_on_its_metrics() {
    let mut chain = Chain::start(&[]);
    let (before, http_in) = (free_address(), free_address());
    let endpoints = [("COLLECTOR_GRPC", &*before), ("COLLECTOR_HTTP", &*http_in), ("STALLSPAN_ENDPOINT", &*chain.agent.grpc)];
    let _before = Collector::start(&chain.lab, "before", &["before.yaml"], &endpoints);
    let _neighbor = chain.neighbor();
    let truths = chain.victim("checkout", &before, &format!("k8s.pod.uid={UID},k8s.container.name=app"), 1);

    let spans = chain.jaeger.spans("checkout", SPANS);
    assert_eq!(spans.len(), SPANS, "no span is lost or doubled");
    sums_agree(&truths, &spans);
    every_span_is_whole(&truths, &spans);
    tempo_says_the_same(&chain.tempo, &truths, &spans);
    metrics_agree(&chain, &truths);
    assert_eq!(chain.agent.stop(), Some(0));
}

/// Two threads in one container, known by its id, sending straight to the hop: each span tells its own thread's wait, and
/// Jaeger shows the waits as bars under it.
#[test]
fn each_thread_tells_its_own_and_its_waits_are_bars_under_its_spans() {
    let set = ["traces.threads.enabled=true", "traces.stall_spans.enabled=true", "traces.stall_spans.min_wait=1ms", "sources.method=bpf"];
    let mut chain = Chain::start(&set);
    let exact = chain.agent.sees_every_wait();
    let _neighbor = chain.neighbor();
    let endpoint = chain.agent.grpc.clone();
    let truths = chain.victim("direct", &endpoint, "container.id=direct", 2);
    let (bars, spans): (Vec<Span>, Vec<Span>) = chain.jaeger.spans("direct", SPANS).into_iter().partition(|span| span.parent_id.is_some());
    assert_eq!(spans.len(), SPANS, "no span is lost or doubled");
    if exact {
        threads_tell_their_own(&truths, &spans);
        bars_lie_under_their_spans(&bars, &spans);
    } else {
        println!("not tested: eBPF programs cannot be loaded here");
    }
}

fn threads_tell_their_own(truths: &[Truth], spans: &[Span]) {
    let truths: BTreeMap<&str, &Truth> = truths.iter().map(|truth| (&*truth.span_id, truth)).collect();
    // The first ones may have begun before anybody knew the container: on a crowded machine that takes a while.
    let of_thread = |span: &&Span| span.text("stallspan.scope") == Some("thread") && span.number("stallspan.coverage") > Some(0.99);
    let told: Vec<&Span> = spans.iter().filter(of_thread).collect();
    let sum = |each: &dyn Fn(&Truth) -> f64| told.iter().map(|span| each(truths[&*span.span_id])).sum::<f64>();
    let (thread, process) = (sum(&|truth| truth.thread_delay_s), sum(&|truth| truth.run_delay_s));
    let found: f64 = told.iter().filter_map(|span| span.number("stallspan.delay.cpu")).sum();
    println!(
        "{} of {} spans: their threads waited {thread:.4} s, they say {found:.4} s, the process {process:.4} s",
        told.len(),
        spans.len()
    );
    assert!(!told.is_empty(), "no span is about its thread");
    assert!(process > 1.2 * thread, "both threads waited");
    assert!((found - thread).abs() <= TOLERANCE * thread + 0.05, "{found} s on the spans, {thread} s in the threads");
}

fn bars_lie_under_their_spans(bars: &[Span], spans: &[Span]) {
    let spans: BTreeMap<&str, &Span> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    let ids: BTreeSet<&str> = bars.iter().map(|bar| &*bar.span_id).collect();
    println!("{} bars", bars.len());
    let exact = spans.values().filter(|span| span.number("stallspan.longest_wait") > Some(0.002)).count();
    assert!(bars.len() >= exact && ids.len() == bars.len(), "{} bars with {} ids", bars.len(), ids.len());
    for bar in bars {
        let parent = spans[bar.parent_id.as_deref().unwrap()];
        assert_eq!(bar.trace_id, parent.trace_id);
        assert_eq!((bar.name.as_str(), bar.text("stallspan.delay.type")), ("cpu", Some("cpu")));
        // Jaeger keeps microseconds, and rounds begin and length each by itself.
        assert!(bar.start_us + 1 >= parent.start_us && bar.end_us <= parent.end_us + 2, "{bar:?} outside of {parent:?}");
        assert!(bar.number("stallspan.stall.duration").is_some_and(|seconds| seconds >= 0.000_999), "{bar:?}");
        assert!(bar.resource("container.id").is_some());
    }
    let named = bars.iter().filter(|bar| bar.text("stallspan.culprit.name").is_some()).count();
    assert!(named > 0 || bars.is_empty(), "nobody is named on any of {} bars", bars.len());
}

/// The sum over all spans against what the kernel told the threads themselves.
fn sums_agree(truths: &[Truth], spans: &[Span]) {
    let truth: f64 = truths.iter().map(|truth| truth.run_delay_s).sum();
    let told: f64 = spans.iter().filter_map(|span| span.number("stallspan.delay.cpu")).sum();
    println!("{} spans: the threads waited {truth:.4} s, their spans say {told:.4} s", spans.len());
    assert!(truth > 1.0, "the neighbor took no CPU: {truth} s");
    assert!((told - truth).abs() <= TOLERANCE * truth, "{told} s on the spans, {truth} s in the threads");
}

fn every_span_is_whole(truths: &[Truth], spans: &[Span]) {
    let truths: BTreeMap<&str, &Truth> = truths.iter().map(|truth| (&*truth.span_id, truth)).collect();
    for span in spans {
        let truth = truths.get(&*span.span_id).unwrap_or_else(|| panic!("nobody sent {span:?}"));
        for key in ["scope", "source", "coverage", "resolution", "verdict"] {
            assert_eq!(span.count(&format!("stallspan.{key}")), 1, "{key} of {span:?}");
        }
        // A span that lies wholly behind the last reading of a container that ended has no delay, and says so.
        let known = span.number("stallspan.coverage") > Some(0.0);
        assert_eq!(span.count("stallspan.delay.cpu"), usize::from(known), "{span:?}");
        assert_eq!(span.text("stallspan.scope"), Some("container"));
        assert!(span.number("stallspan.coverage").is_some_and(|coverage| (0.0..=1.0).contains(&coverage)), "{span:?}");
        assert!(span.number("stallspan.resolution").is_some_and(|resolution| (0.0..=RESOLUTION_S).contains(&resolution)), "{span:?}");
        // Polled readings are spread over the time between them, so a single span may be off, but not out of all measure.
        assert!(span.number("stallspan.delay.cpu").unwrap_or(0.0) <= 2.0 * truth.duration_s, "{span:?}");
        assert_eq!(span.resource("k8s.pod.name"), Some(POD));
        assert_eq!(span.resource("k8s.namespace.name"), Some(NAMESPACE));
        assert_eq!(span.resource("k8s.container.name"), Some("app"));
        assert!(span.resource("container.id").is_some());
    }
    // The container ends with its last span, before somebody may have read it again.
    let covered = spans.iter().filter(|span| span.number("stallspan.coverage") > Some(0.99)).count();
    assert!(covered + UNREAD >= spans.len(), "{covered} spans of {} are covered", spans.len());
    let verdicts: BTreeMap<&str, usize> = spans.iter().fold(BTreeMap::new(), |mut counts, span| {
        *counts.entry(span.text("stallspan.verdict").unwrap()).or_default() += 1;
        counts
    });
    println!("verdicts: {verdicts:?}");
    let blamed: usize = ["cpu", "neighbor"].iter().filter_map(|verdict| verdicts.get(verdict)).sum();
    assert!(blamed * 10 >= spans.len() * 7, "most spans starve for a CPU: {verdicts:?}");
}

fn tempo_says_the_same(tempo: &Tempo, truths: &[Truth], spans: &[Span]) {
    let known = |span: &Span| span.number("stallspan.delay.cpu");
    let jaeger: BTreeMap<&str, f64> = spans.iter().filter_map(|span| Some((&*span.span_id, known(span)?))).collect();
    // Spans of the first moments, before anybody read the container, have no delay.
    for truth in truths.iter().filter(|truth| jaeger.contains_key(&*truth.span_id)).step_by(SPANS / 10) {
        let trace = tempo.trace(&truth.trace_id);
        let mut found = Vec::new();
        collect(&trace, "stallspan.delay.cpu", &mut found);
        // A measured zero is written `0` here and `0.0` there.
        let numbers: Vec<Option<f64>> = found.iter().map(|value| value["doubleValue"].as_f64()).collect();
        assert_eq!(numbers, [Some(jaeger[&*truth.span_id])], "{trace}");
        let mut pods = Vec::new();
        collect(&trace, "k8s.pod.name", &mut pods);
        assert_eq!(pods, [&serde_json::json!({"stringValue": POD})], "{trace}");
    }
}

/// Values of all attributes of a name, wherever they stand.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    if value["key"] == key {
        found.push(&value["value"]);
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, key, found)),
        _ => {}
    }
}

fn metrics_agree(chain: &Chain, truths: &[Truth]) {
    let truth: f64 = truths.iter().map(|truth| truth.run_delay_s).sum();
    let labels = [format!("k8s_pod_name=\"{POD}\""), "k8s_container_name=\"app\"".to_owned(), "stallspan_delay_type=\"cpu\"".to_owned()];
    let text = wait_for("the victim's wait at the Prometheus exporter", Duration::from_secs(60), || {
        let text = http::get(&chain.scrape, "/metrics")?;
        let told = series(&text, "stallspan_container_delay_time_seconds_total", &labels).ok_or("no such series yet")?;
        // From before its first span to its end it waited a little more than in its spans.
        if told >= truth * (1.0 - TOLERANCE) && told <= truth * (1.0 + 6.0 * TOLERANCE) {
            Ok(text)
        } else {
            Err(format!("{told} s told, {truth} s waited"))
        }
    });
    let file = chain.lab.write("metrics.txt", &text);
    let mut command = Command::new(installed("promtool"));
    run(&chain.lab, "promtool", command.args(["check", "metrics"]).stdin(File::open(file).unwrap()));
}

/// The value of the one series of a name that has all these labels.
fn series(text: &str, name: &str, labels: &[String]) -> Option<f64> {
    let mut values = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label.as_str())))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
    let value = values.next();
    assert!(values.next().is_none(), "{name} has several series for {labels:?}");
    value
}
