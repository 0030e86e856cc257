//! The program under test: `stallspan run`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Running;
use super::{Lab, free_address, http, ours, wait_for};

pub struct Agent {
    process: Running,
    /// OTLP over gRPC.
    pub grpc: String,
    /// … and over HTTP.
    pub http: String,
    health: String,
}

/// What the log says of the eBPF programs.
const LOADED: &str = "eBPF programs are loaded";
const REFUSED: &str = "eBPF programs were not loaded";

/// What differs from test to test.
pub struct Setting<'a> {
    /// OTLP over gRPC, plain.
    pub downstream: &'a str,
    /// containerd's socket; `None` for cgroup paths only.
    pub containerd: Option<&'a Path>,
    /// `sources.collection_interval`
    pub interval: &'a str,
    /// `--set` arguments for the rest.
    pub set: &'a [&'a str],
}

impl Agent {
    pub fn start(lab: &Lab, setting: &Setting<'_>) -> Self {
        Self::start_program(lab, "stallspan", &ours("STALLSPAN_BIN", "stallspan"), setting)
    }

    /// The same of another build; `name` tells their files apart.
    pub fn start_program(lab: &Lab, name: &str, program: &Path, setting: &Setting<'_>) -> Self {
        let (grpc, http, health) = (free_address(), free_address(), free_address());
        let config = lab.write(&format!("{name}.yaml"), &config(setting, &grpc, &http, &health));
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        command.args(setting.set.iter().flat_map(|set| ["--set", set]));
        let mut agent = Self { process: Running::start(lab, name, &mut command), grpc, http, health };
        wait_for(name, Duration::from_secs(90), || {
            agent.process.alive()?;
            http::get(&agent.health, "/readyz")
        });
        agent
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until every single wait is seen; false where its log says that this host cannot supply that.
    pub fn sees_every_wait(&mut self) -> bool {
        wait_for("the eBPF programs", Duration::from_secs(60), || {
            self.process.alive()?;
            let log = self.process.log();
            let says = |what: &str| log.contains(what).then_some(what == LOADED);
            [LOADED, REFUSED].into_iter().find_map(says).ok_or_else(|| "neither loaded nor refused yet".to_owned())
        })
    }

    /// Its exit code after SIGTERM.
    pub fn stop(mut self) -> Option<i32> {
        self.process.stop().and_then(|status| status.code())
    }
}

fn config(setting: &Setting<'_>, grpc: &str, http: &str, health: &str) -> String {
    let containerd = match setting.containerd {
        Some(socket) => format!("{{ endpoint: \"unix://{}\" }}", socket.display()),
        None => "{ enabled: false }".to_owned(),
    };
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: \"{grpc}\" }}
      http: {{ endpoint: \"{http}\" }}
exporters:
  otlp_grpc:
    endpoint: \"{}\"
    tls: {{ insecure: true }}
sources:
  collection_interval: {}
containers:
  containerd: {containerd}
service:
  pipelines:
    traces: {{ exporters: [otlp_grpc] }}
    metrics: {{ exporters: [otlp_grpc] }}
    logs: {{ exporters: [otlp_grpc] }}
extensions:
  health_check: {{ endpoint: \"{health}\" }}
",
        setting.downstream, setting.interval
    )
}
