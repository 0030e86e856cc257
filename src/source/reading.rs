//! One reading of one group: ask, check that those who answered are who we think, add up, write down.

use std::collections::HashMap;

use super::account::{Known, ZERO};
use super::ages::Asked;
use super::meter::Look;
use super::roster::{Cell, Group, Process, Roster};
use super::sampler::Sampler;
use crate::host::Host;
use crate::model::{ContainerKey, DelayKind, Mono, Reading, Subject, Totals};
use crate::runtime::clock::mono_now;

/// Most processes asked at once outside of containers, so that the time of their readings is narrow.
pub(super) const LONE_BATCH: usize = 64;
/// Of more processes in one container it is not asked how many threads they have: it stays at what was seen of them before.
const MOST_COUNTED: usize = 32;

/// Asking takes so long at most, and so much more for each process, unless whoever asks is held up meanwhile: then it is not
/// known of which instant the answers are, and it is asked again, so often in all.
const FAIR_NS: u64 = 2_000_000;
const FAIR_EACH_NS: u64 = 50_000;
const TRIES: usize = 3;

/// The kernel counts run time at ticks and switches: who stands still may have come to a CPU so long ago, and run since.
const STILL_BLUR_NS: u64 = 1_000_000;

/// When totals were taken: at this instant, or so far from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) at: Mono,
    pub(super) blur_ns: u64,
}

impl Taken {
    /// Some time between these.
    pub(super) fn between(begin: Mono, end: Mono) -> Self {
        let half = end.since(begin) / 2;
        Self { at: begin.plus(half), blur_ns: half }
    }
}

impl Sampler {
    /// Reads a group. `everybody`: also the processes in it that no span named are written down.
    pub(super) fn read_group(&mut self, group: Group, everybody: bool) {
        match group {
            Group::Container(key) => self.read_container(key, everybody),
            Group::Lone(pid) => self.read_lone(&[pid]),
        }
    }

    /// Reads processes outside of containers.
    pub(super) fn read_lone(&mut self, pids: &[u32]) {
        for batch in pids.chunks(LONE_BATCH) {
            let begin = mono_now();
            let (Taken { blur_ns, .. }, _some_are_left_out) = self.look(batch);
            let evidence = self.meter.evidence();
            for pid in batch {
                if let Some(process) = self.roster.processes.get_mut(pid).filter(|process| process.read_at >= begin) {
                    let at = process.read_at;
                    let totals = process.known.mask(process.account.sum());
                    let tasks = process.thread_count;
                    let reading = Reading { subject: Subject::Process(process.key()), at, blur_ns, totals, evidence, tasks, uncounted: 0 };
                    write_process(&mut self.out, process, reading);
                }
            }
        }
    }

    /// Reads a container. Where the answer of one of its processes got lost nothing is written: the sum would be too small.
    pub(super) fn read_container(&mut self, key: ContainerKey, everybody: bool) {
        let Some(cell) = self.roster.cells.get(&key) else { return };
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        let living = |pid: &&u32| self.roster.processes.get(pid).is_some_and(|process| !process.ended);
        members.extend(cell.members.iter().filter(living));
        let any_ended = members.len() < cell.members.len();
        // Before the question: what runs meanwhile is seen at the next one.
        let usage = cell.usage_ns();
        let (taken, complete) = self.look(&members);
        if complete {
            if let Some(cell) = self.roster.cells.get_mut(&key) {
                cell.still.read_fully(usage, taken.at);
            }
            self.write_container(key, taken, everybody);
            self.note_crowd(key, taken.at);
        }
        self.members = members;
        if any_ended {
            self.bury(key);
        }
    }

    /// Whether a container has nothing new to tell, and as of when.
    pub(super) fn stands_still(&self, key: ContainerKey) -> Option<Mono> {
        let at = mono_now();
        let cell = self.roster.cells.get(&key)?;
        cell.still.holds(cell.usage_ns(), at).then_some(at)
    }

    /// Reads a container in the regular course: one that stands still is not asked, its totals are what they were.
    pub(super) fn refresh(&mut self, key: ContainerKey, everybody: bool) {
        match self.stands_still(key) {
            Some(at) => self.write_still(key, at, everybody),
            None => self.read_container(key, everybody),
        }
    }

    /// Writes down what a container that stands still told at its last full reading.
    pub(super) fn write_still(&mut self, key: ContainerKey, at: Mono, everybody: bool) {
        let Roster { cells, processes, .. } = &mut self.roster;
        for pid in cells.get(&key).map(|cell| cell.members.as_slice()).unwrap_or_default() {
            if let Some(process) = processes.get_mut(pid).filter(|process| !process.ended) {
                process.read_at = at;
            }
        }
        self.put_down(key, Taken { at, blur_ns: STILL_BLUR_NS }, everybody);
    }

    /// Lets go of ended processes that are no longer there.
    fn bury(&mut self, key: ContainerKey) {
        let Roster { processes, cells, .. } = &self.roster;
        let over = |pid: &&u32| processes.get(pid).is_some_and(|process| process.ended && !process.handle.alive());
        let buried: Vec<u32> = cells.get(&key).map(|cell| cell.members.iter().filter(over).copied().collect()).unwrap_or_default();
        for pid in buried {
            self.roster.depart(pid);
        }
    }

    pub(super) fn write_container(&mut self, key: ContainerKey, taken: Taken, everybody: bool) {
        let Some(cell) = self.roster.cells.get_mut(&key) else { return };
        let clock = cell.throttled_ns();
        let throttle_moved = cell.account.throttled(clock);
        if let [pid] = cell.members.as_slice()
            && let Some(process) = self.roster.processes.get_mut(pid).filter(|process| !process.ended)
            && (throttle_moved || cell.tasks != process.thread_count)
        {
            // Only for a single task the throttled clock tells of its wait; whether it is one matters only when the clock moved.
            process.thread_count = self.host.stat(*pid).map_or(process.thread_count, |stat| stat.num_threads);
        }
        let processes = &mut self.roster.processes;
        note_known(cell, processes, &self.host);
        let of = |pid: &u32| processes.get(pid).filter(|process| !process.ended);
        cell.tasks = cell.members.iter().filter_map(of).fold(0, |sum: u32, process| sum.saturating_add(process.thread_count.max(1)));
        self.put_down(key, taken, everybody);
    }

    /// Writes the totals of a container as they stand, as of this time.
    fn put_down(&mut self, key: ContainerKey, Taken { at, blur_ns }: Taken, everybody: bool) {
        let evidence = self.meter.evidence();
        let Roster { cells, processes, .. } = &mut self.roster;
        let Some(cell) = cells.get_mut(&key) else { return };
        cell.read_at = at;
        let totals = cell.account.totals(cell.known_of_some);
        let (tasks, uncounted) = (cell.tasks, cell.uncounted);
        let reading = Reading { subject: Subject::Container(key), at, blur_ns, totals, evidence, tasks, uncounted };
        if let Some(born) = cell.born.filter(|born| cell.recorded_at == Mono(0) && *born < at) {
            self.out.push(at_birth(&reading, born));
        }
        cell.recorded_at = at;
        self.out.push(reading);
        for pid in &cell.members {
            if let Some(process) = processes.get_mut(pid)
                && (everybody || process.recorded_at == Mono(0) || process.wanted_until >= at)
            {
                let totals = Totals { throttled_ns: totals.throttled_ns, ..process.known.mask(process.account.sum()) };
                // The throttled clock is the whole cgroup's, so the tasks are too.
                let reading = Reading { subject: Subject::Process(process.key()), totals, uncounted: 0, ..reading };
                write_process(&mut self.out, process, reading);
            }
        }
    }

    /// Asks about some processes and adds up what is new. Answers when that was, and whether all of them answered
    /// or are gone for good.
    pub(super) fn look(&mut self, pids: &[u32]) -> (Taken, bool) {
        let mut doubtful = Vec::new();
        let (mut begin, mut complete) = (mono_now(), false);
        for _ in 0..TRIES {
            doubtful.clear();
            begin = mono_now();
            complete = self.ask(pids, &mut doubtful);
            let fair = u64::try_from(pids.len()).unwrap_or(u64::MAX).saturating_mul(FAIR_EACH_NS).saturating_add(FAIR_NS);
            if mono_now().since(begin) <= fair {
                break;
            }
        }
        if doubtful.is_empty() {
            return (Taken::between(begin, mono_now()), complete);
        }
        // What made the answers doubtful is mostly over before it can be asked again.
        let mut still = Vec::new();
        let others_complete = self.ask(&doubtful, &mut still);
        (Taken::between(begin, mono_now()), complete && others_complete && still.is_empty())
    }

    /// One round of questions; whose answer could not be believed goes into `doubtful`.
    fn ask(&mut self, pids: &[u32], doubtful: &mut Vec<u32>) -> bool {
        let mut looks = std::mem::take(&mut self.looks);
        let begin = mono_now();
        self.asked = self.asked.saturating_add(u64::try_from(pids.len()).unwrap_or(u64::MAX));
        self.meter.read(&self.host, &mut self.roster, pids, &mut looks);
        let asked = Asked { begin, end: mono_now() };
        let Taken { at, .. } = Taken::between(asked.begin, asked.end);
        let mut complete = true;
        for (pid, look) in &looks {
            match look {
                Look::Told { ages_ns: Some(ages), .. } if !self.believes(*pid, *ages, asked) => doubtful.push(*pid),
                Look::Told { totals, .. } => {
                    if !self.take_in(*pid, totals, at) {
                        self.roster.depart(*pid);
                    }
                }
                Look::Gone => self.roster.depart(*pid),
                Look::Missed => complete = false,
            }
        }
        self.looks = looks;
        complete
    }

    /// Whether an answer holds no thread twice.
    fn believes(&mut self, pid: u32, ages_ns: u64, asked: Asked) -> bool {
        let host = &self.host;
        let threads = || host.stat(pid).ok().map(|stat| u64::from(stat.num_threads));
        self.roster.processes.get_mut(&pid).is_none_or(|process| process.ages.believe(ages_ns, asked, threads))
    }

    /// Adds one process's totals; false where it is not the process the question was about.
    fn take_in(&mut self, pid: u32, totals: &Totals, at: Mono) -> bool {
        let Roster { processes, cells, .. } = &mut self.roster;
        let Some(process) = processes.get_mut(&pid) else { return true };
        process.read_at = at;
        if !process.account.unchanged(totals) {
            // The question named a pid; only a process that is still there now can have been the one that answered.
            if !process.handle.alive() {
                return false;
            }
            let growth = process.account.observe(totals);
            self.seen_wait_ns = self.seen_wait_ns.saturating_add(growth.delay_ns.get(DelayKind::Cpu).unwrap_or(0));
            if let Some(cell) = process.container.and_then(|key| cells.get_mut(&key)) {
                cell.account.add(&growth);
            }
            process.seen_other_delays = process.seen_other_delays || others_counted(totals);
        }
        process.known = self.accounting.known(process.born, process.seen_other_delays, totals, self.supplied);
        true
    }
}

/// Notes what the living of a container are known to have waited: all of them, and some. With nobody left it stays as it was.
fn note_known(cell: &mut Cell, processes: &mut HashMap<u32, Process>, host: &Host) {
    let Some((all, some)) = known(&cell.members, processes) else { return };
    let mixed = all.lacks_delay_accounting_of(some);
    let mut uncounted = 0_u32;
    if mixed {
        let few = cell.members.len() <= MOST_COUNTED;
        for pid in &cell.members {
            let Some(process) = processes.get_mut(pid).filter(|process| !process.ended) else { continue };
            if few {
                process.thread_count = host.stat(*pid).map_or(process.thread_count, |stat| stat.num_threads);
            }
            if process.known.lacks_delay_accounting_of(some) {
                uncounted = uncounted.saturating_add(process.thread_count.max(1));
            }
        }
    }
    (cell.known, cell.known_of_some, cell.uncounted) = (all, some, uncounted);
}

/// What is known of every living process, and what is known of some.
fn known(members: &[u32], processes: &HashMap<u32, Process>) -> Option<(Known, Known)> {
    let mut living = members.iter().filter_map(|pid| processes.get(pid)).filter(|process| !process.ended).map(|process| process.known);
    let first = living.next()?;
    let (all, any) = living.fold((first, first), |(all, any), one| (all.and(one), any.with_delay_accounting_of(one)));
    Some((all, all.with_delay_accounting_of(any)))
}

/// Writes a reading of a process down, its birth before it where that was seen.
pub(super) fn write_process(out: &mut Vec<Reading>, process: &mut Process, reading: Reading) {
    if process.from_birth && process.recorded_at == Mono(0) && process.born < reading.at {
        out.push(at_birth(&reading, process.born));
    }
    process.recorded_at = reading.at;
    out.push(reading);
}

/// The reading of somebody who was just born: nothing waited yet.
pub(super) fn at_birth(first: &Reading, born: Mono) -> Reading {
    let mut totals = Known::of(&first.totals).mask(&ZERO);
    totals.throttled_ns = first.totals.throttled_ns.map(|_| 0);
    Reading { at: born, totals, ..*first }
}

/// Whether delay accounting certainly was on for some task of this process.
pub(super) fn others_counted(totals: &Totals) -> bool {
    DelayKind::ALL.into_iter().skip(1).any(|kind| {
        let some = |value: Option<u64>| value.is_some_and(|value| value > 0);
        some(totals.delay_ns.get(kind)) || some(totals.delay_count.get(kind))
    })
}
