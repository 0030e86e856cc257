//! Names of a container and its pod, as resource attributes.

use crate::model::{Container, Match};
use crate::otlp::names;

/// The resource attributes that a match stands for: all of a container's where there is exactly one, only the pod's
/// where only the pod is known.
#[must_use]
pub fn stamps_of(target: &Match) -> Vec<(&'static str, &str)> {
    let mut stamps = Vec::new();
    if let Some(container) = &target.container {
        stamp_container(&mut stamps, container);
    }
    if let Some(container) = target.container.as_ref().or(target.pod_of.as_ref()) {
        stamp_pod(&mut stamps, container);
    }
    stamps
}

fn stamp_container<'c>(stamps: &mut Vec<(&'static str, &'c str)>, container: &'c Container) {
    let mut stamp = |name: names::Name, value: Option<&'c str>| stamps.extend(value.map(|value| (name.key, value)));
    stamp(names::CONTAINER_ID, Some(&container.id));
    stamp(names::CONTAINER_NAME, container.name.as_deref());
    stamp(names::CONTAINER_IMAGE_NAME, container.image.as_deref());
    stamp(names::CONTAINER_RUNTIME_NAME, container.runtime);
    stamp(names::K8S_CONTAINER_NAME, container.k8s_container_name.as_deref());
}

fn stamp_pod<'c>(stamps: &mut Vec<(&'static str, &'c str)>, container: &'c Container) {
    let Some(pod) = &container.pod else { return };
    let mut stamp = |name: names::Name, value: Option<&'c str>| stamps.extend(value.map(|value| (name.key, value)));
    stamp(names::K8S_POD_UID, Some(&pod.uid));
    stamp(names::K8S_POD_NAME, pod.name.as_deref());
    stamp(names::K8S_NAMESPACE_NAME, pod.namespace.as_deref());
    stamp(names::K8S_POD_IP, pod.ip.as_deref());
}
