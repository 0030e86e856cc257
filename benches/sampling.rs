//! What the sampler costs, in one run. Needs root.
//!
//! * 1 000 processes in 110 containers, all read every 10 s, 10 of them every 100 ms: CPU and memory of this process, which
//!   holds nothing but the sampler's threads meanwhile. The bar is 1.5 % of one core and 40 MiB.
//! * 10, 100 and 1 000 containers at rest, 10 of them active and changing: what it costs beside the smallest.
//! * 1 000 containers of which 10, 100 and 1 000 change: the same.
//! * One taskstats reading all in (question, answer, account, history), beside the bare question: the bar is 1.2 µs.
//!
//! Arguments: processes, containers, seconds measure the first alone; `changing` makes this program a process that changes.
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
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stallspan::config::meaning::{Method, Sources, TaskDelayacct};
use stallspan::containers::Index;
use stallspan::history::{Settings, Store};
use stallspan::host::{Host, Taskstats};
use stallspan::model::Subject;
use stallspan::runtime::clock::mono_now;
use stallspan::source::{Node, SamplerHandle, start};
use tokio::runtime::Runtime;

const ROOTS: [&str; 4] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// Containers whose history is kept finely.
const ACTIVE: usize = 10;
/// New members are watched closely for 5 s, and threads find their rhythm.
const SETTLE: Duration = Duration::from_secs(12);
/// Seconds measured for each row of a table.
const ROW: u64 = 20;

/// Containers full of processes; all gone when dropped.
struct Crowd {
    processes: Vec<Child>,
    dirs: Vec<PathBuf>,
}

fn name(number: usize) -> String {
    format!("docker-{:032x}{number:032x}.scope", std::process::id())
}

impl Crowd {
    /// The first `changing` containers hold a process that changes, all others one or more that sleep.
    fn new(processes: usize, containers: usize, changing: usize) -> Self {
        let mut crowd = Self { processes: Vec::new(), dirs: Vec::new() };
        let roots: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).filter(|root| root.join("cgroup.procs").exists()).collect();
        for number in 0..containers {
            for root in &roots {
                let dir = root.join(name(number));
                fs::create_dir(&dir).expect("a cgroup of our own");
                crowd.dirs.push(dir);
            }
        }
        for number in 0..processes {
            let mut command = Command::new("sleep");
            if number < changing {
                command = Command::new(std::env::current_exe().unwrap());
            }
            let argument = if number < changing { "changing" } else { "3600" };
            let child = command.arg(argument).stdin(Stdio::null()).spawn().unwrap();
            for root in &roots {
                fs::write(root.join(name(number % containers)).join("cgroup.procs"), child.id().to_string()).unwrap();
            }
            crowd.processes.push(child);
        }
        crowd
    }

    fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // Already ended is as good.
            drop(child.kill());
            drop(child.wait());
        }
        for dir in &self.dirs {
            drop(fs::remove_dir(dir));
        }
    }
}

/// Wakes twice a second and works a little.
fn change() -> ! {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
    }
}

/// A sampler over a crowd, the first [`ACTIVE`] containers active.
struct Sampling {
    handle: SamplerHandle,
    thread: JoinHandle<()>,
    runtime: Runtime,
    subjects: Vec<Subject>,
}

impl Sampling {
    fn begin() -> Self {
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
        assert!(runtime.block_on(async { handle.collect(deadline()).await }), "a first look");
        let index = node.index();
        let key = |number: usize| index.live().find(|one| name(number).contains(&one.id)).map(|one| Subject::Container(one.key));
        let subjects: Vec<Subject> = (0..ACTIVE).filter_map(key).collect();
        drop(index);
        assert!(!subjects.is_empty(), "our containers are known");
        let sampling = Self { handle, thread, runtime, subjects };
        sampling.read();
        sampling
    }

    /// Has the active ones read now.
    fn read(&self) {
        assert!(self.runtime.block_on(async { self.handle.cover(&self.subjects, mono_now(), deadline()).await }));
    }

    /// CPU time of this process over so many seconds, in percent of one core.
    fn share(&self, seconds: u64) -> f64 {
        std::thread::sleep(SETTLE);
        let begin = cpu(ClockId::ProcessCPUTime);
        std::thread::sleep(Duration::from_secs(seconds));
        100.0 * (cpu(ClockId::ProcessCPUTime) - begin).as_secs_f64() / Duration::from_secs(seconds).as_secs_f64()
    }

    fn end(self) {
        self.handle.stop();
        self.thread.join().unwrap();
    }
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(30)
}

fn cpu(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// Resident memory of this process, MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn share_of(processes: usize, containers: usize, changing: usize, seconds: u64) -> f64 {
    let _crowd = Crowd::new(processes, containers, changing);
    let sampling = Sampling::begin();
    let share = sampling.share(seconds);
    sampling.end();
    share
}

/// The bare question about a process: what nothing built on it can beat.
fn bare(taskstats: &mut Taskstats, pids: &[u32]) -> f64 {
    let begin = cpu(ClockId::ThreadCPUTime);
    taskstats.query_tgids(pids, |_, _| ());
    (cpu(ClockId::ThreadCPUTime) - begin).as_nanos() as f64 / pids.len() as f64
}

/// The bare question and a whole reading in turn; the least of each, for whatever disturbs adds.
fn one_reading() {
    const READINGS: usize = 400;
    let crowd = Crowd::new(1_000, ACTIVE, 0);
    let pids = crowd.pids();
    let sampling = Sampling::begin();
    let Ok(mut taskstats) = Taskstats::open() else { return println!("taskstats cannot be asked here") };
    let (mut least, mut least_bare) = (f64::MAX, f64::MAX);
    for _ in 0..READINGS {
        least_bare = least_bare.min(bare(&mut taskstats, &pids));
        let begin = cpu(ClockId::ProcessCPUTime);
        sampling.read();
        least = least.min((cpu(ClockId::ProcessCPUTime) - begin).as_nanos() as f64 / pids.len() as f64);
    }
    sampling.end();
    println!("one reading all in: {least:.0} ns a process; the bare question: {least_bare:.0} ns");
}

fn main() {
    if std::env::args().nth(1).is_some_and(|argument| argument == "changing") {
        change();
    }
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u64| usize::try_from(numbers.get(at).copied().unwrap_or(default)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return println!("not root: no cgroups of our own can be made");
    }
    let (processes, containers, seconds) = (number(0, 1_000), number(1, 110), numbers.get(2).copied().unwrap_or(30));
    let share = share_of(processes, containers, ACTIVE, seconds);
    let memory = resident();
    println!("{processes} processes in {containers} containers, {ACTIVE} of them every 100 ms: {share:.2} % of one core, {memory} MiB");
    if !numbers.is_empty() {
        return;
    }
    one_reading();
    table("at rest beside 10 that change", |count| share_of(count, count, ACTIVE, ROW));
    table("of 1000 that change", |count| share_of(1_000, 1_000, count, ROW));
}

fn table(what: &str, measure: impl Fn(usize) -> f64) {
    let mut first = None;
    for count in [10, 100, 1_000] {
        let share = measure(count);
        let first = *first.get_or_insert(share);
        println!("{count:5} containers {what}: {share:.3} % of one core, {:.1} times the first; {} MiB", share / first, resident());
    }
}
