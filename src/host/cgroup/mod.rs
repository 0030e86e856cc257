//! cgroup files of both versions, wherever their hierarchies are mounted.

mod above;
mod dirs;
mod layout;
mod read;
mod walk;

pub use above::{Above, MOST_ABOVE};
pub use dirs::{CgroupDirs, Throttle};
pub(super) use layout::Layout;
pub(super) use read::stat;
pub(super) use walk::{count_below, pids};
