//! Births and ends against this kernel. Where exits may not be listened to here, that is printed.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{sched_getaffinity, sched_setaffinity};

use super::exits::{Exits, News};
use super::live_tests::{Burner, Container, collect, cpu, host, node, sampler, sources, until};
use super::lives::{Lives, Place};
use super::sampler::Sampler;
use super::start;
use crate::config::meaning::Method;
use crate::model::{ContainerKey, Subject, Totals};
use crate::runtime::clock::{mono_now, wall_now};

/// One that listens to exits; `None` where it may not.
fn listening() -> Option<Sampler> {
    let mut sampler = sampler(Method::Taskstats);
    if sampler.exits.is_none() {
        println!("no exits here: {:?}", sampler.plan.sources);
        return None;
    }
    until("the kernel tells of exits", || {
        sampler.hear();
        sampler.exits_told.is_some()
    });
    println!("exits: {:?}", sampler.exits_told);
    sampler.exits_told.is_some_and(|told| told.is_ok()).then_some(sampler)
}

/// Everything the container's processes were counted with.
fn counted(sampler: &Sampler, key: ContainerKey) -> Totals {
    sampler.roster.cells[&key].account.totals(sampler.supplied)
}

/// Subshells of a shell in a container that each run for a while, tell what they had run and waited until just before their
/// end, and are gone.
struct Crowd {
    shell: Burner,
    told: PathBuf,
    _dir: tempfile::TempDir,
}

impl Crowd {
    fn new(container: &Container, count: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        // Every line is one write, at the end of the file.
        let one = format!(
            "(i=0; while [ $i -lt 1500 ]; do i=$((i+1)); done; read a b c < /proc/self/schedstat; echo $a $b >> {})",
            told.display()
        );
        let script = format!(
            "read go; n=0; while [ $n -lt {count} ]; do n=$((n+1)); {one} & {one}; wait; done; echo done >> {}; read end",
            told.display()
        );
        let shell = Burner::new(&script);
        container.take(&shell.0);
        Self { shell, told, _dir: dir }
    }

    fn go(&mut self) {
        self.shell.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.told).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn is_done(&self) -> bool {
        self.lines().last().is_some_and(|last| last == "done")
    }

    /// Run time and wait of all that are gone, and how many they were.
    fn truth(&self) -> (u64, u64, u64) {
        let numbers = |line: String| line.split_once(' ').map(|(run, wait)| (run.parse::<u64>().unwrap(), wait.parse::<u64>().unwrap()));
        self.lines().into_iter().filter_map(numbers).fold((0, 0, 0), |sum, (run, wait)| (sum.0 + run, sum.1 + wait, sum.2 + 1))
    }
}

/// `closely`: the sampler looks all the time, so that some, or nearly all, are in the roster when they end.
fn short_lived_processes_count(pause: Duration, closely: bool) {
    let Some(mut sampler) = listening() else { return };
    let container = Container::new();
    let mut crowd = Crowd::new(&container, 60);
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let before = counted(&sampler, key);
    crowd.go();
    until("all have come and gone", || {
        sampler.hear();
        if closely {
            sampler.find_new_members(key);
            sampler.place();
            sampler.read_container(key, true);
        }
        std::thread::sleep(pause);
        crowd.is_done()
    });
    let (run, wait, count) = crowd.truth();
    let shell = crowd.shell.schedstat();
    let found = |sampler: &Sampler| {
        let now = counted(sampler, key);
        (now.run_ns.unwrap() - before.run_ns.unwrap(), cpu(&now) - cpu(&before))
    };
    until("their ends are told", || {
        sampler.look_around();
        sampler.read_container(key, true);
        found(&sampler).1 >= wait
    });
    let (found_run, found_wait) = found(&sampler);
    println!("{count} processes: wait {found_wait} of {wait} + {} of the shell, run {found_run} of {run} + {}", shell.0, shell.1);
    assert_eq!(count, 120);
    // What they ran since the last tick is not told; ending takes a while too; twice the sum would be both sums twice.
    assert!(found_run > run / 2 && found_run < run + run / 2 + shell.1, "run {found_run} of {run}");
    assert!(found_wait < wait + wait / 2 + shell.0 + count * 10_000_000, "wait {found_wait} of {wait}");
}

#[test]
fn processes_nobody_looks_at_are_charged_to_their_container() {
    short_lived_processes_count(Duration::from_millis(50), false);
}

#[test]
fn processes_that_are_looked_at_all_the_time_count_once() {
    short_lived_processes_count(Duration::from_millis(1), true);
}

#[test]
fn a_program_that_a_stranger_starts_in_a_container_is_the_containers() {
    let Some(mut sampler) = listening() else { return };
    let container = Container::new();
    let stays = Burner::new("read line");
    container.take(&stays.0);
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let before = counted(&sampler, key).run_ns.unwrap();
    // As runtimes do: a process of the host goes into the container, takes up another program there and is soon gone.
    let work = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
    let script = format!("echo $$ > {}/cgroup.procs; exec sh -c '{work}; read line'", container.dir.display());
    let mut stranger = Burner::new(&script);
    until("it has run there", || stranger.schedstat().1 > 20_000_000);
    sampler.hear();
    drop(stranger.0.stdin.take());
    stranger.0.wait().unwrap();
    until("its end is told", || {
        sampler.hear();
        counted(&sampler, key).run_ns.unwrap() >= before + 10_000_000
    });
}

#[tokio::test]
async fn the_last_moments_of_a_container_are_covered() {
    let sources = sources(Method::Taskstats);
    if listening().is_none() {
        return;
    }
    let node = node(&sources);
    let container = Container::new();
    let (burner, _other) = (Burner::spinning(), Burner::spinning());
    container.take(&burner.0);
    let (handle, thread) = start(host(&sources), sources, std::sync::Arc::clone(&node)).unwrap();
    let deadline = || tokio::time::Instant::now() + Duration::from_secs(20);
    assert!(handle.rescan(deadline()).await);
    let subject = Subject::Container(container.key(&node).unwrap());
    assert!(handle.cover(&[subject], mono_now(), deadline()).await);
    until("it has run", || burner.schedstat().1 > 50_000_000);
    let start_of_span = wall_now();
    until("it has run on", || burner.schedstat().1 > 60_000_000);
    let end_of_span = wall_now();
    drop(burner);
    until("its last moments are told", || {
        let window = node.history().window(subject, start_of_span, end_of_span);
        window.coverage > 0.999
    });
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn without_exits_a_lost_end_is_told_as_a_lower_bound() {
    let mut sampler = sampler(Method::Schedstat);
    let container = Container::new();
    let (stays, burner) = (Burner::new("read line"), Burner::spinning());
    container.take(&stays.0);
    container.take(&burner.0);
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let from = mono_now();
    until("it has run", || burner.schedstat().1 > 50_000_000);
    let to = mono_now();
    drop(burner);
    collect(&mut sampler);
    collect(&mut sampler);
    let window = sampler.node.history().window_mono(Subject::Container(key), from, to);
    assert!(window.coverage < 0.01, "{window:?}");
    assert!(window.delay_ns.0[0].is_some(), "a lower bound is told: {window:?}");
}

/// In a process of its own: there no other test makes children, and their ends disturb no other test.
#[test]
fn forced_reuses_of_one_pid_are_told_apart() {
    const ALONE: &str = "STALLSPAN_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return reuse_one_pid();
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let arguments = ["--exact", name.as_str(), "--nocapture"];
    let ended = Command::new(std::env::current_exe().unwrap()).args(arguments).env(ALONE, "1").output().unwrap();
    let words = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && words.contains("1 passed"), "{words}{}", String::from_utf8_lossy(&ended.stderr));
    print!("{words}");
}

fn reuse_one_pid() {
    const REUSES: usize = 10_000;
    // Others of the machine may take the pid first: then again. Who has it for so long keeps it: then another pid.
    const MOST_IN_VAIN: u32 = 100;
    // Away from CPU 0, where the burners of other tests wait for each other: ten thousand lives would come in between.
    let mut others = sched_getaffinity(None).unwrap();
    others.unset(0);
    if others.count() > 0 {
        sched_setaffinity(None, &others).unwrap();
    }
    let exits = Exits::begin(&host(&sources(Method::Taskstats)), None);
    until("the listener knows", || exits.status().is_some());
    if exits.status() != Some(Ok(())) {
        return println!("no exits here: {:?}", exits.status());
    }
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    let spawn = |program: &str, pid: Option<u32>| {
        let last = fs::read_to_string(LAST_PID).unwrap();
        if let Some(pid) = pid {
            fs::write(LAST_PID, (pid - 1).to_string()).expect("the right to choose the next pid");
        }
        let mut child = Command::new(program).spawn().unwrap();
        if pid.is_some() {
            // All others go on with theirs, so that only this one is used again and again.
            fs::write(LAST_PID, last.trim()).unwrap();
        }
        child.wait().unwrap();
        child.id()
    };
    // Of children that got another pid the ends may be told later: none of those pids is taken next.
    let (mut lives, mut strays) = (0, HashSet::new());
    while lives < REUSES {
        let pid = std::iter::repeat_with(|| spawn("true", None)).find(|pid| !strays.contains(pid)).unwrap();
        let mut reused = Reused { pid, programs: vec!["true"], lives: Lives::default(), born: 0, ended: 0 };
        let mut in_vain = 0;
        // What is told is taken meanwhile, so that nothing is lost however long it takes.
        while lives + reused.programs.len() < REUSES && in_vain < MOST_IN_VAIN {
            let program = if reused.programs.len().is_multiple_of(2) { "true" } else { "false" };
            let got = spawn(program, Some(pid));
            if got == pid {
                reused.programs.push(program);
                in_vain = 0;
            } else {
                strays.insert(got);
                in_vain += 1;
            }
            reused.take(&exits);
        }
        until("all ends are told", || {
            reused.take(&exits);
            reused.ended == reused.programs.len()
        });
        println!("{} lives of pid {}, each charged to its own", reused.ended, reused.pid);
        lives += reused.ended;
    }
}

/// The lives of one pid: each program has a container of its own.
struct Reused {
    pid: u32,
    /// What was started with it, one after the other.
    programs: Vec<&'static str>,
    lives: Lives,
    born: usize,
    ended: usize,
}

impl Reused {
    fn take(&mut self, exits: &Exits) {
        let place = |program: &str| Place::In(ContainerKey(if program == "true" { 1 } else { 2 }));
        for round in exits.take() {
            assert!(!round.overrun, "messages were lost");
            for news in round.news {
                if let News::Born { pid, parent, at } = news
                    && pid == self.pid
                {
                    let ours = parent == std::process::id();
                    self.lives.born(pid, at, if ours { place(self.programs[self.born]) } else { Place::Host });
                    self.born += usize::from(ours);
                }
            }
            for exit in round.exits.iter().filter(|exit| exit.process.unwrap_or(exit.tid) == self.pid) {
                let Some(end) = self.lives.exited(exit, round.asked) else { continue };
                let (_, found) = self.lives.charge(&end, |known| known);
                let comm = exit.thread.comm.split(|byte| *byte == 0).next().unwrap();
                if found != Place::Host {
                    assert_eq!(found, place(std::str::from_utf8(comm).unwrap()), "end number {}", self.ended);
                    self.ended += 1;
                }
            }
        }
    }
}
