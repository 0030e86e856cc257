//! What a container runtime says of one container, and what happens to it. Plain data.

use std::net::IpAddr;

use super::Home;
use crate::model::{Absence, Container, ContainerKey, Pod, ProcessKey, Wall};

/// What the runtime says about a container's task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeTask {
    /// The runtime did not tell this time: what was known stays.
    #[default]
    Unknown,
    /// No task, or a task that has ended.
    Stopped,
    /// A task that was created, runs or is paused.
    Running {
        /// Pid of its first process in the runtime's pid namespace (the host's).
        pid: u32,
    },
}

/// The Kubernetes side of a container, from its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesNames {
    /// `io.kubernetes.pod.uid`
    pub pod_uid: Option<String>,
    /// `io.kubernetes.pod.name`
    pub pod_name: Option<String>,
    /// `io.kubernetes.pod.namespace`
    pub pod_namespace: Option<String>,
    /// `io.kubernetes.container.name`
    pub container_name: Option<String>,
}

/// One container as a runtime lists it. Known by (runtime namespace, id): two namespaces may use the same id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeContainer {
    /// containerd namespace: `k8s.io`, `moby`, `default`, …
    pub namespace: String,
    /// Id inside it: 64 hex digits, or whatever `ctr` was told.
    pub id: String,
    /// The name its user gave it, where the runtime keeps one.
    pub name: Option<String>,
    /// Image reference.
    pub image: Option<String>,
    /// When the container (not its task) was created.
    pub created: Option<Wall>,
    /// Empty outside namespace `k8s.io`, whatever the labels say: image labels are copied onto containers.
    pub kubernetes: KubernetesNames,
    /// The pod's pause container.
    pub sandbox: bool,
    /// Addresses of the pod; only a sandbox has them, none with the host's network.
    pub pod_ips: Vec<IpAddr>,
    /// Its task.
    pub task: RuntimeTask,
}

/// What the host says about the first process of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// Who.
    pub process: ProcessKey,
    /// Where it lives.
    pub home: Home,
    /// When it started.
    pub started: Option<Wall>,
}

/// News from the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeUpdate {
    /// Whether the runtime can be asked at all.
    Status(Result<(), Absence>),
    /// Everything there is; what is not in it is gone.
    Reconcile(Vec<RuntimeContainer>),
    /// One container, new or changed.
    Upsert(RuntimeContainer),
    /// One container was deleted.
    Gone {
        /// Runtime namespace.
        namespace: String,
        /// Container id.
        id: String,
    },
}

impl RuntimeContainer {
    /// `docker` where Docker is the user of containerd.
    pub(super) fn runtime(&self) -> &'static str {
        if self.namespace == "moby" { "docker" } else { "containerd" }
    }

    /// The vocabulary's view of one life of this container.
    pub(super) fn describe(&self, key: ContainerKey, started: Option<Wall>, pod_ip: Option<String>) -> Container {
        let names = &self.kubernetes;
        let pod = names.pod_uid.as_ref().map(|uid| Pod {
            uid: uid.clone(),
            name: names.pod_name.clone(),
            namespace: names.pod_namespace.clone(),
            ip: pod_ip,
        });
        Container {
            key,
            id: self.id.clone(),
            runtime: Some(self.runtime()),
            runtime_namespace: Some(self.namespace.clone()),
            name: self.name.clone().or_else(|| names.container_name.clone()).or_else(|| spoken_id(&self.id)),
            image: self.image.clone(),
            k8s_container_name: names.container_name.clone(),
            pod,
            started: started.or(self.created),
            sandbox: self.sandbox,
        }
    }
}

/// An id that a person chose is as good as a name.
fn spoken_id(id: &str) -> Option<String> {
    (!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))).then(|| id.to_owned())
}
