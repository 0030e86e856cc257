//! Jaeger and Tempo, and what they say of the spans they got.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Running;
use super::{Lab, free_address, http, peer, wait_for};

/// Jaeger all-in-one, spans in memory.
pub struct Jaeger {
    process: Running,
    /// OTLP over gRPC.
    pub otlp: String,
    query: String,
}

impl Jaeger {
    pub fn start(lab: &Lab) -> Self {
        let (otlp, query) = (free_address(), free_address());
        let mut command = Command::new(peer("jaeger"));
        command.env("SPAN_STORAGE_TYPE", "memory").env("COLLECTOR_OTLP_ENABLED", "true");
        // Or it would trace itself to whoever listens on the OTLP port of this machine.
        command.env("OTEL_TRACES_SAMPLER", "always_off");
        command.arg(format!("--collector.otlp.grpc.host-port={otlp}")).arg(format!("--query.http-server.host-port={query}"));
        for flag in [
            "admin.http.host-port",
            "collector.grpc-server.host-port",
            "collector.http-server.host-port",
            "collector.otlp.http.host-port",
            "http-server.host-port",
            "processor.jaeger-binary.server-host-port",
            "processor.jaeger-compact.server-host-port",
            "processor.zipkin-compact.server-host-port",
            "query.grpc-server.host-port",
        ] {
            command.arg(format!("--{flag}={}", free_address()));
        }
        command.arg("--log-level=warn");
        let process = Running::start(lab, "jaeger", &mut command);
        let mut jaeger = Self { process, otlp, query };
        wait_for("Jaeger", Duration::from_secs(90), || {
            jaeger.process.alive()?;
            http::get_json(&jaeger.query, "/api/services")
        });
        jaeger
    }

    /// All spans of a service, once there are so many that are nobody's children.
    pub fn spans(&self, service: &str, least: usize) -> Vec<Span> {
        wait_for("spans in Jaeger", Duration::from_secs(60), || {
            let path = format!("/api/traces?service={}&limit=100000&lookback=1h", http::query_value(service));
            let spans = spans_of(&http::get_json(&self.query, &path)?);
            let roots = spans.iter().filter(|span| span.parent_id.is_none()).count();
            if roots >= least { Ok(spans) } else { Err(format!("{roots} of {least} spans")) }
        })
    }
}

/// A span as Jaeger shows it.
#[derive(Debug)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: Option<String>,
    pub name: String,
    /// Begin and end, unix microseconds.
    pub start_us: u64,
    pub end_us: u64,
    /// Attributes of the span.
    pub tags: Value,
    /// Attributes of its resource.
    pub process: Value,
}

impl Span {
    pub fn number(&self, key: &str) -> Option<f64> {
        tag(&self.tags, key)?.as_f64()
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        tag(&self.tags, key)?.as_str()
    }

    pub fn resource(&self, key: &str) -> Option<&str> {
        tag(&self.process, key)?.as_str()
    }

    /// How often a key stands on the span.
    pub fn count(&self, key: &str) -> usize {
        self.tags.as_array().unwrap().iter().filter(|tag| tag["key"] == key).count()
    }
}

fn tag<'a>(tags: &'a Value, key: &str) -> Option<&'a Value> {
    tags.as_array()?.iter().find(|tag| tag["key"] == key).map(|tag| &tag["value"])
}

fn spans_of(answer: &Value) -> Vec<Span> {
    let traces = answer["data"].as_array().cloned().unwrap_or_default();
    let of_trace = |trace: &Value| -> Vec<Span> {
        let spans = trace["spans"].as_array().cloned().unwrap_or_default();
        spans
            .iter()
            .map(|span| Span {
                trace_id: span["traceID"].as_str().unwrap().to_owned(),
                span_id: span["spanID"].as_str().unwrap().to_owned(),
                parent_id: span["references"][0]["spanID"].as_str().map(str::to_owned),
                name: span["operationName"].as_str().unwrap().to_owned(),
                start_us: span["startTime"].as_u64().unwrap(),
                end_us: span["startTime"].as_u64().unwrap() + span["duration"].as_u64().unwrap(),
                tags: span["tags"].clone(),
                process: trace["processes"][span["processID"].as_str().unwrap()]["tags"].clone(),
            })
            .collect()
    };
    traces.iter().flat_map(of_trace).collect()
}

/// Tempo as one process, blocks on local disk.
pub struct Tempo {
    process: Running,
    /// OTLP over gRPC.
    pub otlp: String,
    query: String,
}

impl Tempo {
    pub fn start(lab: &Lab) -> Self {
        let (otlp, query) = (free_address(), free_address());
        let config = lab.write("tempo.yaml", &tempo_config(lab, &otlp, &query));
        let process = Running::start(lab, "tempo", Command::new(peer("tempo")).arg(format!("-config.file={}", config.display())));
        // What it would write at its end nobody reads: it takes its time for it.
        Self { process: process.impatient(), otlp, query }
    }

    /// Its ring takes a moment to settle; other things can start meanwhile.
    pub fn ready(&mut self) {
        wait_for("Tempo", Duration::from_secs(60), || {
            self.process.alive()?;
            http::get(&self.query, "/ready")
        });
    }

    /// A trace as OTLP/JSON.
    pub fn trace(&self, trace_id: &str) -> Value {
        wait_for("a trace in Tempo", Duration::from_secs(90), || http::get_json(&self.query, &format!("/api/traces/{trace_id}")))
    }
}

fn tempo_config(lab: &Lab, otlp: &str, query: &str) -> String {
    let grpc = free_address();
    let part = |address: &str, which: usize| address.rsplit_once(':').map(|(host, port)| [host, port][which].to_owned()).unwrap();
    format!(
        "search_enabled: true
server:
  http_listen_address: {}
  http_listen_port: {}
  grpc_listen_address: {}
  grpc_listen_port: {}
  log_level: warn
distributor:
  receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: \"{otlp}\" }} }} }} }}
ingester:
  lifecycler: {{ address: 127.0.0.1, min_ready_duration: 0s, final_sleep: 0s, ring: {{ kvstore: {{ store: inmemory }}, replication_factor: 1 }} }}
compactor: {{ ring: {{ kvstore: {{ store: inmemory }}, wait_stability_min_duration: 0s, wait_stability_max_duration: 1s }} }}
storage:
  trace: {{ backend: local, local: {{ path: {} }}, wal: {{ path: {} }} }}
usage_report: {{ reporting_enabled: false }}
",
        part(query, 0),
        part(query, 1),
        part(&grpc, 0),
        part(&grpc, 1),
        lab.path("tempo-blocks").display(),
        lab.path("tempo-wal").display(),
    )
}
