//! Lives of containers: how they begin, what is told of them, how they end and are forgotten. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Index, MAX_CONTAINERS, MAX_TOMBSTONES, RecordKey};
use super::record::Init;
use super::tags::tags_of;
use crate::model::{Container, ContainerKey, Mono, ProcessKey, Wall};

/// One run of a container.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Arc<Container>,
    pub(super) pod_ips: Vec<IpAddr>,
    /// The runtime's name for it; `None` while only its cgroup path is known.
    pub(super) record: Option<RecordKey>,
    /// Pid of the first process as the runtime tells it.
    pub(super) init_pid: Option<u32>,
    pub(super) init: Option<Init>,
    /// Cgroup paths that belong to this life alone.
    pub(super) own_paths: Vec<Vec<u8>>,
    /// CPUs its cgroup may run on.
    pub(super) cpus: Option<u32>,
    pub(super) born: Mono,
    pub(super) died: Option<Mono>,
}

impl Index {
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
            cpus: None,
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

    /// Notes when a container began, where nobody told that before.
    pub fn began(&mut self, key: ContainerKey, started: Wall) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| life.container.started.is_none()) else { return };
        Arc::make_mut(&mut life.container).started = Some(started);
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

    pub(super) fn revive(&mut self, key: ContainerKey) {
        if let Some(life) = self.lives.get_mut(&key) {
            life.died = None;
            self.dead.retain(|dead| *dead != key);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    pub(super) fn forget_oldest_dead(&mut self) {
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
}

impl Life {
    pub(super) fn init_process(&self) -> Option<ProcessKey> {
        self.init.as_ref().map(|init| init.process)
    }

    /// Whether the first process the runtime tells of can be this life's.
    pub(super) fn may_have_init(&self, pid: u32, init: Option<&Init>) -> bool {
        match (self.init_process(), init) {
            (Some(known), Some(told)) => known == told.process,
            _ => self.init_pid.is_none_or(|known| known == pid),
        }
    }
}
