//! Who is who.

use super::Wall;

/// One life of one container, numbered by the agent and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey(pub u64);

/// A process (thread group) that pid reuse cannot confuse: pid in the host's namespace and start time in clock ticks
/// since boot (`/proc/PID/stat` field 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Thread group id as the host numbers it.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// A task (kernel thread), by the same rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// Thread id as the host numbers it.
    pub tid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// Whom a reading or a window describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// All tasks of a container, dead ones included.
    Container(ContainerKey),
    /// All threads of a process, dead ones included.
    Process(ProcessKey),
    /// One thread.
    Task(TaskKey),
}

/// The Kubernetes pod around a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `k8s.pod.uid`
    pub uid: String,
    /// `k8s.pod.name`
    pub name: Option<String>,
    /// `k8s.namespace.name`
    pub namespace: Option<String>,
    /// `k8s.pod.ip`; absent for host-network pods.
    pub ip: Option<String>,
}

/// What is known about one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The agent's number for this life.
    pub key: ContainerKey,
    /// Full id as the runtime writes it (`container.id`).
    pub id: String,
    /// `container.runtime.name`: `containerd`, `docker`, `cri-o`, `podman`, `systemd`, …
    pub runtime: Option<&'static str>,
    /// containerd namespace, where containerd named it.
    pub runtime_namespace: Option<String>,
    /// `container.name`
    pub name: Option<String>,
    /// `container.image.name`
    pub image: Option<String>,
    /// `k8s.container.name`
    pub k8s_container_name: Option<String>,
    /// The pod, for containers of Kubernetes.
    pub pod: Option<Pod>,
    /// When its first process started.
    pub started: Option<Wall>,
    /// The pod's pause container: has no numbers of its own on spans or metrics.
    pub sandbox: bool,
}

impl Container {
    /// Whether this is a service of the host (`nginx.service`), and no container.
    #[must_use]
    pub fn is_unit(&self) -> bool {
        matches!(self.runtime, Some("systemd" | "talos"))
    }

    /// The name shown to people: `namespace/pod/container`, else the container's name, else its short id.
    #[must_use]
    pub fn display_name(&self) -> String {
        let own = self.k8s_container_name.as_deref().or(self.name.as_deref());
        match (&self.pod, own) {
            (Some(Pod { name: Some(pod), namespace: Some(namespace), .. }), Some(own)) => format!("{namespace}/{pod}/{own}"),
            (_, Some(own)) => own.to_owned(),
            (_, None) => self.id.chars().take(12).collect(),
        }
    }
}
