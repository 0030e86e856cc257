//! Settings that are worked out once from the configuration and the host.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::Config;
use crate::config::meaning::AssociationSource;
use crate::diagnose::{Hints, verdict};
use crate::enrich;
use crate::host::Host;
use crate::ladder;
use crate::metrics::About;
use crate::model::{Evidence, NODE_ID};
use crate::telemetry::{self, Telemetry};

use super::agent::VERSION;

/// Who this node is. The node's name in Kubernetes comes with the downward API (`K8S_NODE_NAME`); it is not on the host.
pub fn about(host: &Host) -> About {
    About {
        host_name: host.identity().host_name.clone().unwrap_or_else(node_of_this_namespace),
        node_name: node_name(),
        version: VERSION.to_owned(),
    }
}

/// `uname -n`: the host's own name, or the one this container was given.
fn node_of_this_namespace() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[expect(clippy::disallowed_methods, reason = "a fact about where the agent runs, not configuration")]
fn node_name() -> Option<String> {
    ["K8S_NODE_NAME", "NODE_NAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty())
}

/// Starts the process's log and own telemetry as the configuration says.
///
/// # Errors
/// When it was started before, or the SDK refuses an exporter.
pub fn start_telemetry(config: &Config) -> Result<Arc<Telemetry>, telemetry::StartError> {
    let host_name = node_of_this_namespace();
    let telemetry = telemetry::start(&telemetry::Setup {
        config: &config.service.telemetry,
        host_name: &host_name,
        node_name: node_name().as_deref(),
        version: VERSION,
        metric_interval: config.sources.collection_interval,
        runtime: Handle::current(),
    })?;
    Ok(Arc::new(telemetry))
}

/// Resource attributes true of every container of this node.
pub fn stamps(about: &About) -> Arc<[(&'static str, String)]> {
    let mut stamps = vec![("host.name", about.host_name.clone())];
    stamps.extend(about.node_name.clone().map(|name| ("k8s.node.name", name)));
    stamps.into()
}

/// What enrichment is told.
pub fn enrich(config: &Config, host: &Host) -> enrich::Settings {
    let plan = ladder::plan(&host.probe(), &config.sources);
    enrich::Settings {
        claim_names: claim_names(config),
        thread_attribute: config.traces.thread_attribute.clone(),
        events: config.traces.events.map(|events| enrich::EventSettings {
            min_wait_ns: events.min_wait.as_nanos().try_into().unwrap_or(u64::MAX),
            max_per_span: events.max_per_span,
        }),
        verdict: Box::new(move |window, duration_ns| verdict(window, duration_ns, Hints { cpus: window.cpus, tasks: None })),
        best_evidence: plan.best().unwrap_or(Evidence::Cgroup),
        resolution_ns: config.sources.resolution.as_nanos().try_into().unwrap_or(u64::MAX),
        max_added: enrich::Settings::MAX_ADDED,
    }
}

fn claim_names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config
        .traces
        .association
        .iter()
        .flat_map(|rule| &rule.sources)
        .filter_map(|source| match source {
            AssociationSource::ResourceAttribute(name) => Some(name.clone()),
            AssociationSource::Connection => None,
        })
        .collect();
    // What an Istio proxy says of itself is read as claims about its pod.
    if names.iter().any(|name| name.starts_with("k8s.pod.")) {
        names.push(NODE_ID.to_owned());
    }
    names.sort();
    names.dedup();
    names
}
