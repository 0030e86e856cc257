//! Processes that live shorter than any look at them.

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::{Load, Own};
use crate::points::Points;
use crate::{near, until};
use std::time::Duration;

/// How many, where `STALLSPAN_SHORT_LIVED` does not say.
const MANY: &str = "3000";
/// For how long each runs, in microseconds: with what is waited in between, 5 to 20 ms.
const FOR: &str = "6000";

/// All they ran and waited is their container's, though most were never looked at.
pub fn short_lived_processes_are_counted() {
    let group = Group::new("docker");
    let agent = Agent::start(&[]);
    assert_eq!(agent.points().enabled("taskstats_exits"), Some(1.0), "this host's kernel tells of exits");
    let Crowd { found, own, said } = crowd(&agent, &group);
    near("run time against the cgroup's", found.0, group.usage() as f64 / 1e9, 0.5, 0.005);
    near("run time against their own", found.0, own.run as f64 / 1e9, 0.5, 0.02);
    // The kernel tells what was waited until the end began. What is waited while ending no file tells but a zombie's.
    let (least, most) = (said.wait as f64 / 1e9, own.wait as f64 / 1e9);
    println!("  wait: {:.4} s; {least:.4} s as they began to end, {most:.4} s when they had ended", found.1);
    assert!(found.1 >= 0.99 * least && found.1 <= 1.002 * most + 0.01, "wait: {} is not between {least} and {most}", found.1);
    let told = agent.points();
    let lost = told.get("agent", "stallspan.agent.exits", "lost").or_else(|| told.get("host", "stallspan.agent.exits", "lost"));
    println!("  exits lost: {lost:?}");
    assert!(told.backwards.is_empty(), "{:?}", told.backwards);
}

/// Without word of their ends most is missing, nothing is made up, and the agent says that this source is off.
pub fn short_lived_processes_are_a_lower_bound_where_only_looked_at() {
    let group = Group::new("docker");
    let agent = Agent::start(&["sources.method=schedstat"]);
    let Crowd { found, own, .. } = crowd(&agent, &group);
    let wait = own.wait as f64 / 1e9;
    println!("  {:.3} s of {wait:.3} s waited were seen", found.1);
    assert!(found.1 <= wait * 1.005 + 0.02, "more than there was: {} of {wait}", found.1);
    assert_eq!(agent.points().enabled("disabled taskstats_exits"), Some(0.0), "{:?}", agent.points());
}

struct Crowd {
    /// Run and wait as the agent told them.
    found: (f64, f64),
    /// As the zombies' files did.
    own: Own,
    /// As they did themselves before they ended.
    said: Own,
}

fn crowd(agent: &Agent, group: &Group) -> Crowd {
    let many = std::env::var("STALLSPAN_SHORT_LIVED").unwrap_or_else(|_| MANY.to_owned());
    let mut load = Load::new(group, &["short", &many, FOR]);
    agent.fresh();
    load.go();
    let with_parent = load.done();
    let parent = load.at_rest();
    // The parent's own beginning, outside of the group, is in both.
    let own = Own { run: with_parent.run - load.outside.run + parent.run, wait: with_parent.wait - load.outside.wait + parent.wait };
    let said = load.said.plus(parent);
    let of = |told: &Points| {
        (told.of(&group.id, "stallspan.container.cpu.run.time", ""), told.of(&group.id, "stallspan.container.delay.time", "cpu"))
    };
    let mut found = of(&agent.fresh());
    until("the last ones are told", Duration::from_secs(60), || {
        let before = std::mem::replace(&mut found, of(&agent.fresh()));
        before == found
    });
    Crowd { found, own, said }
}
