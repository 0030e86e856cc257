//! Container metrics on their way out: each collection of the sampler becomes export requests.

use std::sync::Arc;
use std::time::Duration;

use crate::export::Exporters;
use crate::metrics::{self, About, DEFAULT_RESOURCE_CAP, Memory};
use crate::model::{Ending, Signal};
use crate::runtime::Stop;
use crate::runtime::clock::{instant_now, mono_now};
use crate::source::{Collection, Node, SamplerHandle};
use crate::telemetry::Counters;

/// Sends the collections of one agent.
pub struct Collector {
    pub(super) node: Arc<Node>,
    pub(super) exporters: Exporters,
    pub(super) names: Vec<String>,
    pub(super) counters: Arc<Counters>,
    pub(super) about: About,
    /// Whether the agent's own counters ride along, or have exporters of their own.
    pub(super) with_agent: bool,
    pub(super) interval: Duration,
}

impl Collector {
    /// Sends every collection until `stop`; then one last, made now.
    pub async fn run(self, sampler: SamplerHandle, stop: Stop, last_words: Duration) {
        let mut memory = Memory::default();
        let mut collections = self.node.collections();
        loop {
            tokio::select! {
                changed = collections.changed() => if changed.is_err() { break },
                () = stop.wait() => break,
            }
            self.send(&mut memory, self.interval).await;
        }
        let _made = sampler.collect(instant_now() + last_words).await;
        self.send(&mut memory, last_words).await;
    }

    async fn send(&self, memory: &mut Memory, patience: Duration) {
        let Some(collection) = self.node.take_collection() else { return };
        let deadline = instant_now() + patience;
        for body in self.encode(&collection, memory) {
            let answer = self.exporters.send(&self.names, Signal::Metrics, body, deadline).await;
            let ending = if answer.is_ok() { Ending::Forwarded } else { Ending::Refused };
            self.counters.metrics_exported(ending);
            if let Err(refusal) = answer {
                tracing::warn!(code = ?refusal.code, message = %refusal.message, "container metrics were not accepted downstream; counters are cumulative, the next collection makes up for it");
            }
        }
    }

    fn encode(&self, collection: &Collection, memory: &mut Memory) -> Vec<bytes::Bytes> {
        let agent = self.with_agent.then(|| self.counters.snapshot());
        let containers: Vec<_> = collection.containers.iter().chain(&collection.finished).cloned().collect();
        let encoded = metrics::encode(
            &metrics::Collection {
                at: mono_now(),
                wall: collection.at,
                containers: &containers,
                node: &collection.node,
                agent: agent.as_ref(),
                about: &self.about,
                resource_cap: DEFAULT_RESOURCE_CAP,
            },
            memory,
        );
        self.counters.metrics_encoded(encoded.resources_left_out, encoded.points_held_back);
        encoded.requests
    }
}
