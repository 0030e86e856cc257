//! What the agent and its eBPF programs use on a full node at rest: 110 containers with 1 000 processes.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::lab::agent::{Agent, Setting};

use super::meter::{cpu_time, load_average, memory_mib};
use super::quick;
use super::sink::Sink;

const CONTAINERS: usize = 110;
const PROCESSES: usize = 1_000;
/// Counts the run time of programs (Documentation/admin-guide/sysctl/kernel.rst); costs some nanoseconds a run itself.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Cgroups named like containers, each with some processes that sleep.
struct Node {
    dirs: Vec<PathBuf>,
    sleepers: Vec<Child>,
    stats: Option<String>,
}

impl Node {
    fn new() -> Self {
        let roots = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"].map(PathBuf::from);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).expect("a cgroup hierarchy");
        let mut node = Self { dirs: Vec::new(), sleepers: Vec::new(), stats: fs::read_to_string(STATS).ok() };
        for number in 0..CONTAINERS {
            let dir = root.join(format!("docker-{:032x}{number:032x}.scope", std::process::id()));
            fs::create_dir(&dir).unwrap();
            node.dirs.push(dir);
        }
        for number in 0..PROCESSES {
            let sleeper = Command::new("/bin/sleep").arg("100000").spawn().unwrap();
            fs::write(node.dirs[number % CONTAINERS].join("cgroup.procs"), sleeper.id().to_string()).unwrap();
            node.sleepers.push(sleeper);
        }
        drop(fs::write(STATS, "1"));
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(stats) = &self.stats {
            drop(fs::write(STATS, stats));
        }
        for sleeper in &mut self.sleepers {
            drop(sleeper.kill());
            drop(sleeper.wait());
        }
        for dir in &self.dirs {
            let begin = Instant::now();
            while fs::remove_dir(dir).is_err() && begin.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Time in which the programs of a process ran, and how often, by what the kernel tells of its file descriptors.
fn programs(pid: u32) -> (Duration, u64) {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let (mut seen, mut time, mut count) = (Vec::new(), 0, 0);
    for text in files.filter_map(|file| fs::read_to_string(file.path()).ok()) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        // A program and its link are descriptors both.
        if let (Some(id), Some(ns)) = (value("prog_id:"), value("run_time_ns:"))
            && !seen.contains(&id)
        {
            seen.push(id);
            time += ns;
            count += value("run_cnt:").unwrap_or(0);
        }
    }
    (Duration::from_nanos(time), count)
}

#[test]
fn cpu_time_and_memory_with_110_containers_and_1000_processes() {
    let long = Duration::from_secs(if quick() { 20 } else { 60 });
    let (lab, sink, _node) = (Lab::new(), Sink::start(), Node::new());
    let set = ["exporters.otlp_grpc.compression=none"];
    let mut agent = Agent::start(&lab, &Setting { downstream: &sink.address, containerd: None, interval: "10s", set: &set });
    let exact = agent.sees_every_wait();
    // The first collections, and what only a start costs.
    std::thread::sleep(Duration::from_secs(25));
    let (pid, begin) = (agent.pid(), Instant::now());
    let (own, (ran, runs)) = (cpu_time(pid), programs(pid));
    std::thread::sleep(long);
    let (own, (ran_after, runs_after)) = (cpu_time(pid) - own, programs(pid));
    let (ran, runs) = (ran_after - ran, runs_after - runs);
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let percent = |time: Duration| time.as_secs_f64() / begin.elapsed().as_secs_f64() / cores * 100.0;
    println!(
        "\nA full node for {} s: {CONTAINERS} containers, {PROCESSES} processes in them, eBPF {}; load of the machine {}\n",
        long.as_secs(),
        if exact { "on" } else { "not available" },
        load_average()
    );
    println!("| agent, % of {cores} CPUs | programs, % | both, % (at most 0.5) | runs of programs/s | ns each | RSS, MiB |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {:.3} | {:.3} | {:.3} | {:.0} | {:.0} | {:.1} |",
        percent(own),
        percent(ran),
        percent(own + ran),
        runs as f64 / long.as_secs_f64(),
        ran.as_nanos() as f64 / runs.max(1) as f64,
        memory_mib(pid, "status", "VmRSS")
    );
    assert_eq!(agent.stop(), Some(0));
}
