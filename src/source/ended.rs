//! Births and ends on their way into the accounts: whose they are, and that each counts once.
//!
//! * A process of the roster: what its end tells goes the way of a reading, over the same high-water mark. It is not asked
//!   any more.
//! * One that left the roster before its end was heard: its account waits in `lives`.
//! * One that nobody ever looked at: all it waited is its container's. That is where it was read to live when it took up its
//!   program, else where its parent lived when it was born.

use std::collections::BTreeSet;

use super::ages::Asked;
use super::exits::{News, Round};
use super::lives::{Birth, End, Gone, Met, Place};
use super::reading::{Taken, others_counted, write_process};
use super::roster::Left;
use super::sampler::Sampler;
use super::sweep::SETTLING_NS;
use crate::model::{ContainerKey, DelayKind, Mono, Reading, Subject, Totals};
use crate::runtime::clock::mono_now;

impl Sampler {
    /// Takes in what was born and what ended.
    pub(super) fn hear(&mut self) {
        let Some(exits) = self.exits.as_ref().filter(|_| self.exits_told.is_none_or(|told| told.is_ok())) else {
            return self.polled_only();
        };
        let rounds = exits.take();
        let (status, lost) = (exits.status(), exits.lost());
        if status.is_some() && status != self.exits_told {
            self.exits_told = status;
            self.replan();
        }
        if rounds.is_empty() {
            return;
        }
        self.know_parents(&rounds);
        let mut touched: BTreeSet<ContainerKey> = BTreeSet::new();
        let (mut received, mut last) = (0_u64, Mono(0));
        for round in rounds {
            for news in round.news {
                self.learn(news);
            }
            last = round.asked.end;
            self.take_leave(last);
            for exit in &round.exits {
                received = received.saturating_add(1);
                if let Some(end) = self.lives.exited(exit, round.asked)
                    && !(round.overrun && self.lives.is_crowded(end.pid, self.birth_in_roster(end.pid)))
                {
                    touched.extend(self.end(&end, round.asked));
                }
            }
            self.heard = round.asked.begin;
            if round.overrun {
                self.overrun(lost, round.asked);
            }
        }
        self.node.count_exits(received, lost);
        for key in touched {
            self.close_if_deserted(key, last);
        }
    }

    /// Nobody tells what those who left had waited since they were last asked.
    fn polled_only(&mut self) {
        let now = mono_now();
        for Left { container, read_at, .. } in std::mem::take(&mut self.roster.left) {
            self.lower_bound(container.into_iter().collect(), read_at, now);
        }
    }

    /// Those who left the roster wait for word of their end. Births until then are known.
    fn take_leave(&mut self, until: Mono) {
        let now = mono_now();
        let (left, later) = std::mem::take(&mut self.roster.left).into_iter().partition(|left: &Left| left.met <= until);
        self.roster.left = later;
        for Left { pid, born, met, account, container, ended, .. } in left {
            let met = Met { birth: Birth::ticked(born, self.tick_ns), at: met, ended };
            self.lives.depart(Gone { pid, met, account, place: Place::of(container) }, now);
        }
    }

    /// Children begin where their parents are: whoever may have moved since the last look is looked at now.
    fn know_parents(&mut self, rounds: &[Round]) {
        let now = mono_now();
        let mut parents: BTreeSet<u32> = BTreeSet::new();
        for news in rounds.iter().flat_map(|round| &round.news) {
            if let News::Born { pid, parent, .. } = news {
                parents.remove(pid);
                parents.insert(*parent);
            }
        }
        let mut news = false;
        for parent in parents {
            match self.roster.processes.get(&parent) {
                Some(process) if process.kernel || process.ended || now.since(process.born) >= SETTLING_NS => {}
                Some(_) => self.renew_home(parent),
                None if self.lives.place(parent) == Place::Unknown => self.take_on(parent),
                None => {}
            }
            news = news || self.roster.processes.get(&parent).is_some_and(|process| process.unplaced);
        }
        if news {
            self.place();
        }
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Born { pid, parent, at } => {
                let place = self.place_of(parent, at);
                self.lives.born(pid, at, place);
            }
            News::Home { pid, home } => {
                let container = self.node.index_mut().place(&home, mono_now());
                self.lives.settle(pid, Place::of(container));
            }
        }
    }

    /// Where a process lived at an instant: by the roster's word, else by its own birth's.
    fn place_of(&self, pid: u32, at: Mono) -> Place {
        let process = self.roster.processes.get(&pid).filter(|process| process.born <= at && !process.unplaced);
        self.lives.place_at(pid, at, process.map(|process| (process.met, Place::of(process.container))))
    }

    /// Takes the end of a process; answers its container.
    fn end(&mut self, end: &End, asked: Asked) -> Option<ContainerKey> {
        let (growth, container) = match self.end_in_roster(end, asked) {
            Some(told) => told,
            None if end.birth.to >= self.started => self.end_outside(end),
            None => return None,
        };
        self.seen_wait_ns = self.seen_wait_ns.saturating_add(growth.delay_ns.get(DelayKind::Cpu).unwrap_or(0));
        let key = container?;
        if !self.roster.cells.contains_key(&key) && self.node.index().is_live(key) {
            self.place();
        }
        self.roster.cells.get_mut(&key)?.account.add(&growth);
        Some(key)
    }

    fn birth_in_roster(&self, pid: u32) -> Option<Birth> {
        self.roster.processes.get(&pid).map(|process| Birth::ticked(process.born, self.tick_ns))
    }

    fn end_in_roster(&mut self, end: &End, asked: Asked) -> Option<(Totals, Option<ContainerKey>)> {
        let (tick_ns, evidence) = (self.tick_ns, self.meter.evidence());
        let process = self.roster.processes.get_mut(&end.pid)?;
        let met = Met { birth: Birth::ticked(process.born, tick_ns), at: process.met, ended: process.ended };
        let goes_on = || process.handle.alive() && self.host.stat(end.pid).is_ok_and(|stat| !stat.is_exiting());
        if !self.lives.is_end_of(end, met, asked, goes_on) {
            return None;
        }
        let growth = process.account.observe(&end.totals);
        process.ended = process.ended || end.over;
        process.seen_other_delays = process.seen_other_delays || others_counted(&end.totals);
        process.known = self.accounting.known(process.born, process.seen_other_delays, &end.totals, self.supplied);
        let container = process.container;
        if container.is_none() && !process.kernel {
            let at = asked.end;
            process.read_at = at;
            let totals = process.known.mask(process.account.sum());
            let tasks = process.thread_count;
            let reading = Reading {
                subject: Subject::Process(process.key()),
                at,
                blur_ns: at.since(asked.begin),
                totals,
                evidence,
                tasks,
                uncounted: 0,
            };
            write_process(&mut self.out, process, reading);
        }
        Some((growth, container))
    }

    fn end_outside(&mut self, end: &End) -> (Totals, Option<ContainerKey>) {
        let by_parent = end.parent.map_or(Place::Unknown, |parent| self.place_of(parent, end.birth.to));
        let (growth, place) = self.lives.charge(end, |known| if known == Place::Unknown { by_parent } else { known });
        if place == Place::Unknown {
            self.node.count_unplaced_exit();
        }
        (growth, place.container())
    }

    /// Of a container in which nobody is left this is the last reading: nothing in its last moments goes uncovered.
    fn close_if_deserted(&mut self, key: ContainerKey, at: Mono) {
        let Some(cell) = self.roster.cells.get_mut(&key) else { return };
        let ended = |pid: &u32| self.roster.processes.get(pid).is_none_or(|process| process.ended);
        if cell.read_at < at && cell.members.iter().all(ended) {
            if let Some(dirs) = &cell.dirs {
                let stat = self.host.cgroup_stat(dirs);
                cell.observe(stat);
            }
            self.write_container(key, Taken { at, blur_ns: 0 }, false);
        }
    }

    /// Forgets whom no word can come of any more. `pids` are those there are, as of `listed`.
    pub(super) fn forget_lives(&mut self, pids: &[u32], listed: Mono) {
        let missed = self.lives.forget(pids, listed.min(self.heard));
        self.lower_bound(missed, self.swept.unwrap_or(self.started), listed);
    }

    /// Some ends are lost; whose is not known.
    fn overrun(&mut self, lost: u64, asked: Asked) {
        tracing::warn!(lost, "ends of processes were lost: the buffer was full, coverage of spans of that time is below 1");
        let everybody: Vec<ContainerKey> = self.roster.cells.keys().copied().collect();
        self.lower_bound(everybody, asked.begin, asked.end);
    }

    /// Something these containers waited in this time is missing.
    fn lower_bound(&self, containers: Vec<ContainerKey>, from: Mono, to: Mono) {
        if containers.is_empty() {
            return;
        }
        let mut history = self.node.history_mut();
        for key in containers {
            history.record_missing(Subject::Container(key), from, to);
        }
    }
}
