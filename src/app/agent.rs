//! The agent as a whole: started, running, stopped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Config;
use crate::config::meaning;
use crate::config::meaning::Method;
use crate::containers::{self, Index};
use crate::export::{self, Exporters};
use crate::history::{self, Store};
use crate::host::{self, Host, HostError};
use crate::ingest::{self, Address, BindError, Protocol, Running};
use crate::metrics::About;
use crate::model::Absence;
use crate::runtime::clock::instant_now;
use crate::runtime::{Buffers, Heavy, Manners, Stop, Task, Tasks};
use crate::source;
use crate::source::{Node, SamplerHandle};
use crate::telemetry::Telemetry;

use super::collect::Collector;
use super::hop::{Bench, Hop, KEPT_BUFFERS, Pipelines};
use super::outlet::OwnOutlet;
use super::owners::Owners;
use super::people::People;
use super::recent::Recent;
use super::strangers::Strangers;
use super::view::View;
use super::{health, settings};

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An endpoint cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An exporter cannot be opened.
    #[error(transparent)]
    Export(#[from] export::OpenError),
    /// The host's `/proc` cannot be read.
    #[error("cannot read the host")]
    Host(#[from] HostError),
    /// The sampler's thread cannot be started.
    #[error("cannot start the sampler")]
    Sampler(#[source] std::io::Error),
}

/// A running agent.
pub struct Agent {
    running: Running,
    pages: Vec<Address>,
    sampler: SamplerHandle,
    node: Arc<Node>,
    expects_single_waits: bool,
    thread: JoinHandle<()>,
    stop: Stop,
    /// Given once everything is over that `/readyz` tells of.
    drained: Stop,
    tasks: Tasks,
    metrics: Option<Task<()>>,
    telemetry: Arc<Telemetry>,
    outlet: Arc<OwnOutlet>,
    shutdown_timeout: Duration,
}

impl Agent {
    /// Starts every room. What the node cannot supply is told in the log and by `stallspan.source.enabled`; only what makes
    /// the agent useless is an error: no address to listen on, an exporter that cannot be opened, no `/proc`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, telemetry: Arc<Telemetry>) -> Result<Self, StartError> {
        host::give_back_large_blocks();
        // In `run`, this thread passes the requests on.
        host::take_short_turns();
        let tasks = Tasks::with(Manners { brief: host::take_short_turns, long: host::stand_back, pause: host::look_whether_over });
        let (stop, drained) = (Stop::new(), Stop::new());
        let exporters = Exporters::open(&config.exporters, &tasks)?;
        let host = Arc::new(Host::open(&config.sources.procfs_root, &config.sources.cgroupfs_root)?);
        let about = settings::about(&host);
        let node = Arc::new(node(&config).counting(telemetry.counters()));
        let (sampler, thread) = source::start(Arc::clone(&host), config.sources.clone(), Arc::clone(&node)).map_err(StartError::Sampler)?;
        // Whoever lives already is known before the first span comes; a host that takes long to look at keeps no span waiting.
        let _looked = sampler.rescan(instant_now() + FIRST_LOOK).await;
        let expects_single_waits = matches!(config.sources.method, Method::Auto | Method::Bpf) && host.probe().bpf.is_ok();
        let counters = telemetry.counters();
        let recent = config.health_check.as_ref().filter(|health| health.debug_spans).map(|_| Arc::new(Recent::default()));
        let hop = Hop {
            pipelines: pipelines(&config),
            exporters: exporters.clone(),
            bench: Arc::new(Bench {
                view: View::new(Arc::clone(&node), &config.traces, settings::stamps(&about)),
                settings: settings::enrich(&config, &host),
                buffers: Buffers::new(KEPT_BUFFERS),
                kept: Mutex::default(),
            }),
            heavy: Heavy::new(tasks.clone(), "enrich large"),
            sampler: sampler.clone(),
            strangers: Strangers::default(),
            owners: Owners::new(Arc::clone(&host), tasks.clone()),
            max_hold: config.traces.max_hold,
            counters: telemetry.counters(),
            recent: recent.clone(),
            own_spans: !config.service.telemetry.trace_exporters.is_empty(),
        };
        let at_door = Arc::new(ingest::Counters::default());
        let door = Arc::clone(&at_door);
        counters.with_door(move || door.door());
        let started = ingest::serve(&config.receiver, config.limits, Arc::new(hop), &tasks, at_door).await;
        let running = started.inspect_err(|_| sampler.stop())?;
        let pages = match &config.health_check {
            Some(health) => {
                ingest::serve_pages(&health.endpoint, health::pages(counters, recent, stop.clone(), VERSION), &tasks, drained.clone())
                    .await
                    .inspect_err(|_| sampler.stop())?
            }
            None => Vec::new(),
        };
        let outlet = Arc::new(OwnOutlet::new(exporters.clone()));
        telemetry.connect(outlet.clone());
        watch_containerd(&config, People::new(host, Arc::clone(&node), sampler.clone()), &tasks, &stop);
        let metrics = start_metrics(&config, &node, &exporters, &telemetry, about, &tasks, &sampler, &stop);
        Ok(Self {
            running,
            pages,
            sampler,
            node,
            expects_single_waits,
            thread,
            stop,
            drained,
            tasks,
            metrics,
            telemetry,
            outlet,
            shutdown_timeout: config.service.shutdown_timeout,
        })
    }

    /// Where the agent listens.
    #[must_use]
    pub fn addresses(&self) -> &[(Protocol, Address)] {
        &self.running.addresses
    }

    /// Where `/livez`, `/readyz` and `/metrics` are; nowhere where they are switched off.
    #[must_use]
    pub fn page_addresses(&self) -> &[Address] {
        &self.pages
    }

    /// The first TCP address of the gRPC receiver.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.running.addresses.iter().find_map(|(protocol, address)| match (protocol, address) {
            (Protocol::Grpc, Address::Tcp(address)) => Some(*address),
            _ => None,
        })
    }

    /// Has the sampler look for new processes and containers now.
    pub async fn rescan(&self) -> bool {
        self.sampler.rescan(instant_now() + Duration::from_secs(2)).await
    }

    /// Waits until every single wait is seen, where this host can supply that and the configuration asks for it: the eBPF
    /// programs take their time to load. False where they are not there in time, or will never be.
    pub async fn sees_single_waits(&self, patience: Duration) -> bool {
        let deadline = instant_now() + patience;
        while self.expects_single_waits && instant_now() < deadline {
            if self.node.history().sees_events() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.node.history().sees_events()
    }

    /// Takes no new work, answers what is in flight, sends the last metrics, ends every task and thread.
    pub async fn stop(self) {
        let over = instant_now() + self.shutdown_timeout + LAST_WORDS;
        let left = || over.saturating_duration_since(instant_now()).clamp(LEAST_WORDS, LAST_WORDS);
        self.stop.request();
        self.running.shutdown(self.shutdown_timeout).await;
        drop(self.running);
        if let Some(metrics) = self.metrics {
            // Its last words began with the stop; what is left of its time is all that downstream gets.
            let _ended = timeout(left(), metrics).await;
        }
        self.sampler.stop();
        // Ends within one reading; a panic there was counted and told already.
        let _ended = self.tasks.blocking("sampler's end", move || self.thread.join()).await;
        self.telemetry.shutdown(left()).await;
        self.drained.request();
        // The last to hold connections to downstream.
        self.outlet.close();
        if timeout(left(), self.tasks.all_ended()).await.is_err() {
            let still: Vec<_> = self.tasks.list().into_iter().filter(|task| task.open > 0).map(|task| task.name).collect();
            tracing::debug!(?still, "the process ends before all of its tasks");
        }
    }
}

/// The receivers open after the first look at the node's processes, or after so long.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Time for the last metrics export.
const LAST_METRICS: Duration = Duration::from_secs(2);
/// Time for own telemetry and stray tasks at the end, beyond `service.shutdown_timeout`.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The least of it, however long everything before took.
const LEAST_WORDS: Duration = Duration::from_millis(100);

fn node(config: &Config) -> Node {
    let history = history::Settings {
        retention: config.sources.retention,
        resolution: config.sources.resolution,
        memory: config.sources.history_memory,
    };
    let mut store = Store::new(history);
    if let Some(stalls) = settings::stalls(config) {
        store.tell_stalls(stalls);
    }
    let node = Node::new(Index::new(config.sources.retention), store);
    if config.containers.containerd.is_none() {
        node.set_containerd(Err(Absence::Disabled));
    }
    node
}

fn pipelines(config: &Config) -> Pipelines {
    let meaning::Service { traces, metrics, logs, .. } = config.service.clone();
    Pipelines { traces, metrics, logs }
}

fn watch_containerd(config: &Config, people: People, tasks: &Tasks, stop: &Stop) {
    let Some(containerd) = config.containers.containerd.clone() else { return };
    let stop = stop.clone();
    tasks.spawn("containerd", async move {
        containers::containerd::watch(containerd, |update| people.take(update), async move { stop.wait().await }).await;
    });
}

#[expect(clippy::too_many_arguments, reason = "wiring: each is one room")]
fn start_metrics(
    config: &Config,
    node: &Arc<Node>,
    exporters: &Exporters,
    telemetry: &Arc<Telemetry>,
    about: About,
    tasks: &Tasks,
    sampler: &SamplerHandle,
    stop: &Stop,
) -> Option<Task<()>> {
    let names = config.service.metrics.clone()?;
    let collector = Collector {
        node: Arc::clone(node),
        exporters: exporters.clone(),
        names,
        counters: telemetry.counters(),
        about,
        with_agent: config.service.telemetry.metric_exporters.is_empty(),
        interval: config.sources.collection_interval,
    };
    Some(tasks.spawn("metrics", collector.run(sampler.clone(), stop.clone(), LAST_METRICS)))
}
