//! Single waits on their way from the eBPF source into the history: whose they are, and who ran meanwhile.

use std::collections::HashMap;

use super::book::{Book, told};
use super::bpf::{BpfSettings, BpfSource, Comm, Form, Hierarchy, Record, Runner, Slot, Task, ThrottleClock, Wait as Seen, Waiting};
use super::past::{Past, Seen as Was};
use super::roster::Roster;
use super::units::Units;
use crate::containers::Index;
use crate::history::Store;
use crate::host::{Host, kernel_btf};
use crate::model::wait::{CulpritKey, EventFields, OpenWait, Wait};
use crate::model::{
    Absence, BpfFacts, Container, ContainerKey, CulpritKind, DelayKind, EventSource, Facts, Mono, NodeCpu, ProcessKey, SingleWaits,
    Subject, TaskKey, Wall,
};
use crate::runtime::clock::mono_now;

/// Waits of containers that sent no span of late become records from here on: the contract's shortest event.
const FLOOR_NS: u64 = 1_000_000;
/// Waits of containers that send spans: what is shorter is told by the totals, spread over the time between readings.
const ACTIVE_FLOOR_NS: u64 = 20_000;
/// Reclaim and compaction: every one of them takes longer than this.
const MEMORY_FLOOR_NS: u64 = 1_000;
/// Least time between two looks at waits in progress: each looks at every task of the node.
const OPEN_SPACING_NS: u64 = 5_000_000;
/// A lost wait began before it ended, nobody knows when: at most as long ago as all lost ones lasted, and as this.
const LOST_LENGTH_MOST_NS: u64 = 1_000_000_000;
/// Names of host processes that ran while others waited; more of them are `other`.
const MAX_RUNNERS: usize = 4_096;

/// A container in the programs' tables.
#[derive(Clone, Copy, Debug)]
struct Enrolled {
    slot: Slot,
    cgroup: u64,
    active: bool,
}

/// What people call somebody, and what they are as a culprit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Called {
    name: String,
    kind: CulpritKind,
}

impl Called {
    /// A service of the host is no container, though the index keeps it as one.
    fn of(container: &Container) -> Self {
        let kind = if container.is_unit() { CulpritKind::Host } else { CulpritKind::Neighbor };
        Self { name: container.display_name(), kind }
    }
}

/// Brings waits from the kernel into the history.
pub(super) struct Feed {
    source: BpfSource,
    enrolled: HashMap<ContainerKey, Enrolled>,
    by_slot: HashMap<Slot, ContainerKey>,
    free: Vec<Slot>,
    /// Slots whose containers ended: free for others once the ring was emptied of them.
    leaving: Vec<Slot>,
    runners: HashMap<Who, CulpritKey>,
    /// What people call the containers that have a slot.
    names: HashMap<ContainerKey, Called>,
    units: Units,
    past: Past,
    /// Containers whose name changed since the history was told.
    renamed: Vec<ContainerKey>,
    /// Length of the clock tick in which the kernel tells start times, ns.
    tick_ns: u64,
    book: Book,
    since: Wall,
    records: u64,
    /// Records lost, and the waits in them in ns, as last told.
    lost: (u64, u64),
    /// The same of each slot.
    lost_of: HashMap<Slot, (u64, u64)>,
    drained_at: Mono,
    opened_at: Mono,
    open: Vec<Waiting>,
}

/// Who ran, as long as the agent lives: slots are used again, container keys are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Container(ContainerKey),
    Host(Comm),
}

/// The hierarchy that names containers: a v1 `cpu` controller where there is one, for there runtimes put their containers.
pub(super) fn hierarchy(facts: &Facts) -> Hierarchy {
    match ["cpu", "memory"].iter().find(|name| facts.cgroups.v1.iter().any(|known| known == *name)) {
        Some(name) => Hierarchy::Controller((*name).to_owned()),
        None => Hierarchy::Unified,
    }
}

impl Feed {
    /// Loads the programs, or says why that cannot be.
    pub(super) fn open(host: &Host, settings: &BpfSettings, now: Wall) -> Result<Self, Absence> {
        let btf = kernel_btf().map_err(|error| error.absence())?;
        let source = BpfSource::open(&btf, settings).map_err(|error| {
            tracing::warn!(%error, "the eBPF programs were not loaded; delays are read from counters");
            error.absence()
        })?;
        let free = (1..source.slots()).rev().map(Slot).collect();
        tracing::info!(map_bytes = source.map_bytes(), "every wait is seen: eBPF programs are loaded");
        Ok(Self {
            source,
            enrolled: HashMap::new(),
            by_slot: HashMap::new(),
            free,
            leaving: Vec::new(),
            runners: HashMap::new(),
            names: HashMap::new(),
            units: Units::default(),
            past: Past::default(),
            renamed: Vec::new(),
            tick_ns: 1_000_000_000 / host.identity().clock_ticks.max(1),
            book: Book::default(),
            since: now,
            records: 0,
            lost: (0, 0),
            lost_of: HashMap::new(),
            drained_at: Mono(0),
            opened_at: Mono(0),
            open: Vec::new(),
        })
    }

    /// What the programs see of each wait.
    pub(super) fn fields(&self) -> EventFields {
        let offer = self.source.offer();
        EventFields {
            throttled: offer.throttle != ThrottleClock::Absent,
            culprits: true,
            memory: offer.reclaim && offer.compaction,
            some_subjects: true,
        }
    }

    /// What the programs can tell here, and what they take.
    pub(super) fn facts(&self) -> BpfFacts {
        let offer = self.source.offer();
        BpfFacts {
            map_bytes: self.source.map_bytes(),
            raw: offer.form == Form::Raw,
            throttled_lost: match offer.throttle {
                ThrottleClock::Exact | ThrottleClock::Queue => None,
                ThrottleClock::Task | ThrottleClock::Scaled => Some("exactness of the throttled part of waits, which is approximate here"),
                ThrottleClock::Absent => Some("the throttled part of single waits"),
            },
            memory: offer.reclaim && offer.compaction,
            waiting: offer.waiting,
        }
    }

    /// Gives containers that have a cgroup a slot, and takes it from those that ended.
    pub(super) fn enroll(&mut self, roster: &Roster, index: &Index, controller: Option<&str>, now: Wall) {
        let ended: Vec<ContainerKey> = self.enrolled.keys().filter(|key| !roster.cells.contains_key(key)).copied().collect();
        for key in ended {
            self.dismiss(key);
        }
        let leaving = self.units.sweep(&mut self.source, roster);
        self.leaving.extend(leaving);
        for (key, cell) in &roster.cells {
            let container = index.container(*key);
            if let Some(called) = container.map(|container| Called::of(container))
                && self.names.get(key) != Some(&called)
            {
                self.names.insert(*key, called);
                self.renamed.push(*key);
            }
            if self.enrolled.contains_key(key) {
                continue;
            }
            let Some(cgroup) = cell.dirs.as_ref().and_then(|dirs| dirs.inode(controller)) else {
                if container.is_some_and(|container| container.is_unit()) {
                    self.enroll_unit(*key, roster, &cell.members);
                }
                continue;
            };
            self.leaving.extend(self.units.leave(&mut self.source, *key));
            let Some(slot) = self.free.pop() else { return };
            self.book.open(&self.source, *key, slot, now);
            let floored = self.source.set_floors(slot, Some(FLOOR_NS), Some(MEMORY_FLOOR_NS));
            if let Err(error) = floored.and_then(|()| self.source.set_cgroup(cgroup, slot)) {
                tracing::debug!(%error, "a container's waits are counted for the host");
            }
            self.enrolled.insert(*key, Enrolled { slot, cgroup, active: false });
            self.by_slot.insert(slot, *key);
        }
    }

    /// A service without a cgroup in the hierarchy that the programs look at: its processes are named one by one, as culprits only.
    fn enroll_unit(&mut self, key: ContainerKey, roster: &Roster, members: &[u32]) {
        let slot = match self.units.slot(key) {
            Some(slot) => slot,
            None => {
                let Some(slot) = self.free.pop() else { return };
                self.by_slot.insert(slot, key);
                slot
            }
        };
        let members = members.iter().filter_map(|pid| roster.processes.get(pid)).map(super::roster::Process::key);
        self.units.tell(&mut self.source, key, slot, members);
    }

    fn dismiss(&mut self, key: ContainerKey) {
        let Some(enrolled) = self.enrolled.remove(&key) else { return };
        // Gone with its directory is as good.
        let _gone = self.source.remove_cgroup(enrolled.cgroup);
        self.leaving.push(enrolled.slot);
    }

    /// A container began to send spans: its shorter waits are told one by one too.
    pub(super) fn watch_closely(&mut self, key: ContainerKey) {
        if let Some(enrolled) = self.enrolled.get_mut(&key).filter(|enrolled| !enrolled.active) {
            enrolled.active = self.source.set_floors(enrolled.slot, Some(ACTIVE_FLOOR_NS), Some(MEMORY_FLOOR_NS)).is_ok();
        }
    }

    /// Writes down what ended since the last time.
    pub(super) fn drain(&mut self, now: Mono, roster: &Roster, history: &mut Store) {
        for key in std::mem::take(&mut self.renamed) {
            if let (Some(culprit), Some(called)) = (self.runners.get(&Who::Container(key)), self.names.get(&key)) {
                history.culprit_name(*culprit, &called.name, Some(Subject::Container(key)));
            }
        }
        // New ones, and those the history had to drop: an idle container's readings grow old.
        for subject in self.enrolled.keys().map(|key| Subject::Container(*key)) {
            if !history.is_seen(subject) {
                history.sees(subject, now);
            }
        }
        let mut records = Vec::new();
        while self.source.drain(|record| records.push(record)).more {}
        self.records = self.records.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        for record in records {
            self.write(record, roster, history);
        }
        self.count_losses(history);
        // What ended while the ring was being emptied may still be in it.
        history.events_until(now);
        self.drained_at = now;
        for slot in std::mem::take(&mut self.leaving) {
            let key = self.by_slot.remove(&slot);
            if let Some(key) = key {
                self.names.remove(&key);
            }
            self.book.close(key, slot);
            self.lost_of.remove(&slot);
            if self.source.clear_slot(slot).is_ok() {
                self.free.push(slot);
            }
        }
    }

    /// What was lost since the last look ended after the drain before it, and until just now: until the counters were read.
    fn count_losses(&mut self, history: &mut Store) {
        let Ok((records, ns)) = self.source.losses() else { return };
        let (before, before_ns) = std::mem::replace(&mut self.lost, (records, ns));
        if records <= before {
            return;
        }
        tracing::warn!(records = records - before, "the ring of waits was full: spans of that time tell a coverage below 1");
        let from = |ns: u64| self.drained_at.minus(ns.min(LOST_LENGTH_MOST_NS));
        let (mut whose, mut known) = (Vec::new(), 0_u64);
        for (slot, key) in &self.by_slot {
            let Ok(totals) = self.source.totals(*slot) else { continue };
            let (had, had_ns) = self.lost_of.insert(*slot, (totals.lost, totals.lost_ns)).unwrap_or((0, 0));
            if totals.lost > had {
                known = known.saturating_add(totals.lost - had);
                whose.push((*key, from(totals.lost_ns.saturating_sub(had_ns))));
            }
        }
        let now = mono_now();
        if known < records - before {
            // Some are of slots that changed hands meanwhile.
            history.record_lost(from(ns.saturating_sub(before_ns)), now);
        }
        for (key, from) in whose {
            history.record_lost_of(Subject::Container(key), from, now);
        }
    }

    /// Reads what is counted of everybody.
    pub(super) fn count(&mut self) {
        self.book.count(&self.source, &self.by_slot);
    }

    /// The same, and whom their waits are blamed on: before a collection, and before containers go.
    pub(super) fn observe(&mut self, now: Wall) {
        self.count();
        let (slots, names) = (&self.by_slot, &self.names);
        self.book.blame(&self.source, now, slots, |runner| match runner {
            Runner::Container(slot) => names.get(slots.get(&slot)?).map(|called| (called.kind, called.name.clone())),
            Runner::Host(comm) => Some((CulpritKind::Host, host_name(comm))),
            Runner::Others => None,
        });
    }

    /// What all single waits of a container add up to, as last observed.
    pub(super) fn singles(&self, container: &Container) -> Option<SingleWaits> {
        self.book.of(container.key).map(|counted| told(counted, &container.display_name(), &self.source))
    }

    /// Waits, run time and slices of each CPU, as last observed.
    pub(super) fn cpus(&self) -> &[NodeCpu] {
        self.book.cpus()
    }

    /// What this costs and misses.
    pub(super) fn state(&self) -> EventSource {
        let (lost, _) = self.source.losses().unwrap_or(self.lost);
        EventSource { since: self.since, map_bytes: self.source.map_bytes(), records: self.records, lost }
    }

    /// A thread that had this number in a container, and that waited.
    pub(super) fn waited(&self, container: ContainerKey, own_tid: u32) -> Option<Was> {
        self.past.find(container, own_tid)
    }

    fn write(&mut self, record: Record, roster: &Roster, history: &mut Store) {
        let own_tid = if let Record::Wait(seen) = &record { seen.own_tid } else { 0 };
        let (task, wait) = match record {
            Record::Wait(seen) => (seen.task, self.wait(&seen, history)),
            Record::Reclaim(work) => (work.task, memory(work.task.tid, DelayKind::Reclaim, work.end_ns, work.length_ns)),
            Record::Compaction(work) => (work.task, memory(work.task.tid, DelayKind::Compaction, work.end_ns, work.length_ns)),
        };
        let (process, container) = self.whose(&task, roster);
        let thread = TaskKey { tid: task.tid, start_ticks: task.task_started_ns / self.tick_ns.max(1) };
        if let Some(container) = container {
            self.past.note(container, own_tid, Was { task: thread, process, started_ns: task.task_started_ns });
        }
        let subjects = [container.map(Subject::Container), Some(Subject::Process(process)), Some(Subject::Task(thread))];
        for subject in subjects.into_iter().flatten() {
            history.record_wait(&[subject], wait);
        }
    }

    fn wait(&mut self, seen: &Seen, history: &mut Store) -> Wait {
        let begin = Mono(seen.end_ns.saturating_sub(seen.length_ns));
        let mut wait = Wait::new(seen.task.tid, DelayKind::Cpu, begin, Mono(seen.end_ns));
        wait.throttled_ns = seen.throttled_ns;
        wait.self_ns = seen.self_ns;
        for share in &seen.culprits {
            match self.culprit(share.runner, history) {
                Some(culprit) => wait.blame(culprit, share.ns),
                None => wait.neighbor_ns = wait.neighbor_ns.saturating_add(share.ns),
            }
        }
        wait.neighbor_ns = wait.neighbor_ns.saturating_add(seen.other_ns);
        wait
    }

    /// The number of whoever ran, and its name told to the history; `None` for several, and where there are too many.
    fn culprit(&mut self, runner: Runner, history: &mut Store) -> Option<CulpritKey> {
        let who = match runner {
            Runner::Container(slot) => Who::Container(*self.by_slot.get(&slot)?),
            Runner::Host(comm) => Who::Host(comm),
            Runner::Others => return None,
        };
        if let Some(culprit) = self.runners.get(&who) {
            return Some(*culprit);
        }
        if self.runners.len() >= MAX_RUNNERS {
            return None;
        }
        let culprit = CulpritKey(u32::try_from(self.runners.len()).ok()?);
        match who {
            Who::Container(key) => history.culprit_name(culprit, &self.names.get(&key)?.name, Some(Subject::Container(key))),
            Who::Host(comm) => history.culprit_name(culprit, &host_name(comm), None),
        }
        self.runners.insert(who, culprit);
        Some(culprit)
    }

    /// The process a task belongs to, and its container: by the roster's word, else by the slot it was counted in.
    fn whose(&self, task: &Task, roster: &Roster) -> (ProcessKey, Option<ContainerKey>) {
        let key = ProcessKey { pid: task.tgid, start_ticks: task.process_started_ns / self.tick_ns.max(1) };
        match roster.process(key) {
            Some(process) if process.container.is_some() => (key, process.container),
            _ => (key, self.by_slot.get(&task.slot).copied()),
        }
    }

    /// Tells the history which waits of these subjects have not ended; before the drain that follows.
    pub(super) fn tell_open(&mut self, now: Mono, subjects: &[Subject], roster: &Roster, history: &mut Store) {
        for subject in subjects {
            if let Subject::Process(key) = subject
                && let Some(container) = roster.process(*key).and_then(|process| process.container)
                && self.enrolled.contains_key(&container)
            {
                history.sees_within(*subject, Subject::Container(container), now);
            }
        }
        // A wait told as open twice might have ended, and been written down, in between.
        if now.since(self.opened_at) < OPEN_SPACING_NS {
            return;
        }
        self.opened_at = now;
        self.open.clear();
        let open = &mut self.open;
        if let Err(error) = self.source.waiting(|waiting| open.push(waiting)) {
            tracing::debug!(%error, "waits in progress are not known");
            return;
        }
        let at = self.open.first().map_or(now, |waiting| Mono(waiting.now_ns));
        for subject in subjects {
            let of = self.open.iter().filter(|waiting| self.is_of(waiting, *subject, roster));
            let open: Vec<OpenWait> = of
                .map(|waiting| OpenWait { tid: waiting.task.tid, begin: Mono(waiting.begin_ns), throttled_ns: waiting.throttled_ns })
                .collect();
            history.record_open_waits(*subject, &open, at);
        }
    }

    fn is_of(&self, waiting: &Waiting, subject: Subject, roster: &Roster) -> bool {
        let (process, container) = self.whose(&waiting.task, roster);
        match subject {
            Subject::Container(key) => container == Some(key),
            Subject::Process(key) => process == key,
            Subject::Task(key) => waiting.task.tid == key.tid && waiting.task.task_started_ns / self.tick_ns.max(1) == key.start_ticks,
        }
    }
}

fn memory(tid: u32, kind: DelayKind, end_ns: u64, length_ns: u64) -> Wait {
    Wait::new(tid, kind, Mono(end_ns.saturating_sub(length_ns)), Mono(end_ns))
}

/// A host process's name, with what is no printable ASCII replaced: it goes into attributes as it stands.
fn host_name(comm: Comm) -> String {
    let printable = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    "host:".chars().chain(comm.bytes().iter().map(printable)).collect()
}
