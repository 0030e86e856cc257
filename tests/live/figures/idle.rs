//! What the agent uses while nobody sends spans.

use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::lab::agent::{Agent, Setting};
use crate::lab::containers::{Containerd, Spec};

use super::meter::{cpu_time, load_average, memory_mib};
use super::sink::Sink;
use super::{Summary, quick};

const CONTAINERS: usize = 30;
/// Every fifth container has so many processes.
const PROCESSES: usize = 5;
/// Parts whose CPU time is looked at one by one.
const PARTS: u32 = 6;

#[test]
fn cpu_time_and_memory_with_thirty_containers_and_no_spans() {
    let long = Duration::from_secs(if quick() { 30 } else { 60 });
    let lab = Lab::new();
    let sink = Sink::start();
    let mut containerd = Containerd::start(&lab);
    let many = ["/bin/sleep 100000 &"; PROCESSES - 1].join(" ") + " wait";
    let mut processes = 0;
    for number in 0..CONTAINERS {
        let (id, pod) = (format!("{number:064x}"), format!("worker-{number}"));
        let labels =
            [("io.kubernetes.pod.name", &*pod), ("io.kubernetes.pod.namespace", "jobs"), ("io.kubernetes.container.name", "worker")];
        let several = ["/bin/sh", "-c", &*many];
        let command: &[&str] = if number % 5 == 0 { &several } else { &["/bin/sleep", "100000"] };
        processes += if number % 5 == 0 { PROCESSES } else { 1 };
        let spec = Spec { namespace: "k8s.io", id: &id, labels: &labels, environment: &[], bound: &[], command };
        containerd.run(&lab, &spec);
    }
    // All intervals as they are by default.
    let setting = Setting {
        downstream: &sink.address,
        containerd: Some(&containerd.socket),
        interval: "10s",
        set: &["exporters.otlp_grpc.compression=none"],
    };
    let agent = Agent::start(&lab, &setting);
    // The first collection, and what only a start costs.
    std::thread::sleep(Duration::from_secs(12));

    let (pid, begin) = (agent.pid(), Instant::now());
    let mut shares = Vec::new();
    for part in 1..=PARTS {
        let (before, since) = (cpu_time(pid), Instant::now());
        std::thread::sleep((begin + long * part / PARTS).saturating_duration_since(Instant::now()));
        shares.push((cpu_time(pid) - before).as_secs_f64() / since.elapsed().as_secs_f64() * 100.0);
    }
    let all = shares.iter().sum::<f64>() / f64::from(PARTS);
    let everything = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.path().join("task").exists()).count();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    println!(
        "\nIdle for {} s: {CONTAINERS} containers with {processes} processes, {everything} processes on the machine, {threads} threads of stallspan; load {}\n",
        long.as_secs(),
        load_average()
    );
    println!("| CPU, % of a core | in parts of {} s | RSS, MiB | PSS, MiB |", long.as_secs() / u64::from(PARTS));
    println!("|---|---|---|---|");
    println!(
        "| {all:.3} | {} | {:.1} | {:.1} |",
        Summary::of(&shares).show(3),
        memory_mib(pid, "status", "VmRSS"),
        memory_mib(pid, "smaps_rollup", "Pss")
    );
    assert_eq!(agent.stop(), Some(0));
}
