//! Sets the scene, lets the actors play, asks the receiver, clears the stage.

use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use crate::app::{Agent, StartError};
use crate::config::{self, Config};
use crate::ingest;
use crate::runtime::Tasks;
use crate::runtime::clock::mono_now;
use crate::telemetry::Telemetry;

use super::cgroups::Groups;
use super::children::{Actor, last_allowed_cpu};
use super::receiver::Received;
use super::report::{Outcome, outcome};
use super::victim::Truth;
use super::{picture, report};

/// What the command line asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the victim works.
    pub seconds: f64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The agent did not start.
    #[error("the agent did not start: {0}")]
    Agent(#[from] StartError),
    /// The embedded receiver did not start.
    #[error("the embedded receiver did not start: {0}")]
    Receiver(#[from] ingest::BindError),
    /// The embedded configuration was refused: a bug, told like any other.
    #[error("the embedded configuration was refused: {0}")]
    Config(String),
    /// A child process or its pipes failed.
    #[error("cannot play the scene: {0}")]
    Stage(#[from] std::io::Error),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// No request of the victim came back with its delay.
    #[error("no span of the victim came back with a delay; `stallspan check` tells what this host cannot supply")]
    NothingFound,
}

/// The result, and what the terminal shows of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The figures.
    pub outcome: Outcome,
    /// Waterfall and table.
    pub picture: String,
}

/// Plays the demo once. Everything it made is gone when this returns.
///
/// # Errors
/// See [`DemoError`].
pub async fn run(settings: &Settings, telemetry: Arc<Telemetry>, interrupted: impl Future<Output = ()>) -> Result<Shown, DemoError> {
    let received = Received::default();
    let tasks = Tasks::new();
    let downstream = load(RECEIVER)?;
    let counters = Arc::new(ingest::Counters::default());
    let receiver = ingest::serve(&downstream.receiver, downstream.limits, Arc::new(received.clone()), &tasks, counters).await?;
    let address = receiver.addresses.iter().map(|(_, address)| address.to_string()).next().unwrap_or_default();
    let agent = Agent::start(load(&format!(include_str!("demo.yaml"), downstream = address))?, telemetry).await?;
    let played = tokio::select! {
        played = play(settings, &agent, &received, &tasks) => played,
        () = interrupted => Err(DemoError::Interrupted),
    };
    agent.stop().await;
    receiver.shutdown(Duration::from_secs(1)).await;
    let (ids, truths) = played?;
    let name_of = |id: &str| ids.name(id);
    let spans = received.spans();
    let outcome = outcome(&spans, &truths, &name_of).ok_or(DemoError::NothingFound)?;
    let picture = format!("{}\n{}", picture::waterfall(&spans, &outcome.trace_id), picture::table(&received.metrics(), &name_of));
    Ok(Shown { outcome, picture })
}

/// The actors' container ids and the names people see.
#[derive(Debug)]
struct Ids {
    victim: String,
    neighbor: String,
}

impl Ids {
    fn new() -> Self {
        let pid = std::process::id();
        let id = |name: &str| format!("{:0<64}", report::hex(format!("{name}-{pid}").as_bytes()));
        Self { victim: id("victim"), neighbor: id("noisy") }
    }

    fn name(&self, id: &str) -> String {
        let is = |full: &str| id.len() >= 12 && full.starts_with(id);
        if is(&self.victim) {
            "victim".to_owned()
        } else if is(&self.neighbor) {
            "noisy-neighbor".to_owned()
        } else {
            id.chars().take(18).collect()
        }
    }
}

async fn play(settings: &Settings, agent: &Agent, received: &Received, tasks: &Tasks) -> Result<(Ids, Vec<Truth>), DemoError> {
    let ids = Ids::new();
    let cpu = last_allowed_cpu().to_string();
    let groups = match Groups::make(&[ids.victim.clone(), ids.neighbor.clone()]) {
        Ok(groups) => Some(groups),
        Err(error) => {
            tracing::warn!(%error, "no cgroups of our own: the victim is told apart by its process only");
            None
        }
    };
    let mut victim = Actor::start(&victim_arguments(settings, agent, &cpu, groups.is_some().then_some(&ids.victim)))?;
    let mut neighbor = Actor::start(&["demo-neighbor".to_owned(), "--cpu".to_owned(), cpu])?;
    if let Some(groups) = &groups {
        groups.enter(&ids.victim, victim.pid())?;
        groups.enter(&ids.neighbor, neighbor.pid())?;
    }
    // The agent sees both before they work, so that the first reading is a baseline and not a guess.
    agent.rescan().await;
    neighbor.go()?;
    victim.go()?;
    let output = victim.output().ok_or(DemoError::NothingFound)?;
    let reading = tasks.blocking("victim's truth", move || truths(BufReader::new(output)));
    let truths = reading.await.map_err(std::io::Error::other)??;
    drop(neighbor);
    drop(victim);
    settle(&truths, received).await;
    Ok((ids, truths))
}

fn victim_arguments(settings: &Settings, agent: &Agent, cpu: &str, container_id: Option<&String>) -> Vec<String> {
    let endpoint = format!("http://{}", agent.grpc_address().map_or_else(String::new, |address| address.to_string()));
    let mut arguments = vec![
        "demo-victim".to_owned(),
        "--endpoint".to_owned(),
        endpoint,
        "--seconds".to_owned(),
        settings.seconds.to_string(),
        "--cpu".to_owned(),
        cpu.to_owned(),
    ];
    if let Some(id) = container_id {
        arguments.extend(["--container-id".to_owned(), id.clone()]);
    }
    arguments
}

fn truths(output: impl std::io::BufRead) -> std::io::Result<Vec<Truth>> {
    output.lines().map(|line| serde_json::from_str(&line?).map_err(std::io::Error::other)).collect()
}

/// Waits until the spans of every request are here, a few seconds at most.
async fn settle(truths: &[Truth], received: &Received) {
    let deadline = mono_now().plus(3_000_000_000);
    let roots = || received.spans().iter().filter(|span| span.parent_span_id.is_empty()).count();
    while roots() < truths.len() && mono_now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The embedded receiver's configuration; what it names as exporter is never used.
const RECEIVER: &str = "\
receivers: { otlp: { protocols: { grpc: { endpoint: \"127.0.0.1:0\" } } } }
exporters: { debug: {} }
service: { pipelines: { traces: { exporters: [debug] } } }
";

fn load(text: &str) -> Result<Config, DemoError> {
    let world = config::World { environment: &|_| Err(std::env::VarError::NotPresent), files: None };
    let told = |problems: Vec<config::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    config::load(text.as_bytes(), &[], world).map(|loaded| loaded.config).map_err(|problems| DemoError::Config(told(problems)))
}
