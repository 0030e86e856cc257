//! The sampler against this kernel. Where taskstats may not be used here, the ladder's next rung is what is tested.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::bpf::BpfSettings;
use super::feed::Feed;
use super::sampler::{Sampler, bpf_settings};
use super::{Collection, Node, SamplerHandle, start};
use crate::config::meaning::{Method, Sources, TaskDelayacct};
use crate::containers::Index;
use crate::history::{Settings, Store};
use crate::host::Host;
use crate::model::{ContainerKey, DelayKind, Evidence, ProcessKey, SingleWaits, SourceName, Subject, Totals, Wall};
use crate::runtime::clock::{both_now, mono_now, wall_now};

/// Until when a reading is waited for on a machine that starves.
pub(super) fn patience() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

pub(super) fn sources(method: Method) -> Sources {
    Sources {
        collection_interval: Duration::from_secs(1),
        method,
        task_delayacct: TaskDelayacct::Leave,
        retention: Duration::from_secs(120),
        resolution: Duration::from_millis(100),
        history_memory: 16 << 20,
        procfs_root: PathBuf::from("/proc"),
        cgroupfs_root: PathBuf::from("/sys/fs/cgroup"),
    }
}

pub(super) fn node(sources: &Sources) -> Arc<Node> {
    let settings = Settings { retention: sources.retention, resolution: sources.resolution, memory: sources.history_memory };
    Arc::new(Node::new(Index::new(sources.retention), Store::new(settings)))
}

pub(super) fn host(sources: &Sources) -> Arc<Host> {
    Arc::new(Host::open(&sources.procfs_root, &sources.cgroupfs_root).unwrap())
}

pub(super) fn sampler(method: Method) -> Sampler {
    let sources = sources(method);
    Sampler::new(host(&sources), sources.clone(), node(&sources), None)
}

/// A cgroup with the name of a container, removed at the end.
pub(super) struct Container {
    pub(super) dir: PathBuf,
    id: String,
}

impl Container {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("{:032x}{:032x}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let roots = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];
        let root = roots.iter().map(PathBuf::from).find(|root| root.join("cgroup.procs").exists()).expect("a cgroup hierarchy");
        let dir = root.join(format!("docker-{id}.scope"));
        fs::create_dir(&dir).unwrap();
        Self { dir, id }
    }

    pub(super) fn take(&self, child: &Child) {
        fs::write(self.dir.join("cgroup.procs"), child.id().to_string()).unwrap();
    }

    pub(super) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    pub(super) fn key(&self, node: &Node) -> Option<ContainerKey> {
        node.index().live().find(|container| container.id == self.id).map(|container| container.key)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        until("the cgroup is empty", || fs::remove_dir(&self.dir).is_ok());
    }
}

/// A process of ours that is ended with the test.
pub(super) struct Burner(pub(super) Child);

impl Burner {
    /// Runs a shell script on CPU 0.
    pub(super) fn new(script: &str) -> Self {
        let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut first = CpuSet::new();
        first.set(0);
        sched_setaffinity(Pid::from_raw(i32::try_from(child.id()).unwrap()), &first).unwrap();
        Self(child)
    }

    pub(super) fn spinning() -> Self {
        Self::new("while :; do :; done")
    }

    pub(super) fn key(&self, node: &Node) -> Option<ProcessKey> {
        node.index().process_by_pid(self.0.id())
    }

    pub(super) fn stop(&self) {
        stop(&[self.0.id()]);
    }

    pub(super) fn go(&self) {
        signal(self.0.id(), Signal::CONT);
    }

    /// Wait and run time of its only thread, by its own file.
    pub(super) fn schedstat(&self) -> (u64, u64) {
        let [run, wait, _] = self.fields();
        (wait, run)
    }

    /// How often it has waited.
    fn waits(&self) -> u64 {
        self.fields()[2]
    }

    fn fields(&self) -> [u64; 3] {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.0.id())).unwrap();
        let mut fields = text.split_ascii_whitespace().map(|field| field.parse::<u64>().unwrap());
        std::array::from_fn(|_| fields.next().unwrap())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        self.0.wait().unwrap();
    }
}

pub(super) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Stops a process, and returns when these threads of it stand still: their last waits have ended, and everybody who looks now
/// sees the same.
pub(super) fn stop(threads: &[u32]) {
    signal(threads[0], Signal::STOP);
    let still = |tid: &u32| fs::read_to_string(format!("/proc/{tid}/stat")).unwrap().contains(") T ");
    until("it has stopped", || threads.iter().all(still));
}

/// Waits for a condition, but not for ever.
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn cpu(totals: &Totals) -> u64 {
    totals.delay_ns.get(DelayKind::Cpu).unwrap()
}

pub(super) fn totals_of(collection: &Collection, key: ContainerKey) -> Totals {
    let all = collection.containers.iter().chain(&collection.finished);
    all.filter(|snapshot| snapshot.container.key == key).map(|snapshot| snapshot.totals).next().unwrap()
}

pub(super) fn collect(sampler: &mut Sampler) -> Collection {
    sampler.make_collection();
    sampler.node.take_collection().unwrap()
}

pub(super) fn within(found: u64, expected: u64, percent: u64, what: &str) {
    let allowed = expected * percent / 100;
    assert!(found.abs_diff(expected) <= allowed, "{what}: {found} instead of {expected}");
}

/// Asks until the answers come from this source; false where this host cannot give it.
pub(super) async fn answers_come_from(evidence: Evidence, handle: &SamplerHandle, node: &Node, subjects: &[Subject]) -> bool {
    if evidence == Evidence::Bpf && host(&sources(Method::Bpf)).probe().bpf.is_err() {
        eprintln!("not tested: eBPF programs cannot be loaded here");
        return false;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let start = wall_now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (end_mono, end) = both_now();
        assert!(handle.cover(subjects, end_mono, patience()).await);
        if subjects.iter().all(|subject| node.history().window(*subject, start, end).evidence == Some(evidence)) {
            return true;
        }
        assert!(Instant::now() < deadline, "{evidence:?} does not answer");
    }
}

/// Twenty adjacent windows of one waiting process (more where the machine lets it starve so long that none of its waits
/// ends), as the hop asks for them, against the process's own file. Before the first and at the end of the last it stands
/// still, so that no wait is in progress: its file tells those that have ended only.
async fn windows_agree(method: Method, evidence: Evidence) {
    let sources = sources(method);
    let node = node(&sources);
    let container = Container::new();
    let (victim, _second, _third) = (Burner::spinning(), Burner::spinning(), Burner::spinning());
    container.take(&victim.0);
    let (handle, thread) = start(host(&sources), sources, Arc::clone(&node)).unwrap();
    assert!(handle.rescan(patience()).await);
    let subjects = [Subject::Container(container.key(&node).unwrap()), Subject::Process(victim.key(&node).unwrap())];
    assert!(handle.cover(&subjects, mono_now(), patience()).await);
    if !answers_come_from(evidence, &handle, &node, &subjects).await {
        return;
    }

    victim.stop();
    let ((begin_mono, begin), before) = (both_now(), victim.schedstat().0);
    assert!(handle.cover(&subjects, begin_mono, patience()).await);
    victim.go();
    let (mut start_of_span, mut told, mut cut) = (begin, before, 0);
    let mut sums = [0; 2];
    for number in 0..200 {
        tokio::time::sleep(Duration::from_millis(90)).await;
        let last = number >= 20 && told - before > 600_000_000;
        if last {
            victim.stop();
        }
        let (end_mono, end) = both_now();
        assert!(handle.cover(&subjects, end_mono, patience()).await);
        for (sum, subject) in sums.iter_mut().zip(subjects) {
            let window = node.history().window(subject, start_of_span, end);
            assert_eq!((window.coverage, window.evidence), (1.0, Some(evidence)), "{subject:?}");
            let exact = evidence == Evidence::Bpf;
            assert_eq!((window.resolution_ns == 0, window.longest_wait_ns.is_some()), (exact, exact), "{window:?}");
            assert!(window.resolution_ns < 5_000_000_000, "{window:?}");
            *sum += window.delay_ns.get(DelayKind::Cpu).unwrap();
        }
        // Its file tells a wait when it has ended: what does not fit into the window it ended in, no window can tell that is
        // made of readings of that file.
        let now = victim.schedstat().0;
        cut += (now - told).saturating_sub(end.since(start_of_span));
        (start_of_span, told) = (end, now);
        if last {
            break;
        }
    }
    let waited = victim.schedstat().0 - before;
    assert!(waited > 500_000_000, "three burners on one CPU: {waited}");
    for (sum, subject) in sums.into_iter().zip(subjects) {
        let whole = node.history().window(subject, begin, start_of_span);
        within(whole.delay_ns.get(DelayKind::Cpu).unwrap(), waited, 5, "all of it");
        let cut = if evidence == Evidence::Bpf { 0 } else { 2 * cut };
        assert!(sum <= waited + waited / 20 && sum + cut >= waited - waited / 20, "{subject:?}: {sum} of {waited}, {cut} cut");
    }
    handle.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn windows_agree_with_the_process_itself_by_single_waits() {
    windows_agree(Method::Auto, Evidence::Bpf).await;
}

#[tokio::test]
async fn windows_agree_with_the_process_itself_by_taskstats() {
    if host(&sources(Method::Taskstats)).probe().taskstats.is_ok() {
        windows_agree(Method::Taskstats, Evidence::Taskstats).await;
    }
}

#[tokio::test]
async fn windows_agree_with_the_process_itself_by_schedstat() {
    windows_agree(Method::Schedstat, Evidence::Schedstat).await;
}

/// A sampler with programs whose ring holds this much; `None` where they cannot be loaded.
pub(super) fn seeing(ring_bytes: u32) -> Option<Sampler> {
    let mut sampler = sampler(Method::Taskstats);
    let facts = sampler.host.probe();
    if facts.bpf.is_err() {
        eprintln!("not tested: eBPF programs cannot be loaded here");
        return None;
    }
    let settings = BpfSettings { ring_bytes, ..bpf_settings(&facts) };
    let feed = Feed::open(&sampler.host, &settings, wall_now());
    sampler.settings.method = Method::Bpf;
    sampler.adopt(feed);
    assert!(sampler.feed.is_some(), "the log says why");
    Some(sampler)
}

pub(super) fn singles(collection: &Collection, key: ContainerKey) -> SingleWaits {
    let found = collection.containers.iter().find(|snapshot| snapshot.container.key == key);
    found.and_then(|snapshot| snapshot.singles.clone()).unwrap()
}

#[test]
fn single_waits_add_up_to_what_the_container_waited() {
    let Some(mut sampler) = seeing(4 << 20) else { return };
    let container = Container::new();
    let burners = [Burner::spinning(), Burner::spinning(), Burner::spinning()];
    container.take(&burners[0].0);
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    // Turns are remembered so many a CPU: what a wait of seconds has before them stays unexplained.
    until("a second of waiting without a wait that long", || !a_second_of_waiting(&mut sampler, key, &burners[0]));
}

/// Waits of a second, against what the kernel and the container's totals tell of it. True where one was longer than turns
/// are sure to reach back: then not all of it may be blamed.
fn a_second_of_waiting(sampler: &mut Sampler, key: ContainerKey, victim: &Burner) -> bool {
    victim.stop();
    let first = collect(sampler);
    let before = victim.schedstat().0;
    victim.go();
    until("it has waited", || victim.schedstat().0 > before + 1_000_000_000);
    victim.stop();
    let second = collect(sampler);
    let (was, is) = (singles(&first, key), singles(&second, key));
    assert_eq!(was.since, is.since);
    let waited = cpu(&totals_of(&second, key)) - cpu(&totals_of(&first, key));
    let sum = is.cpu.sum_ns - was.cpu.sum_ns;
    within(sum, waited, 1, "sum of single waits");
    assert!(is.cpu.count() > was.cpu.count());
    let grown: Vec<u64> = is.long_waits.iter().zip(&was.long_waits).map(|(is, was)| is.1 - was.1).collect();
    assert!(grown.is_sorted_by(|less, more| less >= more) && grown[0] > 0, "{:?}", is.long_waits);
    let events = second.node.events.unwrap();
    assert!(events.map_bytes > 1 << 20 && events.lost == 0 && second.node.sources.contains(&(SourceName::Bpf, Ok(()))), "{events:?}");
    assert!(second.node.cpus.iter().map(|cpu| cpu.wait_ns).sum::<u64>() >= waited);

    let blamed = |waits: &SingleWaits| waits.blamed.iter().map(|one| one.ns).sum::<u64>();
    let (blamed, longest) = (blamed(&is) - blamed(&was), grown[grown.len() - 1]);
    assert!(blamed <= sum + sum / 100, "blamed: {blamed} of {sum}");
    if longest == 0 {
        within(blamed, sum, 2, "blamed");
    }
    longest > 0
}

#[test]
fn a_full_ring_is_counted_and_told_in_the_coverage_of_that_time_only() {
    let Some(mut sampler) = seeing(4096) else { return };
    let container = Container::new();
    let burners = [Burner::spinning(), Burner::spinning(), Burner::spinning()];
    container.take(&burners[0].0);
    let (quiet, sleeper) = (Container::new(), Burner::new("exec sleep 1000"));
    quiet.take(&sleeper.0);
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let subject = Subject::Container(key);
    let of = |window: (Wall, Wall), sampler: &Sampler| sampler.node.history().window(subject, window.0, window.1);
    let other = Subject::Container(quiet.key(&sampler.node).unwrap());
    sampler.look_around();
    let start = wall_now();
    sampler.feed.as_mut().unwrap().watch_closely(key);
    // A page holds 26 records of the shortest kind.
    let before = burners[0].waits();
    until("it has waited often", || burners[0].waits() > before + 60);
    let lossy = (start, wall_now());
    sampler.make_collection();
    let found = sampler.node.take_collection().unwrap();
    let lost = found.node.events.unwrap().lost;
    assert!(lost > 0, "{:?}", found.node.events);
    let window = of(lossy, &sampler);
    assert!(window.coverage < 1.0, "{window:?}");
    let beside = sampler.node.history().window(other, lossy.0, lossy.1);
    assert!(beside.coverage == 1.0 && beside.resolution_ns == 0, "of the other nothing was lost: {beside:?}");
    // Afterwards all is well again.
    until("a time without losses", || {
        let start = wall_now();
        std::thread::sleep(Duration::from_millis(5));
        let calm = (start, wall_now());
        collect(&mut sampler);
        of(calm, &sampler).coverage == 1.0
    });
    assert!(of(lossy, &sampler).coverage < 1.0, "it stays told");
}

#[test]
fn a_container_born_under_our_eyes_is_covered_from_its_birth() {
    let mut sampler = sampler(Method::Taskstats);
    collect(&mut sampler);
    let container = Container::new();
    let burner = Burner::spinning();
    container.take(&burner.0);
    until("it has run", || burner.schedstat().1 > 50_000_000);
    let found = collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let snapshot = found.containers.iter().find(|snapshot| snapshot.container.key == key).unwrap();
    assert!(snapshot.totals.run_ns.unwrap() >= 50_000_000, "{:?}", snapshot.totals);
    assert!(snapshot.since < found.at && found.at.since(snapshot.since) < 10_000_000_000);
    let now = wall_now();
    for subject in [Subject::Container(key), Subject::Process(burner.key(&sampler.node).unwrap())] {
        let window = sampler.node.history().window(subject, snapshot.since, now);
        assert!(window.coverage > 0.5 && window.delay_ns.get(DelayKind::Cpu).is_some(), "{subject:?} {window:?}");
    }
}

#[test]
fn an_older_process_starts_at_its_baseline() {
    let container = Container::new();
    let burner = Burner::spinning();
    container.take(&burner.0);
    until("it has run", || burner.schedstat().1 > 300_000_000);
    let before = burner.schedstat();
    // A first look that took too long is taken again, and what grew between the two counts: then with another sampler.
    let mut first = None;
    until("a first look in one go begins at 0", || {
        let mut sampler = sampler(Method::Taskstats);
        let totals = totals_of(&collect(&mut sampler), container.key(&sampler.node).unwrap());
        first = ((totals.run_ns, cpu(&totals)) == (Some(0), 0)).then_some(sampler);
        first.is_some()
    });
    let mut sampler = first.unwrap();
    // From after the first reading: making a sampler may take as long as it likes.
    let begun = burner.schedstat();
    until("it has run on", || burner.schedstat().1 > begun.1 + 100_000_000);
    let second = totals_of(&collect(&mut sampler), container.key(&sampler.node).unwrap());
    let after = burner.schedstat();
    let run = second.run_ns.unwrap();
    assert!(run >= 50_000_000 && run <= after.1 - before.1, "{run} of {}", after.1 - before.1);
}

#[test]
fn the_dead_stay_in_their_containers_total_and_a_dead_containers_totals_are_told_once() {
    let mut sampler = sampler(Method::Taskstats);
    collect(&mut sampler);
    let container = Container::new();
    let (first, second) = (Burner::spinning(), Burner::spinning());
    container.take(&first.0);
    container.take(&second.0);
    until("they have run", || first.schedstat().1 > 50_000_000 && second.schedstat().1 > 50_000_000);
    let both = collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let both = totals_of(&both, key);
    drop(first);
    let one = totals_of(&collect(&mut sampler), key);
    assert!(one.run_ns >= both.run_ns && cpu(&one) >= cpu(&both), "{one:?} after {both:?}");
    drop(second);
    let last = collect(&mut sampler);
    assert!(last.containers.iter().all(|snapshot| snapshot.container.key != key));
    let finished = totals_of(&last, key);
    assert!(finished.run_ns >= one.run_ns && cpu(&finished) >= cpu(&one));
    assert!(collect(&mut sampler).finished.iter().all(|snapshot| snapshot.container.key != key), "told once");
}

#[test]
fn totals_never_go_back_while_processes_come_and_go() {
    let mut sampler = sampler(Method::Taskstats);
    collect(&mut sampler);
    let container = Container::new();
    let enter = format!("echo $$ > {}/cgroup.procs;", container.dir.display());
    let work = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done";
    let _churn = Burner::new(&format!("{enter} while :; do ({work}) & ({work}) & wait; done"));
    until("the container is seen", || {
        collect(&mut sampler);
        container.key(&sampler.node).is_some()
    });
    let key = container.key(&sampler.node).unwrap();
    let (mut before, mut looks, mut met) = (Totals::default(), 0, HashSet::new());
    until("much has come and gone", || {
        sampler.find_new_members(key);
        sampler.place();
        sampler.read_container(key, true);
        let cell = &sampler.roster.cells[&key];
        // By more than their pids: another test may make the machine give the same few again and again.
        met.extend(cell.members.iter().map(|pid| sampler.roster.processes[pid].key()));
        let now = cell.account.totals(sampler.supplied);
        assert!(cpu(&now) >= before.delay_ns.get(DelayKind::Cpu).unwrap_or(0) && now.run_ns >= before.run_ns);
        before = now;
        looks += 1;
        looks > 100 && met.len() > 10 && before.run_ns.unwrap() > 100_000_000
    });
}

#[test]
fn what_is_left_of_an_ended_process_is_nobody_of_the_hosts() {
    let container = Container::new();
    let (lives, ended) = (Burner::new("read line"), Burner::new("read line"));
    container.take(&lives.0);
    container.take(&ended.0);
    rustix::process::kill_process(Pid::from_raw(i32::try_from(ended.0.id()).unwrap()).unwrap(), rustix::process::Signal::KILL).unwrap();
    until("it is a zombie", || host(&sources(Method::Taskstats)).stat(ended.0.id()).unwrap().is_zombie());
    // One that comes later: nobody told it the end.
    let mut sampler = sampler(Method::Taskstats);
    collect(&mut sampler);
    let cell = &sampler.roster.cells[&container.key(&sampler.node).unwrap()];
    assert_eq!(cell.members, [lives.0.id()]);
    assert!(!sampler.roster.processes.contains_key(&ended.0.id()));
}

#[test]
fn a_process_that_moves_takes_nothing_along() {
    let mut sampler = sampler(Method::Taskstats);
    let (from, to) = (Container::new(), Container::new());
    let there = Burner::new("read line");
    to.take(&there.0);
    collect(&mut sampler);
    let burner = Burner::spinning();
    from.take(&burner.0);
    until("it has run", || burner.schedstat().1 > 100_000_000);
    let before = collect(&mut sampler);
    let first = totals_of(&before, from.key(&sampler.node).unwrap());
    assert!(first.run_ns.unwrap() >= 100_000_000);
    to.take(&burner.0);
    let after = collect(&mut sampler);
    let second = totals_of(&after, to.key(&sampler.node).unwrap());
    assert!(second.run_ns.unwrap() < 90_000_000, "{second:?}");
    until("it has run on", || burner.schedstat().1 > first.run_ns.unwrap() + 200_000_000);
    let last = totals_of(&collect(&mut sampler), to.key(&sampler.node).unwrap());
    assert!(last.run_ns.unwrap() > second.run_ns.unwrap() + 50_000_000);
}

/// Ends a burner and begins another one with the same pid. Other processes of the machine may take it first: then again.
fn again_with_the_same_pid(first: Burner) -> Burner {
    let pid = first.0.id();
    drop(first);
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("the right to choose the next pid");
        let next = Burner::spinning();
        if next.0.id() == pid {
            return next;
        }
    }
    panic!("the pid was always taken");
}

#[test]
fn a_pid_used_again_confuses_nothing() {
    let mut sampler = sampler(Method::Taskstats);
    let (one, other) = (Container::new(), Container::new());
    let stays = [Burner::new("read line"), Burner::new("read line")];
    one.take(&stays[0].0);
    other.take(&stays[1].0);
    let burner = Burner::spinning();
    one.take(&burner.0);
    collect(&mut sampler);
    let (one_key, other_key) = (one.key(&sampler.node).unwrap(), other.key(&sampler.node).unwrap());
    let mut before = totals_of(&collect(&mut sampler), one_key).run_ns.unwrap();
    let next = again_with_the_same_pid(burner);
    other.take(&next.0);
    until("it has run", || next.schedstat().1 > before + 100_000_000);
    // The sampler still takes the pid for the first one's.
    sampler.read_container(one_key, true);
    let cell = |sampler: &Sampler, key| sampler.roster.cells[&key].account.totals(sampler.supplied).run_ns.unwrap();
    assert_eq!(cell(&sampler, one_key), before);
    collect(&mut sampler);
    before = cell(&sampler, one_key);
    assert!(cell(&sampler, other_key) >= 100_000_000);
    until("it has run on", || next.schedstat().1 > 300_000_000);
    collect(&mut sampler);
    assert!(cell(&sampler, one_key) - before < 20_000_000, "the waiting shell hardly runs");
}

#[test]
fn delays_that_were_never_counted_are_unknown() {
    let mut sampler = sampler(Method::Taskstats);
    let container = Container::new();
    let burner = Burner::spinning();
    container.take(&burner.0);
    let totals = totals_of(&collect(&mut sampler), container.key(&sampler.node).unwrap());
    if sampler.host.task_delayacct() == Some(false) {
        assert_eq!(totals.delay_ns.get(DelayKind::BlockIo), None);
    }
    if sampler.meter.evidence() == Evidence::Schedstat {
        assert_eq!(totals.delay_ns.get(DelayKind::Reclaim), None);
    }
    assert!(totals.delay_ns.get(DelayKind::Cpu).is_some());
}

#[tokio::test]
async fn many_who_ask_share_readings_and_nobody_waits_for_a_stopped_sampler() {
    let sources = sources(Method::Auto);
    let node = node(&sources);
    let container = Container::new();
    let burner = Burner::spinning();
    container.take(&burner.0);
    let (handle, thread) = start(host(&sources), sources, Arc::clone(&node)).unwrap();
    assert!(handle.rescan(patience()).await);
    let subject = Subject::Container(container.key(&node).unwrap());
    let asked = (0..200).map(|_| tokio::spawn(handle.cover(&[subject], mono_now(), patience()))).collect::<Vec<_>>();
    for one in asked {
        assert!(one.await.unwrap());
    }
    assert!(handle.collect(patience()).await);
    assert!(node.take_collection().is_some());
    handle.stop();
    thread.join().unwrap();
    let begun = Instant::now();
    assert!(!ask(&handle, subject).await);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

async fn ask(handle: &SamplerHandle, subject: Subject) -> bool {
    handle.cover(&[subject], mono_now(), patience()).await
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap(), u32::try_from(now.tv_nsec).unwrap())
}

/// CPU time of one reading of a container of ten processes, everything but recording it included.
#[test]
fn a_reading_is_cheap() {
    for method in [Method::Taskstats, Method::Schedstat] {
        let mut sampler = sampler(method);
        let container = Container::new();
        let idle: Vec<Burner> = (0..10).map(|_| Burner::new("read line")).collect();
        idle.iter().for_each(|one| container.take(&one.0));
        collect(&mut sampler);
        let key = container.key(&sampler.node).unwrap();
        let rounds = 500;
        let begun = thread_cpu();
        for _ in 0..rounds {
            sampler.read_container(key, false);
            sampler.flush();
        }
        let each = (thread_cpu() - begun) / rounds / 10;
        println!("{method:?} -> {:?}: {each:?} of CPU a process and reading", sampler.meter.evidence());
        assert!(each < Duration::from_micros(500));
    }
}
