//! Load: this same program in another process. It works when told to, says what it saw of itself, and stays until let go.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::groups::Group;

/// A process of load.
pub struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What the load's own threads read of themselves, ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    pub run: u64,
    pub wait: u64,
}

impl Load {
    /// Starts it, inside the group; it does nothing yet.
    pub fn new(group: &Group, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("load").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        group.enter(child.id());
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    }

    /// Waits until it has worked; it lives on until dropped.
    pub fn done(&mut self) -> Own {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap());
        Own { run: numbers.next().expect("the load says what it saw"), wait: numbers.next().unwrap() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Already ended: both calls say so, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other side.
pub fn main(arguments: &[String]) {
    let number = |at: usize| arguments.get(at).map_or(0, |text| text.parse::<u64>().unwrap());
    match arguments[0].as_str() {
        "spin" => return spin(Duration::from_micros(number(1))),
        "nothing" => return,
        _ => std::io::stdin().read_exact(&mut [0]).unwrap(),
    }
    let own = match arguments[0].as_str() {
        "burn" => burn(number(1), Duration::from_millis(number(2)), arguments.get(3).map(|cpu| cpu.parse().unwrap())),
        "short" => short_lived(number(1), &["load", "spin", &arguments[2]]),
        "exits" => short_lived(number(1), &["load", "nothing"]),
        other => panic!("no such load: {other}"),
    };
    println!("{} {}", own.run, own.wait);
    drop(std::io::stdin().read_exact(&mut [0]));
}

/// Threads that do nothing but run.
fn burn(threads: u64, time: Duration, cpu: Option<usize>) -> Own {
    let burners: Vec<_> = (0..threads)
        .map(|_| {
            std::thread::spawn(move || {
                if let Some(cpu) = cpu {
                    let mut set = CpuSet::new();
                    set.set(cpu);
                    sched_setaffinity(None, &set).unwrap();
                }
                spin(time);
                own_schedstat()
            })
        })
        .collect();
    let main = own_schedstat();
    burners.into_iter().map(|burner| burner.join().unwrap()).fold(main, Own::plus)
}

/// Processes that end soon, two at a time. What they ran and waited is read when they have ended and are not yet reaped:
/// then nothing can be added any more.
fn short_lived(count: u64, arguments: &[&str]) -> Own {
    let (mut sum, mut open) = (own_schedstat(), Vec::new());
    for _ in 0..count {
        open.push(Command::new("/proc/self/exe").args(arguments).stdin(Stdio::null()).spawn().unwrap());
        if open.len() >= 2 {
            sum = sum.plus(last_words(open.remove(0)));
        }
    }
    open.into_iter().map(last_words).fold(sum, Own::plus)
}

fn last_words(mut child: Child) -> Own {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let own = schedstat(&child.id().to_string());
    drop(child.wait());
    own
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
