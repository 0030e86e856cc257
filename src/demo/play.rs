//! The scenes: who is on stage, what holds the victim back, and what it says about it afterwards.

use std::io::BufReader;
use std::time::Duration;

use crate::app::Agent;
use crate::runtime::Tasks;
use crate::runtime::clock::mono_now;

use super::cgroups::Groups;
use super::children::{Actor, last_allowed_cpu};
use super::receiver::Received;
use super::report;
use super::scene::DemoError;
use super::victim::Truth;

/// CPU time that the quota leaves the victim in each period: a request needs most of it.
const QUOTA: Duration = Duration::from_millis(20);
const PERIOD: Duration = Duration::from_millis(100);

/// One scene that was played.
#[derive(Debug)]
pub struct Act {
    /// Its name in the JSON.
    pub scene: &'static str,
    /// What people read above it.
    pub title: String,
    /// What the victim knows of its requests.
    pub truths: Vec<Truth>,
}

/// The actors' container ids and the names people see.
#[derive(Clone, Debug)]
pub struct Names {
    victim: String,
    limited: String,
    neighbor: String,
}

impl Names {
    fn new() -> Self {
        let pid = std::process::id();
        let id = |name: &str| format!("{:0<64}", report::hex(format!("{name}-{pid}").as_bytes()));
        Self { victim: id("victim"), limited: id("limited"), neighbor: id("noisy") }
    }

    /// The name of a container id, or of the beginning of one.
    pub fn name(&self, id: &str) -> String {
        let known = [(&self.victim, "victim"), (&self.limited, "victim-with-quota"), (&self.neighbor, "noisy-neighbor")];
        let is = |full: &str| id.len() >= 12 && full.starts_with(id);
        known.iter().find(|(full, _)| is(full)).map_or_else(|| id.chars().take(40).collect(), |(_, name)| (*name).to_owned())
    }
}

/// Cgroups for the actors, and the CPU that they contend for.
#[derive(Debug)]
pub struct Stage {
    names: Names,
    groups: Option<Groups>,
    cpu: String,
    seconds: f64,
}

impl Stage {
    /// `seconds`: how long each scene takes.
    pub fn set(seconds: f64) -> Self {
        let names = Names::new();
        let groups = match Groups::make(&[names.victim.clone(), names.limited.clone(), names.neighbor.clone()]) {
            Ok(groups) => Some(groups),
            Err(error) => {
                tracing::warn!(%error, "no cgroups of our own: the victim is told apart by its process only");
                None
            }
        };
        Self { names, groups, cpu: last_allowed_cpu().to_string(), seconds }
    }

    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// The victim and three threads of another container share a CPU.
    pub async fn neighbor(&self, agent: &Agent, received: &Received, tasks: &Tasks) -> Result<Act, DemoError> {
        let mut victim = self.victim(agent, &self.names.victim)?;
        let mut neighbor = Actor::start(&["demo-neighbor".to_owned(), "--cpu".to_owned(), self.cpu.clone()])?;
        if let Some(groups) = &self.groups {
            groups.enter(&self.names.neighbor, neighbor.pid())?;
        }
        // The agent sees both before they work, so that the first reading is a baseline and not a guess.
        agent.rescan().await;
        neighbor.go()?;
        let truths = work(&mut victim, received, tasks).await?;
        Ok(Act { scene: "neighbor", title: "A neighbor runs on the service's CPU".to_owned(), truths })
    }

    /// The victim alone, with less CPU time than it needs; `None` where this machine has no CPU controller to say so.
    pub async fn quota(&self, agent: &Agent, received: &Received, tasks: &Tasks) -> Result<Option<Act>, DemoError> {
        let limited = |groups: &Groups| groups.limit(&self.names.limited, QUOTA, PERIOD);
        if !self.groups.as_ref().is_some_and(limited) {
            tracing::warn!("no CPU controller here: the scene with a quota is left out");
            return Ok(None);
        }
        let mut victim = self.victim(agent, &self.names.limited)?;
        agent.rescan().await;
        let truths = work(&mut victim, received, tasks).await?;
        let title = format!("A quota holds the service back: {} ms of CPU time in {} ms", QUOTA.as_millis(), PERIOD.as_millis());
        Ok(Some(Act { scene: "quota", title, truths }))
    }

    fn victim(&self, agent: &Agent, id: &str) -> Result<Actor, DemoError> {
        let endpoint = format!("http://{}", agent.grpc_address().map_or_else(String::new, |address| address.to_string()));
        let mut arguments: Vec<String> = ["demo-victim", "--endpoint", &endpoint, "--cpu", &self.cpu].map(str::to_owned).into();
        arguments.extend(["--seconds".to_owned(), self.seconds.to_string()]);
        if self.groups.is_some() {
            arguments.extend(["--container-id".to_owned(), id.to_owned()]);
        }
        let victim = Actor::start(&arguments)?;
        if let Some(groups) = &self.groups {
            groups.enter(id, victim.pid())?;
        }
        Ok(victim)
    }
}

/// Has the victim work, and waits until its spans are here.
async fn work(victim: &mut Actor, received: &Received, tasks: &Tasks) -> Result<Vec<Truth>, DemoError> {
    let before = roots(received);
    victim.go()?;
    let output = victim.output().ok_or(DemoError::NothingFound)?;
    let reading = tasks.blocking("victim's truth", move || truths(BufReader::new(output)));
    let truths = reading.await.map_err(std::io::Error::other)??;
    let deadline = mono_now().plus(10_000_000_000);
    while roots(received) < before + truths.len() && mono_now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(truths)
}

fn roots(received: &Received) -> usize {
    received.spans().iter().filter(|span| span.parent_span_id.is_empty()).count()
}

fn truths(output: impl std::io::BufRead) -> std::io::Result<Vec<Truth>> {
    output.lines().map(|line| serde_json::from_str(&line?).map_err(std::io::Error::other)).collect()
}
