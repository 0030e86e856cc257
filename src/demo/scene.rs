//! Sets the stage, has the scenes played, asks the receiver, clears the stage.

use std::sync::Arc;
use std::time::Duration;

use crate::app::{Agent, StartError};
use crate::config::{self, Config};
use crate::ingest;
use crate::runtime::Tasks;
use crate::telemetry::Telemetry;

use super::picture;
use super::play::{Act, Stage};
use super::receiver::Received;
use super::report::{Outcome, Result as Told, outcome};

/// What the command line asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the victim works, in all scenes together.
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
    pub result: Told,
    /// Waterfalls and table.
    pub picture: String,
}

/// Most time given to the eBPF programs to load; where this host cannot load any, none.
const LOADING: Duration = Duration::from_secs(15);

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
        biased;
        () = interrupted => Err(DemoError::Interrupted),
        played = play(settings, &agent, &received, &tasks) => played,
    };
    agent.stop().await;
    receiver.shutdown(Duration::from_secs(1)).await;
    let Played { acts, name_of } = played?;
    show(&acts, &received, &|id: &str| name_of(id))
}

/// What the scenes came to.
struct Played {
    acts: Vec<Act>,
    name_of: Box<dyn Fn(&str) -> String + Send>,
}

async fn play(settings: &Settings, agent: &Agent, received: &Received, tasks: &Tasks) -> Result<Played, DemoError> {
    // Every wait of the first request is to be seen already.
    let _exact = agent.sees_single_waits(LOADING).await;
    let stage = Stage::set(settings.seconds / 2.0);
    let mut acts = vec![stage.neighbor(agent, received, tasks).await?];
    acts.extend(stage.quota(agent, received, tasks).await?);
    let names = stage.names();
    Ok(Played { acts, name_of: Box::new(move |id| names.name(id)) })
}

fn show(acts: &[Act], received: &Received, name_of: &dyn Fn(&str) -> String) -> Result<Shown, DemoError> {
    let spans = received.spans();
    let mut scenes: Vec<Outcome> = Vec::new();
    let mut picture = String::new();
    for (number, act) in acts.iter().enumerate() {
        let found = outcome(act.scene, &spans, &act.truths, name_of).ok_or(DemoError::NothingFound)?;
        picture += &format!("{}. {}\n\n{}", number + 1, act.title, picture::waterfall(&spans, &found.trace_id, found.requests));
        picture += &format!("\n{}\n\n", found.line());
        scenes.push(found);
    }
    picture += &picture::table(&received.metrics(), name_of);
    let result = Told::of(scenes).ok_or(DemoError::NothingFound)?;
    Ok(Shown { result, picture })
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
