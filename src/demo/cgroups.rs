//! Cgroups of the demo's own, on whatever layout the host has, removed when dropped.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// v1 controllers worth a group of their own: time, quota and memory of the actors told apart.
const CONTROLLERS: [&str; 3] = ["cpu", "cpuacct", "memory"];

/// The demo's weight against everything else on the machine, ten times the usual: on a crowded one its scenes would
/// otherwise be about the crowd.
const WEIGHTS: [(&str, &str); 2] = [("cpu.shares", "10240"), ("cpu.weight", "1000")];

/// A group for each actor in every hierarchy that matters.
#[derive(Debug)]
pub struct Groups {
    roots: Vec<PathBuf>,
    actors: Vec<String>,
    /// Mounts of version 2 in which the CPU controller was switched on for this.
    switched_on: Vec<PathBuf>,
}

impl Groups {
    /// Makes `stallspan-demo-<pid>/<id>` for each id under every cgroup2 mount and the v1 mounts of interest.
    ///
    /// # Errors
    /// When not even one hierarchy lets itself be written: the demo then runs without groups.
    pub fn make(ids: &[String]) -> io::Result<Self> {
        let mut groups = Self { roots: Vec::new(), actors: ids.to_vec(), switched_on: Vec::new() };
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted");
        for mount in hierarchies()? {
            let root = mount.join(format!("stallspan-demo-{}", std::process::id()));
            groups.roots.push(root.clone());
            if let Err(error) = std::fs::create_dir_all(&root).and_then(|()| groups.furnish(&mount, &root)) {
                groups.remove_root(&root);
                groups.roots.pop();
                refused = error;
            }
        }
        if groups.roots.is_empty() { Err(refused) } else { Ok(groups) }
    }

    fn furnish(&mut self, mount: &Path, root: &Path) -> io::Result<()> {
        if !has_word(&mount.join("cgroup.subtree_control"), "cpu") && write(&mount.join("cgroup.subtree_control"), "+cpu").is_ok() {
            self.switched_on.push(mount.to_owned());
        }
        // Without a CPU controller there are no quota and no weight, and that is all.
        let _no_controller = write(&root.join("cgroup.subtree_control"), "+cpu");
        for (file, weight) in WEIGHTS {
            let _no_controller = write(&root.join(file), weight);
        }
        self.actors.iter().try_for_each(|id| std::fs::create_dir_all(root.join(id)))
    }

    /// Moves a process into the group of `id` in every hierarchy.
    ///
    /// # Errors
    /// The first refusal, with its path.
    pub fn enter(&self, id: &str, pid: u32) -> io::Result<()> {
        for root in &self.roots {
            let file = root.join(id).join("cgroup.procs");
            write(&file, &pid.to_string()).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        }
        Ok(())
    }

    /// Lets the group of `id` use so much CPU time in each period; false where no hierarchy here has a CPU controller.
    pub fn limit(&self, id: &str, quota: Duration, period: Duration) -> bool {
        let (quota, period) = (quota.as_micros(), period.as_micros());
        let limited = |root: &PathBuf| {
            let group = root.join(id);
            let v1 = || {
                write(&group.join("cpu.cfs_period_us"), &period.to_string())?;
                write(&group.join("cpu.cfs_quota_us"), &quota.to_string())
            };
            write(&group.join("cpu.max"), &format!("{quota} {period}")).or_else(|_| v1()).is_ok()
        };
        self.roots.iter().filter(|root| limited(root)).count() > 0
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
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        for mount in &self.switched_on {
            // Others may have come to need it meanwhile: then the kernel refuses.
            let _in_use = write(&mount.join("cgroup.subtree_control"), "-cpu");
        }
    }
}

/// Into a file that is there: none is made in its place.
#[expect(clippy::disallowed_methods, reason = "writes to the demo's own groups; room host only reads")]
fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

#[expect(clippy::disallowed_methods, reason = "the demo looks at what it is about to change")]
fn has_word(file: &Path, word: &str) -> bool {
    // Not version 2: nothing to switch on.
    std::fs::read_to_string(file).map_or(true, |text| text.split_ascii_whitespace().any(|one| one == word))
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
