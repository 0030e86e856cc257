//! Load: this same program in another process. It works when told to, says what it saw of itself, and stays until let go.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::groups::Group;
use crate::until;

/// A process of load.
pub struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it had run and waited before it was in its group: a runtime's first process does that too.
    pub outside: Own,
    /// What its short-lived processes said of themselves as the last thing they did.
    pub said: Own,
}

/// What threads ran and waited by their own files, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub run: u64,
    pub wait: u64,
}

impl Load {
    /// Starts it, inside the group; it does nothing yet.
    pub fn new(group: &Group, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("load").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let outside = at_rest(child.id());
        group.enter(child.id());
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, outside, said: Own::default() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    }

    /// Waits until it has worked and answers what it said. Its threads are asleep then, and there until the next `go`.
    pub fn done(&mut self) -> Own {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap());
        let own = Own { run: numbers.next().expect("the load says what it saw"), wait: numbers.next().unwrap() };
        self.said = Own { run: numbers.next().unwrap_or(0), wait: numbers.next().unwrap_or(0) };
        own
    }

    /// Waits until all its threads sleep and answers what they ran and waited.
    pub fn at_rest(&self) -> Own {
        at_rest(self.pid())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Already ended: both calls say so, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until nothing of a process moves.
fn at_rest(pid: u32) -> Own {
    let tasks =
        || fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|task| format!("{pid}/task/{}", task.file_name().display()));
    let asleep = |task: &String| {
        // A thread that is gone no longer moves either.
        fs::read_to_string(format!("/proc/{task}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
    };
    let sum = || tasks().map(|task| schedstat(&task)).fold(Own::default(), Own::plus);
    let mut last = Own::default();
    until("the load is at rest", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(100));
        tasks().all(|task| asleep(&task)) && std::mem::replace(&mut last, sum()) == sum()
    });
    last
}

/// The other side.
pub fn main(arguments: &[String]) {
    let number = |at: usize| arguments.get(at).map_or(0, |text| text.parse::<u64>().unwrap());
    match arguments[0].as_str() {
        "spin" => {
            spin(Duration::from_micros(number(1)));
            let own = own_schedstat();
            println!("{} {}", own.run, own.wait);
            return;
        }
        "nothing" => return,
        _ => std::io::stdin().read_exact(&mut [0]).unwrap(),
    }
    let (own, said) = match arguments[0].as_str() {
        "burn" => (burn(number(1), Duration::from_millis(number(2)), arguments.get(3).map(|cpu| cpu.parse().unwrap())), Own::default()),
        "short" => short_lived(number(1), &["load", "spin", &arguments[2]]),
        "exits" => short_lived(number(1), &["load", "nothing"]),
        other => panic!("no such load: {other}"),
    };
    println!("{} {} {} {}", own.run, own.wait, said.run, said.wait);
    drop(std::io::stdin().read_exact(&mut [0]));
}

/// Threads that do nothing but run, and then sleep until let go.
fn burn(threads: u64, time: Duration, cpu: Option<usize>) -> Own {
    let over = Arc::new(Barrier::new(usize::try_from(threads).unwrap() + 1));
    let leave = Arc::new(Barrier::new(usize::try_from(threads).unwrap() + 1));
    let burners: Vec<_> = (0..threads)
        .map(|_| {
            let (over, leave) = (Arc::clone(&over), Arc::clone(&leave));
            std::thread::spawn(move || {
                if let Some(cpu) = cpu {
                    let mut set = CpuSet::new();
                    set.set(cpu);
                    sched_setaffinity(None, &set).unwrap();
                }
                spin(time);
                over.wait();
                leave.wait();
            })
        })
        .collect();
    over.wait();
    println!("0 0");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    leave.wait();
    burners.into_iter().for_each(|burner| burner.join().unwrap());
    own_schedstat()
}

/// Processes that end soon, two at a time. What they ran and waited is read when they have ended and are not yet reaped:
/// then nothing can be added any more. And what they said as the last thing they did: ending takes time, too.
fn short_lived(count: u64, arguments: &[&str]) -> (Own, Own) {
    let (mut sum, mut open) = ((own_schedstat(), Own::default()), Vec::new());
    let mut add = |(own, said): (Own, Own)| sum = (sum.0.plus(own), sum.1.plus(said));
    for _ in 0..count {
        open.push(Command::new("/proc/self/exe").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        if open.len() >= 2 {
            add(last_words(open.remove(0)));
        }
    }
    open.into_iter().map(last_words).for_each(add);
    sum
}

fn last_words(mut child: Child) -> (Own, Own) {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let mut said = text.split_ascii_whitespace().map(|number| number.parse().unwrap());
    let said = Own { run: said.next().unwrap_or(0), wait: said.next().unwrap_or(0) };
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let own = schedstat(&child.id().to_string());
    drop(child.wait());
    (own, said)
}

fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn own_schedstat() -> Own {
    schedstat("thread-self")
}

fn schedstat(whose: &str) -> Own {
    let text = std::fs::read_to_string(format!("/proc/{whose}/schedstat")).unwrap();
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().unwrap());
    Own { run: numbers.next().unwrap(), wait: numbers.next().unwrap() }
}

impl Own {
    pub fn plus(self, other: Self) -> Self {
        Self { run: self.run + other.run, wait: self.wait + other.wait }
    }
}
