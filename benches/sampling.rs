//! What the sampler costs: 1 000 processes in 110 containers, all read every 10 s, 10 of them every 100 ms. Needs root.
//!
//! CPU time of this process, which holds nothing but the sampler's threads meanwhile. Arguments: processes, containers, seconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark: it makes processes and cgroups of its own, prints, and a panic is how it fails"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use stallspan::config::meaning::{Method, Sources, TaskDelayacct};
use stallspan::containers::Index;
use stallspan::history::{Settings, Store};
use stallspan::host::{Host, Taskstats};
use stallspan::model::Subject;
use stallspan::runtime::clock::mono_now;
use stallspan::source::{Node, start};

const ROOTS: [&str; 4] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// Containers whose history is kept finely.
const ACTIVE: usize = 10;

/// Containers full of sleepers; all gone when dropped.
struct Crowd {
    sleepers: Vec<Child>,
    dirs: Vec<PathBuf>,
}

impl Crowd {
    fn new(processes: usize, containers: usize) -> Self {
        let mut crowd = Self { sleepers: Vec::new(), dirs: Vec::new() };
        let roots: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).filter(|root| root.join("cgroup.procs").exists()).collect();
        let name = |number: usize| format!("docker-{:032x}{number:032x}.scope", std::process::id());
        for number in 0..containers {
            for root in &roots {
                let dir = root.join(name(number));
                fs::create_dir(&dir).expect("a cgroup of our own");
                crowd.dirs.push(dir);
            }
        }
        for number in 0..processes {
            let child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
            for root in &roots {
                fs::write(root.join(name(number % containers)).join("cgroup.procs"), child.id().to_string()).unwrap();
            }
            crowd.sleepers.push(child);
        }
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.sleepers {
            // Already ended is as good.
            drop(child.kill());
            drop(child.wait());
        }
        for dir in &self.dirs {
            drop(fs::remove_dir(dir));
        }
    }
}

fn cpu(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// The bare question about a process: what nothing built on it can beat.
fn bare(pids: &[u32]) -> Option<Duration> {
    let mut taskstats = Taskstats::open().ok()?;
    let begin = cpu(ClockId::ThreadCPUTime);
    let rounds = 20;
    for _ in 0..rounds {
        taskstats.query_tgids(pids, |_, _| ());
    }
    Some((cpu(ClockId::ThreadCPUTime) - begin) / rounds / u32::try_from(pids.len()).unwrap())
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u64| usize::try_from(numbers.get(at).copied().unwrap_or(default)).unwrap();
    let (processes, containers, seconds) = (number(0, 1_000), number(1, 110), number(2, 30));
    if !rustix::process::geteuid().is_root() {
        return println!("not root: no cgroups of our own can be made");
    }
    let crowd = Crowd::new(processes, containers);
    let sources = Sources {
        collection_interval: Duration::from_secs(10),
        method: Method::Taskstats,
        task_delayacct: TaskDelayacct::Leave,
        retention: Duration::from_secs(120),
        resolution: Duration::from_millis(100),
        history_memory: 64 << 20,
        procfs_root: PathBuf::from("/proc"),
        cgroupfs_root: PathBuf::from("/sys/fs/cgroup"),
    };
    let settings = Settings { retention: sources.retention, resolution: sources.resolution, memory: sources.history_memory };
    let node = Arc::new(Node::new(Index::new(sources.retention), Store::new(settings)));
    let host = Arc::new(Host::open(&sources.procfs_root, &sources.cgroupfs_root).unwrap());
    let (handle, thread) = start(host, sources, Arc::clone(&node)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = || tokio::time::Instant::now() + Duration::from_secs(30);
    runtime.block_on(async {
        assert!(handle.collect(deadline()).await, "a first look");
        let own = format!("{:032x}", std::process::id());
        let subjects: Vec<Subject> = node
            .index()
            .live()
            .filter(|container| container.id.starts_with(&own))
            .take(ACTIVE)
            .map(|container| Subject::Container(container.key))
            .collect();
        assert!(!subjects.is_empty(), "our containers are known");
        assert!(handle.cover(&subjects, mono_now(), deadline()).await);
    });
    std::thread::sleep(Duration::from_secs(6));
    let begin = cpu(ClockId::ProcessCPUTime);
    std::thread::sleep(Duration::from_secs(seconds.try_into().unwrap()));
    let used = (cpu(ClockId::ProcessCPUTime) - begin).as_secs_f64();
    let share = 100.0 * used / f64::from(u32::try_from(seconds).unwrap());
    println!("{processes} processes in {containers} containers, {ACTIVE} of them every 100 ms: {share:.2} % of one core");
    let pids: Vec<u32> = crowd.sleepers.iter().map(Child::id).collect();
    if let Some(each) = bare(&pids) {
        println!("the bare question: {} ns a process", each.as_nanos());
    }
    handle.stop();
    thread.join().unwrap();
}
