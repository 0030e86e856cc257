//! Who ran while a task waited, by the word of the kernel's own trace of context switches (tracefs, `sched:sched_switch`):
//! it shares nothing with the programs under test.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

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
        trace.set("tracing_cpumask", "1");
        trace.set("trace_clock", "mono");
        trace.set("buffer_size_kb", "8192");
        trace.set("events/sched/sched_switch/enable", "1");
        Some(trace)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.instance.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// How long a task that never sleeps waited, and how much of that each other task ran.
    pub fn while_waited(&self, victim: u32) -> Waited {
        self.set("events/sched/sched_switch/enable", "0");
        let text = fs::read_to_string(self.instance.join("trace")).unwrap();
        let mut found = Waited::default();
        let (mut waiting, mut running) = (false, None);
        for switch in text.lines().filter_map(Switch::read) {
            if let (true, Some((who, since))) = (waiting, running) {
                let length = switch.at_ns - since;
                if who == switch.prev {
                    found.ns += length;
                    *found.ran.entry(who).or_default() += length;
                } else {
                    found.unknown_ns += length;
                }
            }
            running = Some((switch.next, switch.at_ns));
            if switch.next == victim {
                waiting = false;
            } else if switch.prev == victim {
                waiting = switch.prev_runnable;
            }
        }
        found
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

struct Switch {
    at_ns: u64,
    prev: u32,
    prev_runnable: bool,
    next: u32,
}

impl Switch {
    /// `… 12.345678: sched_switch: prev_comm=… prev_pid=… prev_prio=… prev_state=R+ ==> next_comm=… next_pid=… next_prio=…`;
    /// names may hold anything, so numbers are looked for from the right.
    fn read(line: &str) -> Option<Self> {
        let (head, event) = line.split_once(": sched_switch: ")?;
        let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
        let (prev, next) = event.split_once(" ==> ")?;
        let field = |text: &str, name: &str| Some(text.rsplit_once(name)?.1.split(' ').next()?.to_owned());
        Some(Self {
            at_ns: seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1_000,
            prev: field(prev, "prev_pid=")?.parse().ok()?,
            prev_runnable: field(prev, "prev_state=")?.starts_with('R'),
            next: field(next, "next_pid=")?.parse().ok()?,
        })
    }
}
