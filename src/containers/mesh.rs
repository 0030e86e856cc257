//! Pods with a mesh proxy: which container is the proxy, and whose waits are told apart. Pure.
//!
//! A native sidecar (an init container that is restarted always) is one more container of the sandbox to the runtime, so
//! both forms look alike here. What a mesh runs once before the application (`linkerd-init`, `istio-validation`) is no proxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::Index;
use super::tags::Tag;
use crate::model::{Claims, Container, ContainerKey, Match, Mesh, NODE_ID, Subject};

/// Containers that are a mesh's proxy, by the name its injector gives them.
const PROXIES: [&str; 4] = ["consul-dataplane", "istio-proxy", "kuma-sidecar", "linkerd-proxy"];

/// Whether a container is a mesh's proxy.
fn is_proxy(container: &Container) -> bool {
    proxy_name(container).is_some()
}

fn proxy_name(container: &Container) -> Option<&'static str> {
    let name = container.k8s_container_name.as_deref().or(container.name.as_deref())?;
    PROXIES.into_iter().find(|proxy| *proxy == name)
}

/// How many of these containers are mesh proxies, by name.
pub fn count_proxies<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in containers.filter_map(proxy_name) {
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

impl Index {
    /// The two sides of the pod that was found; `None` where it has no proxy.
    pub(super) fn mesh_of(&self, found: &Match, claims: &Claims) -> Option<Arc<Mesh>> {
        let container = found.container.as_ref().or(found.pod_of.as_ref())?;
        let uid = &container.pod.as_ref()?.uid;
        let members = self.tags.get(&Tag::PodUid(uid.clone()));
        let is_proxy_key = |key: &ContainerKey| self.container(*key).is_some_and(|container| is_proxy(container));
        if !members.iter().any(is_proxy_key) {
            return None;
        }
        let pod = self.lives_match(members, false)?;
        let (proxy, app): (Vec<Subject>, Vec<Subject>) =
            pod.subjects.into_iter().partition(|subject| matches!(subject, Subject::Container(key) if is_proxy_key(key)));
        // A container found after its proxy has died: what its pod's proxy was is no part of the living pod.
        let of_proxy = claims.get(NODE_ID).is_some() || found.container.as_ref().is_some_and(|container| is_proxy(container));
        (!proxy.is_empty()).then(|| Arc::new(Mesh { app, proxy, of_proxy }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::fixture::{Node, hex, in_pod, pod_path, runtime, sandbox, text};
    use crate::containers::{RuntimeContainer, RuntimeTask};
    use crate::model::{ClaimValue, Scope};

    const UID: &str = "u";

    fn start(node: &mut Node, number: u32, name: &str) -> ContainerKey {
        let id = hex(&format!("{number:08x}"));
        node.start(in_pod(&id, number, UID, name), &pod_path(UID, &id))
    }

    fn sides(node: &Node, claims: &[(&str, ClaimValue)]) -> Option<(Vec<Subject>, Vec<Subject>, bool)> {
        let mesh = node.find(claims).unwrap().mesh?;
        Some((mesh.app.clone(), mesh.proxy.clone(), mesh.of_proxy))
    }

    fn both(app: &[ContainerKey], proxy: ContainerKey, of_proxy: bool) -> Option<(Vec<Subject>, Vec<Subject>, bool)> {
        Some((app.iter().copied().map(Subject::Container).collect(), vec![Subject::Container(proxy)], of_proxy))
    }

    #[test]
    fn the_proxy_is_told_apart_from_the_application_in_every_pod_that_has_one() {
        for name in PROXIES {
            let mut node = Node::new();
            let pause = hex("a0");
            node.start(sandbox(&pause, 9, UID, &["10.0.0.7"]), &pod_path(UID, &pause));
            let proxy = start(&mut node, 20, name);
            let web = start(&mut node, 10, "web");
            let pod = ("k8s.pod.uid", text(UID));
            assert_eq!(sides(&node, std::slice::from_ref(&pod)), both(&[web], proxy, false), "{name}");
            let with = |container: &str| [pod.clone(), ("k8s.container.name", text(container))];
            assert_eq!(sides(&node, &with("web")), both(&[web], proxy, false), "{name}");
            assert_eq!(sides(&node, &with(name)), both(&[web], proxy, true), "{name}");
            let helper = start(&mut node, 11, "helper");
            assert_eq!(sides(&node, std::slice::from_ref(&pod)), both(&[web, helper], proxy, false), "{name}");
        }
    }

    #[test]
    fn a_pod_or_container_without_a_proxy_has_no_sides() {
        let mut node = Node::new();
        start(&mut node, 10, "web");
        start(&mut node, 11, "linkerd-proxy-debug");
        assert_eq!(sides(&node, &[("k8s.pod.uid", text(UID))]), None);
        let id = hex("d0");
        let named = RuntimeContainer { name: Some("istio-proxy".to_owned()), ..runtime("moby", &id, RuntimeTask::Running { pid: 30 }) };
        node.start(named, &format!("/docker/{id}"));
        assert_eq!(sides(&node, &[("container.id", text(&id))]), None, "no pod, no mesh");
    }

    #[test]
    fn a_proxy_that_was_started_again_counts_in_its_new_life() {
        let mut node = Node::new();
        let web = start(&mut node, 10, "web");
        start(&mut node, 20, "istio-proxy");
        node.exit(20);
        let again = start(&mut node, 21, "istio-proxy");
        assert_eq!(sides(&node, &[("k8s.pod.uid", text(UID))]), both(&[web], again, false));
        node.exit(21);
        assert_eq!(sides(&node, &[("k8s.pod.uid", text(UID))]), None, "it is gone and the application is not");
        node.exit(10);
        let found = node.find(&[("k8s.pod.uid", text(UID))]).unwrap();
        assert_eq!((found.scope, found.mesh.map(|mesh| mesh.proxy.len())), (Scope::Pod, Some(1)), "a late span of a dead pod");
    }

    #[test]
    fn running_proxies_are_counted_by_name() {
        let mut node = Node::new();
        start(&mut node, 10, "web");
        start(&mut node, 20, "istio-proxy");
        let id = hex("bb");
        node.start(in_pod(&id, 30, "v", "istio-proxy"), &pod_path("v", &id));
        start(&mut node, 21, "linkerd-proxy");
        start(&mut node, 22, "linkerd-init");
        node.exit(21);
        let count = |node: &Node| count_proxies(node.index.live().map(|container| &**container));
        assert_eq!(count(&node), [("istio-proxy".to_owned(), 2)]);
        start(&mut node, 23, "linkerd-proxy");
        assert_eq!(count(&node), [("istio-proxy".to_owned(), 2), ("linkerd-proxy".to_owned(), 1)]);
    }
}
