//! What is fuzzed: each target takes any bytes and panics where a promise is broken.

mod config;
mod framing;
mod inflate;
mod json;
mod kernel;
#[path = "../../src/enrich/tests/oracle.rs"]
mod oracle;
mod paths;
mod splice;
mod walk;

pub use config::config;
pub use framing::framing;
pub use inflate::inflate;
pub use json::json;
pub use kernel::{btf, cgroup_files, netlink, schedstat, taskstats};
pub use paths::cgroup_paths;
pub use splice::splice;
pub use walk::walk;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their folder in `corpus`.
pub const ALL: [(&str, Target); 12] = [
    ("taskstats", taskstats),
    ("netlink", netlink),
    ("schedstat", schedstat),
    ("cgroup_files", cgroup_files),
    ("cgroup_paths", cgroup_paths),
    ("btf", btf),
    ("walk", walk),
    ("splice", splice),
    ("json", json),
    ("inflate", inflate),
    ("config", config),
    ("framing", framing),
];
