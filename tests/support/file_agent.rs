//! The agent itself beside a containerd of its own, writing to a file.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::private_containerd::PrivateContainerd;

/// A running agent, asked over a unix socket or over TCP.
pub struct FileAgent {
    child: std::process::Child,
    directory: tempfile::TempDir,
}

impl FileAgent {
    /// `http`: where it listens, if not at a unix socket of its own.
    pub fn start(server: &PrivateContainerd, http: Option<SocketAddr>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let configuration = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 'unix://{}'}}, http: {{endpoint: '{}'}}}}}}}}\n\
             exporters: {{file: {{path: '{}'}}}}\n\
             containers: {{containerd: {{endpoint: 'unix://{}'}}}}\n\
             sources: {{collection_interval: 1s}}\n\
             extensions: {{health_check: {{endpoint: '127.0.0.1:0'}}}}\n\
             service: {{pipelines: {{traces: {{exporters: [file]}}, metrics: {{exporters: [file]}}}}}}\n",
            at("grpc.sock"),
            http.map_or_else(|| format!("unix://{}", at("http.sock")), |address| address.to_string()),
            at("out.json"),
            server.socket().display()
        );
        fs::write(at("agent.yaml"), configuration).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stallspan"));
        let child = command.args(["run", "--config", &at("agent.yaml")]).stderr(std::process::Stdio::null()).spawn().unwrap();
        Self { child, directory }
    }

    /// Sends a span that ended just now; `false` while nobody listens yet.
    pub fn send(&self, resource: &serde_json::Value, span: &serde_json::Value) -> bool {
        let stream = std::os::unix::net::UnixStream::connect(self.directory.path().join("http.sock"));
        stream.is_ok_and(|stream| send_over(stream, resource, span))
    }

    /// Every line that the agent has written so far.
    pub fn written(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.directory.path().join("out.json")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for FileAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of an attribute, whatever its type.
pub fn value_of(attributes: &serde_json::Value, key: &str) -> Option<serde_json::Value> {
    let found = attributes.as_array()?.iter().find(|one| one["key"] == key)?;
    found["value"].as_object()?.values().next().cloned()
}

/// The same over a connection that there is.
pub fn send_over(mut stream: impl Read + Write, resource: &serde_json::Value, span: &serde_json::Value) -> bool {
    let body =
        serde_json::json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"spans": [span]}]}]}).to_string();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}
