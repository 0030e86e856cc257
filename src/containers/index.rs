//! Who is who on this node: lives of containers, told by a runtime or found by the cgroup paths of processes. Pure.
//!
//! Two things are kept apart. A *record* is what a runtime lists under (namespace, id); it has no numbers. A *life* is one
//! run of a container, has a key that is never used again, and ends with its first process. A record that is started again
//! gets a new life, because the kernel's counters begin anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::home::Home;
use super::processes::Processes;
use super::record::{Init, RuntimeContainer, RuntimeTask};
use super::tags::{Tag, Tags, tags_of};
use crate::model::{Container, ContainerKey, Mono, ProcessKey};
use crate::parse::cgroup::identity::IdentityKind;

/// Most containers alive at once, and most that a runtime may list; later ones are not taken in.
pub const MAX_CONTAINERS: usize = 4_096;
/// Most dead containers kept for late spans; the longest dead goes first.
pub const MAX_TOMBSTONES: usize = 2_048;

/// (runtime namespace, id)
pub(super) type RecordKey = (String, String);

/// One run of a container.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Arc<Container>,
    pub(super) pod_ips: Vec<IpAddr>,
    /// The runtime's name for it; `None` while only its cgroup path is known.
    pub(super) record: Option<RecordKey>,
    /// Pid of the first process as the runtime tells it.
    init_pid: Option<u32>,
    pub(super) init: Option<Init>,
    /// Cgroup paths that belong to this life alone.
    own_paths: Vec<Vec<u8>>,
    born: Mono,
    pub(super) died: Option<Mono>,
}

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
    next_key: u64,
    epoch: u64,
    refused: u64,
    pub(super) lives: BTreeMap<ContainerKey, Life>,
    pub(super) records: BTreeMap<RecordKey, RuntimeContainer>,
    pub(super) tags: Tags,
    pub(super) by_path: BTreeMap<Vec<u8>, BTreeSet<ContainerKey>>,
    sandbox_ips: BTreeMap<String, Vec<IpAddr>>,
    dead: VecDeque<ContainerKey>,
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

    // ---- the runtime's side ----

    /// Takes in what the runtime says of one container; `init` is what the host says of the pid in it, where it could be read.
    pub fn upsert(&mut self, container: RuntimeContainer, init: Option<Init>, now: Mono) {
        let record = (container.namespace.clone(), container.id.clone());
        if !self.records.contains_key(&record) && self.records.len() >= MAX_CONTAINERS {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let init = init.filter(|init| !belongs_to_another(&init.home, &container.id));
        let task = container.task;
        let pod_uid = container.kubernetes.pod_uid.clone();
        self.note_sandbox(&container);
        let known = self.records.insert(record.clone(), container);
        if let Some(known) = known.filter(|known| known.kubernetes.pod_uid != pod_uid) {
            self.forget_sandbox(&known);
        }
        match task {
            RuntimeTask::Unknown => {}
            RuntimeTask::Stopped => {
                if let Some(key) = self.live_life_of(&record) {
                    self.end(key, now);
                }
            }
            RuntimeTask::Running { pid } => self.run(&record, pid, init, now),
        }
        if let Some(key) = self.live_life_of(&record) {
            self.describe(key);
        }
    }

    /// The runtime has deleted this container.
    pub fn remove(&mut self, namespace: &str, id: &str, now: Mono) {
        let record = (namespace.to_owned(), id.to_owned());
        if let Some(key) = self.live_life_of(&record) {
            self.end(key, now);
        }
        if let Some(known) = self.records.remove(&record) {
            self.forget_sandbox(&known);
        }
    }

    /// The whole list of the runtime: what is not in it is gone.
    pub fn reconcile(&mut self, list: Vec<(RuntimeContainer, Option<Init>)>, now: Mono) {
        let listed: BTreeSet<RecordKey> = list.iter().map(|(one, _)| (one.namespace.clone(), one.id.clone())).collect();
        let gone: Vec<RecordKey> = self.records.keys().filter(|record| !listed.contains(*record)).cloned().collect();
        for (namespace, id) in gone {
            self.remove(&namespace, &id, now);
        }
        for (container, init) in list {
            self.upsert(container, init, now);
        }
    }

    /// The task of `record` runs: it goes on living, is joined with what its path told, lives again, or begins a new life.
    fn run(&mut self, record: &RecordKey, pid: u32, init: Option<Init>, now: Mono) {
        if let Some(key) = self.live_life_of(record) {
            if self.lives.get(&key).is_some_and(|life| life.may_have_init(pid, init.as_ref())) {
                return self.settle(key, pid, init);
            }
            self.end(key, now);
        }
        let ended = self.lives_of_id(&record.1).find(|(_, life)| {
            let same = init.as_ref().map_or(life.init_pid == Some(pid), |init| life.init_process() == Some(init.process));
            life.died.is_some() && life.record.as_ref() == Some(record) && same
        });
        match (ended.map(|(key, _)| key), &init) {
            // Old news: the process of that life can no longer be read, or is known to be gone.
            (Some(_), None) => return,
            (Some(_), Some(init)) if self.processes.is_dead(init.process) => return,
            // The runtime had forgotten it for a while.
            (Some(key), Some(_)) => self.revive(key),
            (None, _) => {}
        }
        let joined = self.live_life_of(record).or_else(|| self.unnamed_life_for(record, init.as_ref()));
        if let Some(key) = joined.or_else(|| self.begin(record.1.clone(), Some(record.clone()), now)) {
            if let Some(life) = self.lives.get_mut(&key) {
                life.record = Some(record.clone());
            }
            self.settle(key, pid, init);
        }
    }

    /// The living container that was found by path and that this record turns out to be.
    fn unnamed_life_for(&self, record: &RecordKey, init: Option<&Init>) -> Option<ContainerKey> {
        let path = init.and_then(|init| init.home.identity()).map(|identity| &identity.path);
        let wanted = if record.0 == "moby" { "docker" } else { "containerd" };
        let mut unnamed = self.lives_of_id(&record.1).filter(|(_, life)| {
            let told = life.container.runtime_namespace.as_ref().is_some_and(|namespace| *namespace == record.0);
            let runtime_fits = told || life.container.runtime.is_none_or(|runtime| runtime == wanted);
            let path_fits = path.is_none_or(|path| life.own_paths.contains(path));
            life.died.is_none() && life.record.is_none() && runtime_fits && path_fits
        });
        unnamed.next_back().map(|(key, _)| key)
    }

    /// Writes down the first process of a life.
    fn settle(&mut self, key: ContainerKey, pid: u32, init: Option<Init>) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        life.init_pid = Some(pid);
        let Some(init) = init else { return };
        let paths = init.home.own_paths(&life.container.id);
        life.init = Some(init);
        self.set_paths(key, paths);
    }

    /// Lives that begin and end in the runtime's namespace, newest last.
    pub(super) fn lives_of_id(&self, id: &str) -> impl DoubleEndedIterator<Item = (ContainerKey, &Life)> {
        self.tags.get(&Tag::Id(id.to_owned())).iter().filter_map(|key| Some((*key, self.lives.get(key)?)))
    }

    /// The life a record has now.
    pub(super) fn live_life_of(&self, record: &RecordKey) -> Option<ContainerKey> {
        let mut living = self.lives_of_id(&record.1).filter(|(_, life)| life.died.is_none() && life.record.as_ref() == Some(record));
        living.next_back().map(|(key, _)| key)
    }

    fn note_sandbox(&mut self, container: &RuntimeContainer) {
        let Some(uid) = container.kubernetes.pod_uid.as_ref().filter(|_| container.sandbox) else { return };
        if container.task == RuntimeTask::Stopped || self.sandbox_ips.get(uid).is_some_and(|known| *known == container.pod_ips) {
            return;
        }
        self.sandbox_ips.insert(uid.clone(), container.pod_ips.clone());
        let members: Vec<ContainerKey> = self.tags.get(&Tag::PodUid(uid.clone())).iter().copied().collect();
        for key in members {
            self.describe(key);
        }
    }

    /// A sandbox is no longer listed, or under another pod: its addresses go, unless another sandbox of the pod took its place.
    fn forget_sandbox(&mut self, known: &RuntimeContainer) {
        let Some(uid) = known.kubernetes.pod_uid.as_ref().filter(|_| known.sandbox) else { return };
        if !self.records.values().any(|other| other.sandbox && other.kubernetes.pod_uid.as_ref() == Some(uid)) {
            self.sandbox_ips.remove(uid);
        }
    }

    // ---- lives ----

    /// Begins a life, with nothing known but the id.
    pub(super) fn begin(&mut self, id: String, record: Option<RecordKey>, now: Mono) -> Option<ContainerKey> {
        if self.lives.len().saturating_sub(self.dead.len()) >= MAX_CONTAINERS {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let key = ContainerKey(self.next_key);
        self.next_key = self.next_key.saturating_add(1);
        self.epoch = self.epoch.wrapping_add(1);
        let container = Container {
            key,
            id,
            runtime: None,
            runtime_namespace: None,
            name: None,
            image: None,
            k8s_container_name: None,
            pod: None,
            started: None,
            sandbox: false,
        };
        let life = Life {
            container: Arc::new(container),
            pod_ips: Vec::new(),
            record,
            init_pid: None,
            init: None,
            own_paths: Vec::new(),
            born: now,
            died: None,
        };
        for tag in tags_of(&life.container, &[]) {
            self.tags.insert(tag, key);
        }
        self.lives.insert(key, life);
        self.describe(key);
        Some(key)
    }

    /// Ends a life; it stays known until it is swept.
    pub(super) fn end(&mut self, key: ContainerKey, now: Mono) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| life.died.is_none()) else { return };
        life.died = Some(now);
        self.dead.push_back(key);
        self.epoch = self.epoch.wrapping_add(1);
        self.set_paths(key, Vec::new());
        if self.dead.len() > MAX_TOMBSTONES {
            self.forget_oldest_dead();
        }
    }

    fn revive(&mut self, key: ContainerKey) {
        if let Some(life) = self.lives.get_mut(&key) {
            life.died = None;
            self.dead.retain(|dead| *dead != key);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    fn forget_oldest_dead(&mut self) {
        let Some(key) = self.dead.pop_front() else { return };
        self.processes.evict(key);
        if let Some(life) = self.lives.remove(&key) {
            for tag in tags_of(&life.container, &life.pod_ips) {
                self.tags.remove(&tag, key);
            }
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Renews what is told about a life from its record and its pod's sandbox.
    pub(super) fn describe(&mut self, key: ContainerKey) {
        let Some(life) = self.lives.get(&key) else { return };
        let record = life.record.as_ref().and_then(|record| self.records.get(record));
        let uid = record.and_then(|one| one.kubernetes.pod_uid.clone()).or_else(|| life.container.pod.as_ref().map(|pod| pod.uid.clone()));
        let mut ips = uid.and_then(|uid| self.sandbox_ips.get(&uid).cloned()).unwrap_or_default();
        if ips.is_empty() && life.died.is_some() {
            ips.clone_from(&life.pod_ips);
        }
        let ip = ips.first().map(IpAddr::to_string);
        let mut container = match record {
            Some(record) => record.describe(key, life.init.as_ref().and_then(|init| init.started), ip.clone()),
            None => Container::clone(&life.container),
        };
        if let Some(pod) = &mut container.pod {
            pod.ip = ip;
        }
        self.redescribe(key, container, ips);
    }

    /// Puts a new description in the place of the old one, tags included.
    pub(super) fn redescribe(&mut self, key: ContainerKey, container: Container, pod_ips: Vec<IpAddr>) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        if *life.container == container && life.pod_ips == pod_ips {
            return;
        }
        for tag in tags_of(&life.container, &life.pod_ips) {
            self.tags.remove(&tag, key);
        }
        for tag in tags_of(&container, &pod_ips) {
            self.tags.insert(tag, key);
        }
        life.container = Arc::new(container);
        life.pod_ips = pod_ips;
    }

    /// Writes down the cgroup paths that belong to a life alone.
    pub(super) fn set_paths(&mut self, key: ContainerKey, paths: Vec<Vec<u8>>) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| life.own_paths != paths) else { return };
        for path in std::mem::replace(&mut life.own_paths, paths.clone()) {
            if let Some(keys) = self.by_path.get_mut(&path) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_path.remove(&path);
                }
            }
        }
        for path in paths {
            self.by_path.entry(path).or_default().insert(key);
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    // ---- the kernel's side ----

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

    // ---- reads ----

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

impl Life {
    fn init_process(&self) -> Option<ProcessKey> {
        self.init.as_ref().map(|init| init.process)
    }

    /// Whether the first process the runtime tells of can be this life's.
    fn may_have_init(&self, pid: u32, init: Option<&Init>) -> bool {
        match (self.init_process(), init) {
            (Some(known), Some(told)) => known == told.process,
            _ => self.init_pid.is_none_or(|known| known == pid),
        }
    }
}

/// Between the runtime's word and the host's the pid was taken by a process of another container.
fn belongs_to_another(home: &Home, id: &str) -> bool {
    home.identity().is_some_and(|identity| identity.kind == IdentityKind::Container && identity.id.len() == id.len() && !home.carries(id))
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
