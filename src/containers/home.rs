//! Where a process lives: its cgroup memberships, and what their paths tell. Pure.

use std::hash::{Hash, Hasher};

use crate::parse::cgroup::identity::{CgroupIdentity, IdentityKind, identify_all};
use crate::parse::cgroup::membership::Membership;

/// The cgroups of one process, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Distinct paths other than the root, in the order of `/proc/PID/cgroup`.
    paths: Vec<Vec<u8>>,
    identity: Option<CgroupIdentity>,
}

impl Hash for Home {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The identity follows from the paths.
        self.paths.hash(state);
    }
}

impl Home {
    /// What the memberships of one process amount to.
    #[must_use]
    pub fn of(memberships: &[Membership]) -> Self {
        let mut paths: Vec<Vec<u8>> = Vec::new();
        for path in memberships.iter().map(|membership| &membership.path) {
            if path.as_slice() != b"/" && !path.is_empty() && !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        Self { paths, identity: identify_all(memberships) }
    }

    /// Whether it is the root of every hierarchy.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.paths.is_empty()
    }

    /// What the path says by itself.
    pub(super) fn identity(&self) -> Option<&CgroupIdentity> {
        self.identity.as_ref()
    }

    /// Distinct paths, never the root.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.iter().map(Vec::as_slice)
    }

    /// Whether a path of it names this container.
    pub(super) fn carries(&self, id: &str) -> bool {
        self.paths().any(|path| carries(path, id))
    }

    /// The paths that belong to the container of this id alone, judged by the path of its first process. A controller the
    /// runtime does not manage leaves the process in the cgroup of whoever started it: such a path would pull in strangers.
    pub(super) fn own_paths(&self, id: &str) -> Vec<Vec<u8>> {
        let named: Vec<Vec<u8>> = self.paths().filter(|path| carries(path, id)).map(<[u8]>::to_vec).collect();
        if !named.is_empty() {
            return named;
        }
        // `--cgroup /some/where`: a path of the user's choice, but never one of systemd's or another container's.
        if self.identity.as_ref().is_some_and(|identity| identity.kind != IdentityKind::Candidate) {
            return Vec::new();
        }
        self.paths().filter(|path| !is_managed_by_systemd(path)).take(1).map(<[u8]>::to_vec).collect()
    }
}

fn carries(path: &[u8], id: &str) -> bool {
    path.split(|byte| *byte == b'/').any(|component| {
        let component = component.strip_suffix(b".scope").unwrap_or(component);
        component.strip_suffix(id.as_bytes()).is_some_and(|before| before.last().is_none_or(|byte| matches!(byte, b'-' | b':')))
    })
}

fn is_managed_by_systemd(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    last == b"init.scope" || [b".service".as_slice(), b".scope", b".slice"].iter().any(|suffix| last.ends_with(suffix))
}

/// The path and its parents, longest first, without the root.
pub(super) fn ancestry(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let cut = path.iter().rposition(|byte| *byte == b'/')?;
        path.get(..cut).filter(|parent| !parent.is_empty())
    })
}
