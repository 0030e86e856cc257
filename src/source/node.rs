//! What the sampler writes and everybody else reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::{Crowd, NamedThreads};
use crate::containers::Index;
use crate::history::Store;
use crate::model::{Absence, ContainerKey, ContainerSnapshot, NodeSnapshot, Wall};
use crate::telemetry::Counters;

/// Most containers that may end between two collections with their final totals kept.
const MAX_FINISHED: usize = 4_096;
/// Most crowds remembered; past it all are forgotten, and noted again at the next reading.
const MAX_CROWDS: usize = 4_096;

/// One collection: everything a metrics export needs.
#[derive(Clone, Debug)]
pub struct Collection {
    /// When it was made.
    pub at: Wall,
    /// Living containers, sandboxes left out.
    pub containers: Vec<ContainerSnapshot>,
    /// Containers that ended since the collection taken before, with their final totals. Told once.
    pub finished: Vec<ContainerSnapshot>,
    /// The node.
    pub node: NodeSnapshot,
}

#[derive(Debug, Default)]
struct Slot {
    latest: Option<(Wall, Vec<ContainerSnapshot>, NodeSnapshot)>,
    finished: Vec<ContainerSnapshot>,
}

/// State of the node, shared by the sampler, the hop and the metrics.
///
/// Locks are never held across an await or a read of the kernel, and never two at once. After a panic elsewhere they are
/// used as they stand: all writers leave the state whole between statements.
#[derive(Debug)]
pub struct Node {
    index: RwLock<Index>,
    history: RwLock<Store>,
    threads: RwLock<NamedThreads>,
    crowds: RwLock<HashMap<ContainerKey, Crowd>>,
    cpus: AtomicU32,
    slot: Mutex<Slot>,
    containerd: Mutex<Option<Result<(), Absence>>>,
    collections: watch::Sender<u64>,
    counters: Option<Arc<Counters>>,
}

impl Node {
    /// A node nothing is known of yet.
    #[must_use]
    pub fn new(index: Index, history: Store) -> Self {
        Self {
            index: RwLock::new(index),
            history: RwLock::new(history),
            threads: RwLock::default(),
            crowds: RwLock::default(),
            cpus: AtomicU32::new(0),
            slot: Mutex::default(),
            containerd: Mutex::default(),
            collections: watch::Sender::new(0),
            counters: None,
        }
    }

    /// The same, and what the sampler counts of its own work goes there.
    #[must_use]
    pub fn counting(self, counters: Arc<Counters>) -> Self {
        Self { counters: Some(counters), ..self }
    }

    /// Ends of threads told by the kernel since the last time, and those it could not tell so far.
    pub(super) fn count_exits(&self, received: u64, lost: u64) {
        if let Some(counters) = &self.counters {
            counters.exits(received, lost);
        }
    }

    /// A process ended of which nobody knows where it belonged.
    pub(super) fn count_unplaced_exit(&self) {
        if let Some(counters) = &self.counters {
            counters.exit_unplaced();
        }
    }

    /// Who is who, to read.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is who, to change: for the sampler, and for what the container runtime tells.
    pub fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readings and windows, to read.
    pub fn history(&self) -> RwLockReadGuard<'_, Store> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readings, to add: for the sampler.
    pub fn history_mut(&self) -> RwLockWriteGuard<'_, Store> {
        self.history.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which threads the numbers on spans mean, to read.
    pub fn threads(&self) -> RwLockReadGuard<'_, NamedThreads> {
        self.threads.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to change: for the sampler.
    pub(super) fn threads_mut(&self) -> RwLockWriteGuard<'_, NamedThreads> {
        self.threads.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a container's crowd.
    #[must_use]
    pub fn crowd(&self, key: ContainerKey) -> Option<Crowd> {
        self.crowds.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    pub(super) fn set_crowd(&self, key: ContainerKey, crowd: Crowd) {
        let mut crowds = self.crowds.write().unwrap_or_else(PoisonError::into_inner);
        if crowds.len() >= MAX_CROWDS {
            crowds.clear();
        }
        crowds.insert(key, crowd);
    }

    /// CPUs of this machine.
    #[must_use]
    pub fn cpus(&self) -> Option<u32> {
        Some(self.cpus.load(Ordering::Relaxed)).filter(|cpus| *cpus > 0)
    }

    pub(super) fn set_cpus(&self, cpus: u32) {
        self.cpus.store(cpus, Ordering::Relaxed);
    }

    /// Notes whether the container runtime answers; stands among the sources of the next collection. `None` until first told.
    pub fn set_containerd(&self, status: Result<(), Absence>) {
        *self.containerd.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// Whether the container runtime answers, as last told.
    #[must_use]
    pub fn containerd(&self) -> Option<Result<(), Absence>> {
        *self.containerd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A counter of collections; it changes when a new one can be taken.
    #[must_use]
    pub fn collections(&self) -> watch::Receiver<u64> {
        self.collections.subscribe()
    }

    /// Takes the latest collection out, with everything that ended since the one taken before; `None` where no new one was made.
    #[must_use]
    pub fn take_collection(&self) -> Option<Collection> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, containers, node) = slot.latest.take()?;
        Some(Collection { at, containers, finished: std::mem::take(&mut slot.finished), node })
    }

    /// Puts a collection there in place of one that nobody took; what ended is kept until somebody does.
    pub(super) fn publish(&self, collection: Collection) {
        {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_FINISHED.saturating_sub(slot.finished.len());
            slot.finished.extend(collection.finished.into_iter().take(room));
            slot.latest = Some((collection.at, collection.containers, collection.node));
        }
        self.collections.send_modify(|count| *count = count.wrapping_add(1));
    }
}
