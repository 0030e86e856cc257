//! Senders nobody here wrote: the OpenTelemetry SDKs of four languages, telemetrygen and the Collector's exporters, each
//! through the real binary. Every span is acknowledged to its sender and arrives behind it exactly once.
//!
//! `tests/clients/build.sh` and `tests/peers/build.sh` install them first (`make clients`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test: it drives processes of its own, and a panic is how it fails"
)]

#[path = "../support/agent.rs"]
mod agent;
mod collector;
mod sink;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::agent::{Agent, PATIENCE, Spans};
use crate::sink::Sink;

/// Spans a sender sends: several batches.
const SPANS: usize = 500;

/// The agent, and behind it a server that counts.
struct Hop {
    agent: Agent,
    sink: Sink,
}

impl Hop {
    async fn start() -> Self {
        let sink = Sink::start().await;
        let configuration = format!(
            "\
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: \"127.0.0.1:0\" }}, http: {{ endpoint: \"127.0.0.1:0\" }} }}, max_wait: 60s }} }}
containers: {{ containerd: {{ enabled: false }} }}
exporters: {{ otlp_grpc: {{ endpoint: \"http://{}\", timeout: 60s }} }}
service: {{ pipelines: {{ traces: {{ exporters: [otlp_grpc] }} }} }}
extensions: {{ health_check: {{ endpoint: \"127.0.0.1:0\" }} }}
",
            sink.address
        );
        Self { agent: Agent::start(&configuration).await, sink }
    }

    /// So many spans of this service came through, each once; the agent counted them so.
    async fn brought(&self, service: &str, spans: usize, of_all: usize) {
        assert_eq!(self.sink.of(service), (spans, spans), "{service}: all that came, and different ones");
        let counted = Spans::read(self.agent.health).await.unwrap();
        let counted = [counted.received, counted.forwarded, counted.refused, counted.failed];
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let expected = [of_all as f64, of_all as f64, 0.0, 0.0];
        assert!(counted.iter().zip(expected).all(|(counted, expected)| (counted - expected).abs() < 0.5), "{counted:?}");
    }
}

/// Where `build.sh` of `what` put things.
fn installed(what: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(what);
    assert!(place.exists(), "{} is not there: run tests/{what}/build.sh", place.display());
    place
}

/// Runs a sender to its end, which has to be a good one.
async fn run(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("a sender ends").expect("a sender starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}\n{}", output.status, said(&output.stdout), said(&output.stderr));
}

/// An SDK by each of its protocols.
async fn sdk(language: &str, protocols: &[&str], command: impl Fn() -> Command) {
    let hop = Hop::start().await;
    for (turn, protocol) in protocols.iter().enumerate() {
        let address = if *protocol == "grpc" { hop.agent.grpc } else { hop.agent.http };
        let service = format!("{language} {protocol}");
        run(command().args([protocol, &*format!("http://{address}"), &*SPANS.to_string(), &*service])).await;
        hop.brought(&service, SPANS, SPANS * (turn + 1)).await;
    }
}

const BOTH: &[&str] = &["grpc", "http/protobuf"];

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_python() {
    let command = || {
        let mut command = Command::new(installed("clients").join("python/bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/send.py"));
        command
    };
    sdk("python", BOTH, command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_go() {
    sdk("go", BOTH, || Command::new(installed("clients").join("send-go"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_java() {
    let command = || {
        let mut command = Command::new("java");
        command
            .arg("-cp")
            .arg(installed("clients").join("java/*"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/java/Send.java"));
        command
    };
    sdk("java", BOTH, command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_node() {
    let command = || {
        let mut command = Command::new("node");
        command.arg(installed("clients").join("node/send.mjs"));
        command
    };
    sdk("node", &["grpc", "http/protobuf", "http/json"], command).await;
}

/// The Collector project's load generator: two spans a trace.
async fn telemetrygen(endpoint: &str, http: bool, service: &str) {
    let mut command = Command::new(installed("peers").join("telemetrygen"));
    command.args(["traces", "--otlp-insecure", "--rate", "0", "--otlp-endpoint", endpoint, "--service", service]);
    command.args(["--traces", &(SPANS / 2).to_string(), "--workers", "1"]);
    run(if http { command.arg("--otlp-http") } else { &mut command }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetrygen_over_both() {
    let hop = Hop::start().await;
    telemetrygen(&hop.agent.grpc.to_string(), false, "generated grpc").await;
    hop.brought("generated grpc", SPANS, SPANS).await;
    telemetrygen(&hop.agent.http.to_string(), true, "generated http").await;
    hop.brought("generated http", SPANS, 2 * SPANS).await;
}
