//! What a sender says about itself, what the kernel says about its connection, and whom that turned out to be.

use std::net::IpAddr;
use std::sync::Arc;

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
    /// `SO_PEERCRED` of a unix socket, in the agent's pid namespace.
    pub pid: Option<u32>,
}

/// Everything a resource says that may identify its container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Resource attributes named by an association rule, first value of each.
    pub attributes: Vec<(String, ClaimValue)>,
    /// The connection they came over.
    pub peer: Peer,
}

impl Claims {
    /// The claim of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ClaimValue> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

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
}
