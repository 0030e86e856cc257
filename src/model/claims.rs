//! What a sender says about itself, what the kernel says about its connection, and whom that turned out to be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Container, ProcessKey, Scope, Subject};

/// Value of a resource attribute that may name a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// `string_value`
    Text(String),
    /// `int_value`
    Int(i64),
}

/// What the kernel says about the sender's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Source address of a TCP connection.
    pub ip: Option<IpAddr>,
    /// Source port of a TCP connection.
    pub port: Option<u16>,
    /// The process at the other end, in the agent's pid namespace: `SO_PEERCRED` of a unix socket, or who holds `socket`.
    pub pid: Option<u32>,
    /// When that process started, in clock ticks since boot: the pid of one that has ended may be another's by now.
    pub started: Option<u64>,
    /// The address that was connected to.
    pub local: Option<SocketAddr>,
    /// Inode of the other end's TCP socket, where it is one of the agent's network namespace.
    pub socket: Option<u64>,
}

/// Everything a resource says that may identify its container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Resource attributes named by an association rule, first value of each.
    pub attributes: Vec<(String, ClaimValue)>,
    /// The connection they came over.
    pub peer: Peer,
}

/// Attribute by which Istio's proxies say who they are.
pub const NODE_ID: &str = "node_id";

impl Claims {
    /// The claim of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ClaimValue> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Resource attributes of a match: those of a container, of its pod and of its node are no more than these.
pub type Stamps<'m> = SmallVec<[(&'static str, &'m str); 12]>;

/// Whose spans these are.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// What the subjects amount to.
    pub scope: Scope,
    /// Whose windows are summed: one process, one container, or the containers of a pod.
    pub subjects: Vec<Subject>,
    /// The container, where there is exactly one; its names are stamped on the resource.
    pub container: Option<Arc<Container>>,
    /// Any container of the pod, where only the pod is known; only pod-level names are stamped.
    pub pod_of: Option<Arc<Container>>,
    /// The process, where a pid was resolved.
    pub process: Option<ProcessKey>,
    /// The two sides of its pod, where the pod has a mesh proxy.
    pub mesh: Option<Arc<Mesh>>,
}

/// A pod with a mesh proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    /// The application's containers.
    pub app: Vec<Subject>,
    /// The proxy's container.
    pub proxy: Vec<Subject>,
    /// The spans are the proxy's own: each says by its kind and direction whose time it was.
    pub of_proxy: bool,
}
