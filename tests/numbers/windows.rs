//! Load that works in windows as short as spans are, and reads its own waits at their edges.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::thread::gettid;

use crate::load::{Own, on_cpu, own_schedstat, spin, sum};

/// Windows in milliseconds: 5 to 80, in an order without rhythm.
const SHORTEST_MS: u64 = 5;
const LENGTHS: u64 = 76;
const STRIDE: u64 = 37;

/// Windows of the first round.
const FIRST: u64 = 8;

/// An edge is sharp where what it reads was read within this time: nobody ran in between.
const SHARP: Duration = Duration::from_micros(50);
/// So often it is tried; the best is taken.
const TRIES: usize = 20;
/// How long workers may take to fall asleep.
const PATIENCE: Duration = Duration::from_secs(10);

/// A window, as the load tells it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Wall clock, ns since the epoch.
    pub begin: u64,
    pub end: u64,
    /// What those it is about waited in it by their own files, ns.
    pub wait: u64,
    /// How far both edges are from sharp, ns: the truth is not truer than that.
    pub blur: u64,
    /// The thread that it is about, 0 for the process.
    pub tid: u64,
}

impl Window {
    /// As it was printed; `None` at the end of a round.
    pub fn read(numbers: &[u64]) -> Option<Self> {
        let &[begin, end, wait, blur, tid] = numbers else { return None };
        Some(Self { begin, end, wait, blur, tid })
    }
}

/// What had been waited at an instant.
struct Edge {
    at: u64,
    own: Own,
    blur: u64,
}

/// Reads between two looks at the clock until nothing came between them.
fn edge(read: impl Fn() -> Own) -> Edge {
    let mut best: Option<Edge> = None;
    for _ in 0..TRIES {
        let before = wall();
        let own = read();
        let blur = wall().saturating_sub(before);
        if best.as_ref().is_none_or(|best| blur < best.blur) {
            best = Some(Edge { at: before + blur / 2, own, blur });
        }
        if Duration::from_nanos(blur) < SHARP {
            break;
        }
    }
    best.unwrap()
}

fn wall() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn length(number: u64) -> Duration {
    Duration::from_millis(SHORTEST_MS + number * STRIDE % LENGTHS)
}

fn tell(begin: &Edge, end: &Edge, tid: u64) {
    println!("{} {} {} {} {tid}", begin.at, end.at, end.own.wait - begin.own.wait, begin.blur + end.blur);
}

/// Rounds of `count` windows, one whenever told to go on: in each of them all threads work at once on CPU 0, and at its edges
/// all but the one that reads sleep.
pub fn of_the_process(count: u64, threads: u64) {
    on_cpu(0);
    let (done, all_done) = channel();
    let workers: Vec<Sender<Duration>> = (0..threads)
        .map(|_| {
            let (work, done) = (channel(), done.clone());
            std::thread::spawn(move || {
                work.1.iter().for_each(|time| {
                    spin(time);
                    done.send(()).unwrap();
                });
            });
            work.0
        })
        .collect();
    let process = std::process::id();
    rounds(count, |count| {
        for number in 0..count {
            let begin = asleep(process, threads);
            workers.iter().for_each(|worker| worker.send(length(number)).unwrap());
            workers.iter().for_each(|_| all_done.recv().unwrap());
            let end = asleep(process, threads);
            tell(&begin, &end, 0);
        }
    });
}

/// An edge at which the workers sleep: a wait in progress is in nobody's file yet.
fn asleep(process: u32, threads: u64) -> Edge {
    let begin = Instant::now();
    while crate::load::sleeping(process) < threads && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(200));
    }
    edge(|| sum(process))
}

/// Two threads at once, the first on CPU 0 and the other on CPU 1: each tells its own windows.
pub fn of_two_threads(count: u64) {
    let (done, all_done) = channel();
    let workers: Vec<Sender<u64>> = (0..2)
        .map(|cpu| {
            let (work, done): (_, Sender<()>) = (channel(), done.clone());
            std::thread::spawn(move || thread_windows(cpu, &work.1, &done));
            work.0
        })
        .collect();
    rounds(count, |count| {
        workers.iter().for_each(|worker| worker.send(count).unwrap());
        workers.iter().for_each(|_| all_done.recv().unwrap());
    });
}

fn thread_windows(cpu: usize, begin: &Receiver<u64>, done: &Sender<()>) {
    on_cpu(cpu);
    let tid = u64::try_from(gettid().as_raw_nonzero().get()).unwrap();
    for count in begin {
        for number in 0..count {
            let begin = edge(own_schedstat);
            spin(length(number));
            tell(&begin, &edge(own_schedstat), tid);
        }
        done.send(()).unwrap();
    }
}

/// One round a byte, an empty line behind each. The first is short: it makes the container known.
fn rounds(count: u64, mut round: impl FnMut(u64)) {
    round(count.min(FIRST));
    loop {
        println!();
        if std::io::stdin().read_exact(&mut [0]).is_err() {
            return;
        }
        round(count);
    }
}
