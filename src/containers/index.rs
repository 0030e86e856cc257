//! Who is who on this node: lives of containers, told by a runtime or found by the cgroup paths of processes. Pure.
//!
//! Two things are kept apart. A *record* is what a runtime lists under (namespace, id); it has no numbers. A *life* is one
//! run of a container, has a key that is never used again, and ends with its first process. A record that is started again
//! gets a new life, because the kernel's counters begin anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::lives::Life;
use super::processes::Processes;
use super::record::RuntimeContainer;
use super::tags::Tags;
use crate::model::{Container, ContainerKey, Mono, ProcessKey};

/// Most containers alive at once, and most that a runtime may list; later ones are not taken in.
pub const MAX_CONTAINERS: usize = 4_096;
/// Most dead containers kept for late spans; the longest dead goes first.
pub const MAX_TOMBSTONES: usize = 2_048;

/// (runtime namespace, id)
pub(super) type RecordKey = (String, String);

/// How much is known, for the agent's own telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Containers alive, sandboxes and units included.
    pub live: usize,
    /// Dead containers still known.
    pub dead: usize,
    /// Living processes.
    pub processes: usize,
    /// Containers and processes not taken in for want of room, since the start.
    pub refused: u64,
}

/// The index. Time comes in as an argument; every map is bounded.
#[derive(Debug)]
pub struct Index {
    retention_ns: u64,
    pub(super) next_key: u64,
    pub(super) epoch: u64,
    pub(super) refused: u64,
    pub(super) lives: BTreeMap<ContainerKey, Life>,
    pub(super) records: BTreeMap<RecordKey, RuntimeContainer>,
    pub(super) tags: Tags,
    pub(super) by_path: BTreeMap<Vec<u8>, BTreeSet<ContainerKey>>,
    pub(super) sandbox_ips: BTreeMap<String, Vec<IpAddr>>,
    pub(super) dead: VecDeque<ContainerKey>,
    pub(super) processes: Processes,
}

impl Index {
    /// An index that keeps the dead for `retention`.
    #[must_use]
    pub fn new(retention: Duration) -> Self {
        Self {
            retention_ns: u64::try_from(retention.as_nanos()).unwrap_or(u64::MAX),
            next_key: 1,
            epoch: 0,
            refused: 0,
            lives: BTreeMap::new(),
            records: BTreeMap::new(),
            tags: Tags::default(),
            by_path: BTreeMap::new(),
            sandbox_ips: BTreeMap::new(),
            dead: VecDeque::new(),
            processes: Processes::default(),
        }
    }

    /// Notes a living process, of a container or plainly of the host. Say it again when its container or its pids changed.
    pub fn process_seen(&mut self, process: ProcessKey, container: Option<ContainerKey>, ns_pids: &[u32]) {
        let container = container.filter(|key| self.lives.contains_key(key));
        if !self.processes.seen(process, container, ns_pids) {
            self.refused = self.refused.saturating_add(1);
        }
    }

    /// Notes that a process is no more. That ends the life of the container whose first process it was, and of a container
    /// without a runtime whose last process it was.
    pub fn process_gone(&mut self, process: ProcessKey, now: Mono) {
        let Some(key) = self.processes.gone(process, now) else { return };
        let Some(life) = self.lives.get(&key) else { return };
        let over = match life.init_process() {
            Some(init) => init == process,
            None => life.record.is_none() && self.processes.of(key).next().is_none(),
        };
        if over {
            self.end(key, now);
        }
    }

    /// Forgets what has been dead for longer than the retention time.
    pub fn sweep(&mut self, now: Mono) {
        let horizon = now.minus(self.retention_ns);
        self.processes.sweep(horizon);
        self.end_deserted(now);
        while self.dead.front().and_then(|key| self.lives.get(key)?.died).is_some_and(|died| died < horizon) {
            self.forget_oldest_dead();
        }
    }

    /// A path was placed in an earlier scan, but its process was gone before it was noted.
    fn end_deserted(&mut self, now: Mono) {
        if !self.processes.has_room() {
            return;
        }
        let unnamed = self.lives.iter().filter(|(_, life)| life.died.is_none() && life.record.is_none() && life.born < now);
        let deserted: Vec<ContainerKey> = unnamed.map(|(key, _)| *key).filter(|key| self.processes.of(*key).next().is_none()).collect();
        for key in deserted {
            self.end(key, now);
        }
    }

    /// Changes whenever [`Index::place`] could answer differently for a home it has already placed.
    #[must_use]
    pub fn placement_epoch(&self) -> u64 {
        self.epoch
    }

    /// What is known of a container; of a dead one while it is retained.
    #[must_use]
    pub fn container(&self, key: ContainerKey) -> Option<&Arc<Container>> {
        Some(&self.lives.get(&key)?.container)
    }

    /// Whether this life goes on.
    #[must_use]
    pub fn is_live(&self, key: ContainerKey) -> bool {
        self.lives.get(&key).is_some_and(|life| life.died.is_none())
    }

    /// Containers alive, pause containers and units included.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.lives.values().filter(|life| life.died.is_none()).map(|life| &life.container)
    }

    /// Living processes of a container.
    pub fn processes_of(&self, key: ContainerKey) -> impl Iterator<Item = ProcessKey> + '_ {
        self.processes.of(key)
    }

    /// Where a process lives or lived.
    #[must_use]
    pub fn container_of(&self, process: ProcessKey) -> Option<ContainerKey> {
        self.processes.container_of(process)
    }

    /// The process of a host pid: the living one, else the last that had it.
    #[must_use]
    pub fn process_by_pid(&self, host_pid: u32) -> Option<ProcessKey> {
        self.processes.by_host_pid(host_pid)
    }

    /// The process that has this pid in its own pid namespace, inside a container.
    #[must_use]
    pub fn resolve_ns_pid(&self, key: ContainerKey, ns_pid: u32) -> Option<ProcessKey> {
        self.processes.by_own_pid(key, ns_pid)
    }

    /// How much is known.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let dead = self.dead.len();
        Counts { live: self.lives.len().saturating_sub(dead), dead, processes: self.processes.living(), refused: self.refused }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
