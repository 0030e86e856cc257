//! cgroup files, paths and mounts, versions 1 and 2.

pub mod cpu;
pub mod identity;
pub mod membership;
pub mod memory;
pub mod mounts;
pub mod pressure;
pub mod tree;
