//! Names written onto a resource, so that a Collector behind the hop still finds the pod. Pure.

use crate::model::{Container, Match, Pod, Stamps};

/// Resource attributes known for a match (contract §1); the node's own names are not among them.
#[must_use]
pub fn resource_stamps(found: &Match) -> Stamps<'_> {
    let mut stamps = Stamps::new();
    if let Some(container) = &found.container {
        stamp_container(container, &mut stamps);
    }
    if let Some(pod) = found.container.as_ref().or(found.pod_of.as_ref()).and_then(|container| container.pod.as_ref()) {
        stamp_pod(pod, &mut stamps);
    }
    stamps
}

fn stamp_container<'c>(container: &'c Container, stamps: &mut Stamps<'c>) {
    let mut put = |key, value: Option<&'c str>| stamps.extend(value.map(|value| (key, value)));
    // A service of the host has a name, not an id.
    put("container.id", Some(container.id.as_str()).filter(|_| !container.is_unit()));
    put("container.name", container.name.as_deref());
    put("container.image.name", container.image.as_deref());
    put("container.runtime.name", container.runtime);
    put("k8s.container.name", container.k8s_container_name.as_deref());
}

fn stamp_pod<'c>(pod: &'c Pod, stamps: &mut Stamps<'c>) {
    let mut put = |key, value: Option<&'c str>| stamps.extend(value.map(|value| (key, value)));
    put("k8s.pod.uid", Some(&pod.uid));
    put("k8s.pod.name", pod.name.as_deref());
    put("k8s.namespace.name", pod.namespace.as_deref());
    put("k8s.pod.ip", pod.ip.as_deref());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ContainerKey, Scope};

    fn container(runtime: &'static str) -> Arc<Container> {
        Arc::new(Container {
            key: ContainerKey(1),
            id: "abc".to_owned(),
            runtime: Some(runtime),
            runtime_namespace: None,
            name: Some("web".to_owned()),
            image: Some("nginx:1".to_owned()),
            k8s_container_name: Some("nginx".to_owned()),
            pod: Some(Pod {
                uid: "u".to_owned(),
                name: Some("p".to_owned()),
                namespace: Some("shop".to_owned()),
                ip: Some("10.0.0.7".to_owned()),
            }),
            started: None,
            sandbox: false,
        })
    }

    #[test]
    fn only_what_is_known_is_stamped() {
        let base = Match { scope: Scope::Pod, subjects: Vec::new(), container: None, pod_of: None, process: None, mesh: None };
        let pod = [("k8s.pod.uid", "u"), ("k8s.pod.name", "p"), ("k8s.namespace.name", "shop"), ("k8s.pod.ip", "10.0.0.7")];
        let named = [
            ("container.name", "web"),
            ("container.image.name", "nginx:1"),
            ("container.runtime.name", "systemd"),
            ("k8s.container.name", "nginx"),
        ];
        let check = |found: Match, expected: &[(&'static str, &str)]| {
            assert_eq!(&*resource_stamps(&found), expected);
        };
        check(base.clone(), &[]);
        check(Match { pod_of: Some(container("containerd")), ..base.clone() }, &pod);
        check(Match { container: Some(container("systemd")), ..base.clone() }, &[named.as_slice(), &pod].concat());
        let with_id = Match { container: Some(container("containerd")), ..base };
        assert_eq!(resource_stamps(&with_id).first(), Some(&("container.id", "abc")));
    }
}
