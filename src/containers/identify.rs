//! From what a sender claims to whom it is. Pure.
//!
//! Rules are tried in the configured order, the first that names somebody wins. A rule whose answer a stronger claim of the
//! same resource contradicts is passed over: a forwarded span of another node must not be charged to whoever relayed it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::index::Index;
use super::lives::Life;
use super::tags::{Keys, Tag};
use crate::config::meaning::{AssociationRule, AssociationSource};
use crate::model::{ClaimValue, Claims, ContainerKey, Match, Peer, ProcessKey, Scope, Subject};

const CONTAINER_ID: &str = "container.id";
const CONTAINER_NAME: &str = "k8s.container.name";
const POD_UID: &str = "k8s.pod.uid";
const POD_IP: &str = "k8s.pod.ip";
const POD_NAME: &str = "k8s.pod.name";
const POD_NAMESPACE: &str = "k8s.namespace.name";
const PROCESS_PID: &str = "process.pid";

/// Lives of one pod or of one container, mostly no more than these.
const USUAL_LIVES: usize = 4;

/// What one source of a rule comes to.
enum Selection<'i> {
    /// Lives, one container's or a pod's.
    Lives { keys: Cow<'i, Keys>, of_one_container: bool },
    /// A pid of the sender's own namespace: means something only beside the other sources.
    OwnPid(u32),
    /// A process of this host.
    Process(ProcessKey),
}

/// What the sources of one rule come to together.
#[derive(Default)]
struct Narrowed<'i> {
    keys: Option<Cow<'i, Keys>>,
    of_one_container: bool,
    own_pid: Option<u32>,
    process: Option<ProcessKey>,
}

impl Index {
    /// Whose spans these are; `None` when nobody's of this node.
    #[must_use]
    pub fn identify(&self, claims: &Claims, rules: &[AssociationRule]) -> Option<Match> {
        let (position, found) = rules.iter().enumerate().find_map(|(position, rule)| Some((position, self.apply(rule, claims)?)))?;
        let later_names_pid = rules.iter().skip(position).any(names_process);
        let own_pid = claims.get(PROCESS_PID).and_then(as_pid).filter(|_| found.process.is_none() && later_names_pid);
        let process = own_pid.and_then(|own_pid| self.process_within(&found, own_pid));
        // A pod found by its uid may hold the pid in another container than the one that the resource names.
        let refined = process.map(|process| self.process_match(process)).filter(|refined| !self.contradicts(refined, claims));
        let mut found = refined.unwrap_or(found);
        found.mesh = self.mesh_of(&found, claims);
        Some(found)
    }

    /// Whether the connection's owner, as the kernel tells it, is one of those found: the same process, or its container, or
    /// for a pod's address the pod. Where the kernel tells nothing of the owner, nobody agrees.
    #[must_use]
    pub fn owner_agrees(&self, found: &Match, peer: Peer) -> bool {
        let owners: BTreeSet<ContainerKey> = match self.select_by_connection(peer) {
            Some(Selection::Process(process)) if found.process == Some(process) => return true,
            Some(Selection::Process(process)) => self.processes.container_of(process).into_iter().collect(),
            Some(Selection::Lives { keys, .. }) => keys.into_owned(),
            Some(Selection::OwnPid(_)) | None => return false,
        };
        let subjects = found.subjects.iter().filter_map(|subject| match subject {
            Subject::Container(key) => Some(*key),
            Subject::Process(_) | Subject::Task(_) => None,
        });
        subjects.chain(found.container.iter().map(|container| container.key)).any(|key| owners.contains(&key))
    }

    /// One rule: all of its sources have to mean the same container or pod.
    fn apply(&self, rule: &AssociationRule, claims: &Claims) -> Option<Match> {
        let mut narrowed = Narrowed::default();
        for source in &rule.sources {
            narrowed.add(self.select(source, claims)?)?;
        }
        let found = self.conclude(narrowed)?;
        let weak = rule.sources.iter().all(|source| match source {
            AssociationSource::Connection => true,
            AssociationSource::ResourceAttribute(name) => name == PROCESS_PID,
        });
        (!self.contradicts(&found, claims) && (!weak || self.meets_all(&found, claims))).then_some(found)
    }

    fn select(&self, source: &AssociationSource, claims: &Claims) -> Option<Selection<'_>> {
        let name = match source {
            AssociationSource::Connection => {
                return self.select_by_connection(claims.peer).filter(|found| self.may_send(found, claims.peer));
            }
            AssociationSource::ResourceAttribute(name) => name.as_str(),
        };
        if name == PROCESS_PID {
            return as_pid(claims.get(name)?).map(Selection::OwnPid);
        }
        let text = as_text(claims.get(name)?)?;
        let (keys, of_one_container) = match name {
            CONTAINER_ID => return self.select_by_id(text),
            CONTAINER_NAME => (self.tags.get(&Tag::ContainerName(text.to_owned())), true),
            POD_UID => (self.tags.get(&Tag::PodUid(text.to_owned())), false),
            POD_IP => (self.tags.get(&Tag::PodIp(text.parse().ok()?)), false),
            POD_NAME => (self.tags.get(&Tag::PodName(text.to_owned())), false),
            POD_NAMESPACE => (self.tags.get(&Tag::PodNamespace(text.to_owned())), false),
            _ => return None,
        };
        Some(Selection::Lives { keys: Cow::Borrowed(keys), of_one_container })
    }

    /// An SDK that looks for its id in mountinfo finds its pod's sandbox (kernel.md §8): that names the pod.
    fn select_by_id(&self, claim: &str) -> Option<Selection<'_>> {
        let keys = self.tags.by_id(bare_id(claim));
        let sandbox = keys.iter().filter_map(|key| self.lives.get(key)).find(|life| life.container.sandbox);
        match sandbox {
            None => Some(Selection::Lives { keys: Cow::Borrowed(keys), of_one_container: true }),
            Some(life) => {
                let uid = life.container.pod.as_ref()?.uid.clone();
                Some(Selection::Lives { keys: Cow::Borrowed(self.tags.get(&Tag::PodUid(uid))), of_one_container: false })
            }
        }
    }

    /// A TCP sender on the host and outside of containers is most likely a relay: what it forwards without a word of whose it
    /// is, is not its own. Over a unix socket, made for this agent, it speaks for itself.
    fn may_send(&self, found: &Selection<'_>, peer: Peer) -> bool {
        match found {
            Selection::Process(process) => peer.socket.is_none() || self.processes.container_of(*process).is_some(),
            Selection::Lives { .. } | Selection::OwnPid(_) => true,
        }
    }

    /// The kernel's word on who holds the other end of a connection of this host; else the pod of the source address.
    fn select_by_connection(&self, peer: Peer) -> Option<Selection<'_>> {
        let process = match (peer.pid, peer.started) {
            (Some(pid), Some(start_ticks)) => Some(ProcessKey { pid, start_ticks }).filter(|process| self.processes.knows(*process)),
            (Some(pid), None) => self.processes.by_host_pid(pid),
            (None, _) => None,
        };
        if let Some(process) = process {
            return Some(Selection::Process(process));
        }
        let ip = peer.ip.map(|ip| ip.to_canonical())?;
        Some(Selection::Lives { keys: Cow::Borrowed(self.tags.get(&Tag::PodIp(ip))), of_one_container: false })
    }

    fn conclude(&self, narrowed: Narrowed<'_>) -> Option<Match> {
        let Narrowed { keys, of_one_container, own_pid, process } = narrowed;
        if let Some(process) = process {
            let inside = keys.as_ref().is_none_or(|keys| self.processes.container_of(process).is_some_and(|key| keys.contains(&key)));
            let same_pid = own_pid.is_none_or(|pid| pid == process.pid || self.own_pid_is(process, pid));
            return (inside && same_pid).then(|| self.process_match(process));
        }
        match (keys, own_pid) {
            (Some(keys), None) => self.lives_match(&keys, of_one_container),
            (Some(keys), Some(own_pid)) => {
                let around = self.lives_match(&keys, of_one_container)?;
                self.process_within(&around, own_pid).map(|process| self.process_match(process))
            }
            (None, Some(host_pid)) => self.processes.by_host_pid(host_pid).map(|process| self.process_match(process)),
            (None, None) => None,
        }
    }

    fn own_pid_is(&self, process: ProcessKey, own_pid: u32) -> bool {
        self.processes.container_of(process).is_some_and(|key| self.processes.by_own_pid(key, own_pid) == Some(process))
    }

    /// Living lives before dead ones; of one container the newest life, of a pod its containers.
    pub(super) fn lives_match(&self, keys: &Keys, of_one_container: bool) -> Option<Match> {
        let known = || keys.iter().filter_map(|key| Some((*key, self.lives.get(key)?)));
        let mut lives: SmallVec<[(ContainerKey, &Life); USUAL_LIVES]> = known().filter(|(_, life)| life.died.is_none()).collect();
        if lives.is_empty() {
            lives = known().collect();
        }
        let (newest, life) = *lives.last()?;
        if of_one_container {
            let same = lives.iter().all(|(_, other)| is_same_container(other, life));
            return same.then(|| Match {
                scope: Scope::Container,
                subjects: vec![Subject::Container(newest)],
                container: Some(Arc::clone(&life.container)),
                pod_of: None,
                process: None,
                mesh: None,
            });
        }
        let uid = &life.container.pod.as_ref()?.uid;
        if !lives.iter().all(|(_, other)| other.container.pod.as_ref().is_some_and(|pod| pod.uid == *uid)) {
            return None;
        }
        let newest_of_each: Vec<(ContainerKey, &Life)> = lives
            .iter()
            .filter(|(key, life)| !lives.iter().any(|(other, later)| other > key && is_same_container(later, life)))
            .copied()
            .collect();
        let only = if newest_of_each.len() == 1 { Some(Arc::clone(&life.container)) } else { None };
        Some(Match {
            scope: Scope::Pod,
            subjects: newest_of_each.iter().map(|(key, _)| Subject::Container(*key)).collect(),
            container: only,
            pod_of: Some(Arc::clone(&life.container)),
            process: None,
            mesh: None,
        })
    }

    fn process_match(&self, process: ProcessKey) -> Match {
        let container = self.processes.container_of(process).and_then(|key| self.container(key)).cloned();
        Match {
            scope: Scope::Process,
            subjects: vec![Subject::Process(process)],
            container,
            pod_of: None,
            process: Some(process),
            mesh: None,
        }
    }

    /// The process that calls itself `own_pid` inside the containers found; two containers of a pod may each have one.
    fn process_within(&self, found: &Match, own_pid: u32) -> Option<ProcessKey> {
        let mut processes = found.subjects.iter().filter_map(|subject| match subject {
            Subject::Container(key) => self.processes.by_own_pid(*key, own_pid),
            _ => None,
        });
        match (processes.next(), processes.next()) {
            (Some(process), None) => Some(process),
            _ => None,
        }
    }

    /// Whether a container id or pod uid of the same resource names somebody else.
    fn contradicts(&self, found: &Match, claims: &Claims) -> bool {
        let subject = found.container.as_ref().or(found.pod_of.as_ref());
        let pod = subject.and_then(|container| container.pod.as_ref());
        let other_id = claims.get(CONTAINER_ID).and_then(as_text).is_some_and(|claim| {
            let named = self.tags.by_id(bare_id(claim));
            let lives = || named.iter().filter_map(|key| self.lives.get(key));
            let agrees = match (&found.container, &found.pod_of) {
                (Some(container), None) => lives().any(|life| life.container.id == container.id || is_sandbox_of(life, pod)),
                (_, Some(_)) => lives().any(|life| life.container.pod.as_ref().map(|pod| &pod.uid) == pod.map(|pod| &pod.uid)),
                (None, None) => false,
            };
            !named.is_empty() && !agrees
        });
        let other_uid = claims.get(POD_UID).and_then(as_text).is_some_and(|claim| match pod {
            Some(pod) => pod.uid != claim,
            None => !self.tags.get(&Tag::PodUid(claim.to_owned())).is_empty(),
        });
        other_id || other_uid
    }

    /// Whether everything the resource says of its container holds for what a pid or a connection found.
    fn meets_all(&self, found: &Match, claims: &Claims) -> bool {
        let container = found.container.as_ref().or(found.pod_of.as_ref());
        let pod = container.and_then(|container| container.pod.as_ref());
        let claimed = |name: &str| claims.get(name).and_then(as_text);
        let known = |name: &str, value: Option<&str>| claimed(name).is_none_or(|claim| value == Some(claim));
        let not_other = |name: &str, value: Option<&str>| claimed(name).is_none_or(|claim| value.is_none_or(|value| value == claim));
        let id_holds = claimed(CONTAINER_ID).is_none_or(|claim| {
            let named = self.tags.by_id(bare_id(claim));
            found.container.as_ref().is_some_and(|container| named.contains(&container.key))
                || named.iter().filter_map(|key| self.lives.get(key)).any(|life| is_sandbox_of(life, pod))
        });
        let ip_holds = claimed(POD_IP).is_none_or(|claim| {
            let ip: Option<IpAddr> = claim.parse().ok();
            ip.is_some_and(|ip| container.is_some_and(|container| self.tags.get(&Tag::PodIp(ip)).contains(&container.key)))
        });
        id_holds
            && ip_holds
            && known(POD_UID, pod.map(|pod| pod.uid.as_str()))
            && known(POD_NAME, pod.and_then(|pod| pod.name.as_deref()))
            && not_other(POD_NAMESPACE, pod.and_then(|pod| pod.namespace.as_deref()))
            && not_other(CONTAINER_NAME, found.container.as_ref().and_then(|container| container.k8s_container_name.as_deref()))
    }
}

impl<'i> Narrowed<'i> {
    /// Takes in one more source; `None` when it cannot mean the same as those before it.
    fn add(&mut self, selection: Selection<'i>) -> Option<()> {
        match selection {
            Selection::OwnPid(pid) => self.own_pid = Some(pid),
            Selection::Process(process) => self.process = Some(process),
            Selection::Lives { keys, of_one_container } => {
                let keys = match self.keys.take() {
                    Some(before) => Cow::Owned(before.intersection(&keys).copied().collect()),
                    None => keys,
                };
                self.of_one_container |= of_one_container;
                let empty = keys.is_empty();
                self.keys = Some(keys);
                if empty {
                    return None;
                }
            }
        }
        Some(())
    }
}

/// Two lives of one container: the same id, or a pod's container started again under a new id.
fn is_same_container(one: &Life, other: &Life) -> bool {
    let (one, other) = (&*one.container, &*other.container);
    let same_id = one.id == other.id && one.runtime_namespace == other.runtime_namespace;
    let uids = (one.pod.as_ref().map(|pod| &pod.uid), other.pod.as_ref().map(|pod| &pod.uid));
    same_id
        || (one.k8s_container_name.is_some() && one.k8s_container_name == other.k8s_container_name && uids.0.is_some() && uids.0 == uids.1)
}

fn is_sandbox_of(life: &Life, pod: Option<&crate::model::Pod>) -> bool {
    life.container.sandbox && pod.is_some_and(|pod| life.container.pod.as_ref().is_some_and(|own| own.uid == pod.uid))
}

fn names_process(rule: &AssociationRule) -> bool {
    rule.sources.iter().any(|source| matches!(source, AssociationSource::ResourceAttribute(name) if name == PROCESS_PID))
}

/// Kubernetes writes ids as `containerd://<id>`.
fn bare_id(claim: &str) -> &str {
    let claim = claim.trim();
    claim.split_once("://").map_or(claim, |(_, id)| id)
}

fn as_text(value: &ClaimValue) -> Option<&str> {
    match value {
        ClaimValue::Text(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
        ClaimValue::Int(_) => None,
    }
}

fn as_pid(value: &ClaimValue) -> Option<u32> {
    let pid = match value {
        ClaimValue::Int(pid) => u32::try_from(*pid).ok()?,
        ClaimValue::Text(text) => text.parse().ok()?,
    };
    (pid > 0).then_some(pid)
}

#[cfg(test)]
#[path = "identify_tests.rs"]
mod tests;
