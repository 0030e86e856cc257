//! From containerd's labels and extensions to a [`RuntimeContainer`]. Pure.
//!
//! Only the labels named here are read, each cut at 1 KiB: they are written by whoever may create a pod or build an image.

use std::net::IpAddr;

use serde::Deserialize;

use super::record::KubernetesNames;

/// Longest name taken over, bytes.
pub(super) const MAX_NAME: usize = 1_024;
/// Most addresses of one pod (dual stack has two).
const MAX_POD_IPS: usize = 8;
/// Largest sandbox metadata read, bytes: it carries the pod's labels and annotations (256 KiB at most).
const MAX_SANDBOX_METADATA: usize = 1 << 20;

/// The namespace in which the kubelet's labels can be trusted; elsewhere an image's own labels could pose as a pod's.
pub(super) const KUBERNETES_NAMESPACE: &str = "k8s.io";

/// Looks up one label.
pub(super) trait Labels {
    /// The value of this key.
    fn label(&self, key: &str) -> Option<&str>;
}

impl<S: std::hash::BuildHasher> Labels for std::collections::HashMap<String, String, S> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// What the kubelet's labels say. [internal/cri/labels in containerd]
pub(super) fn kubernetes_names(namespace: &str, labels: &impl Labels) -> KubernetesNames {
    if namespace != KUBERNETES_NAMESPACE {
        return KubernetesNames::default();
    }
    let name = |key| labels.label(key).and_then(bounded);
    KubernetesNames {
        pod_uid: name("io.kubernetes.pod.uid"),
        pod_name: name("io.kubernetes.pod.name"),
        pod_namespace: name("io.kubernetes.pod.namespace"),
        container_name: name("io.kubernetes.container.name"),
    }
}

/// Whether this is a pod's pause container.
pub(super) fn is_sandbox(namespace: &str, labels: &impl Labels) -> bool {
    namespace == KUBERNETES_NAMESPACE && labels.label("io.cri-containerd.kind") == Some("sandbox")
}

/// The name nerdctl and Compose keep in a label.
pub(super) fn given_name(labels: &impl Labels) -> Option<String> {
    labels.label("nerdctl/name").and_then(bounded)
}

/// A text cut at [`MAX_NAME`], `None` where it is empty.
pub(super) fn bounded(text: &str) -> Option<String> {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_NAME).last()?;
    text.get(..end).map(str::to_owned)
}

#[derive(Deserialize)]
struct SandboxMetadata {
    #[serde(rename = "Metadata")]
    metadata: SandboxState,
}

#[derive(Deserialize)]
struct SandboxState {
    #[serde(rename = "IP", default)]
    ip: String,
    #[serde(rename = "AdditionalIPs", default)]
    additional: Option<Vec<String>>,
    #[serde(rename = "Config", default)]
    config: Option<SandboxConfig>,
}

#[derive(Deserialize)]
struct SandboxConfig {
    #[serde(default)]
    metadata: Option<PodMetadata>,
}

#[derive(Deserialize)]
struct PodMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    namespace: String,
}

/// What the CRI plugin writes beside a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sandbox {
    /// Addresses of the pod; none with the host's network, or before the network was set up.
    pub(super) pod_ips: Vec<IpAddr>,
    /// The pod's names.
    pub(super) names: KubernetesNames,
}

/// Reads the JSON of extension `io.cri-containerd.sandbox.metadata` of a pause container (1.x, and a copy in 2.x), or of key
/// `metadata` of the sandbox store (2.x); `None` where it cannot be read.
pub(super) fn sandbox(json: &[u8]) -> Option<Sandbox> {
    if json.len() > MAX_SANDBOX_METADATA {
        return None;
    }
    let SandboxMetadata { metadata: state } = serde_json::from_slice(json).ok()?;
    let additional = state.additional.unwrap_or_default();
    let pod_ips = std::iter::once(&state.ip).chain(&additional).filter_map(|ip| ip.parse().ok()).take(MAX_POD_IPS).collect();
    let names = state.config.and_then(|config| config.metadata).map(|pod| KubernetesNames {
        pod_uid: bounded(&pod.uid),
        pod_name: bounded(&pod.name),
        pod_namespace: bounded(&pod.namespace),
        container_name: None,
    });
    Some(Sandbox { pod_ips, names: names.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn kubelet_labels_count_in_its_namespace_only() {
        let labels = labels(&[("io.kubernetes.pod.name", "web-0"), ("io.kubernetes.pod.uid", "u"), ("io.cri-containerd.kind", "sandbox")]);
        assert_eq!(kubernetes_names("k8s.io", &labels).pod_name.as_deref(), Some("web-0"));
        assert!(is_sandbox("k8s.io", &labels));
        for namespace in ["default", "moby", "k8s.io ", ""] {
            assert_eq!(kubernetes_names(namespace, &labels), KubernetesNames::default(), "{namespace}");
            assert!(!is_sandbox(namespace, &labels), "{namespace}");
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(bounded(""), None);
        assert_eq!(bounded("web").as_deref(), Some("web"));
        assert_eq!(bounded(&"x".repeat(70_000)).map(|name| name.len()), Some(MAX_NAME));
        assert_eq!(bounded(&format!("x{}", "é".repeat(1_000))).map(|name| name.len()), Some(MAX_NAME - 1));
    }

    #[test]
    fn a_pod_is_read_from_its_sandbox_metadata() {
        let check = |json: &str, expected: Option<(&[&str], Option<&str>)>| {
            let found = sandbox(json.as_bytes())
                .map(|found| (found.pod_ips.iter().map(ToString::to_string).collect::<Vec<_>>(), found.names.pod_name));
            let expected = expected.map(|(ips, name)| (ips.iter().map(ToString::to_string).collect::<Vec<_>>(), name.map(str::to_owned)));
            assert_eq!(found, expected, "{json}");
        };
        let whole = r#"{"Version":"v1","Metadata":{"ID":"a","IP":"10.0.0.7","AdditionalIPs":["fd00::7"],
            "Config":{"metadata":{"name":"web-0","uid":"u","namespace":"shop","attempt":1},"labels":{"a":"b"}}}}"#;
        check(whole, Some((&["10.0.0.7", "fd00::7"], Some("web-0"))));
        check(r#"{"Version":"v1","Metadata":{"IP":"","AdditionalIPs":null,"Config":null}}"#, Some((&[], None)));
        check(r#"{"Metadata":{"IP":"10.0.0.300"}}"#, Some((&[], None)));
        for garbage in ["", "{", "[]", r#"{"Metadata":"x"}"#, r#"{"Metadata":{"IP":7}}"#, "\u{0}\u{1}"] {
            check(garbage, None);
        }
    }
}
