//! Who is being watched: processes by pid, containers by key, and which of them sent spans of late.

use std::collections::HashMap;

use super::above::HeldBack;
use super::account::{ContainerAccount, Known, ProcessAccount};
use super::ages::Ages;
use super::still::Still;
use super::threads::Threads;
use crate::containers::Home;
use crate::host::{CgroupDirs, ProcessHandle};
use crate::model::{CgroupStat, ContainerKey, Mono, ProcessKey, Subject, Totals, Wall};

/// One process.
pub(super) struct Process {
    /// Answers for this very process, whoever has its pid later.
    pub(super) handle: ProcessHandle,
    pub(super) account: ProcessAccount,
    pub(super) ages: Ages,
    pub(super) born: Mono,
    /// When it was taken in.
    pub(super) met: Mono,
    /// Born under the agent's eyes.
    pub(super) from_birth: bool,
    /// Kernel threads hold their pid and nothing else.
    pub(super) kernel: bool,
    /// The kernel told its end: what still shows of it is a zombie, and is not asked any more.
    pub(super) ended: bool,
    pub(super) home: Option<Home>,
    pub(super) ns_pids: Vec<u32>,
    /// Its home or the index changed: to be placed.
    pub(super) unplaced: bool,
    /// As the index places it.
    pub(super) container: Option<ContainerKey>,
    /// Threads of it, where they are summed one by one.
    pub(super) threads: Threads,
    pub(super) thread_count: u32,
    /// Some delay of it other than for a CPU is not 0.
    pub(super) seen_other_delays: bool,
    pub(super) known: Known,
    /// Until when every reading of it is recorded: a span named it.
    pub(super) wanted_until: Mono,
    /// Time of the last reading of it that was recorded; 0 is never.
    pub(super) recorded_at: Mono,
    pub(super) read_at: Mono,
}

impl Process {
    pub(super) fn key(&self) -> ProcessKey {
        self.handle.key()
    }
}

/// One container.
pub(super) struct Cell {
    pub(super) account: ContainerAccount,
    /// Pids of its living processes.
    pub(super) members: Vec<u32>,
    pub(super) dirs: Option<CgroupDirs>,
    /// When it began, where that was under the agent's eyes.
    pub(super) born: Option<Mono>,
    /// When its counters began.
    pub(super) since: Wall,
    pub(super) tasks: u32,
    /// What is known of every task of it.
    pub(super) known: Known,
    /// What is known of some task of it.
    pub(super) known_of_some: Known,
    /// Tasks of which only `known` is known.
    pub(super) uncounted: u32,
    /// Time of the last reading of it that was recorded; 0 is never.
    pub(super) recorded_at: Mono,
    pub(super) read_at: Mono,
    /// What its cgroup files said last; stays when they are gone.
    pub(super) stat: CgroupStat,
    /// How long quotas above held it back, where only their own clocks tell.
    pub(super) held_back: HeldBack,
    /// Whether it stands still.
    pub(super) still: Still,
    /// CPU time of its cgroup when its counters began.
    pub(super) usage_base: Option<u64>,
}

impl Cell {
    /// Takes what its cgroup files say; nothing where they are gone, and what they said last is their final word.
    pub(super) fn observe(&mut self, stat: CgroupStat) {
        if stat == CgroupStat::default() {
            return;
        }
        if self.usage_base.is_none() {
            self.usage_base = if self.born.is_some() { Some(0) } else { stat.cpu_usage_ns };
        }
        self.stat = stat;
    }

    /// CPU time of its cgroup now; `None` where that is not counted, or its directories are not known.
    pub(super) fn usage_ns(&self) -> Option<u64> {
        self.dirs.as_ref().and_then(CgroupDirs::usage_ns)
    }

    /// Time throttled by its own and all quotas above it, as far as that is known, ns.
    pub(super) fn throttled_ns(&mut self) -> Option<u64> {
        let dirs = self.dirs.as_ref()?;
        let throttle = dirs.throttle();
        if throttle.local_ns.is_some() {
            return throttle.local_ns;
        }
        let above = self.held_back.observe(dirs.usage_ns(), dirs.above());
        Some(throttle.own_ns?.saturating_add(above?))
    }

    /// Its totals. An ending thread is told without what it ran since the last tick, which for short-lived ones is much; its
    /// cgroup has counted all of it.
    pub(super) fn totals(&self) -> Totals {
        let totals = self.account.totals(self.known);
        let used = self.stat.cpu_usage_ns.zip(self.usage_base).map(|(usage, base)| usage.saturating_sub(base));
        Totals { run_ns: totals.run_ns.map(|run| run.max(used.unwrap_or(0))), ..totals }
    }
}

/// What is read at once and at the same rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Group {
    /// The processes of a container.
    Container(ContainerKey),
    /// One process outside of all containers.
    Lone(u32),
}

/// Who left the roster.
pub(super) struct Left {
    pub(super) pid: u32,
    pub(super) born: Mono,
    pub(super) met: Mono,
    pub(super) account: ProcessAccount,
    pub(super) container: Option<ContainerKey>,
    /// The kernel has told the end.
    pub(super) ended: bool,
    pub(super) read_at: Mono,
}

/// Everybody.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) processes: HashMap<u32, Process>,
    pub(super) cells: HashMap<ContainerKey, Cell>,
    /// Groups that sent spans, until when they count as active.
    pub(super) active: HashMap<Group, Mono>,
    /// Processes that ended and of which the index was not told yet.
    pub(super) gone: Vec<ProcessKey>,
    /// Who left since ends were last heard of.
    pub(super) left: Vec<Left>,
}

impl Roster {
    /// The living process of this key.
    pub(super) fn process(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key.pid).filter(|process| process.key() == key)
    }

    /// Where a process is read: with its container, or alone.
    pub(super) fn group_of(&self, pid: u32, container: Option<ContainerKey>) -> Group {
        match container {
            Some(key) if self.cells.contains_key(&key) => Group::Container(key),
            _ => Group::Lone(pid),
        }
    }

    /// Whom to read for a subject.
    pub(super) fn group(&self, subject: Subject) -> Option<Group> {
        match subject {
            Subject::Container(key) => self.cells.contains_key(&key).then_some(Group::Container(key)),
            Subject::Process(key) => self.process(key).map(|process| self.group_of(key.pid, process.container)),
            Subject::Task(_) => None,
        }
    }

    /// A span named this subject: it is active until then.
    pub(super) fn want(&mut self, subject: Subject, until: Mono) {
        let Some(group) = self.group(subject) else { return };
        if let Subject::Process(key) = subject
            && let Some(process) = self.processes.get_mut(&key.pid)
        {
            process.wanted_until = process.wanted_until.max(until);
        }
        let active = self.active.entry(group).or_insert(until);
        *active = until.max(*active);
    }

    /// When the group was last read.
    pub(super) fn read_at(&self, group: Group) -> Mono {
        match group {
            Group::Container(key) => self.cells.get(&key).map_or(Mono(0), |cell| cell.read_at),
            Group::Lone(pid) => self.processes.get(&pid).map_or(Mono(0), |process| process.read_at),
        }
    }

    /// When a reading of this very subject was last recorded; `None` where there is nobody to read.
    pub(super) fn recorded_at(&self, subject: Subject) -> Option<Mono> {
        match subject {
            Subject::Container(key) => self.cells.get(&key).map(|cell| cell.recorded_at),
            Subject::Process(key) => self.process(key).map(|process| process.recorded_at),
            Subject::Task(_) => None,
        }
    }

    /// Takes out a process that ended; its container keeps what it waited.
    pub(super) fn depart(&mut self, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else { return };
        self.leave(pid, process.container);
        self.active.remove(&Group::Lone(pid));
        let Process { born, met, account, container, ended, read_at, .. } = process;
        self.left.push(Left { pid, born, met, account, container, ended, read_at });
        if !process.kernel {
            self.gone.push(process.key());
        }
    }

    /// Moves a process to where the index places it.
    pub(super) fn settle(&mut self, pid: u32, container: Option<ContainerKey>, now: Mono) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let before = std::mem::replace(&mut process.container, container);
        if before != container {
            self.leave(pid, before);
        }
        if let Some(cell) = container.and_then(|key| self.cells.get_mut(&key))
            && let Err(place) = cell.members.binary_search(&pid)
        {
            cell.members.insert(place, pid);
            cell.still.shake(now);
        }
    }

    fn leave(&mut self, pid: u32, container: Option<ContainerKey>) {
        if let Some(cell) = container.and_then(|key| self.cells.get_mut(&key))
            && let Ok(place) = cell.members.binary_search(&pid)
        {
            cell.members.remove(place);
        }
    }
}
