//! From the cgroup paths of a process to its container. Pure.

use super::home::{Home, ancestry};
use super::index::{Index, RecordKey};
use super::lives::Life;
use crate::model::{Container, ContainerKey, Mono, Pod};
use crate::parse::cgroup::identity::{CgroupIdentity, IdentityKind};

/// What a search came to.
enum Found {
    Nobody,
    One(ContainerKey),
    /// They cannot be told apart: better nobody than the wrong one.
    Several,
}

impl Found {
    fn of<'a>(mut lives: impl Iterator<Item = (ContainerKey, &'a Life)>) -> Self {
        match (lives.next(), lives.next()) {
            (Some((key, _)), None) => Self::One(key),
            (Some(_), Some(_)) => Self::Several,
            (None, _) => Self::Nobody,
        }
    }
}

impl Index {
    /// The container in which a process with these cgroups lives; `None` for a plain process of the host. A container that
    /// no runtime has named comes into being here. Within one scan, tell of the processes that are gone first.
    pub fn place(&mut self, home: &Home, now: Mono) -> Option<ContainerKey> {
        let identity = home.identity();
        if let Some(identity) = identity.filter(|identity| identity.kind == IdentityKind::Container) {
            return self.place_by_id(identity, now);
        }
        let named = self.named_around(home).or_else(|| self.named_by_path(home, now));
        named.or_else(|| self.place_unit(identity.filter(|identity| identity.kind == IdentityKind::Unit)?, now))
    }

    /// The path carries a container id: that container and never the one around it.
    fn place_by_id(&mut self, identity: &CgroupIdentity, now: Mono) -> Option<ContainerKey> {
        let told = |life: &Life| {
            fits(life, identity) && life.container.runtime_namespace.is_some() && life.container.runtime_namespace == identity.namespace
        };
        let named = self.living_or_straggling(told, &identity.id, &identity.path);
        let found = match named {
            Found::Nobody => self.living_or_straggling(|life| fits(life, identity), &identity.id, &identity.path),
            found => found,
        };
        match found {
            Found::One(key) => return Some(key),
            Found::Several => return None,
            Found::Nobody => {}
        }
        let fitting = self.records.keys().filter(|record| record.1 == identity.id && fits_record(record, identity));
        let record = fitting.max_by_key(|record| Some(&record.0) == identity.namespace.as_ref()).cloned();
        self.begin_at(identity, record, now)
    }

    /// A containerd container with an id of its user's choice: at or below the cgroup of its first process.
    fn named_around(&self, home: &Home) -> Option<ContainerKey> {
        home.paths().flat_map(ancestry).find_map(|path| {
            let mut here =
                self.by_path.get(path)?.iter().copied().filter(|key| self.lives.get(key).is_some_and(|life| life.record.is_some()));
            match (here.next(), here.next()) {
                (Some(key), None) => Some(key),
                // Several containers in one cgroup cannot be told apart.
                _ => None,
            }
        })
    }

    /// `/<namespace>/<id>`, where the runtime lists that id in that namespace but has not told its first process.
    fn named_by_path(&mut self, home: &Home, now: Mono) -> Option<ContainerKey> {
        let (record, path) = home.paths().find_map(|path| {
            let mut components = path.split(|byte| *byte == b'/').skip(1);
            let namespace = std::str::from_utf8(components.next()?).ok()?;
            let id = std::str::from_utf8(components.next()?).ok()?;
            let record = (namespace.to_owned(), id.to_owned());
            self.records.contains_key(&record).then(|| (record, format!("/{namespace}/{id}")))
        })?;
        if let Found::One(key) = self.living_or_straggling(|life| life.record.as_ref() == Some(&record), &record.1, path.as_bytes()) {
            return Some(key);
        }
        let key = self.begin(record.1.clone(), Some(record), now)?;
        self.set_paths(key, vec![path.into_bytes()]);
        Some(key)
    }

    /// A service of systemd, as soon as a process lives in it. Users' managers have units of the same names: the path decides.
    fn place_unit(&mut self, identity: &CgroupIdentity, now: Mono) -> Option<ContainerKey> {
        let mut here = self.by_path.get(&identity.path).into_iter().flatten().copied();
        here.next_back().or_else(|| self.begin_at(identity, None, now))
    }

    /// The living life of this id; else a dead one of which processes are left.
    fn living_or_straggling(&self, fits: impl Fn(&Life) -> bool, id: &str, path: &[u8]) -> Found {
        let fitting = || self.lives_of_id(id).filter(|(_, life)| fits(life)).rev();
        let living = || fitting().filter(|(_, life)| life.died.is_none());
        let straggling = || fitting().map(|(key, _)| key).find(|key| self.processes.of(*key).next().is_some());
        match Found::of(living()) {
            // Equal ids in several namespaces: the path of one's first process may say which.
            Found::Several => match Found::of(living().filter(|(_, life)| life.own_paths.iter().any(|own| own == path))) {
                Found::Nobody => Found::Several,
                found => found,
            },
            Found::Nobody => straggling().map_or(Found::Nobody, Found::One),
            found @ Found::One(_) => found,
        }
    }

    /// Begins the life of a container known by its path, and by its record where there is one.
    fn begin_at(&mut self, identity: &CgroupIdentity, record: Option<RecordKey>, now: Mono) -> Option<ContainerKey> {
        let unnamed = record.is_none();
        let key = self.begin(identity.id.clone(), record, now)?;
        if unnamed {
            let container = Container {
                key,
                id: identity.id.clone(),
                runtime: identity.runtime.or((identity.kind == IdentityKind::Unit).then_some("systemd")),
                runtime_namespace: identity.namespace.clone(),
                name: (identity.kind == IdentityKind::Unit).then(|| identity.id.clone()),
                image: None,
                k8s_container_name: None,
                pod: identity.pod_uid.clone().map(|uid| Pod { uid, ..Pod::default() }),
                started: None,
                sandbox: false,
            };
            self.redescribe(key, container, Vec::new());
            self.describe(key);
        }
        self.set_paths(key, vec![identity.path.clone()]);
        Some(key)
    }
}

/// Whether a life with the id of this path can be the one at this path.
fn fits(life: &Life, identity: &CgroupIdentity) -> bool {
    match &life.record {
        Some(record) => fits_record(record, identity),
        None => life.container.runtime == identity.runtime || identity.runtime.is_none() || life.container.runtime.is_none(),
    }
}

/// Whether the path contradicts the record's namespace. A path names a namespace surely only where it names containerd too:
/// `/mine/<id>` may as well be Docker's `--cgroup-parent`.
fn fits_record(record: &RecordKey, identity: &CgroupIdentity) -> bool {
    match (identity.runtime, &identity.namespace) {
        (None, _) => true,
        (Some("containerd"), Some(namespace)) => *namespace == record.0,
        (Some("containerd"), None) => record.0 != "moby",
        (Some("docker"), _) => record.0 == "moby",
        (Some(_), _) => false,
    }
}
