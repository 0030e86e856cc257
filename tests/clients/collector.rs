//! The Collector before the hop: its two OTLP exporters are the senders.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::agent::PATIENCE;
use crate::{Hop, SPANS, installed, telemetrygen};

struct Collector {
    child: Child,
    endpoint: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Collector {
    /// `exporter`: its type and settings as YAML.
    async fn start(name: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nobody has it at this moment; the Collector cannot tell which one it chose by itself.
        let endpoint = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = format!(
            "\
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: \"{endpoint}\" }} }} }} }}
exporters: {{ {name}: {settings} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [{name}] }} }}
"
        );
        let path = folder.path().join("collector.yaml");
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new(installed("peers").join("collector"));
        command.arg("--config").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut collector = Self { child: command.spawn().unwrap(), endpoint, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(endpoint).is_err() {
            assert!(Instant::now() < deadline && collector.child.try_wait().unwrap().is_none(), "the Collector does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        collector
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collectors_exporters() {
    let hop = Hop::start().await;
    // No queue: the sender before the Collector is answered when the hop has answered.
    let settings = |address: SocketAddr| {
        format!("{{ endpoint: \"http://{address}\", tls: {{ insecure: true }}, timeout: 60s, sending_queue: {{ enabled: false }} }}")
    };
    for (turn, (name, address)) in [("otlp", hop.agent.grpc), ("otlphttp", hop.agent.http)].into_iter().enumerate() {
        let collector = Collector::start(name, &settings(address)).await;
        telemetrygen(&collector.endpoint.to_string(), false, name).await;
        hop.brought(name, SPANS, SPANS * (turn + 1)).await;
    }
}
