//! Room `containers`: who is who on this node.
//!
//! [`Index`] is the pure core: it joins what a runtime lists with what the cgroup paths of processes tell, numbers each life of
//! a container with a key that is never used again, keeps the dead for late spans, and answers whose a span is from what its
//! resource claims. [`containerd`] is the edge: it keeps asking a containerd and tells what it hears as [`RuntimeUpdate`]s.
//!
//! This room deliberately does not open `/proc` (the wiring turns a task's pid into an [`Init`]), keeps no readings, and never
//! holds a lock: whoever shares an `Index` brings one.

pub mod containerd;
#[cfg(test)]
mod fixture;
mod home;
mod identify;
mod index;
mod labels;
mod lives;
mod mesh;
mod placing;
mod processes;
mod record;
mod records;
mod stamps;
mod tags;

pub use home::Home;
pub use index::{Counts, Index, MAX_CONTAINERS, MAX_TOMBSTONES};
pub use mesh::count_proxies;
pub use processes::{MAX_DEAD_PROCESSES, MAX_PROCESSES};
pub use record::{Init, KubernetesNames, RuntimeContainer, RuntimeTask, RuntimeUpdate};
pub use stamps::resource_stamps;
