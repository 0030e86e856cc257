//! The measured systems, side by side on one CPU: stallspan with a real container to speak of, and the Collector told to
//! write as many attributes of the same kinds onto each span.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::lab::agent::{Agent, Setting};
use crate::lab::collector::Collector;
use crate::lab::containers::{Containerd, Spec};
use crate::lab::process::Running;
use crate::lab::{Lab, free_address, ours, wait_for};

use super::load::one_by_one;
use super::meter::{MEASURED, on_cpu};
use super::sink::Sink;
use super::spans::{Arrived, request};

/// Spans that ended so long ago, as those of a batch did: readings cover them.
pub const AGE: Duration = Duration::from_millis(300);
/// The container that sends.
pub const SENDER: &str = "5f0c1d8a3b7e496284c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f000";
/// A container that nobody knows: spans pass through as they came.
pub const STRANGER: &str = "00000000000000000000000000000000000000000000000000000000deadbeef";

pub struct Systems {
    pub stallspan: Agent,
    /// Another build of it, to be measured in turn: `STALLSPAN_BEFORE` is its path.
    pub before: Option<Agent>,
    pub collector: Collector,
    pub collector_address: String,
    /// tonic and prost, which write eight attributes of their own.
    pub forwarder: Forwarder,
    pub sink: Sink,
    /// What a span gets, by both.
    pub added: Vec<String>,
    _containerd: Containerd,
    /// Last, because the others write into it.
    _lab: Lab,
}

impl Systems {
    /// `method`: where the ladder of sources starts; `source`: what is then to answer.
    pub fn start(method: &str, source: &str) -> Self {
        let lab = Lab::new();
        let sink = Sink::start();
        let containerd = run_sender(&lab);
        let method = format!("sources.method={method}");
        let set = ["exporters.otlp_grpc.compression=none", &method];
        let setting = Setting { downstream: &sink.address, containerd: Some(&containerd.socket), interval: "10s", set: &set };
        let stallspan = on_cpu(MEASURED, || Agent::start(&lab, &setting));
        let before = std::env::var_os("STALLSPAN_BEFORE").map(|path| {
            let before = on_cpu(MEASURED, || Agent::start_program(&lab, "before", path.as_ref(), &setting));
            enriched(&before, &sink, source);
            before
        });
        let added = enriched(&stallspan, &sink, source);
        let collector_address = free_address();
        let config = lab.write("figures.yaml", &collector_config(&collector_address, &sink.address, &added));
        let environment = [("GOMAXPROCS", "1")];
        let collector = on_cpu(MEASURED, || Collector::start(&lab, "collector", &[config.to_str().unwrap()], &environment));
        let forwarder = on_cpu(MEASURED, || Forwarder::start(&lab, &sink.address));
        let added = added.into_iter().map(|(key, _)| key).collect();
        Self { stallspan, before, collector, collector_address, forwarder, sink, added, _containerd: containerd, _lab: lab }
    }
}

/// A containerd with the container that sends.
pub fn run_sender(lab: &Lab) -> Containerd {
    let mut containerd = Containerd::start(lab);
    let labels = [
        ("io.kubernetes.pod.name", "checkout-6f7c9b-x2x4q"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", "3b1f7a52-6c0e-4d7a-9b1e-5a0d1c2e3f40"),
        ("io.kubernetes.container.name", "app"),
        ("io.cri-containerd.kind", "container"),
    ];
    let command = ["/bin/sleep", "100000"];
    let spec = Spec { namespace: "k8s.io", id: SENDER, labels: &labels, environment: &[], bound: &[], command: &command };
    containerd.run(lab, &spec);
    containerd
}

/// `benches/forwarder.rs`
pub struct Forwarder {
    process: Running,
    pub address: String,
}

impl Forwarder {
    /// Attributes that it writes.
    pub const ADDED: usize = 8;

    fn start(lab: &Lab, downstream: &str) -> Self {
        let address = free_address();
        let mut command = Command::new(ours("FORWARDER_BIN", "examples/forwarder"));
        let mut process = Running::start(lab, "forwarder", command.args([&address, downstream]));
        wait_for("forwarder", Duration::from_secs(60), || {
            process.alive()?;
            TcpStream::connect(&address).map_err(|why| why.to_string())
        });
        Self { process, address }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What stallspan writes onto every span, once its source answers and there are readings on both sides of them.
pub fn enriched(stallspan: &Agent, sink: &Sink, source: &str) -> Vec<(String, Value)> {
    wait_for("spans with delays", Duration::from_secs(30), || {
        one_by_one(&stallspan.grpc, 1, || request(100, SENDER, AGE));
        let arrived = Arrived::of(&sink.last());
        let added = arrived.on_all();
        // Programs are loaded beside the start: before, spans get fewer attributes.
        let seen = added.iter().any(|(key, value)| *key == "stallspan.source" && **value == Value::StringValue(source.to_owned()));
        let covered = added.iter().any(|(key, value)| *key == "stallspan.coverage" && **value == Value::DoubleValue(1.0));
        if seen && covered {
            Ok(added.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect())
        } else {
            Err(format!("{:?}", arrived.added))
        }
    })
}

fn collector_config(address: &str, downstream: &str, added: &[(String, Value)]) -> String {
    let mut actions = String::new();
    for (key, value) in added {
        let value = match value {
            Value::StringValue(text) => text.clone(),
            // A whole number would become an integer.
            Value::DoubleValue(_) => "0.012345".to_owned(),
            other => panic!("{key} is {other:?}"),
        };
        write!(actions, "\n      - {{ key: {key}, value: {value}, action: insert }}").unwrap();
    }
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: \"{address}\" }}
processors:
  attributes:
    actions:{actions}
exporters:
  otlp_grpc:
    endpoint: \"{downstream}\"
    compression: none
    tls: {{ insecure: true }}
    sending_queue: {{ enabled: false }}
service:
  pipelines:
    traces: {{ receivers: [otlp], processors: [attributes], exporters: [otlp_grpc] }}
  telemetry:
    logs: {{ level: warn }}
    metrics:
      readers:
        - pull: {{ exporter: {{ prometheus: {{ host: localhost, port: \"${{env:COLLECTOR_TELEMETRY_PORT}}\" }} }} }}
"
    )
}
