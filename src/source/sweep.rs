//! Who is there: new processes are taken in, gone ones let go, all placed in their containers.

use std::collections::HashSet;

use super::above::HeldBack;
use super::account::{ContainerAccount, Known, ProcessAccount};
use super::ages::Ages;
use super::lives::Birth;
use super::roster::{Cell, Group, Process};
use super::sampler::Sampler;
use super::still::Still;
use super::threads::Threads;
use crate::containers::Home;
use crate::host::{HostError, ProcessHandle};
use crate::model::{CgroupStat, Container, ContainerKey, Mono, Wall};
use crate::runtime::clock::{boot_now, both_now, mono_now, wall_now};
use std::sync::Arc;

/// A younger process is looked at in every sweep: a runtime starts a container's first process outside and moves it in.
pub(super) const SETTLING_NS: u64 = 5_000_000_000;
/// Being born takes microseconds, unless the parent is held up in it. Some kernels tell of nobody whether it ever ran
/// (`sched_info_on` before 5.14).
const BEING_BORN_NS: u64 = 1_000_000_000;

impl Sampler {
    /// Compares the processes there are with those known. `thorough`: also looks whether
    /// older ones moved, or are others by now.
    pub(super) fn sweep(&mut self, thorough: bool) {
        self.hear();
        let listed = mono_now();
        let mut pids = std::mem::take(&mut self.pids);
        match self.host.pids(&mut pids) {
            Ok(()) => {
                self.compare(&pids, thorough);
                self.forget_lives(&pids, listed);
            }
            Err(error) => tracing::warn!(%error, "processes could not be listed"),
        }
        self.pids = pids;
        self.renew_homes(thorough);
        self.place();
        self.swept = Some(mono_now());
    }

    /// A pid that was given again between two looks is found by the thorough one, and by any reading of the process.
    fn compare(&mut self, pids: &[u32], thorough: bool) {
        let alive = |pid: &u32, process: &Process| pids.binary_search(pid).is_ok() && (!thorough || process.handle.alive());
        let gone: Vec<u32> = self.roster.processes.iter().filter(|(pid, process)| !alive(pid, process)).map(|(pid, _)| *pid).collect();
        for pid in gone {
            self.roster.depart(pid);
        }
        for pid in pids {
            self.take_on(*pid);
        }
    }

    /// Takes in a process if it is new.
    pub(super) fn take_on(&mut self, pid: u32) {
        if !self.roster.processes.contains_key(&pid) {
            match self.meet(pid) {
                Ok(Some(process)) => {
                    self.roster.processes.insert(pid, process);
                }
                Ok(None) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => tracing::debug!(%error, pid, "a process could not be read"),
            }
        }
    }

    /// Everything about a new process; `None` where it ended meanwhile, so that what was read may be another's, or where it
    /// cannot be told yet, or any more, where it lives: whoever is told its birth or its end knows.
    fn meet(&self, pid: u32) -> Result<Option<Process>, HostError> {
        let handle = self.host.attach(pid)?;
        let met = mono_now();
        let stat = handle.born();
        let (kernel, thread_count) = (stat.is_kernel_thread(), stat.num_threads);
        let born = self.birth(handle.key().start_ticks);
        let from_birth = self.began.is_some_and(|began| born.plus(self.tick_ns) >= began);
        let (home, ns_pids) = if kernel {
            (None, Vec::new())
        } else {
            let Some(home) = self.first_home(&handle, met.since(born))? else { return Ok(None) };
            (Some(home), self.host.namespace_pids(pid).unwrap_or_default())
        };
        if self.is_over(pid, born)? {
            return Ok(None);
        }
        let process = Process {
            account: ProcessAccount::new(from_birth),
            ages: if from_birth { Ages::from_birth(born) } else { Ages::default() },
            born,
            met,
            from_birth,
            kernel,
            ended: false,
            home,
            ns_pids,
            unplaced: true,
            container: None,
            threads: Threads::default(),
            thread_count,
            seen_other_delays: false,
            known: Known::new([false; 8], false),
            wanted_until: Mono(0),
            recorded_at: Mono(0),
            read_at: Mono(0),
            handle,
        };
        Ok(process.handle.alive().then_some(process))
    }

    /// Where a new process lives. `/proc` shows a child in the root of every hierarchy until its parent has put it into its own
    /// cgroups (`cgroup_post_fork`, the last thing before it first runs, kernel/fork.c): taken at its word, it would be the
    /// host's, and what it waits nobody's.
    fn first_home(&self, handle: &ProcessHandle, age_ns: u64) -> Result<Option<Home>, HostError> {
        // In this order: who had run before is in its place.
        let newborn = age_ns < BEING_BORN_NS && handle.main_schedstat().is_ok_and(|told| told.timeslices == 0);
        let home = Home::of(&self.host.memberships(handle.key().pid)?);
        Ok((!newborn || !home.is_root()).then_some(home))
    }

    /// Whether only a rest of a process is there. A v1 hierarchy shows one that is ending in its root; to be asked after its
    /// home was. Who is not ending cannot be the one whose end was told: then the pid is another's.
    fn is_over(&self, pid: u32, born: Mono) -> Result<bool, HostError> {
        let stat = self.host.stat(pid)?;
        // The first thread may end long before the others.
        Ok(stat.is_exiting() && (stat.num_threads <= 1 || self.lives.has_ended(pid, Birth::ticked(born, self.tick_ns))))
    }

    /// A start time on the clock of readings. The kernel rounds it down to a tick.
    fn birth(&self, start_ticks: u64) -> Mono {
        let suspended = boot_now().saturating_sub(mono_now().0);
        Mono(start_ticks.saturating_mul(self.tick_ns).saturating_sub(suspended))
    }

    /// Processes in the cgroup of a container that is read often are found at once, not at the next sweep. True where
    /// one was new, or was known to live elsewhere.
    pub(super) fn find_new_members(&mut self, key: ContainerKey) -> bool {
        let mut pids = std::mem::take(&mut self.pids);
        let dirs = self.roster.cells.get(&key).and_then(|cell| cell.dirs.as_ref());
        let listed = dirs.is_some_and(|dirs| self.host.cgroup_pids(dirs, &mut pids).is_ok());
        let mut news = false;
        if listed {
            for pid in &pids {
                let known = self.roster.processes.get(pid).map(|process| process.container);
                if known == Some(Some(key)) {
                    continue;
                }
                match known {
                    None => self.take_on(*pid),
                    Some(_) => self.renew_home(*pid),
                }
                news = true;
            }
        }
        self.pids = pids;
        news
    }

    fn renew_homes(&mut self, thorough: bool) {
        let now = mono_now();
        let looked_at = |process: &Process| !process.kernel && (thorough || now.since(process.born) < SETTLING_NS);
        let pids: Vec<u32> =
            self.roster.processes.iter().filter(|(_, process)| !process.unplaced && looked_at(process)).map(|(pid, _)| *pid).collect();
        for pid in pids {
            self.renew_home(pid);
        }
    }

    /// Looks where a process lives by now. A v1 hierarchy shows an exiting one in its root (`proc_cgroup_show` in
    /// kernel/cgroup/cgroup.c), already before it is a zombie: that is no move.
    pub(super) fn renew_home(&mut self, pid: u32) {
        let Ok(memberships) = self.host.memberships(pid) else { return };
        let home = Some(Home::of(&memberships));
        if let Some(process) = self.roster.processes.get_mut(&pid)
            && process.home != home
            && process.handle.alive()
            && !self.host.stat(pid).is_ok_and(|stat| stat.is_exiting())
        {
            process.home = home;
            process.unplaced = true;
        }
    }

    /// Tells the index who came and went, and takes its word on who lives where.
    pub(super) fn place(&mut self) {
        let now = mono_now();
        let node = Arc::clone(&self.node);
        let mut moves: Vec<(u32, Option<ContainerKey>)> = Vec::new();
        let live: Vec<Arc<Container>>;
        {
            let mut index = node.index_mut();
            for process in self.roster.gone.drain(..) {
                index.process_gone(process, now);
            }
            // Placing may itself make a container and so change where others belong: then everybody is placed once more.
            for _ in 0..2 {
                let everybody = index.placement_epoch() != self.epoch;
                self.epoch = index.placement_epoch();
                for (pid, process) in &mut self.roster.processes {
                    if let Some(home) = process.home.as_ref().filter(|_| everybody || process.unplaced) {
                        let container = index.place(home, now);
                        index.process_seen(process.handle.key(), container, &process.ns_pids);
                        process.unplaced = false;
                        moves.push((*pid, container));
                    }
                }
            }
            index.sweep(now);
            live = index.live().filter(|container| !container.sandbox).map(Arc::clone).collect();
        }
        self.open_cells(&live, &moves, now);
        for (pid, container) in moves {
            self.roster.settle(pid, container, now);
        }
        self.close_cells(&live);
        self.attach_cgroups(&live);
        if let Some(feed) = &mut self.feed {
            feed.enroll(&self.roster, &node.index(), self.controller.as_deref(), wall_now());
        }
    }

    fn open_cells(&mut self, live: &[Arc<Container>], moves: &[(u32, Option<ContainerKey>)], now: Mono) {
        for container in live {
            if self.roster.cells.contains_key(&container.key) {
                continue;
            }
            let members = moves.iter().filter(|(_, placed)| *placed == Some(container.key));
            let processes = members.filter_map(|(pid, _)| self.roster.processes.get(pid)).map(|process| (process.from_birth, process.born));
            let (all_new, born) = processes.fold((true, now), |(all, born), (new, at)| (all && new, born.min(at)));
            let from_birth = all_new && born < now && self.began.is_some();
            let (mono, wall) = both_now();
            let since = if from_birth { Wall(wall.0.saturating_sub(mono.since(born))) } else { wall };
            let cell = Cell {
                account: ContainerAccount::new(from_birth),
                members: Vec::new(),
                dirs: None,
                born: from_birth.then_some(born),
                since,
                tasks: 0,
                known: self.supplied.without_delay_accounting(),
                known_of_some: self.supplied.without_delay_accounting(),
                uncounted: 0,
                recorded_at: Mono(0),
                read_at: Mono(0),
                stat: CgroupStat::default(),
                held_back: HeldBack::default(),
                still: Still::default(),
                usage_base: None,
            };
            self.roster.cells.insert(container.key, cell);
            if container.started.is_none() && born < now {
                // No runtime tells when it began: its oldest process does.
                self.node.index_mut().began(container.key, Wall(wall.0.saturating_sub(mono.since(born))));
            }
        }
    }

    /// Lets go of containers that ended and have no process left, with their final totals; and of those that turned out to be sandboxes.
    fn close_cells(&mut self, live: &[Arc<Container>]) {
        let live: HashSet<ContainerKey> = live.iter().map(|container| container.key).collect();
        let lingers = |cell: &Cell| !cell.members.is_empty();
        let ended: Vec<ContainerKey> =
            self.roster.cells.iter().filter(|(key, cell)| !live.contains(key) && !lingers(cell)).map(|(key, _)| *key).collect();
        if let Some(feed) = self.feed.as_mut().filter(|_| !ended.is_empty()) {
            feed.observe(wall_now());
        }
        for key in ended {
            self.roster.active.remove(&Group::Container(key));
            let container = self.node.index().container(key).map(Arc::clone);
            if let (Some(cell), Some(container)) = (self.roster.cells.remove(&key), container)
                && !container.sandbox
            {
                self.finished.push(self.told(&cell, &container));
            }
        }
    }

    /// Finds the cgroup directories of containers that have none yet, and reads them once, so that even a short life has them.
    fn attach_cgroups(&mut self, live: &[Arc<Container>]) {
        let controller = self.controller.as_deref();
        for container in live {
            // A runtime moves its first process into one hierarchy after the other: the one that names containers may come late.
            let unfinished = |cell: &&mut Cell| cell.dirs.as_ref().is_none_or(|dirs| dirs.inode(controller).is_none());
            let Some(cell) = self.roster.cells.get_mut(&container.key).filter(unfinished) else { continue };
            let Some(memberships) = cell.members.first().and_then(|pid| self.host.memberships(*pid).ok()) else { continue };
            let dirs = self.host.cgroup_dirs(&memberships, &container.id);
            if !dirs.is_empty() {
                cell.observe(self.host.cgroup_stat(&dirs));
                cell.dirs = Some(dirs);
            }
        }
    }
}
