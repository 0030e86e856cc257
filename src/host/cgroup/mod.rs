//! cgroup files of both versions, wherever their hierarchies are mounted.

mod dirs;
mod layout;
mod read;
mod walk;

pub use dirs::{CgroupDirs, Throttle};
pub(super) use layout::Layout;
pub(super) use read::stat;
pub(super) use walk::{count_below, pids};
