//! Room `telemetry`: the agent's own log, counters and spans.
//!
//! * The log goes to standard error, through a bounded queue, so that a slow terminal never stops the data path; the same place
//!   in the code writes at most ten lines a second.
//! * [`Counters`] is one struct of atomics behind an `Arc`, for OTLP and for the Prometheus page alike; there are no statics.
//! * Where the configuration names exporters for them, log records, spans and counters leave over the OpenTelemetry SDK and its
//!   OTLP exporters, whose bytes are handed to our own exporters in-process ([`Outlet`]): TLS, headers and retries stay in one
//!   place, and nothing of this ever passes the hop.
//!
//! What it deliberately does not do: send container metrics (room `metrics`), or tell what the agent's numbers mean for health.

mod console;
mod counters;
mod limit;
mod lines;
mod own;
pub mod prometheus;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, dispatcher};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::meaning;
use crate::runtime::clock;

pub use counters::{Counters, HeldRequest, OpenConnection};
pub use own::Outlet;

/// Everything of ours; what the libraries beneath say is written from `warn` up, whatever the level.
const OUR_TARGET: &str = "stallspan";

/// Time left for the last log lines to reach standard error, of what a shutdown was given.
const LINES_SHARE: u32 = 4;

/// What telemetry is told at start.
#[derive(Debug)]
pub struct Setup<'a> {
    /// `service.telemetry`
    pub config: &'a meaning::Telemetry,
    /// `host.name`
    pub host_name: &'a str,
    /// `k8s.node.name`, where known.
    pub node_name: Option<&'a str>,
    /// Version of the agent.
    pub version: &'a str,
    /// Time between exports of the agent's own counters, where they have exporters of their own.
    pub metric_interval: Duration,
    /// Where exports run.
    pub runtime: Handle,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody set the process's subscriber before.
    #[error("the process has a log already: telemetry can be started once")]
    Twice,
    /// No thread for the log.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[source] std::io::Error),
    /// The SDK refused its configuration.
    #[error("cannot set up the export of the agent's own {signal}: {reason}")]
    Exporter {
        /// Of which signal.
        signal: &'static str,
        /// What the SDK said.
        reason: String,
    },
}

/// The agent's telemetry while it runs.
#[derive(Debug)]
pub struct Telemetry {
    counters: Arc<Counters>,
    lines: lines::Lines,
    own: own::Own,
}

/// Starts the log, and what is configured to leave over OTLP, for the whole process.
///
/// # Errors
///
/// When it was started before, when a thread cannot be made, or when the SDK refuses an exporter.
pub fn start(setup: &Setup<'_>) -> Result<Telemetry, StartError> {
    let (telemetry, dispatch) = build(setup, Box::new(std::io::stderr()), std::io::stderr().is_terminal())?;
    dispatcher::set_global_default(dispatch).map_err(|_already_set| StartError::Twice)?;
    Ok(telemetry)
}

/// The same without touching the process: for tests, and for [`start`].
fn build(setup: &Setup<'_>, sink: Box<dyn std::io::Write + Send>, colors: bool) -> Result<(Telemetry, Dispatch), StartError> {
    let counters = Counters::new(clock::wall_now());
    let lines = lines::Lines::start(sink, Arc::clone(&counters)).map_err(StartError::Thread)?;
    let own = own::Own::start(setup, &counters)?;
    let level = match setup.config.level {
        meaning::LogLevel::Trace => LevelFilter::TRACE,
        meaning::LogLevel::Debug => LevelFilter::DEBUG,
        meaning::LogLevel::Info => LevelFilter::INFO,
        meaning::LogLevel::Warn => LevelFilter::WARN,
        meaning::LogLevel::Error => LevelFilter::ERROR,
    };
    let levels = Targets::new().with_target(OUR_TARGET, level).with_default(level.min(LevelFilter::WARN));
    let subscriber = Registry::default()
        .with(levels)
        .with(console::layer(setup.config.encoding, colors, lines.clone(), &counters))
        .with(own.log_layer())
        .with(own.span_layer());
    Ok((Telemetry { counters, lines, own }, Dispatch::new(subscriber)))
}

impl Telemetry {
    /// The agent's counters.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Says where own telemetry goes. What was recorded before waits for this, within its time-out.
    pub fn connect(&self, outlet: Arc<dyn Outlet>) {
        self.own.connect(outlet);
    }

    /// Flushes what is waiting and stops exporting. Returns within `deadline`, whatever downstream does; the log goes on.
    pub async fn shutdown(&self, deadline: Duration) {
        let for_lines = deadline / LINES_SHARE;
        self.own.shutdown(deadline.saturating_sub(for_lines)).await;
        self.lines.flush(for_lines).await;
    }
}

#[cfg(test)]
mod tests;
