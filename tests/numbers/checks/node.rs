//! The node's counters and pressure.

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::Load;
use crate::points::Points;
use crate::until;
use std::time::Duration;

/// `/proc/schedstat`: run time, wait and time slices of every CPU, ns.
fn schedstat() -> Option<Vec<[u64; 3]>> {
    let text = std::fs::read_to_string("/proc/schedstat").ok()?;
    let cpu = |line: &str| {
        let fields: Vec<u64> = line.split_ascii_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
        [fields[6], fields[7], fields[8]]
    };
    Some(text.lines().filter(|line| line.starts_with("cpu")).map(cpu).collect())
}

/// Counters only grow: what the agent told lies between what the file said before and after.
pub fn node_counters_are_the_kernels_own() {
    let agent = Agent::start(&[]);
    let before = schedstat();
    let told = agent.fresh();
    let after = schedstat();
    assert_eq!(told.enabled("node"), Some(1.0), "{told:?}");
    let (Some(before), Some(after)) = (before, after) else {
        // Its absence is told as absence.
        assert!(told.all("host", "stallspan.node.cpu.wait.time").is_empty(), "no /proc/schedstat, yet points");
        return;
    };
    for (cpu, (before, after)) in before.iter().zip(&after).enumerate() {
        for (at, name, unit) in [(0, "run.time", 1e9), (1, "wait.time", 1e9), (2, "timeslices", 1.0)] {
            let value = told.of("host", &format!("stallspan.node.cpu.{name}"), &cpu.to_string());
            let (low, high) = (before[at] as f64 / unit, after[at] as f64 / unit);
            assert!(value >= low - 1e-6 && value <= high + 1e-6, "cpu{cpu} {name}: {value} is not between {low} and {high}");
        }
    }
}

/// While the load is held back, the counters grow; when it is over, they are equal.
pub fn pressure_of_a_container_is_its_files() {
    let group = Group::new("docker");
    let agent = Agent::start(&[]);
    let mut load = Load::new(&group, &["burn", "4", "3000"]);
    load.go();
    load.done();
    let quiet = || ["cpu", "memory", "io"].map(|resource| group.pressure(resource).unwrap());
    let mut last = quiet();
    until("the pressure stays", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut last, quiet()) == quiet()
    });
    let (before, told, after) = (quiet(), agent.fresh(), quiet());
    for ((resource, before), after) in ["cpu", "memory", "io"].into_iter().zip(before).zip(after) {
        for (kind, (before, after)) in ["some", "full"].into_iter().zip(before.into_iter().zip(after)) {
            let value = told.of(&group.id, "stallspan.container.pressure.time", &format!("{resource} {kind}"));
            let (low, high) = (before as f64 / 1e9, after as f64 / 1e9);
            assert!(value >= low - 1e-6 && value <= high + 1e-6, "{resource} {kind}: {value} is not between {low} and {high}");
        }
    }
    let waited = told.of(&group.id, "stallspan.container.pressure.time", "cpu some");
    assert!(waited > 0.2, "four threads on {} CPUs: {waited} s", std::thread::available_parallelism().unwrap());
}

/// Under load the sums over all tasks meet the run queues' own.
pub fn every_wait_of_the_node_is_somebodys() {
    let group = Group::new("docker");
    let agent = Agent::start(&[]);
    let mut load = Load::new(&group, &["burn", "6", "6000"]);
    load.go();
    let ratio = |told: &Points| told.get("agent", "stallspan.agent.unexplained_delay.ratio", "");
    let told: Vec<Option<f64>> = (0..5).map(|_| ratio(&agent.fresh())).collect();
    load.done();
    println!("  shares nobody accounts for: {told:.4?}");
    let error = told.last().copied().flatten().expect("a share in five seconds");
    assert!(error.abs() < 0.02, "more than 2 % are nobody's: {told:?}");
}
