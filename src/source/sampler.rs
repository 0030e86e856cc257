//! The sampler's thread: what is due when.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::account::Known;
use super::accounting::Accounting;
use super::bpf::{BpfSettings, Hierarchy};
use super::conservation::Conservation;
use super::exits::Exits;
use super::feed;
use super::feed::Feed;
use super::handle::{Cover, Inbox, Mailbox};
use super::lives::Lives;
use super::meter::{Look, Meter};
use super::roster::{Group, Roster};
use super::watch::Watch;
use super::{Node, SamplerHandle};
use crate::config::meaning::{Method, Sources, TaskDelayacct};
use crate::host::{Host, raise_open_files, take_short_turns};
use crate::ladder::{self, Plan};
use crate::model::{Absence, ContainerSnapshot, DelayKind, Evidence, Facts, Mono, Reading, SourceName};
use crate::runtime::clock::{both_now, mono_now, wall_now};
use crate::runtime::thread;

/// Time between two looks for new processes, at most.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The first collection waits so long for the container runtime's first answer: without names its containers would be told
/// as others than those of the next collection.
const FIRST_COLLECTION: Duration = Duration::from_millis(500);

/// While the programs are being loaded, counters answer; so often it is asked whether they are there.
const LOADING_LOOK: Duration = Duration::from_millis(20);

/// Least time between looks for new processes that were asked for.
pub const RESCAN_SPACING: Duration = Duration::from_millis(50);

/// What the thread owns.
pub(super) struct Sampler {
    pub(super) host: Arc<Host>,
    pub(super) node: Arc<Node>,
    pub(super) settings: Sources,
    pub(super) plan: Plan,
    pub(super) meter: Meter,
    /// Single waits, where eBPF programs are loaded.
    pub(super) feed: Option<Feed>,
    /// The programs, while they are being loaded.
    loading: Option<Receiver<Result<Feed, Absence>>>,
    /// The v1 controller whose hierarchy names containers; `None`: the unified one does.
    pub(super) controller: Option<String>,
    /// What plan and instrument supply.
    pub(super) supplied: Known,
    pub(super) accounting: Accounting,
    pub(super) roster: Roster,
    /// CPUs of this machine; `None` where nobody tells.
    pub(super) cpus: Option<u32>,
    /// Processes whose threads are read one by one.
    pub(super) watch: Watch,
    /// CPU wait of all tasks, as far as it was seen, since the agent began.
    pub(super) seen_wait_ns: u64,
    pub(super) conservation: Conservation,
    /// Placement epoch of the index as last seen.
    pub(super) epoch: u64,
    /// When the first sweep began; `None` until it is over. Whoever is born later is born under our eyes.
    pub(super) began: Option<Mono>,
    pub(super) started: Mono,
    /// What came of loading the programs.
    bpf: Result<(), Absence>,
    /// Births and ends of processes, where taskstats tells them.
    pub(super) exits: Option<Exits>,
    /// Whether they are told, as last seen.
    pub(super) exits_told: Option<Result<(), Absence>>,
    pub(super) lives: Lives,
    /// Every end before this was heard of.
    pub(super) heard: Mono,
    pub(super) swept: Option<Mono>,
    /// Length of the kernel's clock tick, in which it tells start times.
    pub(super) tick_ns: u64,
    /// Questions about processes so far.
    pub(super) asked: u64,
    /// Readings to be recorded.
    pub(super) out: Vec<Reading>,
    pub(super) finished: Vec<ContainerSnapshot>,
    /// Those who asked for readings and may not be served yet.
    pub(super) waiting: VecDeque<Cover>,
    rescans: Vec<oneshot::Sender<()>>,
    due: Due,
    // Buffers used again and again.
    pub(super) pids: Vec<u32>,
    pub(super) members: Vec<u32>,
    pub(super) looks: Vec<(u32, Look)>,
    pub(super) groups: Vec<Group>,
    pub(super) moved: Vec<Group>,
}

/// When the next of each is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    sweep: Mono,
    tick: Mono,
    collect: Mono,
}

/// Closes the box when the thread ends, however it ends: nobody then waits for an answer that cannot come.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Begins sampling in a thread of its own.
///
/// # Errors
/// Where no thread can be started.
pub fn start(host: Arc<Host>, settings: Sources, node: Arc<Node>) -> io::Result<(SamplerHandle, JoinHandle<()>)> {
    let mailbox = Arc::new(Mailbox::default());
    let handle = SamplerHandle::new(Arc::clone(&mailbox), Arc::clone(&node));
    let thread = thread::spawn("stallspan-poll", move || {
        take_short_turns();
        let closing = Closing(mailbox);
        tracing::debug!(limit = raise_open_files(), "open files");
        let restore = switch_on(&host, &settings);
        let mut sampler = Sampler::new(Arc::clone(&host), settings, node, Some(Arc::clone(&closing.0)));
        if restore {
            // It was off until just now: whoever lives already is not counted.
            sampler.accounting.observe(mono_now(), Some(false));
        }
        sampler.run(&closing.0);
        if restore && let Err(error) = host.set_task_delayacct(false) {
            tracing::warn!(%error, "kernel.task_delayacct could not be switched off again");
        }
    })?;
    Ok((handle, thread))
}

/// Switches delay accounting on where the configuration asks for it; true where it has to be switched off again.
fn switch_on(host: &Host, settings: &Sources) -> bool {
    if settings.task_delayacct != TaskDelayacct::On || host.task_delayacct() != Some(false) {
        return false;
    }
    match host.set_task_delayacct(true) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "kernel.task_delayacct could not be switched on, which needs CAP_SYS_ADMIN and a writable /proc/sys: delays other than for a CPU stay unknown");
            false
        }
    }
}

impl Sampler {
    /// `mailbox` is knocked at when many processes have ended.
    pub(super) fn new(host: Arc<Host>, settings: Sources, node: Arc<Node>, mailbox: Option<Arc<Mailbox>>) -> Self {
        let mut facts = host.probe();
        let loading = begin_loading(&host, &facts, &settings);
        let controller = match feed::hierarchy(&facts) {
            Hierarchy::Controller(name) => Some(name),
            Hierarchy::Unified => None,
        };
        if wants_bpf(&facts, &settings) {
            // Not yet there: until it is, the rungs below answer.
            facts.bpf = Err(if loading.is_some() { Absence::Absent } else { Absence::Failed });
        }
        let exits = ladder::plan(&facts, &settings).uses(SourceName::TaskstatsExits).then(|| Exits::begin(&host, mailbox));
        let exits_told = exits.as_ref().and_then(Exits::status);
        if exits.is_some() {
            facts.exits = exits_told.unwrap_or(Err(Absence::Timeout));
        }
        let plan = ladder::plan(&facts, &settings);
        let cpus = aya::util::nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok());
        node.set_cpus(cpus.unwrap_or(0));
        let now = mono_now();
        let tick_ns = 1_000_000_000 / host.identity().clock_ticks.max(1);
        Self {
            meter: Meter::open(&plan),
            feed: None,
            loading,
            controller,
            bpf: facts.bpf,
            exits,
            exits_told,
            lives: Lives::default(),
            heard: now,
            supplied: supplied(&plan),
            plan,
            accounting: Accounting::default(),
            roster: Roster::default(),
            watch: Watch::default(),
            cpus,
            seen_wait_ns: 0,
            conservation: Conservation::default(),
            epoch: u64::MAX,
            began: None,
            started: now,
            swept: None,
            tick_ns,
            asked: 0,
            out: Vec::new(),
            finished: Vec::new(),
            waiting: VecDeque::new(),
            rescans: Vec::new(),
            due: Due { sweep: now, tick: now, collect: now.plus(nanoseconds(FIRST_COLLECTION.min(settings.collection_interval))) },
            pids: Vec::new(),
            members: Vec::new(),
            looks: Vec::new(),
            groups: Vec::new(),
            moved: Vec::new(),
            host,
            node,
            settings,
        }
    }

    fn run(&mut self, mailbox: &Mailbox) {
        loop {
            self.take_feed();
            self.hear();
            let now = mono_now();
            self.regular(now);
            self.serve(now);
            let inbox = mailbox.take(Duration::from_nanos(self.next().since(mono_now())));
            if inbox.stop {
                return;
            }
            self.accept(inbox);
        }
    }

    /// Takes the programs over once they are loaded, or notes why they are not: then the ladder stays a rung lower.
    fn take_feed(&mut self) {
        let Some(loading) = &self.loading else { return };
        let outcome = match loading.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err(Absence::Failed),
        };
        self.loading = None;
        self.adopt(outcome);
    }

    pub(super) fn adopt(&mut self, outcome: Result<Feed, Absence>) {
        self.bpf = outcome.as_ref().map(|_| ()).map_err(|absence| *absence);
        if let Ok(mut feed) = outcome {
            self.node.history_mut().events_begin(mono_now(), feed.fields());
            feed.enroll(&self.roster, &self.node.index(), self.controller.as_deref(), wall_now());
            self.feed = Some(feed);
        }
        self.replan();
    }

    /// What is supplied changed.
    pub(super) fn replan(&mut self) {
        let mut facts = Facts { bpf: self.bpf, ..self.host.probe() };
        if self.exits.is_some() {
            facts.exits = self.exits_told.unwrap_or(Err(Absence::Timeout));
        }
        self.plan = ladder::plan(&facts, &self.settings);
        self.supplied = supplied(&self.plan);
        // What is known of everybody changed with it.
        self.roster.cells.values_mut().for_each(|cell| cell.still.forget());
    }

    /// The instant at which something is due.
    fn next(&self) -> Mono {
        let mut next = self.due.sweep.min(self.due.collect);
        if self.loading.is_some() {
            next = next.min(mono_now().plus(nanoseconds(LOADING_LOOK)));
        }
        if !self.roster.active.is_empty() {
            next = next.min(self.due.tick);
        }
        if !self.rescans.is_empty() {
            next = next.min(self.rescan_due());
        }
        self.waiting.iter().map(|cover| self.cover_due(cover)).fold(next, Mono::min)
    }

    pub(super) fn rescan_due(&self) -> Mono {
        self.swept.map_or(Mono(0), |swept| swept.plus(nanoseconds(RESCAN_SPACING)))
    }

    fn accept(&mut self, inbox: Inbox) {
        self.waiting.extend(inbox.covers);
        self.rescans.extend(inbox.rescans);
        if !inbox.collects.is_empty() {
            self.make_collection();
            answer(inbox.collects);
        }
    }

    /// What the clock asks for.
    fn regular(&mut self, now: Mono) {
        if now >= self.due.collect {
            self.make_collection();
            self.due.collect = after(self.due.collect, nanoseconds(self.settings.collection_interval), now);
        } else if now >= self.due.sweep || !self.rescans.is_empty() && now >= self.rescan_due() {
            self.look_around();
        }
        if now >= self.due.tick && !self.roster.active.is_empty() {
            self.tick(now);
            self.due.tick = after(self.due.tick, nanoseconds(self.settings.resolution), now);
        }
    }

    pub(super) fn make_collection(&mut self) {
        self.watch_switch();
        self.collect();
        self.after_sweep();
    }

    /// A sweep between collections; who is new is read for the first time.
    pub(super) fn look_around(&mut self) {
        self.watch_switch();
        self.sweep(false);
        self.read_new();
        self.after_sweep();
    }

    fn after_sweep(&mut self) {
        let now = mono_now();
        self.began.get_or_insert(self.started);
        self.due.sweep = now.plus(nanoseconds(SWEEP_EVERY.min(self.settings.collection_interval)));
        self.renew_active(now);
        self.sweep_threads(now);
        self.flush();
        self.node.history_mut().expire(now);
        answer(std::mem::take(&mut self.rescans));
    }

    /// First readings: of containers never read, and of processes never read.
    fn read_new(&mut self) {
        let unread = |group: &Group| self.roster.read_at(*group) == Mono(0);
        let processes = self.roster.processes.iter().filter(|(_, process)| !process.kernel && !process.ended && process.read_at == Mono(0));
        let mut groups: Vec<Group> = processes.map(|(pid, process)| self.roster.group_of(*pid, process.container)).collect();
        groups.extend(self.roster.cells.keys().map(|key| Group::Container(*key)).filter(unread));
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.read_group(group, false);
        }
    }

    /// Records what was read, and what both clocks show.
    pub(super) fn flush(&mut self) {
        let (mono, wall) = both_now();
        let mut history = self.node.history_mut();
        history.observe_clock(mono, wall);
        for reading in self.out.drain(..) {
            history.record(reading);
        }
        if let Some(feed) = &mut self.feed {
            feed.drain(mono, &self.roster, &mut history);
        }
    }

    /// Follows `kernel.task_delayacct`: what is supplied changes with it.
    fn watch_switch(&mut self) {
        if self.accounting.observe(mono_now(), self.host.task_delayacct()) {
            self.replan();
        }
    }
}

/// What readings supply. Reclaim and compaction that only single waits tell are in no reading.
fn supplied(plan: &Plan) -> Known {
    let mut read = plan.delays.map(|supply| supply.is_ok_and(|evidence| evidence != Evidence::Bpf));
    if let Some(cpu) = read.get_mut(DelayKind::Cpu as usize) {
        *cpu = plan.delay(DelayKind::Cpu).is_ok();
    }
    Known::new(read, plan.run_time.is_ok())
}

pub(super) fn bpf_settings(facts: &Facts) -> BpfSettings {
    BpfSettings { hierarchy: feed::hierarchy(facts), ..BpfSettings::default() }
}

fn wants_bpf(facts: &Facts, settings: &Sources) -> bool {
    matches!(settings.method, Method::Auto | Method::Bpf) && facts.bpf.is_ok()
}

/// Loads the programs in a thread of its own: the verifier takes its time, and counters can be read meanwhile.
fn begin_loading(host: &Arc<Host>, facts: &Facts, settings: &Sources) -> Option<Receiver<Result<Feed, Absence>>> {
    if !wants_bpf(facts, settings) {
        return None;
    }
    let (done, loading) = sync_channel(1);
    let (host, settings) = (Arc::clone(host), bpf_settings(facts));
    let started = thread::spawn("stallspan-load", move || {
        // The sampler may have ended meanwhile: the programs go with the feed.
        let _ended = done.send(Feed::open(&host, &settings, wall_now()));
    });
    started.is_ok().then_some(loading)
}

/// Whether the programs can be loaded here, by loading them: for `check`.
pub fn try_bpf(host: &Host, facts: &mut Facts, settings: &Sources) {
    if wants_bpf(facts, settings) {
        let feed = Feed::open(host, &bpf_settings(facts), wall_now());
        facts.bpf_loaded = feed.as_ref().ok().map(Feed::facts);
        facts.bpf = feed.map(drop);
    }
}

pub(super) fn answer(waiting: impl IntoIterator<Item = oneshot::Sender<()>>) {
    for done in waiting {
        // Whoever asked may have stopped waiting.
        let _gone = done.send(());
    }
}

/// The next instant of a rhythm after `now`: what was missed is not made up for.
fn after(due: Mono, every: u64, now: Mono) -> Mono {
    let every = every.max(1);
    due.plus((now.since(due) / every).saturating_add(1).saturating_mul(every))
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_skips_what_it_missed() {
        for (due, every, now, expected) in [(100, 10, 100, 110), (100, 10, 104, 110), (100, 10, 135, 140), (100, 0, 100, 101)] {
            assert_eq!(after(Mono(due), every, Mono(now)), Mono(expected), "{due} {every} {now}");
        }
    }
}
