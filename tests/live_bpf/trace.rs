//! Who ran while a task waited, by the word of the kernel's own trace of context switches (tracefs):
//! it shares nothing with the programs under test.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Who came and left a CPU, and who was woken.
const EVENTS: [&str; 2] = ["sched_switch", "sched_wakeup"];

/// The switches of one CPU, from begin to end of this.
pub struct Trace {
    mounted: PathBuf,
    instance: PathBuf,
}

impl Trace {
    /// `None` where this kernel has no tracefs.
    pub fn of_cpu_0() -> Option<Self> {
        let mounted = std::env::temp_dir().join(format!("stallspan-test-tracefs-{}", std::process::id()));
        fs::create_dir_all(&mounted).unwrap();
        let done = Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(&mounted).status().unwrap().success();
        if !done {
            eprintln!("this kernel has no trace of switches to compare with");
            fs::remove_dir(&mounted).unwrap();
            return None;
        }
        let instance = mounted.join(format!("instances/stallspan-test-{}", std::process::id()));
        let trace = Self { mounted, instance };
        fs::create_dir(&trace.instance).unwrap();
        trace.set("trace_clock", "mono");
        trace.set("buffer_size_kb", "4096");
        for event in EVENTS {
            trace.set(&format!("events/sched/{event}/enable"), "1");
        }
        Some(trace)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.instance.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// What happened since it began.
    pub fn end(self) -> Events {
        for event in EVENTS {
            self.set(&format!("events/sched/{event}/enable"), "0");
        }
        let text = fs::read_to_string(self.instance.join("trace")).unwrap();
        Events(text.lines().filter_map(Event::read).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
        let _ = Command::new("umount").arg(&self.mounted).status();
        let _ = fs::remove_dir(&self.mounted);
    }
}

/// What the trace says of a task's waits, in ns.
#[derive(Default)]
pub struct Waited {
    pub ns: u64,
    pub ran: HashMap<u32, u64>,
    /// Time in which the trace lacks a switch: whoever left the CPU is not who came last. The task may have run in it.
    pub unknown_ns: u64,
}

/// In the order of time.
pub struct Events(Vec<Event>);

impl Events {
    /// How long a task that never sleeps of itself waited, and how much of that each other task ran.
    pub fn while_waited(&self, victim: u32) -> Waited {
        let mut found = Waited::default();
        let (mut waits_since, mut running) = (None, None);
        for event in &self.0 {
            match *event {
                Event::Woken { at_ns, task } if task == victim => waits_since = waits_since.or(Some(at_ns)),
                Event::Woken { .. } => {}
                Event::Switch { at_ns, prev, prev_runnable, next } => {
                    if let (Some(waits_since), Some((who, came))) = (waits_since, running) {
                        let length = at_ns - Ord::max(waits_since, came);
                        if who == prev {
                            found.ns += length;
                            *found.ran.entry(who).or_default() += length;
                        } else {
                            found.unknown_ns += length;
                        }
                    }
                    running = Some((next, at_ns));
                    if next == victim {
                        waits_since = None;
                    } else if prev == victim {
                        waits_since = prev_runnable.then_some(at_ns);
                    }
                }
            }
        }
        found
    }

    /// How long these tasks ran, at least, and how much longer where the trace lacks a switch from or to one of them.
    pub fn ran(&self, tasks: &[u32]) -> (u64, u64) {
        let (mut sum, mut unknown, mut running) = (0, 0, None);
        for event in &self.0 {
            let &Event::Switch { at_ns, prev, next, .. } = event else { continue };
            if let Some((who, came)) = running {
                match (tasks.contains(&who), tasks.contains(&prev)) {
                    (true, true) => sum += at_ns - came,
                    (false, false) => {}
                    _ => unknown += at_ns - came,
                }
            }
            running = Some((next, at_ns));
        }
        (sum, unknown)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Switch { at_ns: u64, prev: u32, prev_runnable: bool, next: u32 },
    Woken { at_ns: u64, task: u32 },
}

impl Event {
    /// `… [000] d..2. 12.345678: sched_switch: prev_comm=… prev_pid=… prev_prio=… prev_state=R+ ==> next_comm=… next_pid=…
    /// next_prio=…` or `… sched_wakeup: comm=… pid=… prio=… target_cpu=000`; names may hold anything, so numbers are looked
    /// for from the right. A task is woken by whichever CPU.
    fn read(line: &str) -> Option<Self> {
        let (head, name, event) =
            EVENTS.iter().find_map(|name| line.split_once(&format!(": {name}: ")).map(|(head, event)| (head, *name, event)))?;
        let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
        let at_ns = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1_000;
        let field = |text: &str, name: &str| Some(text.rsplit_once(name)?.1.split(' ').next()?.to_owned());
        if name == "sched_wakeup" {
            let here = field(event, "target_cpu=")? == "000";
            return here.then_some(Self::Woken { at_ns, task: field(event, " pid=")?.parse().ok()? });
        }
        let (prev, next) = event.split_once(" ==> ")?;
        head.contains("[000]").then_some(Self::Switch {
            at_ns,
            prev: field(prev, "prev_pid=")?.parse().ok()?,
            prev_runnable: field(prev, "prev_state=")?.starts_with('R'),
            next: field(next, "next_pid=")?.parse().ok()?,
        })
    }
}
