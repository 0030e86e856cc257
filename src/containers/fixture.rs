//! A small node to test against.

use std::net::IpAddr;
use std::time::Duration;

use super::{Home, Index, Init, KubernetesNames, RuntimeContainer, RuntimeTask};
use crate::config::meaning::{AssociationRule, AssociationSource};
use crate::model::{ClaimValue, Claims, ContainerKey, Match, Mono, Peer, ProcessKey, Wall};
use crate::parse::cgroup::membership::Membership;

pub(super) const SECOND: u64 = 1_000_000_000;

/// 64 hex digits that begin with `start`.
pub(super) fn hex(start: &str) -> String {
    format!("{start:0<64}")
}

pub(super) fn home(path: &str) -> Home {
    let membership =
        |hierarchy, path: &str| Membership { hierarchy, controllers: Vec::new(), path: path.as_bytes().to_vec(), deleted: false };
    Home::of(&[membership(1, path), membership(0, "/")])
}

pub(super) fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: u64::from(pid) * 10 }
}

pub(super) fn init(pid: u32, path: &str) -> Init {
    Init { process: process(pid), home: home(path), started: Some(Wall(u64::from(pid))) }
}

pub(super) fn runtime(namespace: &str, id: &str, task: RuntimeTask) -> RuntimeContainer {
    RuntimeContainer { namespace: namespace.to_owned(), id: id.to_owned(), task, ..RuntimeContainer::default() }
}

pub(super) fn in_pod(id: &str, pid: u32, uid: &str, name: &str) -> RuntimeContainer {
    let text = |value: &str| Some(value.to_owned());
    let kubernetes = KubernetesNames {
        pod_uid: text(uid),
        pod_name: text(&format!("{uid}-name")),
        pod_namespace: text("shop"),
        container_name: text(name),
    };
    RuntimeContainer { kubernetes, ..runtime("k8s.io", id, RuntimeTask::Running { pid }) }
}

pub(super) fn sandbox(id: &str, pid: u32, uid: &str, ips: &[&str]) -> RuntimeContainer {
    let pod_ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let mut pause = in_pod(id, pid, uid, "");
    pause.kubernetes.container_name = None;
    RuntimeContainer { sandbox: true, pod_ips, ..pause }
}

/// A path of the kubelet's.
pub(super) fn pod_path(uid: &str, id: &str) -> String {
    format!("/kubepods/burstable/pod{uid}/{id}")
}

pub(super) struct Node {
    pub(super) index: Index,
    pub(super) now: Mono,
}

impl Node {
    pub(super) fn new() -> Self {
        Self { index: Index::new(Duration::from_secs(120)), now: Mono(SECOND) }
    }

    /// A process appears at a path; `own_pid` is what it calls itself.
    pub(super) fn spawn(&mut self, pid: u32, path: &str, own_pid: u32) -> Option<ContainerKey> {
        let key = self.index.place(&home(path), self.now);
        self.index.process_seen(process(pid), key, &[pid, own_pid]);
        key
    }

    pub(super) fn exit(&mut self, pid: u32) {
        self.index.process_gone(process(pid), self.now);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(seconds * SECOND);
        self.index.sweep(self.now);
    }

    /// The runtime starts a container, and its first process is seen.
    pub(super) fn start(&mut self, container: RuntimeContainer, path: &str) -> ContainerKey {
        let RuntimeTask::Running { pid } = container.task else { panic!("not running") };
        self.index.upsert(container, Some(init(pid, path)), self.now);
        self.spawn(pid, path, 1).unwrap()
    }

    pub(super) fn find(&self, attributes: &[(&str, ClaimValue)]) -> Option<Match> {
        self.find_from(attributes, Peer::default())
    }

    pub(super) fn find_from(&self, attributes: &[(&str, ClaimValue)], peer: Peer) -> Option<Match> {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.index.identify(&Claims { attributes, peer }, &default_rules())
    }
}

pub(super) fn text(value: &str) -> ClaimValue {
    ClaimValue::Text(value.to_owned())
}

pub(super) fn rule(names: &[&str]) -> AssociationRule {
    let source = |name: &&str| match *name {
        "connection" => AssociationSource::Connection,
        name => AssociationSource::ResourceAttribute(name.to_owned()),
    };
    AssociationRule { sources: names.iter().map(source).collect() }
}

/// The order of the contract.
pub(super) fn default_rules() -> Vec<AssociationRule> {
    [
        &["container.id"][..],
        &["k8s.pod.uid", "k8s.container.name"],
        &["k8s.pod.uid"],
        &["k8s.pod.ip"],
        &["k8s.pod.name", "k8s.namespace.name"],
        &["process.pid"],
        &["connection"],
    ]
    .iter()
    .map(|names| rule(names))
    .collect()
}
