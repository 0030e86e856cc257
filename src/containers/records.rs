//! The runtime's side of the index: what a runtime lists, and which life that means. Pure.

use std::collections::BTreeSet;

use super::home::Home;
use super::index::{Index, MAX_CONTAINERS, RecordKey};
use super::lives::Life;
use super::record::{Init, RuntimeContainer, RuntimeTask};
use super::tags::Tag;
use crate::model::{ContainerKey, Mono};
use crate::parse::cgroup::identity::IdentityKind;

impl Index {
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
        let unnamed = self.unnamed_life_for(record, init.as_ref());
        match (ended.map(|(key, _)| key), &init) {
            // Old news: the process of that life can no longer be read, or is known to be gone.
            (Some(_), None) => return,
            (Some(_), Some(init)) if self.processes.is_dead(init.process) => return,
            // The runtime had forgotten it for a while; meanwhile its path may have begun a life that goes on instead.
            (Some(key), Some(_)) if unnamed.is_none() => self.revive(key),
            (Some(_), Some(_)) | (None, _) => {}
        }
        let joined = unnamed.or_else(|| self.live_life_of(record));
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
}

/// Between the runtime's word and the host's the pid was taken by a process of another container.
fn belongs_to_another(home: &Home, id: &str) -> bool {
    home.identity().is_some_and(|identity| identity.kind == IdentityKind::Container && identity.id.len() == id.len() && !home.carries(id))
}
