//! Totals of a container against what its own threads and its cgroup say.

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::Load;
use crate::{Told, near};

/// Length of the load in ms.
const LOAD: &str = "8000";

pub fn totals_of_one_thread() -> Told {
    totals("1")
}

pub fn totals_of_four_threads() -> Told {
    totals("4")
}

/// The victim shares one CPU with a neighbor.
fn totals(threads: &str) -> Told {
    let (group, other) = (Group::new("docker"), Group::new("docker"));
    let agent = Agent::start(&[]);
    let mut load = Load::new(&group, &["burn", threads, LOAD, "0"]);
    let mut neighbor = Load::new(&other, &["burn", "1", LOAD, "0"]);
    load.go();
    neighbor.go();
    let own = load.done();
    neighbor.done();
    let told = agent.fresh();
    let (run, wait) = (own.run as f64 / 1e9, own.wait as f64 / 1e9);
    near(
        "run time against the cgroup's",
        told.of(&group.id, "stallspan.container.cpu.run.time", ""),
        group.usage() as f64 / 1e9,
        0.5,
        0.005,
    );
    near("run time against the threads' own", told.of(&group.id, "stallspan.container.cpu.run.time", ""), run, 0.5, 0.02);
    near("wait against the threads' own", told.of(&group.id, "stallspan.container.delay.time", "cpu"), wait, 0.5, 0.02);
    assert!(told.backwards.is_empty(), "{:?}", told.backwards);
    Told::Pass
}
