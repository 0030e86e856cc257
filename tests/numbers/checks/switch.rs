//! `kernel.task_delayacct` under a running agent.

use std::time::Duration;

use super::spans::{request, wall};
use crate::agent::Agent;
use crate::groups::Group;
use crate::load::{Load, Own, Piece};
use crate::points::Points;
use crate::{near, until};

const SWITCH: &str = "/proc/sys/kernel/task_delayacct";
/// Collections looked at in each position.
const LOOKS: usize = 2;

/// The switch in a position; back as it was when dropped.
struct Switch(String);

impl Switch {
    fn new() -> Self {
        Self(std::fs::read_to_string(SWITCH).unwrap())
    }

    fn set(on: bool) {
        std::fs::write(SWITCH, if on { "1" } else { "0" }).unwrap();
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Written back, or what is at fault was told by the check already.
        drop(std::fs::write(SWITCH, &self.0));
    }
}

/// Delays of the group's tasks other than for a CPU.
fn others<'a>(told: &'a Points, group: &Group) -> Vec<(&'a str, f64)> {
    let all = told.all(&group.id, "stallspan.container.delay.time");
    all.into_iter().filter(|(kind, _)| *kind != "cpu").collect()
}

/// On, off and on again, while three containers are under load: born before, while it was on, and while it was off.
///
/// What they waited for a CPU has nothing to do with the switch: every collection tells a number between what the threads'
/// own files said before and after it, so it never jumps, stands still or goes back. The other delays are told of those
/// born while it was on, and of them alone.
pub fn delay_accounting_on_off_and_on_again() {
    let _restored = Switch::new();
    Switch::set(false);
    let mut early = Family::born("early");
    let both = Group::new("docker");
    let _older = Load::new(&both, &["idle"]);
    let agent = Agent::start(&[]);
    early.load.go();
    early.watch(&agent, "off");
    Switch::set(true);
    early.watch(&agent, "on");
    let mut middle = Family::born("middle");
    middle.load.go();
    middle.watch(&agent, "on");
    assert!(!others(&agent.fresh(), &middle.group).is_empty(), "born under the switch, yet nothing but the CPU wait is told");
    let _younger = Load::new(&both, &["idle"]);
    mixed(&agent, &both);
    Switch::set(false);
    early.watch(&agent, "off again");
    middle.watch(&agent, "off again");
    let mut late = Family::born("late");
    late.load.go();
    late.watch(&agent, "off again");
    Switch::set(true);
    for family in [&early, &middle, &late] {
        family.watch(&agent, "on again");
    }
    let told = agent.fresh();
    for family in [&early, &late] {
        assert!(others(&told, &family.group).is_empty(), "{} was born while it was off: {:?}", family.name, others(&told, &family.group));
    }
    near("points held back", told.get("agent", "stallspan.agent.points_held_back", "").unwrap_or(0.0), 0.0, 0.0, 0.0);
    assert!(told.backwards.is_empty(), "{:?}", told.backwards);
}

/// One task born while it was off and one born while it was on: spans tell what the one waited, and by their coverage that
/// it is not all; metrics, which have no word for that, tell nothing of it.
fn mixed(agent: &Agent, group: &Group) {
    for number in 0.. {
        assert!(number < 120, "no span tells of the counted tasks");
        let begin = wall();
        std::thread::sleep(Duration::from_millis(500));
        let name = format!("mixed {number}");
        assert!(agent.send(&request(group, &name, Piece { begin, end: wall(), wait: 0, longest: 0 })), "a span was refused");
        until("the span came back", Duration::from_secs(60), || agent.points().spans.contains_key(&name));
        let span = agent.points().spans.remove(&name).unwrap();
        let coverage: f64 = span["stallspan.coverage"].parse().unwrap();
        if span.contains_key("stallspan.delay.block_io") {
            println!("  mixed: coverage {coverage}");
            assert!(coverage > 0.0 && coverage < 0.501, "{span:?}");
            break;
        }
        assert!(span.contains_key("stallspan.delay.cpu") || coverage < 1.0, "{span:?}");
    }
    assert!(others(&agent.fresh(), group).is_empty(), "{:?}", others(&agent.fresh(), group));
}

/// A container under load.
struct Family {
    name: &'static str,
    /// Ended before its cgroup is removed.
    load: Load,
    group: Group,
}

impl Family {
    fn born(name: &'static str) -> Self {
        let group = Group::new("docker");
        let load = Load::new(&group, &["burn", "2", "600000", "0"]);
        Self { name, load, group }
    }

    /// What is told lies between two looks at the threads.
    fn watch(&self, agent: &Agent, position: &str) {
        for _ in 0..LOOKS {
            let before = self.load.own();
            let told = agent.fresh();
            let after = self.load.own();
            self.between(&told, position, [before, after]);
        }
    }

    fn between(&self, told: &Points, position: &str, [before, after]: [Own; 2]) {
        let s = |ns: u64| ns as f64 / 1e9;
        let numbers = [
            ("stallspan.container.delay.time", "cpu", s(before.wait), s(after.wait), s(self.load.outside.wait)),
            ("stallspan.container.cpu.run.time", "", s(before.run), s(after.run), s(self.load.outside.run)),
        ];
        for (name, words, low, high, outside) in numbers {
            let value = told.of(&self.group.id, name, words);
            println!("  {} {position}: {name} {value:.4} between {low:.4} and {high:.4}", self.name);
            assert!(
                value >= low - outside - 0.005 && value <= high + 0.005,
                "{}, {position}: {name} {value} is not between {low} and {high}",
                self.name
            );
        }
    }
}
