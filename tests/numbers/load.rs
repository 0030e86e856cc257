//! Load: this same program in another process. It works when told to, says what it saw of itself, and stays until let go.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::groups::Group;
use crate::windows::Window;
use crate::{until, windows};

/// A process of load.
pub struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it had run and waited before it was in its group: a runtime's first process does that too.
    pub outside: Own,
    /// What its short-lived processes said of themselves as the last thing they did.
    pub said: Own,
}

/// A part of a load, between two instants at which all its threads but the one that tells slept.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Wall clock, ns since the epoch.
    pub begin: u64,
    pub end: u64,
    /// What its threads waited between the two by their own files, ns.
    pub wait: u64,
    /// The longest time for which one of them was not running, ns.
    pub longest: u64,
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

    /// The next piece of a load that works in pieces; `None` when it has worked.
    pub fn piece(&mut self) -> Option<Piece> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let numbers: Vec<u64> = line.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
        let &[begin, end, wait, longest] = &numbers[..] else { return None };
        Some(Piece { begin, end, wait, longest })
    }

    /// The next window of a load that works in windows; `None` at the end of a round.
    pub fn window(&mut self) -> Option<Window> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let numbers: Vec<u64> = line.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
        Window::read(&numbers)
    }

    /// What its threads ran and waited up to now.
    pub fn own(&self) -> Own {
        sum(self.pid())
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
    let asleep = |task: &String| {
        // A thread that is gone no longer moves either.
        fs::read_to_string(format!("/proc/{task}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
    };
    let mut last = Own::default();
    until("the load is at rest", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(100));
        tasks(pid).all(|task| asleep(&task)) && std::mem::replace(&mut last, sum(pid)) == sum(pid)
    });
    last
}

/// The threads of a process, as paths below `/proc`.
fn tasks(pid: u32) -> impl Iterator<Item = String> {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(move |task| format!("{pid}/task/{}", task.file_name().display()))
}

/// How many threads of a process sleep.
pub fn sleeping(pid: u32) -> u64 {
    let state = |task: &String| fs::read_to_string(format!("/proc/{task}/stat")).unwrap_or_default();
    let asleep = tasks(pid).filter(|task| state(task).rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')));
    u64::try_from(asleep.count()).unwrap()
}

pub fn sum(pid: u32) -> Own {
    tasks(pid).map(|task| schedstat(&task)).fold(Own::default(), Own::plus)
}

/// The other side.
pub fn main(arguments: &[String]) {
    // Load never outlives the check that wants it.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
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
        // A container in which nothing happens, as most of them are.
        "idle" => (Own::default(), Own::default()),
        "burn" => (burn(number(1), Duration::from_millis(number(2)), arguments.get(3).map(|cpu| cpu.parse().unwrap())), Own::default()),
        "pieces" => return pieces(number(1), number(2), Duration::from_millis(number(3))),
        "windows" => return windows::of_the_process(number(1), number(2)),
        "two threads" => return windows::of_two_threads(number(1)),
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
                    on_cpu(cpu);
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

/// Works `count` times, all threads on CPU 0, and tells of each time.
fn pieces(count: u64, threads: u64, time: Duration) {
    on_cpu(0);
    let (done, all_done) = channel();
    let workers: Vec<Sender<Instant>> = (0..threads)
        .map(|_| {
            let (work, done) = (channel(), done.clone());
            std::thread::spawn(move || {
                work.1.iter().for_each(|sent| done.send(spin_since(sent, time)).unwrap());
            });
            work.0
        })
        .collect();
    for _ in 0..count {
        let (begin, before) = (wall(), sum(std::process::id()));
        workers.iter().for_each(|worker| worker.send(Instant::now()).unwrap());
        let longest = workers.iter().map(|_| all_done.recv().unwrap()).max().unwrap();
        println!("{begin} {} {} {}", wall(), sum(std::process::id()).wait - before.wait, longest.as_nanos());
    }
    println!();
    drop(std::io::stdin().read_exact(&mut [0]));
}

fn wall() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

pub fn on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).unwrap();
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

pub fn spin(time: Duration) {
    spin_since(Instant::now(), time);
}

/// Spins; the longest time it was not running, counted from when it was woken.
fn spin_since(woken: Instant, time: Duration) -> Duration {
    let (begin, mut last, mut longest) = (Instant::now(), woken, Duration::ZERO);
    while last.saturating_duration_since(begin) < time {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

pub fn own_schedstat() -> Own {
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
