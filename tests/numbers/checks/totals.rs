//! Totals of a container against what its own threads and its cgroup say.

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::Load;
use crate::near;
use crate::points::Points;

/// Length of the load in ms.
const LOAD: &str = "8000";
/// Of the neighbor's: it must not end first.
const TWICE: &str = "16000";

pub fn totals_of_one_thread() {
    totals("1")
}

pub fn totals_of_four_threads() {
    totals("4")
}

/// The victim shares one CPU with a neighbor. Its threads end together then, on a busy CPU: nothing may be counted twice.
fn totals(threads: &str) {
    let (group, other) = (Group::new("docker"), Group::new("docker"));
    let agent = Agent::start(&[]);
    let mut load = Load::new(&group, &["burn", threads, LOAD, "0"]);
    let mut neighbor = Load::new(&other, &["burn", "2", TWICE, "0"]);
    load.go();
    neighbor.go();
    load.done();
    let own = load.at_rest();
    let usage = group.usage() as f64 / 1e9;
    let told = agent.fresh();
    let of = |told: &Points| {
        (told.of(&group.id, "stallspan.container.cpu.run.time", ""), told.of(&group.id, "stallspan.container.delay.time", "cpu"))
    };
    let (run, wait) = of(&told);
    let outside = (load.outside.run as f64 / 1e9, load.outside.wait as f64 / 1e9);
    near("run time against the cgroup's", run, usage, 0.5, outside.0 + 0.005);
    near("run time against the threads' own", run, own.run as f64 / 1e9, 0.5, outside.0 + 0.005);
    near("wait against the threads' own", wait, own.wait as f64 / 1e9, 0.5, outside.1 + 0.005);
    load.go();
    load.done();
    let told = agent.fresh();
    let (after_run, after_wait) = of(&told);
    // Their last steps are to be run and waited for, too.
    assert!(after_run - run < 0.3 && after_wait - wait < 3.0, "their end alone took {} s and {} s", after_run - run, after_wait - wait);
    near("run time at the end, against the cgroup's", after_run, group.usage() as f64 / 1e9, 0.5, outside.0 + 0.005);
    assert!(told.backwards.is_empty(), "{:?}", told.backwards);
}
