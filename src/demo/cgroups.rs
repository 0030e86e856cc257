//! Cgroups of the demo's own, on whatever layout the host has, removed when dropped.

use std::io;
use std::path::{Path, PathBuf};

/// v1 controllers worth a group of their own: time, quota and memory of the two actors told apart.
const CONTROLLERS: [&str; 3] = ["cpu", "cpuacct", "memory"];

/// Two groups in every hierarchy that matters.
#[derive(Debug)]
pub struct Groups {
    roots: Vec<PathBuf>,
    actors: Vec<String>,
}

impl Groups {
    /// Makes `stallspan-demo-<pid>/<id>` for each id under every cgroup2 mount and the v1 mounts of interest.
    ///
    /// # Errors
    /// When not even one hierarchy lets itself be written: the demo then runs without groups.
    pub fn make(ids: &[String]) -> io::Result<Self> {
        let mut groups = Self { roots: Vec::new(), actors: ids.to_vec() };
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted");
        for mount in hierarchies()? {
            let root = mount.join(format!("stallspan-demo-{}", std::process::id()));
            groups.roots.push(root.clone());
            if let Err(error) = ids.iter().try_for_each(|id| std::fs::create_dir_all(root.join(id))) {
                groups.remove_root(&root);
                groups.roots.pop();
                refused = error;
            }
        }
        if groups.roots.is_empty() { Err(refused) } else { Ok(groups) }
    }

    /// Moves a process into the group of `id` in every hierarchy.
    ///
    /// # Errors
    /// The first refusal, with its path.
    #[expect(clippy::disallowed_methods, reason = "writes to the demo's own groups; room host only reads")]
    pub fn enter(&self, id: &str, pid: u32) -> io::Result<()> {
        for root in &self.roots {
            let file = root.join(id).join("cgroup.procs");
            std::fs::write(&file, pid.to_string()).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        }
        Ok(())
    }

    fn remove_root(&self, root: &Path) {
        for id in &self.actors {
            // Not made, or still being emptied by the kernel: the retry in `drop` sees to the latter.
            drop(std::fs::remove_dir(root.join(id)));
        }
        drop(std::fs::remove_dir(root));
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // A killed process leaves its group a moment after it was reaped.
        for _ in 0..100 {
            for root in &self.roots {
                self.remove_root(root);
            }
            self.roots.retain(|root| root.exists());
            if self.roots.is_empty() {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let mounts = procfs::process::Process::myself().and_then(|me| me.mountinfo()).map_err(|error| io::Error::other(error.to_string()))?;
    let wanted = |mount: &procfs::process::MountInfo| match mount.fs_type.as_str() {
        "cgroup2" => true,
        "cgroup" => CONTROLLERS.iter().any(|name| mount.super_options.contains_key(*name)),
        _ => false,
    };
    let mut found: Vec<PathBuf> = mounts.0.into_iter().filter(wanted).map(|mount| mount.mount_point).collect();
    found.sort();
    found.dedup();
    Ok(found)
}
