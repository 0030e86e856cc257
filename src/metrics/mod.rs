//! Room `metrics`: snapshots -> OTLP metric requests. Pure: time comes in as an argument, bytes go out.
//!
//! One `ResourceMetrics` per container, one for the host, one for the agent itself. What a snapshot does not know is absent from
//! the request; what it knows is sent with the name, unit and instrument of [`crate::otlp::metric_names`]. Counters are
//! cumulative with the start of the container's life and never go backwards, whatever the snapshot says.
//!
//! The only state is [`Memory`], which the caller keeps between collections: the last value of each counter and the CPU time of
//! the collection before (`container.cpu.usage` is a difference).
//!
//! What it deliberately does not do: read anything, aggregate over containers, or send.

mod agent;
mod batch;
mod container;
mod memory;
mod node;
mod resource;
mod sheet;

use bytes::Bytes;

use crate::model::{AgentCounters, ContainerSnapshot, Mono, NodeSnapshot, Wall};

pub use batch::MAX_REQUEST_BYTES;
pub use memory::Memory;

/// Containers sent in one collection unless the caller says otherwise: a node has a few hundred, and the rest would cost every
/// consumer behind us a series each.
pub const DEFAULT_RESOURCE_CAP: usize = 2_000;

/// Who speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `host.name`
    pub host_name: String,
    /// `k8s.node.name`
    pub node_name: Option<String>,
    /// Version of the agent.
    pub version: String,
}

/// One look at everything.
#[derive(Clone, Copy, Debug)]
pub struct Collection<'a> {
    /// When it was taken, on the clock of differences.
    pub at: Mono,
    /// When it was taken, as the points say it.
    pub wall: Wall,
    /// The containers. Sandboxes are skipped.
    pub containers: &'a [ContainerSnapshot],
    /// The host.
    pub node: &'a NodeSnapshot,
    /// The agent's own counters; `None` where they go another way (`service.telemetry.metrics.exporters`).
    pub agent: Option<&'a AgentCounters>,
    /// Who speaks.
    pub about: &'a About,
    /// Most containers sent; those known longest are sent.
    pub resource_cap: usize,
}

/// What a collection became.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// `ExportMetricsServiceRequest`s, each at most [`MAX_REQUEST_BYTES`] long.
    pub requests: Vec<Bytes>,
    /// Containers over the cap, left out of this collection.
    pub resources_left_out: u64,
    /// Counter points of this collection that would have gone backwards.
    pub points_held_back: u64,
}

/// Writes one collection as export requests.
#[must_use]
pub fn encode(collection: &Collection<'_>, memory: &mut Memory) -> Encoded {
    memory.begin();
    let mut encoded = Encoded::default();
    let mut batch = batch::Batch::default();
    let mut chosen: Vec<_> = collection.containers.iter().filter(|snapshot| !snapshot.container.sandbox).collect();
    chosen.sort_by_key(|snapshot| snapshot.container.key);
    let left_out = chosen.len().saturating_sub(collection.resource_cap);
    encoded.resources_left_out = u64::try_from(left_out).unwrap_or(u64::MAX);
    chosen.truncate(collection.resource_cap);

    for snapshot in chosen {
        let mut sheet = sheet::Sheet::new(collection.wall, memory.container(snapshot.container.key));
        container::fill(&mut sheet, snapshot, collection.at);
        encoded.points_held_back = encoded.points_held_back.saturating_add(sheet.held_back());
        batch.push(resource::of_container(&snapshot.container, collection.about), sheet.into_metrics(), collection.about);
    }
    let mut sheet = sheet::Sheet::new(collection.wall, memory.host());
    node::fill(&mut sheet, collection.node);
    encoded.points_held_back = encoded.points_held_back.saturating_add(sheet.held_back());
    batch.push(resource::of_host(collection.about), sheet.into_metrics(), collection.about);

    let mut sheet = sheet::Sheet::new(collection.wall, memory.agent());
    agent::fill(&mut sheet, collection.node, collection.agent);
    batch.push(resource::of_agent(collection.about), sheet.into_metrics(), collection.about);

    memory.end();
    encoded.requests = batch.into_requests();
    encoded
}

#[cfg(test)]
mod tests;
