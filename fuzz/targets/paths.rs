//! Cgroup paths, memberships and mounts.

use std::hint::black_box;

use stallspan::parse::cgroup::{identity, membership, mounts};

/// Longest text that may come of one path component: 255 characters, each of which may be told as `\u{1f}`, and an ellipsis.
const LONGEST: usize = 255 * 6 + 1;

/// `/proc/PID/cgroup`, `/proc/PID/mountinfo`, and paths.
pub fn cgroup_paths(data: &[u8]) {
    let memberships = membership::memberships(data);
    let mounted = mounts::cgroup_mounts(data);
    for member in &memberships {
        path(&member.path);
        for mount in mounted.iter().filter(|mount| mount.holds(member)) {
            black_box(mount.directory(&member.path));
        }
    }
    black_box(identity::identify_all(&memberships));
    data.split(|byte| *byte == b'\n').for_each(path);
    path(data);
}

fn path(path: &[u8]) {
    if let Some(found) = identity::identify(path) {
        let texts = [Some(&found.id), found.outer_id.as_ref(), found.namespace.as_ref(), found.pod_uid.as_ref()];
        for text in texts.into_iter().flatten() {
            assert!(text.chars().count() <= LONGEST && !text.chars().any(char::is_control), "{text:?} of {path:?}");
        }
        assert!(path.starts_with(&found.path), "{found:?} of {path:?}");
    }
    for mark in ["a", "docker", ""] {
        if let Some(cut) = identity::cut_at(path, mark) {
            assert!(path.starts_with(cut));
        }
    }
    let up = mounts::levels_up(path);
    if let Some(absolute) = mounts::absolute(b"/kubepods/pod1/me", path) {
        assert!(up <= 3 && mounts::levels_up(&absolute) == 0, "{absolute:?}");
    }
}
