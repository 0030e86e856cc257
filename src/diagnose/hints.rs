//! What the caller knows of a scope beside its window.

/// What the caller knows of the scope beside its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// CPUs the scope's cgroup can have run on: the smaller of those there are and its tasks; too many is safe, too few is not.
    pub cpus: Option<u32>,
    /// Tasks of the cgroup alive in the window; too many is safe, too few is not.
    pub tasks: Option<u32>,
    /// CPUs that its tasks are allowed to run on, as far as that could be seen.
    pub allowed: Option<u32>,
    /// What tasks of the cgroup that do not belong to the scope waited in the window, ns; 0: the scope is all of the cgroup.
    pub beside_ns: u64,
}
