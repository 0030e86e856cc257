//! Attributes of the three kinds of resource.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::About;
use super::sheet::text;
use crate::model::Container;
use crate::otlp::metric_names::{SCOPE, key};

/// A container's: everything that is known about it, nothing that is not.
pub(super) fn of_container(container: &Container, about: &About) -> Resource {
    let pod = container.pod.as_ref();
    let known = [
        (key::CONTAINER_ID, Some(container.id.as_str())),
        (key::CONTAINER_NAME, container.name.as_deref()),
        (key::CONTAINER_IMAGE_NAME, container.image.as_deref()),
        (key::CONTAINER_RUNTIME_NAME, container.runtime),
        (key::K8S_CONTAINER_NAME, container.k8s_container_name.as_deref()),
        (key::K8S_POD_UID, pod.map(|pod| pod.uid.as_str())),
        (key::K8S_POD_NAME, pod.and_then(|pod| pod.name.as_deref())),
        (key::K8S_NAMESPACE_NAME, pod.and_then(|pod| pod.namespace.as_deref())),
        (key::K8S_POD_IP, pod.and_then(|pod| pod.ip.as_deref())),
    ];
    let known = known.into_iter().filter_map(|(key, value)| Some(text(key, value.filter(|value| !value.is_empty())?)));
    with_host(known.collect(), about)
}

/// The host's.
pub(super) fn of_host(about: &About) -> Resource {
    with_host(Vec::new(), about)
}

/// The agent's own.
pub(super) fn of_agent(about: &About) -> Resource {
    let own =
        vec![text(key::SERVICE_NAME, SCOPE), text(key::SERVICE_VERSION, &about.version), text(key::SERVICE_INSTANCE_ID, &about.host_name)];
    with_host(own, about)
}

fn with_host(mut attributes: Vec<KeyValue>, about: &About) -> Resource {
    attributes.push(text(key::HOST_NAME, &about.host_name));
    attributes.extend(about.node_name.as_deref().map(|node| text(key::K8S_NODE_NAME, node)));
    Resource { attributes, ..Resource::default() }
}
