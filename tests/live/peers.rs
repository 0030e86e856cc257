//! The lab itself, without stallspan in it: what a chain of real parts does anyway.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::backends::{Jaeger, Tempo};
use crate::lab::collector::Collector;
use crate::lab::containers::{Containerd, Spec};
use crate::lab::process::{exists, run};
use crate::lab::{Lab, free_address, http, peer, wait_for};

const TRACES: usize = 50;

#[test]
fn without_stallspan_the_collectors_of_the_examples_carry_telemetry_to_jaeger_tempo_and_prometheus() {
    let lab = Lab::new();
    let mut tempo = Tempo::start(&lab);
    let jaeger = Jaeger::start(&lab);
    let (before, behind, scrape) = (free_address(), free_address(), free_address());
    let files = ["behind-jaeger.yaml", "behind-tempo.yaml", "metrics-prometheus.yaml"];
    let endpoints =
        [("BEHIND_GRPC", &*behind), ("JAEGER_ENDPOINT", &*jaeger.otlp), ("TEMPO_ENDPOINT", &*tempo.otlp), ("PROMETHEUS_SCRAPE", &*scrape)];
    let _behind = Collector::start(&lab, "behind", &files, &endpoints);
    let http_in = free_address();
    let endpoints = [("COLLECTOR_GRPC", &*before), ("COLLECTOR_HTTP", &*http_in), ("STALLSPAN_ENDPOINT", &*behind)];
    let _before = Collector::start(&lab, "before", &["before.yaml"], &endpoints);
    tempo.ready();

    telemetrygen(&lab, "traces", &before, &["--traces", &TRACES.to_string(), "--service", "generated"]);
    telemetrygen(&lab, "metrics", &before, &["--metrics", "5", "--service", "generated"]);

    let spans = wait_for("both spans of each trace", Duration::from_secs(60), || {
        let spans = jaeger.spans("generated", TRACES);
        if spans.len() >= 2 * TRACES { Ok(spans) } else { Err(format!("{} spans", spans.len())) }
    });
    assert_eq!(spans.len(), 2 * TRACES, "telemetrygen makes two spans a trace");
    assert!(tempo.trace(&spans[0].trace_id)["batches"].is_array());
    wait_for("a metric at the Prometheus exporter", Duration::from_secs(20), || {
        let text = http::get(&scrape, "/metrics")?;
        if text.lines().any(|line| line.starts_with("gen")) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_container_of_the_lab_is_gone_with_the_lab() {
    let lab = Lab::new();
    let mut containerd = Containerd::start(&lab);
    let socket = containerd.socket.clone();
    let spec = Spec {
        namespace: "k8s.io",
        id: "sleeper",
        labels: &[("io.kubernetes.pod.name", "sleeper-0")],
        environment: &[("GREETING", "hello")],
        bound: &[],
        command: &["/bin/sh", "-c", "echo $GREETING; exec sleep 1000"],
    };
    let container = containerd.run(&lab, &spec);
    wait_for("its output", Duration::from_secs(5), || if container.output() == "hello\n" { Ok(()) } else { Err(container.output()) });
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).unwrap();
    assert!(cgroups.contains("/k8s.io/sleeper"), "{cgroups}");

    containerd.kill();
    assert!(exists(container.pid), "a container outlives its containerd");
    containerd.begin(&lab);
    drop(containerd);
    container.wait(Duration::from_secs(5));
    assert!(!Path::new(&format!("/sys/fs/cgroup/cpu/stallspan-live-{}", std::process::id())).exists());
    assert!(std::os::unix::net::UnixStream::connect(socket).is_err());
}

/// The Collector project's own load generator: a sender nobody here wrote.
pub fn telemetrygen(lab: &Lab, signal: &str, endpoint: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(peer("telemetrygen"));
    command.args([signal, "--otlp-insecure", "--rate", "0", "--otlp-endpoint", endpoint]).args(arguments);
    run(lab, "telemetrygen", &mut command)
}
