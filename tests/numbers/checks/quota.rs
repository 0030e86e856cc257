//! Quotas: what the metrics say is what `cpu.stat` says.

use std::time::Duration;

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::{Load, Own};
use crate::points::Points;
use crate::{Told, near, until};

const PERIOD_US: u64 = 100_000;
const TIGHT_US: u64 = 20_000;
const WIDE_US: u64 = 50_000;

pub fn throttling_of_one_thread() -> Told {
    throttling("1")
}

pub fn throttling_of_four_threads() -> Told {
    throttling("4")
}

fn throttling(threads: &str) -> Told {
    let group = Group::new("docker");
    group.quota(0, TIGHT_US, PERIOD_US);
    let (told, own) = held_back(&group, threads);
    let of = |name: &str| told.of(&group.id, &format!("stallspan.container.cpu.{name}"), "");
    let stat = |field: &str| group.cpu_stat(0, "cpu.stat", field).unwrap() as f64;
    let local = group.cpu_stat(0, "cpu.stat.local", "throttled").unwrap_or(0) as f64;
    near("throttled time", of("throttled.time"), stat("throttled").max(local) / 1e9, 0.0, 1e-6);
    near("periods", of("periods"), stat("nr_periods"), 0.0, 0.5);
    near("throttled periods", of("throttled_periods"), stat("nr_throttled"), 0.0, 0.5);
    near("limit", of("limit"), 0.2, 0.0, 1e-9);
    assert!(of("throttled.time") > 0.3 && of("throttled_periods") > 10.0, "nothing was throttled");
    near("wait against the threads' own", told.of(&group.id, "stallspan.container.delay.time", "cpu"), own.wait as f64 / 1e9, 0.5, 0.02);
    Told::Pass
}

/// The container itself has no limit, the pod around it has.
pub fn an_ancestors_quota_counts() -> Told {
    let group = Group::new("kubepods/burstable/pod11111111-2222-3333-4444-555555555555");
    group.quota(1, TIGHT_US, PERIOD_US);
    let (told, own) = held_back(&group, "1");
    near("limit", told.of(&group.id, "stallspan.container.cpu.limit", ""), 0.2, 0.0, 1e-9);
    let wait = told.of(&group.id, "stallspan.container.delay.time", "cpu");
    near("wait against the threads' own", wait, own.wait as f64 / 1e9, 0.5, 0.02);
    let above = group.cpu_stat(1, "cpu.stat", "throttled").unwrap() as f64 / 1e9;
    let found = told.of(&group.id, "stallspan.container.cpu.throttled.time", "");
    println!("  waited {wait:.3} s; the pod was throttled {above:.3} s, of the container {found:.3} s are told");
    match group.cpu_stat(0, "cpu.stat.local", "throttled") {
        Some(local) => near("throttled time", found, local as f64 / 1e9, 0.0, 1e-6),
        None => near("throttled time", found, above, 1.0, 0.001),
    }
    assert!(above > 0.1, "nothing was throttled");
    Told::Pass
}

pub fn the_tightest_limit_on_the_path_up_is_told() -> Told {
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
    Told::Pass
}

/// Burns under a quota until the counters stand still; what the agent told then, and what the threads saw.
fn held_back(group: &Group, threads: &str) -> (Points, Own) {
    let agent = Agent::start(&[]);
    let mut load = Load::new(group, &["burn", threads, "5000"]);
    load.go();
    let own = load.done();
    // The period timer runs on for a while.
    let periods = || group.cpu_stat(0, "cpu.stat", "nr_periods").unwrap() + group.cpu_stat(1, "cpu.stat", "nr_periods").unwrap_or(0);
    until("the counters stand still", Duration::from_secs(30), || {
        let before = periods();
        std::thread::sleep(Duration::from_millis(500));
        periods() == before
    });
    (agent.fresh(), own)
}
