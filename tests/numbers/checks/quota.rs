//! Quotas: what the metrics say is what `cpu.stat` says.

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::Load;
use crate::near;
use crate::points::Points;

const PERIOD_US: u64 = 100_000;
const TIGHT_US: u64 = 20_000;
const WIDE_US: u64 = 50_000;

pub fn throttling_of_one_thread() {
    throttling("1")
}

pub fn throttling_of_four_threads() {
    throttling("4")
}

/// What `cpu.stat` says, `levels` up.
fn stat(group: &Group, levels: usize) -> [f64; 3] {
    let of = |field: &str| group.cpu_stat(levels, "cpu.stat", field).unwrap() as f64;
    let local = group.cpu_stat(levels, "cpu.stat.local", "throttled").unwrap_or(0) as f64;
    [of("throttled").max(local) / 1e9, of("nr_periods"), of("nr_throttled")]
}

fn throttling(threads: &str) {
    let group = Group::new("docker");
    group.quota(0, TIGHT_US, PERIOD_US);
    let Held { load, before, told, after } = held_back(&group, threads, 0);
    let of = |name: &str| told.of(&group.id, &format!("stallspan.container.cpu.{name}"), "");
    for (at, name) in ["throttled.time", "periods", "throttled_periods"].into_iter().enumerate() {
        println!("  {name}: {} between {} and {}", of(name), before[at], after[at]);
        assert!(of(name) >= before[at] - 1e-6 && of(name) <= after[at] + 1e-6, "{name}");
    }
    near("limit", of("limit"), 0.2, 0.0, 1e-9);
    assert!(of("throttled.time") > 0.3 && of("throttled_periods") > 10.0, "nothing was throttled");
    wait_is_the_threads_own(&told, &group, &load);
}

#[track_caller]
fn wait_is_the_threads_own(told: &Points, group: &Group, load: &Load) {
    let wait = told.of(&group.id, "stallspan.container.delay.time", "cpu");
    near("wait against the threads' own", wait, load.at_rest().wait as f64 / 1e9, 0.5, load.outside.wait as f64 / 1e9 + 0.005);
}

/// The container itself has no limit, the pod around it has.
pub fn an_ancestors_quota_counts() {
    let group = Group::new("kubepods/burstable/pod11111111-2222-3333-4444-555555555555");
    group.quota(1, TIGHT_US, PERIOD_US);
    let Held { load, told, after, .. } = held_back(&group, "1", 1);
    near("limit", told.of(&group.id, "stallspan.container.cpu.limit", ""), 0.2, 0.0, 1e-9);
    wait_is_the_threads_own(&told, &group, &load);
    let (above, found) = (after[0], told.get(&group.id, "stallspan.container.cpu.throttled.time", ""));
    println!("  the pod was throttled {above:.3} s; of the container {found:?} s are told");
    match group.cpu_stat(0, "cpu.stat.local", "throttled") {
        Some(local) => near("throttled time", found.unwrap(), local as f64 / 1e9, 0.0, 1e-6),
        None => assert!(found.unwrap_or(0.0) <= above, "more than the pod itself"),
    }
    assert!(above > 0.1, "nothing was throttled");
}

pub fn the_tightest_limit_on_the_path_up_is_told() {
    let agent = Agent::start(&[]);
    for (own, pod, expected) in [(TIGHT_US, WIDE_US, 0.2), (WIDE_US, TIGHT_US, 0.2), (WIDE_US, WIDE_US, 0.5)] {
        let group = Group::new("kubepods/burstable/pod11111111-2222-3333-4444-555555555556");
        if group.is_v2() || own <= pod {
            group.quota(1, pod, PERIOD_US);
            group.quota(0, own, PERIOD_US);
        } else {
            // Version 1 refuses a child's quota above its parent's.
            continue;
        }
        let _load = Load::new(&group, &["burn", "1", "10"]);
        let told = agent.fresh();
        near(&format!("{own} us in a pod of {pod} us"), told.of(&group.id, "stallspan.container.cpu.limit", ""), expected, 0.0, 1e-9);
    }
}

/// A load that was held back and is at rest.
struct Held {
    load: Load,
    before: [f64; 3],
    /// Told between the two looks.
    told: Points,
    after: [f64; 3],
}

/// Burns under a quota; `levels` up stands the cgroup that is looked at.
fn held_back(group: &Group, threads: &str, levels: usize) -> Held {
    let agent = Agent::start(&[]);
    let mut load = Load::new(group, &["burn", threads, "5000"]);
    load.go();
    load.done();
    load.at_rest();
    let before = stat(group, levels);
    let told = agent.fresh();
    Held { load, before, told, after: stat(group, levels) }
}
