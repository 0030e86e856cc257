//! The OpenTelemetry Collector, run from the very files of `examples/collector`.

use std::process::Command;
use std::time::Duration;

use super::process::Running;
use super::{Lab, free_address, http, peer, port, repository, wait_for};

pub struct Collector {
    process: Running,
    telemetry: String,
}

impl Collector {
    /// Starts it with files of `examples/collector`, or of a whole path, their endpoints set by variables.
    pub fn start(lab: &Lab, name: &str, files: &[&str], endpoints: &[(&str, &str)]) -> Self {
        let telemetry = free_address();
        let mut command = Command::new(peer("collector"));
        for file in files {
            command.arg("--config").arg(repository("examples/collector").join(file));
        }
        // Its own metrics listen on `localhost`, whose first address is the one asked below.
        command.envs(endpoints.iter().copied());
        command.env("COLLECTOR_TELEMETRY_PORT", port(&telemetry)).env("BEHIND_TELEMETRY_PORT", port(&telemetry));
        let mut collector = Self { process: Running::start(lab, name, &mut command), telemetry };
        wait_for(name, Duration::from_secs(90), || {
            collector.process.alive()?;
            http::get(&collector.telemetry, "/metrics")
        });
        collector
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
