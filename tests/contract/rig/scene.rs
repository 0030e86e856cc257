//! Processes in cgroups named as container runtimes name them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A hierarchy of this host in which cgroups of a test are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// v1, controller `cpu`.
    Cpu,
    /// v1, controller `memory`.
    Memory,
    /// The v2 tree of a hybrid host, or the only tree.
    Unified,
}

impl Hierarchy {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Unified];

    /// Where it is mounted; `None` where this host has no such tree.
    pub fn root(self) -> Option<&'static Path> {
        let places: &[&str] = match self {
            Self::Cpu => &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"],
            Self::Memory => &["/sys/fs/cgroup/memory"],
            Self::Unified => &["/sys/fs/cgroup/unified", "/sys/fs/cgroup"],
        };
        places.iter().map(Path::new).find(|place| place.join("cgroup.procs").exists())
    }
}

/// A container as far as the kernel is concerned. Gone with everything in it when dropped.
pub struct Container {
    child: Child,
    directories: Vec<PathBuf>,
    /// Cgroups that it made in itself, in the order of their making.
    nested: Vec<PathBuf>,
}

/// Parents that were not there before these tests; the last container in one takes it away.
static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// 64 hex digits that no other test has.
pub fn container_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{:032x}{:016x}{:016x}", nanos, std::process::id(), number)
}

/// A pod's uid that no other test has.
pub fn pod_uid() -> String {
    let id = container_id();
    format!("{}-{}-{}-{}-{}", &id[24..32], &id[40..44], &id[44..48], &id[56..60], &id[48..60])
}

impl Container {
    /// Burns one CPU at `path` in every hierarchy of this host.
    pub fn busy(path: &str) -> Self {
        Self::of(path, &Hierarchy::ALL, &["sh", "-c", "while :; do :; done"])
    }

    /// Sleeps.
    pub fn idle(path: &str) -> Self {
        Self::of(path, &Hierarchy::ALL, &["sleep", "600"])
    }

    /// `command` in a shell that joins the cgroups first.
    pub fn of(path: &str, hierarchies: &[Hierarchy], command: &[&str]) -> Self {
        let directories: Vec<PathBuf> =
            hierarchies.iter().filter_map(|hierarchy| hierarchy.root()).map(|root| root.join(path.trim_start_matches('/'))).collect();
        assert!(!directories.is_empty(), "no cgroup hierarchy on this host");
        directories.iter().for_each(|directory| make(directory));
        let mut script = String::new();
        for directory in &directories {
            script.push_str(&format!("echo $$ > '{}/cgroup.procs' || exit 9; ", directory.display()));
        }
        script.push_str("exec \"$@\"");
        let child =
            Command::new("sh").arg("-c").arg(script).arg("sh").args(command).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let container = Self { child, directories, nested: Vec::new() };
        container.wait_inside(path);
        container
    }

    fn wait_inside(&self, path: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let inside = || fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap_or_default().matches(path).count();
        while inside() < self.directories.len() {
            assert!(Instant::now() < deadline, "not in {path} yet");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes a cgroup in itself, below the last one it made, and moves its first process into it, as a systemd inside would.
    pub fn nest(&mut self, name: &[u8]) {
        use std::os::unix::ffi::OsStrExt;
        let depth = self.nested.len() / self.directories.len().max(1);
        for (number, directory) in self.directories.iter().enumerate() {
            let above =
                depth.checked_sub(1).and_then(|depth| self.nested.get(depth * self.directories.len() + number)).unwrap_or(directory);
            let below = above.join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir(&below).unwrap_or_else(|why| panic!("{below:?}: {why}"));
            fs::write(below.join("cgroup.procs"), self.pid().to_string()).unwrap_or_else(|why| panic!("{below:?}: {why}"));
            self.nested.push(below);
        }
    }

    /// Makes this many empty cgroups in itself.
    pub fn litter(&mut self, count: usize) {
        for directory in &self.directories {
            for number in 0..count {
                let child = directory.join(format!("child-{number}"));
                fs::create_dir(&child).unwrap_or_else(|why| panic!("{child:?}: {why}"));
                self.nested.push(child);
            }
        }
    }

    /// Host pid of its first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a CPU quota of so many milliseconds in every 100.
    pub fn quota(&self, milliseconds: u32) {
        let microseconds = milliseconds * 1000;
        let write = |directory: &PathBuf| {
            // Before all others, so that the quota is used up early in each period.
            let _first = [("cpu.shares", "262144"), ("cpu.weight", "10000")].map(|(file, value)| fs::write(directory.join(file), value));
            fs::write(directory.join("cpu.cfs_quota_us"), microseconds.to_string()).is_ok()
                || fs::write(directory.join("cpu.max"), format!("{microseconds} 100000")).is_ok()
        };
        assert!(self.directories.iter().filter(|directory| write(directory)).count() > 0, "no cpu controller");
    }

    /// Ends its processes and takes its cgroups away, as a runtime does.
    pub fn end(&mut self) {
        for directory in &self.directories {
            let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for directory in self.nested.iter().rev().chain(&self.directories) {
            let deadline = Instant::now() + Duration::from_secs(60);
            while fs::remove_dir(directory).is_err() && directory.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        for parent in MADE.lock().unwrap().iter().rev() {
            // Not empty: another test's container is in it still.
            let _ = fs::remove_dir(parent);
        }
        self.nested.clear();
        self.directories.clear();
    }
}

/// Makes a directory and notes which of its parents it had to make.
fn make(directory: &Path) {
    let missing: Vec<PathBuf> = directory.ancestors().skip(1).take_while(|parent| !parent.exists()).map(Path::to_owned).collect();
    MADE.lock().unwrap().extend(missing);
    let deadline = Instant::now() + Duration::from_secs(60);
    // A neighboring test may take away the empty parent meanwhile.
    while let Err(why) = fs::create_dir_all(directory) {
        assert!(Instant::now() < deadline, "{}: {why} (these tests need root)", directory.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}
