//! The threads of processes whose spans name threads: met, read, let go.
//!
//! Nobody's threads are read one by one until a span names one: from then on all threads of that process are, at every
//! reading of its group, so that the next span of any of them finds its history. A thread is held by an open file that
//! answers for this very thread only, whoever has its number later.

use std::collections::HashMap;

use super::account::Known;
use super::named::NamedThreads;
use super::reading::Taken;
use super::roster::Group;
use super::sampler::{RESCAN_SPACING, Sampler, nanoseconds};
use crate::host::{Host, ThreadHandle};
use crate::model::{ContainerKey, DelayKind, Mono, ProcessKey, Reading, Subject, TaskKey, Totals};
use crate::parse::schedstat::Schedstat;
use crate::runtime::clock::mono_now;

/// Most threads read one by one.
const MAX_WATCHED: usize = 1_024;
/// Most threads met at one look: each costs three files.
const MAX_NEW: usize = 256;
/// A process counts as asking for so long after a span named a thread of it.
const WATCHED_NS: u64 = 60_000_000_000;

/// Least time between two readings of a process's threads that were asked for.
const READ_SPACING_NS: u64 = 2_000_000;
/// The same of one that a span names.
const NAMED_SPACING_NS: u64 = 500_000;
/// What reading one thread costs, roughly: a query and a file.
const THREAD_COST_NS: u64 = 2_500;

/// A reading is taken at an instant where it took no longer than this; so often it is tried.
const SHARP_NS: u64 = 200_000;
const TRIES: usize = 3;

/// A number that a span names a thread by, and where.
pub(super) type Name = (Subject, u32);

/// One thread.
struct Thread {
    handle: ThreadHandle,
    born: Mono,
    /// Met so soon after its birth that it has no history but what is read of it.
    from_birth: bool,
    recorded: bool,
    /// The history tells its single waits.
    seen: bool,
    seen_other_delays: bool,
    read_at: Mono,
    /// Met in the present look.
    present: bool,
}

/// The threads of one process.
struct Watched {
    container: Option<ContainerKey>,
    until: Mono,
    looked_at: Mono,
    read_at: Mono,
    threads: HashMap<u32, Thread>,
}

/// Everybody whose threads are read one by one.
#[derive(Default)]
pub(super) struct Watch {
    processes: HashMap<ProcessKey, Watched>,
    tids: Vec<u32>,
}

impl Watch {
    fn count(&self) -> usize {
        self.processes.values().map(|watched| watched.threads.len()).sum()
    }

    /// The process of a thread that is watched.
    pub(super) fn process_of(&self, task: TaskKey) -> Option<ProcessKey> {
        let has = |watched: &Watched| watched.threads.get(&task.tid).is_some_and(|thread| thread.handle.key() == task);
        self.processes.iter().find(|(_, watched)| has(watched)).map(|(process, _)| *process)
    }
}

impl Sampler {
    /// Sees to it that the threads named are known and read; answers those that were found.
    pub(super) fn serve_threads(&mut self, names: &[Name]) -> Vec<Subject> {
        let now = mono_now();
        let mut asked: Vec<ProcessKey> = names.iter().map(|(within, _)| *within).flat_map(|within| self.processes_in(within)).collect();
        asked.sort_unstable();
        asked.dedup();
        for process in &asked {
            self.watch_process(*process, now);
            if names.iter().any(|name| !self.is_known(*name)) {
                self.look_at_threads(*process, nanoseconds(RESCAN_SPACING));
            }
            if self.may_read_threads(*process, now) {
                self.read_threads(*process);
            } else {
                self.read_named(*process, names);
            }
        }
        let unknown: Vec<Name> = names.iter().copied().filter(|name| !self.is_known(*name)).collect();
        if !unknown.is_empty() && self.feed.is_some() {
            // What it waited may still be in the ring.
            self.flush();
            unknown.into_iter().for_each(|name| self.remember(name, now));
        }
        let mut found = Vec::new();
        let mut named = self.node.threads_mut();
        for (within, own_tid) in names {
            let before = found.len();
            found.extend(named.lives(*within, *own_tid).map(Subject::Task));
            if found.len() == before {
                named.miss(*within, *own_tid, now);
            }
        }
        found
    }

    /// Whether the threads of a process may be read again because somebody asks: so seldom that it costs a tenth of a CPU at most.
    /// Where every wait is seen, the totals need be no newer than the regular readings.
    fn may_read_threads(&self, process: ProcessKey, now: Mono) -> bool {
        let Some(watched) = self.watch.processes.get(&process) else { return false };
        let count = u64::try_from(watched.threads.len()).unwrap_or(u64::MAX);
        let least = if self.feed.is_some() { nanoseconds(self.settings.resolution) / 2 } else { READ_SPACING_NS };
        let news = watched.threads.values().any(|thread| !thread.recorded);
        news || now.since(watched.read_at) >= least.max(count.saturating_mul(THREAD_COST_NS * 10))
    }

    /// Reads of a process's threads only those that spans name, so that their windows are covered to the end.
    fn read_named(&mut self, process: ProcessKey, names: &[Name]) {
        let named = self.node.threads();
        let mut tids: Vec<u32> = names.iter().flat_map(|(within, own_tid)| named.lives(*within, *own_tid)).map(|task| task.tid).collect();
        drop(named);
        tids.sort_unstable();
        tids.dedup();
        let now = mono_now();
        if let Some(watched) = self.watch.processes.get_mut(&process) {
            tids.retain(|tid| watched.threads.get(tid).is_some_and(|thread| now.since(thread.read_at) >= NAMED_SPACING_NS));
        }
        if !tids.is_empty() {
            self.read_some(process, &tids);
        }
    }

    /// A thread that ended before its process was looked at, but that waited long enough to be seen, is known by that.
    fn remember(&self, (within, own_tid): Name, now: Mono) {
        let Subject::Container(container) = within else { return };
        let Some(was) = self.feed.as_ref().and_then(|feed| feed.waited(container, own_tid)) else { return };
        if self.host.attach_thread(was.process.pid, was.task.tid).is_ok_and(|alive| alive.key() == was.task) {
            return;
        }
        let born = Mono(was.started_ns.saturating_sub(self.suspended_ns()));
        // Where there is no room its spans have their process or container.
        let _has_room = self.node.threads_mut().met(was.task, was.process, Some(within), own_tid, born);
        self.node.threads_mut().gone(was.task, now);
        let _seen = self.node.history_mut().sees_thread(was.task, within, born);
    }

    fn is_known(&self, (within, own_tid): Name) -> bool {
        self.node.threads().lives(within, own_tid).next().is_some()
    }

    fn processes_in(&self, within: Subject) -> Vec<ProcessKey> {
        match within {
            Subject::Process(key) => self.roster.process(key).map(|process| process.key()).into_iter().collect(),
            Subject::Container(key) => {
                let members = self.roster.cells.get(&key).map(|cell| cell.members.as_slice()).unwrap_or_default();
                members.iter().filter_map(|pid| self.roster.processes.get(pid)).map(|process| process.key()).collect()
            }
            Subject::Task(_) => Vec::new(),
        }
    }

    fn watch_process(&mut self, process: ProcessKey, now: Mono) {
        let container = self.roster.process(process).and_then(|known| known.container);
        let until = now.plus(WATCHED_NS);
        let watched = self.watch.processes.entry(process);
        let watched =
            watched.or_insert_with(|| Watched { container, until, looked_at: Mono(0), read_at: Mono(0), threads: HashMap::new() });
        watched.until = until;
    }

    /// The group whose threads these are goes on being read.
    pub(super) fn renew_threads(&mut self, task: TaskKey, now: Mono) {
        let Some(process) = self.watch.process_of(task) else { return };
        self.watch_process(process, now);
        let container = self.roster.process(process).and_then(|known| known.container);
        self.roster.want(container.map_or(Subject::Process(process), Subject::Container), now.plus(WATCHED_NS));
    }

    /// Reads the threads of a group, as far as they are watched.
    pub(super) fn tick_threads(&mut self, group: Group) {
        if self.watch.processes.is_empty() {
            return;
        }
        let of_group = |(process, watched): (&ProcessKey, &Watched)| match group {
            Group::Container(key) => (watched.container == Some(key)).then_some(*process),
            Group::Lone(pid) => (process.pid == pid).then_some(*process),
        };
        let processes: Vec<ProcessKey> = self.watch.processes.iter().filter_map(of_group).collect();
        for process in processes {
            self.look_at_threads(process, 0);
            self.read_threads(process);
        }
    }

    /// Compares the threads there are with those known, unless that was done less than `spacing` ago.
    fn look_at_threads(&mut self, process: ProcessKey, spacing: u64) {
        let (now, suspended) = (mono_now(), self.suspended_ns());
        let mut tids = std::mem::take(&mut self.watch.tids);
        let mut room = MAX_WATCHED.saturating_sub(self.watch.count()).min(MAX_NEW);
        let Some(watched) = self.watch.processes.get_mut(&process).filter(|watched| now.since(watched.looked_at) >= spacing) else {
            self.watch.tids = tids;
            return;
        };
        let before = std::mem::replace(&mut watched.looked_at, now);
        let listed = self.host.thread_ids(process.pid, &mut tids).is_ok();
        let (mut gone, mut met) = (Vec::new(), Vec::new());
        watched.threads.values_mut().for_each(|thread| thread.present = false);
        for tid in tids.iter().filter(|_| listed) {
            if let Some(thread) = watched.threads.get_mut(tid) {
                thread.present = true;
            } else if room > 0
                && let Some((own_tid, handle)) = meet(&self.host, process, watched.container.is_some(), *tid)
            {
                room -= 1;
                let born = Mono(handle.key().start_ticks.saturating_mul(self.tick_ns).saturating_sub(suspended));
                let from_birth = before != Mono(0) && born.plus(self.tick_ns) >= before;
                met.push((handle.key(), own_tid, born));
                watched.threads.insert(
                    *tid,
                    Thread {
                        handle,
                        born,
                        from_birth,
                        recorded: false,
                        seen: false,
                        seen_other_delays: false,
                        read_at: Mono(0),
                        present: true,
                    },
                );
            }
        }
        watched.threads.retain(|_, thread| {
            if !thread.present {
                gone.push(thread.handle.key());
            }
            thread.present
        });
        let container = watched.container;
        self.watch.tids = tids;
        self.tell_threads(process, container, &met, &gone, now);
    }

    /// Nanoseconds by which the clock of start times (`CLOCK_BOOTTIME`) is ahead of that of readings.
    fn suspended_ns(&self) -> u64 {
        crate::runtime::clock::boot_now().saturating_sub(mono_now().0)
    }

    fn tell_threads(
        &self,
        process: ProcessKey,
        container: Option<ContainerKey>,
        met: &[(TaskKey, u32, Mono)],
        gone: &[TaskKey],
        now: Mono,
    ) {
        if met.is_empty() && gone.is_empty() {
            return;
        }
        let whole = container.map(Subject::Container);
        let mut named = self.node.threads_mut();
        for task in gone {
            named.gone(*task, now);
        }
        for (task, own_tid, born) in met {
            // Where there is no room its spans have their process or container.
            let _has_room = named.met(*task, process, whole, *own_tid, *born);
        }
    }

    /// Has the history tell the single waits of a process's threads, where they are seen.
    fn see_threads(&mut self, process: ProcessKey) {
        let Some(watched) = self.watch.processes.get_mut(&process).filter(|_| self.feed.is_some()) else { return };
        let whole = watched.container.map_or(Subject::Process(process), Subject::Container);
        let mut unseen = watched.threads.values_mut().filter(|thread| !thread.seen).peekable();
        if unseen.peek().is_some() {
            let mut history = self.node.history_mut();
            for thread in unseen {
                thread.seen = history.sees_thread(thread.handle.key(), whole, thread.born.minus(self.tick_ns));
            }
        }
    }

    /// Reads the threads of a process that are known, and lets go of those that turn out to be gone.
    fn read_threads(&mut self, process: ProcessKey) {
        self.see_threads(process);
        let Some(watched) = self.watch.processes.get_mut(&process) else { return };
        watched.read_at = mono_now();
        let tids: Vec<u32> = watched.threads.keys().copied().collect();
        self.read_some(process, &tids);
    }

    fn read_some(&mut self, process: ProcessKey, tids: &[u32]) {
        let Some(watched) = self.watch.processes.get_mut(&process) else { return };
        let (throttled_ns, tasks) = match watched.container.and_then(|key| self.roster.cells.get(&key)) {
            Some(cell) => (cell.account.totals(cell.known).throttled_ns, cell.tasks),
            None => (None, self.roster.process(process).map_or(1, |process| process.thread_count)),
        };
        let mut told: HashMap<u32, Totals> = HashMap::with_capacity(tids.len());
        self.meter.read_threads(tids, |tid, totals| {
            told.insert(tid, totals);
        });
        let mut gone = Vec::new();
        for tid in tids {
            let Some(thread) = watched.threads.get_mut(tid) else { continue };
            // Asked after the query: its answer was about this very thread.
            let Some((schedstat, Taken { at, blur_ns })) = sharp(&thread.handle) else {
                gone.push(thread.handle.key());
                watched.threads.remove(tid);
                continue;
            };
            // The two are the same counters; these are those of the instant told.
            let mut totals = told.remove(tid).unwrap_or_default();
            totals.run_ns = Some(schedstat.run_ns);
            totals.delay_ns.set(DelayKind::Cpu, Some(schedstat.delay_ns));
            thread.seen_other_delays |= super::reading::others_counted(&totals);
            let known = Known::of(&totals).and(self.supplied);
            let counted = self.accounting.counts(thread.born, thread.seen_other_delays);
            let known = if counted { known } else { known.without_delay_accounting() };
            let totals = Totals { throttled_ns, ..known.mask(&totals) };
            let subject = Subject::Task(thread.handle.key());
            let reading = Reading { subject, at, blur_ns, totals, evidence: self.meter.evidence(), tasks, uncounted: 0 };
            if thread.from_birth && !thread.recorded && thread.born < at {
                self.out.push(super::reading::at_birth(&reading, thread.born));
            }
            (thread.recorded, thread.read_at) = (true, at);
            self.out.push(reading);
        }
        let now = mono_now();
        let mut named = self.node.threads_mut();
        for task in gone {
            named.gone(task, now);
        }
    }

    /// Lets go of processes that ended or that nobody asked about for long.
    pub(super) fn sweep_threads(&mut self, now: Mono) {
        if self.watch.processes.is_empty() {
            return;
        }
        let mut named = self.node.threads_mut();
        named.sweep(now.minus(nanoseconds(self.settings.retention)));
        let roster = &self.roster;
        self.watch.processes.retain(|process, watched| {
            let alive = roster.process(*process);
            let keep = watched.until >= now && alive.is_some_and(|process| process.container == watched.container);
            if !keep {
                let ended = alive.is_none();
                watched.threads.values().for_each(|thread| let_go(&mut named, thread.handle.key(), ended, now));
            }
            keep
        });
    }
}

fn let_go(named: &mut NamedThreads, task: TaskKey, ended: bool, now: Mono) {
    if ended { named.gone(task, now) } else { named.forget(task) }
}

/// What a thread's file says, and when it did: where the reader was held up in between, it is read again. `None`: it is gone.
fn sharp(thread: &ThreadHandle) -> Option<(Schedstat, Taken)> {
    let mut best: Option<(Schedstat, Taken)> = None;
    for _ in 0..TRIES {
        let before = mono_now();
        let told = thread.schedstat().ok()?;
        let taken = Taken::between(before, mono_now());
        if best.is_none_or(|(_, sharpest)| taken.blur_ns < sharpest.blur_ns) {
            best = Some((told, taken));
        }
        if taken.blur_ns < SHARP_NS / 2 {
            break;
        }
    }
    best
}

/// A thread with its own number in the pid namespace of its container, or with the host's where it is in none.
fn meet(host: &Host, process: ProcessKey, contained: bool, tid: u32) -> Option<(u32, ThreadHandle)> {
    let handle = host.attach_thread(process.pid, tid).ok()?;
    if !contained {
        return Some((tid, handle));
    }
    let own_tid = host.namespace_tids(process.pid, tid).ok()?.last().copied().unwrap_or(tid);
    // Read by number: the handle tells whether it is still the same thread.
    handle.schedstat().is_ok().then_some((own_tid, handle))
}
