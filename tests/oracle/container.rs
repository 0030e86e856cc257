//! A container as far as the kernel is concerned, so that requests are really enriched.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Hierarchies of a host with v1, and the one of v2.
const ROOTS: [&str; 5] =
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Gone with its process when dropped.
pub struct Container {
    id: String,
    process: Child,
    directories: Vec<PathBuf>,
}

impl Container {
    /// With a process that sleeps.
    pub fn idle() -> Self {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let id = format!("{nanos:048x}{:016x}", std::process::id());
        let roots = ROOTS.iter().map(PathBuf::from).filter(|root| root.join("cgroup.procs").exists());
        let directories: Vec<PathBuf> = roots.map(|root| root.join("docker").join(&id)).collect();
        let mut script = String::new();
        for directory in &directories {
            std::fs::create_dir_all(directory).unwrap_or_else(|why| panic!("{}: {why} (this test needs root)", directory.display()));
            script.push_str(&format!("echo $$ > '{}/cgroup.procs' || exit 9; ", directory.display()));
        }
        script.push_str("exec sleep 3600");
        let process = Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Self { id, process, directories }
    }

    pub fn id(&self) -> String {
        self.id.clone()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for directory in &self.directories {
            for _ in 0..100 {
                if std::fs::remove_dir(directory).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            // Not empty: another test's container is in it still.
            let _ = directory.parent().map(std::fs::remove_dir);
        }
    }
}
