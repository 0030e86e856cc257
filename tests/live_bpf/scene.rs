//! Cgroups and processes for a test, removed with it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stallspan::source::bpf::Hierarchy;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A cgroup with the CPU controller, v1 or v2.
pub struct Cgroup {
    dir: PathBuf,
    v2: bool,
}

/// The hierarchy with the CPU controller, and whether it is version 2.
fn root() -> (PathBuf, bool) {
    let v1 = PathBuf::from("/sys/fs/cgroup/cpu");
    if v1.join("cgroup.procs").exists() { (v1, false) } else { (PathBuf::from("/sys/fs/cgroup"), true) }
}

pub fn hierarchy() -> Hierarchy {
    if root().1 { Hierarchy::Unified } else { Hierarchy::Controller("cpu".to_owned()) }
}

impl Cgroup {
    pub fn new(name: &str) -> Self {
        let (root, v2) = root();
        if v2 {
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+cpu");
        }
        let mut made = Self::at(&root, name);
        made.v2 = v2;
        made
    }

    /// In any hierarchy.
    pub fn at(root: &std::path::Path, name: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("stallspan-test-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self { dir, v2: false }
    }

    pub fn id(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&self.dir).unwrap())
    }

    pub fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// So much CPU time in so much time.
    pub fn set_quota(&self, quota: Duration, period: Duration) {
        let (quota, period) = (quota.as_micros(), period.as_micros());
        if self.v2 {
            std::fs::write(self.dir.join("cpu.max"), format!("{quota} {period}")).unwrap();
        } else {
            std::fs::write(self.dir.join("cpu.cfs_period_us"), period.to_string()).unwrap();
            std::fs::write(self.dir.join("cpu.cfs_quota_us"), quota.to_string()).unwrap();
        }
    }

    /// As much as there is.
    pub fn lift_quota(&self) {
        let (file, none) = if self.v2 { ("cpu.max", "max") } else { ("cpu.cfs_quota_us", "-1") };
        std::fs::write(self.dir.join(file), none).unwrap();
    }

    /// Twice the usual weight, and so on.
    pub fn set_weight(&self, factor: u32) {
        if self.v2 {
            std::fs::write(self.dir.join("cpu.weight"), (100 * factor).to_string()).unwrap();
        } else {
            std::fs::write(self.dir.join("cpu.shares"), (1024 * factor).to_string()).unwrap();
        }
    }

    /// A shell command that begins inside, bound to these CPUs.
    pub fn run(&self, cpus: &str, command: &str) -> Process {
        let script = format!("echo $$ > {}; exec taskset -c {cpus} sh -c '{command}'", self.procs().display());
        Process::start(&script)
    }

    pub fn burn(&self, cpus: &str) -> Process {
        self.run(cpus, BURN)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.dir).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub const BURN: &str = "while :; do :; done";

/// A process that ends with the test.
pub struct Process(Child);

impl Process {
    pub fn start(script: &str) -> Self {
        Self(Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Stops it, and returns when it has stopped: its last wait has ended, and the kernel has counted all of it.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = || std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap().contains(") T ");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !stopped() {
            assert!(Instant::now() < deadline, "{} does not stop", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn go(&self) {
        self.signal(Signal::CONT);
    }

    /// Nanoseconds run and waited by the main thread, waits ended.
    pub fn schedstat(&self) -> [u64; 3] {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).unwrap();
        let mut words = text.split_whitespace().map(|word| word.parse().unwrap());
        std::array::from_fn(|_| words.next().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a hypervisor takes of CPU 0 (`steal` in proc(5)'s /proc/stat).
pub struct Stolen {
    began: Instant,
    before: Duration,
}

impl Stolen {
    pub fn of_cpu_0() -> Self {
        Self { began: Instant::now(), before: Self::so_far() }
    }

    fn so_far() -> Duration {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let cpu = text.lines().find_map(|line| line.strip_prefix("cpu0 ")).unwrap();
        Duration::from_millis(10 * cpu.split_whitespace().nth(7).unwrap().parse::<u64>().unwrap())
    }

    /// Of the time since.
    pub fn share(&self) -> f64 {
        (Self::so_far() - self.before).as_secs_f64() / self.began.elapsed().as_secs_f64()
    }
}
