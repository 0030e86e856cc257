//! Threads that spans name, against this kernel: a process of two threads in a pid namespace of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

use super::live_tests::{Burner, Container, answers_come_from, host, node, patience, signal, sources, stop, until};
use super::{Node, SamplerHandle, start};
use crate::config::meaning::Method;
use crate::model::{DelayKind, Evidence, Mono, Subject, TaskKey};
use crate::runtime::clock::{both_now, mono_now, wall_now};

const CHILD: &str = "STALLSPAN_TEST_TWO_THREADS";

/// Not a test by itself: the body of the process that the tests start, one thread of which spins on the contested CPU and the
/// other hardly works. It ends when its standard input does.
#[test]
fn body_of_two_threads() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let spinning = std::thread::spawn(|| {
        let mut first = CpuSet::new();
        first.set(0);
        sched_setaffinity(None, &first).unwrap();
        println!("starved {}", gettid().as_raw_nonzero());
        loop {
            std::hint::spin_loop();
        }
    });
    std::thread::spawn(|| {
        println!("calm {}", gettid().as_raw_nonzero());
        loop {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
    assert!(!spinning.is_finished());
    std::process::exit(0);
}

/// The process, and its threads' numbers in its own pid namespace.
struct TwoThreads {
    child: Child,
    starved: u32,
    calm: u32,
}

impl TwoThreads {
    fn new(container: &Container) -> Self {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", container.dir().display());
        let exe = std::env::current_exe().unwrap();
        let child = Command::new("sh")
            .args(["-c", &enter, "sh", "unshare", "--pid", "--fork", "--kill-child"])
            .arg(exe)
            .args(["--exact", "source::thread_tests::body_of_two_threads", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut made = Self { child, starved: 0, calm: 0 };
        let output = made.child.stdout.take().unwrap();
        for line in BufReader::new(output).lines() {
            let line = line.unwrap();
            let number = |name: &str| line.rsplit_once(name).and_then(|(_, number)| number.trim().parse().ok());
            made.starved = number("starved ").unwrap_or(made.starved);
            made.calm = number("calm ").unwrap_or(made.calm);
            if made.starved > 0 && made.calm > 0 {
                return made;
            }
        }
        panic!("the process of two threads did not begin");
    }
}

impl Drop for TwoThreads {
    fn drop(&mut self) {
        // unshare ends with the pipe, and takes its child along.
        let _already_gone = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// What a thread waited, by its own file. Where its process is found by the host's number.
fn truth(node: &Node, within: Subject, own_tid: u32) -> (TaskKey, u64) {
    let task = node.threads().find(&[within], own_tid, mono_now()).unwrap();
    let text = fs::read_to_string(format!("/proc/{}/schedstat", task.tid)).unwrap();
    (task, text.split_ascii_whitespace().nth(1).unwrap().parse().unwrap())
}

async fn cover(handle: &SamplerHandle, subject: Subject, tids: &[u32], until: Mono) -> bool {
    let names: Vec<(Subject, u32)> = tids.iter().map(|tid| (subject, *tid)).collect();
    handle.cover_threads(&[subject], &names, until, patience()).await
}

async fn each_thread_tells_its_own(method: Method) {
    let (sources, container) = (sources(method), Container::new());
    let (threads, _neighbors) = (TwoThreads::new(&container), [Burner::spinning(), Burner::spinning(), Burner::spinning()]);
    let node = node(&sources);
    let (handle, thread) = start(host(&sources), sources, Arc::clone(&node)).unwrap();
    assert!(handle.rescan(patience()).await);
    let subject = Subject::Container(container.key(&node).unwrap());
    let tids = [threads.starved, threads.calm];
    assert!(cover(&handle, subject, &tids, mono_now()).await);
    let exact = method != Method::Schedstat && answers_come_from(Evidence::Bpf, &handle, &node, &[subject]).await;
    // The programs are asked for each wait of a thread from the first time on that somebody asks for it.
    assert!(cover(&handle, subject, &tids, mono_now()).await);
    let tasks = tids.map(|tid| truth(&node, subject, tid).0.tid);
    assert!(tasks.iter().zip(tids).all(|(task, tid)| *task != tid), "in a pid namespace of its own");
    stop(&tasks);
    let ((begin_mono, begin), before) = (both_now(), tids.map(|tid| truth(&node, subject, tid).1));
    assert!(cover(&handle, subject, &tids, begin_mono).await);
    signal(tasks[0], Signal::CONT);
    let deadline = mono_now().plus(60_000_000_000);
    while truth(&node, subject, tids[0]).1 - before[0] < 600_000_000 {
        assert!(mono_now() < deadline, "three burners on its CPU");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop(&tasks);
    let (end_mono, end) = both_now();
    assert!(cover(&handle, subject, &tids, end_mono).await);
    for (tid, before) in tids.into_iter().zip(before) {
        let (task, now) = truth(&node, subject, tid);
        let window = node.history().window(Subject::Task(task), begin, end);
        let (found, waited) = (window.delay_ns.get(DelayKind::Cpu).unwrap(), now - before);
        assert!(!exact || window.evidence == Some(Evidence::Bpf), "{window:?}");
        assert!(window.coverage > 0.9 && found.abs_diff(waited) <= waited / 20 + 2_000_000, "{waited} since {begin:?}: {window:?}");
    }
    handle.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn each_of_two_threads_tells_its_own_by_the_best_source() {
    each_thread_tells_its_own(Method::Auto).await;
}

#[tokio::test]
async fn each_of_two_threads_tells_its_own_by_schedstat() {
    each_thread_tells_its_own(Method::Schedstat).await;
}

#[tokio::test]
async fn each_of_two_threads_tells_its_own_by_single_waits() {
    each_thread_tells_its_own(Method::Bpf).await;
}

#[tokio::test]
async fn a_number_that_nobody_has_is_nobodys_and_a_thread_that_ended_stays_who_it_was() {
    let (sources, container) = (sources(Method::Auto), Container::new());
    let threads = TwoThreads::new(&container);
    let node = node(&sources);
    let (handle, thread) = start(host(&sources), sources, Arc::clone(&node)).unwrap();
    assert!(handle.rescan(patience()).await);
    let subject = Subject::Container(container.key(&node).unwrap());
    assert!(cover(&handle, subject, &[threads.calm, 4_000_000], mono_now()).await);
    assert_eq!(node.threads().find(&[subject], 4_000_000, mono_now()), None);
    let (calm, then) = (threads.calm, mono_now());
    let task = node.threads().find(&[subject], calm, then).unwrap();
    drop(threads);
    until("its end was noticed", || node.threads().find(&[subject], calm, mono_now()).is_none());
    assert_eq!(node.threads().find(&[subject], calm, then), Some(task), "a late span of it");
    handle.stop();
    thread.join().unwrap();
}

/// A thread of which nobody knew while it lived: what it waited is told all the same.
#[tokio::test]
async fn a_thread_that_ended_before_it_was_named_is_known_by_its_waits() {
    let (sources, container) = (sources(Method::Bpf), Container::new());
    let node = node(&sources);
    let (handle, thread) = start(host(&sources), sources, Arc::clone(&node)).unwrap();
    until("the programs are loaded, or cannot be", || {
        let loaded = node.history().sees_events();
        loaded || host(&super::live_tests::sources(Method::Bpf)).probe().bpf.is_err()
    });
    if !node.history().sees_events() {
        eprintln!("not tested: eBPF programs cannot be loaded here");
        return;
    }
    let _neighbors = [Burner::spinning(), Burner::spinning(), Burner::spinning()];
    let threads = TwoThreads::new(&container);
    assert!(handle.rescan(patience()).await);
    let subject = Subject::Container(container.key(&node).unwrap());
    let begin = wall_now();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (own_tid, (then, end)) = (threads.starved, both_now());
    drop(threads);
    until("all of it is over", || fs::read_to_string(container.dir().join("cgroup.procs")).unwrap().is_empty());
    assert!(cover(&handle, subject, &[own_tid], then).await);
    let task = node.threads().find(&[subject], own_tid, then).expect("it is known");
    let window = node.history().window(Subject::Task(task), begin, end);
    assert!(window.delay_ns.get(DelayKind::Cpu).is_some_and(|ns| ns > 50_000_000), "{window:?}");
    assert!(window.coverage > 0.5 && window.longest_wait_ns > Some(1_000_000), "{window:?}");
    until("its end was noticed", || node.threads().find(&[subject], own_tid, mono_now()).is_none());
    handle.stop();
    thread.join().unwrap();
}
