//! Which container (or service) a cgroup path belongs to.
//!
//! Every runtime writes paths of its own; what nearly all share is a component that ends in 64 hex digits. The
//! **last** such component is the container the task lives in (trees below it, such as `/container` or a systemd
//! inside, belong to it); the first is the node container where containers are nested (kind, k3d, Docker in Docker).

use super::super::text::shown;
use super::membership::Membership;

/// Digits of a container id.
const ID_LEN: usize = 64;
/// Longest name shown: the file system's limit.
const NAME_LIMIT: usize = 255;
/// Longest containerd identifier (its `identifiers` package).
const CONTAINERD_NAME: usize = 76;

/// How sure a path is of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// A service of the host.
    Unit,
    /// `/<namespace>/<name>`: a container only if a runtime knows it.
    Candidate,
    /// A container.
    Container,
}

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupIdentity {
    /// How sure.
    pub kind: IdentityKind,
    /// Container id (the innermost), or the unit's name.
    pub id: String,
    /// The node container around it, where containers are nested.
    pub outer_id: Option<String>,
    /// Runtime, where the path says so.
    pub runtime: Option<&'static str>,
    /// containerd namespace of `/<namespace>/<id>`.
    pub namespace: Option<String>,
    /// Pod uid with its dashes.
    pub pod_uid: Option<String>,
    /// The path up to and including the component that carries the id.
    pub path: Vec<u8>,
}

/// The identity that the process's hierarchies agree on best: a container before a candidate before a unit.
#[must_use]
pub fn identify_all(memberships: &[Membership]) -> Option<CgroupIdentity> {
    let mut best: Option<CgroupIdentity> = None;
    for found in memberships.iter().filter_map(|membership| identify(&membership.path)) {
        if best.as_ref().is_none_or(|best| best.kind < found.kind) {
            best = Some(found);
        }
    }
    best
}

/// What one path says; `None` for the root, slices, scopes of sessions, container monitors and anything unknown.
#[must_use]
pub fn identify(path: &[u8]) -> Option<CgroupIdentity> {
    let parts = Components::new(path);
    hex_container(&parts)
        .or_else(|| task_container(&parts))
        .or_else(|| named_container(&parts))
        .or_else(|| service(&parts))
        .or_else(|| candidate(&parts))
}

/// The part of `path` up to the last component that carries `mark` (a container id, or any cgroup's name).
#[must_use]
pub fn cut_at<'a>(path: &'a [u8], mark: &str) -> Option<&'a [u8]> {
    let parts = Components::new(path);
    let mark = mark.as_bytes();
    let found = parts.list.iter().rposition(|part| {
        if part.name == mark {
            return true;
        }
        let bare = part.name.strip_suffix(b".scope").unwrap_or(part.name);
        !is_monitor(bare) && bare.strip_suffix(mark).is_some_and(|prefix| matches!(prefix.last(), None | Some(b'-' | b':' | b'@' | b'.')))
    })?;
    parts.path_to(found)
}

struct Component<'a> {
    name: &'a [u8],
    end: usize,
}

/// The components of a path, those that lead out of a cgroup namespace (`..`) left out.
struct Components<'a> {
    path: &'a [u8],
    list: Vec<Component<'a>>,
}

impl<'a> Components<'a> {
    fn new(path: &'a [u8]) -> Self {
        let mut list = Vec::new();
        let mut end = 0_usize;
        for name in path.split(|byte| *byte == b'/') {
            end = end.saturating_add(name.len());
            if !matches!(name, b"" | b"." | b"..") {
                list.push(Component { name, end });
            }
            end = end.saturating_add(1);
        }
        Self { path, list }
    }

    fn name(&self, at: usize) -> Option<&'a [u8]> {
        self.list.get(at).map(|part| part.name)
    }

    fn path_to(&self, at: usize) -> Option<&'a [u8]> {
        self.path.get(..self.list.get(at)?.end)
    }

    fn before(&self, at: usize) -> Option<&'a [u8]> {
        self.name(at.checked_sub(1)?)
    }

    /// The pod of the component at `at`: the nearest one above it, or in its own name (`…pod<uid>.slice:cri-containerd:<id>`).
    fn pod_uid(&self, at: usize) -> Option<String> {
        self.list.iter().take(at.saturating_add(1)).rev().find_map(|part| pod_uid(part.name))
    }

    fn container(&self, at: usize, id: &[u8], runtime: Option<&'static str>) -> Option<CgroupIdentity> {
        Some(CgroupIdentity {
            kind: IdentityKind::Container,
            id: shown(id, NAME_LIMIT),
            outer_id: None,
            runtime,
            namespace: None,
            pod_uid: self.pod_uid(at),
            path: self.path_to(at)?.to_vec(),
        })
    }
}

/// Monitors of CRI-O and Podman stand beside the container under its id.
fn is_monitor(bare: &[u8]) -> bool {
    bare.windows(b"conmon-".len()).any(|part| part == b"conmon-")
}

fn is_hex(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `(prefix without its separator, id)` of a component that ends in a container id.
fn hex_id(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let bare = name.strip_suffix(b".scope").unwrap_or(name);
    let (prefix, id) = bare.split_at_checked(bare.len().checked_sub(ID_LEN)?)?;
    if !is_hex(id) || is_monitor(bare) {
        return None;
    }
    match prefix.split_last() {
        None => Some((prefix, id)),
        Some((b'-' | b':', prefix)) => Some((prefix, id)),
        Some(_) => None,
    }
}

fn hex_container(parts: &Components<'_>) -> Option<CgroupIdentity> {
    let mut ids = parts.list.iter().enumerate().filter_map(|(at, part)| Some((at, hex_id(part.name)?)));
    let (first_at, (first_prefix, first)) = ids.next()?;
    let (at, (prefix, id)) = ids.next_back().unwrap_or((first_at, (first_prefix, first)));
    let mut found = parts.container(at, id, runtime_of(prefix).or_else(|| runtime_above(parts.before(at))))?;
    if at != first_at && first != id {
        found.outer_id = Some(shown(first, NAME_LIMIT));
    }
    // `/<namespace>/<id>` is containerd's own layout; with an unusual first part it may also be Docker's `--cgroup-parent`.
    if at == 1 && prefix.is_empty() && found.runtime.is_none() && found.pod_uid.is_none() {
        found.namespace = parts.name(0).filter(|name| is_containerd_name(name)).map(|name| shown(name, NAME_LIMIT));
        if matches!(found.namespace.as_deref(), Some("k8s.io" | "moby" | "default")) {
            found.runtime = Some("containerd");
        }
    }
    Some(found)
}

/// The runtime a component's prefix names: `cri-containerd-`, `….slice:docker:`, `libpod-payload-`.
fn runtime_of(prefix: &[u8]) -> Option<&'static str> {
    let word = prefix.rsplit(|byte| *byte == b':').next().unwrap_or(prefix);
    match word {
        b"cri-containerd" | b"containerd" | b"nerdctl" => Some("containerd"),
        b"crio" => Some("cri-o"),
        b"docker" => Some("docker"),
        b"libpod" | b"libpod-payload" | b"podman" => Some("podman"),
        _ => None,
    }
}

/// The runtime that the component above a bare id names.
fn runtime_above(above: Option<&[u8]>) -> Option<&'static str> {
    match above? {
        b"docker" => Some("docker"),
        b"libpod_parent" => Some("podman"),
        b"lxc" => Some("lxc"),
        _ => None,
    }
}

/// `pod<uid>` at the start of a component or behind a dash; uid is 36 characters with dashes (underscores under
/// systemd) or, for static pods, 32 hex digits.
fn pod_uid(name: &[u8]) -> Option<String> {
    let head = name.split(|byte| *byte == b':').next().unwrap_or(name);
    let head = head.strip_suffix(b".slice").unwrap_or(head);
    [36, 32].into_iter().find_map(|len| {
        let (prefix, uid) = head.split_at_checked(head.len().checked_sub(len)?)?;
        let before = prefix.strip_suffix(b"pod")?;
        if !matches!(before.last(), None | Some(b'-')) || !is_uid(uid) {
            return None;
        }
        Some(uid.iter().map(|byte| if *byte == b'_' { '-' } else { char::from(*byte) }).collect())
    })
}

fn is_uid(uid: &[u8]) -> bool {
    if uid.len() == 32 {
        return is_hex(uid);
    }
    let groups = uid.split(|byte| matches!(byte, b'-' | b'_'));
    groups.map(|group| if is_hex(group) { group.len() } else { 0 }).eq([8, 4, 4, 4, 12])
}

/// ECS on Fargate: `<task: 32 hex>-<digits>`.
fn task_container(parts: &Components<'_>) -> Option<CgroupIdentity> {
    let is_task = |name: &[u8]| {
        name.split_at_checked(32).is_some_and(|(task, rest)| {
            is_hex(task) && rest.strip_prefix(b"-").is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
        })
    };
    let at = parts.list.iter().rposition(|part| is_task(part.name))?;
    parts.container(at, parts.name(at)?, None)
}

/// Runtimes whose containers have names: LXC, systemd-nspawn and machined, Nomad.
fn named_container(parts: &Components<'_>) -> Option<CgroupIdentity> {
    for (at, part) in parts.list.iter().enumerate() {
        let above = parts.before(at);
        if let Some(name) = part.name.strip_prefix(b"lxc.payload.") {
            return parts.container(at, name, Some("lxc"));
        }
        match above {
            Some(b"lxc" | b"lxc.payload") => return parts.container(at, part.name, Some("lxc")),
            Some(b"machine.slice") => {
                if let Some(name) = part.name.strip_prefix(b"systemd-nspawn@").and_then(|name| name.strip_suffix(b".service")) {
                    return parts.container(at, &unescaped(name), Some("systemd-nspawn"));
                }
                if let Some(name) = part.name.strip_prefix(b"machine-").and_then(|name| name.strip_suffix(b".scope")) {
                    return parts.container(at, &unescaped(name), Some("systemd-machined"));
                }
            }
            _ => {}
        }
        let in_nomad = matches!(parts.name(0), Some(b"nomad" | b"nomad.slice"));
        if in_nomad && at > 0 && part.name.split_at_checked(36).is_some_and(|(uid, _)| is_uid(uid)) {
            let id = part.name.strip_suffix(b".scope").unwrap_or(part.name);
            return parts.container(at, id, Some("nomad"));
        }
    }
    None
}

/// `\x2d` in a systemd name is the character itself; a plain dash separates.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let code = if *first == b'\\' { tail.strip_prefix(b"x").and_then(|tail| tail.split_at_checked(2)) } else { None };
        let byte = code.and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, code) {
            (Some(byte), Some((_, behind))) => {
                out.push(byte);
                rest = behind;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// A service of the host: the last `*.service` of a tree of slices; on Talos `/system/<service>`, `/podruntime/<service>`.
fn service(parts: &Components<'_>) -> Option<CgroupIdentity> {
    let first = parts.name(0)?;
    let (at, runtime) = if first.ends_with(b".slice") || first.ends_with(b".service") {
        (parts.list.iter().rposition(|part| part.name.ends_with(b".service"))?, "systemd")
    } else if matches!(first, b"podruntime" | b"system") {
        (1, "talos")
    } else {
        return None;
    };
    Some(CgroupIdentity {
        kind: IdentityKind::Unit,
        id: shown(parts.name(at)?, NAME_LIMIT),
        outer_id: None,
        runtime: Some(runtime),
        namespace: None,
        pod_uid: None,
        path: parts.path_to(at)?.to_vec(),
    })
}

/// `/<namespace>/<id>` as containerd lays it out, the id being any name.
fn candidate(parts: &Components<'_>) -> Option<CgroupIdentity> {
    let (namespace, id) = (parts.name(0)?, parts.name(1)?);
    if !is_containerd_name(namespace) || !is_containerd_name(id) || pod_uid(id).is_some() || is_monitor(id) {
        return None;
    }
    let mut found = parts.container(1, id, None)?;
    found.kind = IdentityKind::Candidate;
    found.namespace = Some(shown(namespace, NAME_LIMIT));
    Some(found)
}

/// containerd's rule for identifiers, less the endings and roots that other layouts use.
fn is_containerd_name(name: &[u8]) -> bool {
    let taken = matches!(name, b"kubepods" | b"docker" | b"ecs" | b"lxc" | b"libpod_parent" | b"nomad" | b"burstable" | b"besteffort")
        || [&b".slice"[..], b".scope", b".service"].into_iter().any(|end| name.ends_with(end));
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let ends_well = name.first().is_some_and(u8::is_ascii_alphanumeric) && name.last().is_some_and(u8::is_ascii_alphanumeric);
    !taken && ends_well && name.len() <= CONTAINERD_NAME && name.iter().all(legal)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
