//! Births and ends of processes as events tell them: who belongs where, and what is final. Pure.
//!
//! A process is known by pid and time of birth. A birth is told with its time; an exit tells how long the process lived and
//! came between two looks at the socket, so it began within a known span of time: a pid used again confuses nothing.
//!
//! What a process had run and waited in the end (kernel/taskstats.c, `taskstats_exit`):
//! * one that never had a second thread: its only thread's message;
//! * else the last thread's message holds the whole group. Two threads that end at the same time on two CPUs may overtake
//!   each other, and then the group's sum lacks one of them. Each thread has a message of its own, so the sum over those is
//!   kept as well, and the larger of both is true.

use std::collections::HashMap;

use super::account::{ProcessAccount, larger, plus};
use super::ages::Asked;
use crate::host::Exit;
use crate::model::{ContainerKey, Mono, Totals};
use crate::parse::taskstats::TaskDelays;

/// Whoever is being born or ends may be held up on the way, on a crowded machine for long: births are stamped after the start
/// time is taken (kernel/fork.c), and an end is sent after its age is (`taskstats_exit` fills the message in, then sends it).
const HELD_UP_NS: u64 = 500_000_000;
/// Ages are told in microseconds; both clocks are read one after the other.
const ROUNDING_NS: u64 = 1_000_000;
/// `USER_HZ` is 100 everywhere; once more for rounding.
const LONGEST_TICK_NS: u64 = 20_000_000;
/// Processes that are followed at most: births beyond are not, and their ends are charged by what the end itself tells.
const MOST: usize = 1 << 16;
/// Messages of an ended process may come so much later.
const LINGER_NS: u64 = 2_000_000_000;

/// Where a process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody knows.
    #[default]
    Unknown,
    /// Outside of all containers.
    Host,
    /// In this one.
    In(ContainerKey),
}

impl Place {
    /// As the index places it.
    pub(super) fn of(container: Option<ContainerKey>) -> Self {
        container.map_or(Self::Host, Self::In)
    }

    /// Its container.
    pub(super) const fn container(self) -> Option<ContainerKey> {
        match self {
            Self::In(key) => Some(key),
            Self::Host | Self::Unknown => None,
        }
    }
}

/// A process began not before and not after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) from: Mono,
    pub(super) to: Mono,
}

impl Birth {
    /// As the connector tells it.
    pub(super) fn stamped(at: Mono) -> Self {
        Self { from: at.minus(HELD_UP_NS), to: at }
    }

    /// As `/proc/PID/stat` tells it, rounded down to a tick.
    pub(super) fn ticked(at: Mono, tick_ns: u64) -> Self {
        Self { from: at.minus(ROUNDING_NS), to: at.plus(tick_ns).plus(ROUNDING_NS) }
    }

    /// As an exit tells it: it came between two looks at the socket, so long after the birth.
    fn told(age_us: u64, asked: Asked) -> Self {
        let age = age_us.saturating_mul(1_000);
        Self { from: asked.begin.minus(age.saturating_add(ROUNDING_NS)), to: asked.end.minus(age.saturating_sub(ROUNDING_NS)) }
    }

    /// The same where the word of it was sent late.
    fn if_held_up(self) -> Self {
        Self { from: self.from.minus(HELD_UP_NS), ..self }
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// What is known of one process's life.
#[derive(Debug)]
struct Life {
    birth: Birth,
    place: Place,
    /// Once it left the roster, or ended without ever being in it.
    account: Option<Box<ProcessAccount>>,
    /// Sum over those of its threads that ended.
    threads: Option<Box<Totals>>,
    /// When the kernel told its end.
    ended: Option<Mono>,
    /// When it was found gone without word of its end.
    missed: Option<Mono>,
}

impl Life {
    const fn new(birth: Birth, place: Place) -> Self {
        Self { birth, place, account: None, threads: None, ended: None, missed: None }
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) pid: u32,
    pub(super) birth: Birth,
    /// All it ever ran and waited.
    pub(super) totals: Totals,
    /// Its parent at the end.
    pub(super) parent: Option<u32>,
    /// The whole of it is over; before 5.19 this may be its first thread's end alone.
    pub(super) over: bool,
    /// Its end was told before; a thread of it was overtaken.
    pub(super) again: bool,
    /// Its pid was another's so shortly before or after that `/proc` tells the same start time of both.
    pub(super) ambiguous: bool,
}

/// A process of the roster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) birth: Birth,
    /// When it was seen to be there for the first time, at the latest.
    pub(super) at: Mono,
    /// Its end was told.
    pub(super) ended: bool,
}

/// Who left the roster.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) pid: u32,
    pub(super) met: Met,
    pub(super) account: ProcessAccount,
    pub(super) place: Place,
}

/// Everybody whose birth was told, or who ended of late.
#[derive(Debug, Default)]
pub(super) struct Lives {
    by_pid: HashMap<u32, Vec<Life>>,
    count: usize,
}

impl Lives {
    /// A process was born, in its parent's place.
    pub(super) fn born(&mut self, pid: u32, at: Mono, place: Place) {
        self.begin(pid, Life::new(Birth::stamped(at), place));
    }

    fn begin(&mut self, pid: u32, life: Life) -> bool {
        let room = self.count < MOST;
        if room {
            self.by_pid.entry(pid).or_default().push(life);
            self.count = self.count.saturating_add(1);
        }
        room
    }

    /// The living process of this pid was seen to live here.
    pub(super) fn settle(&mut self, pid: u32, place: Place) {
        if let Some(life) = self.by_pid.get_mut(&pid).and_then(|lives| lives.last_mut()).filter(|life| life.ended.is_none()) {
            life.place = place;
        }
    }

    /// Where the last process of this pid lives or lived.
    pub(super) fn place(&self, pid: u32) -> Place {
        self.by_pid.get(&pid).and_then(|lives| lives.last()).map_or(Place::Unknown, |life| life.place)
    }

    /// Where the process that had this pid at an instant lived: by the word of the roster, that met its process of this pid
    /// then, unless another was born in between.
    pub(super) fn place_at(&self, pid: u32, at: Mono, roster: Option<(Mono, Place)>) -> Place {
        let lives = self.by_pid.get(&pid).map(Vec::as_slice).unwrap_or_default();
        let newest = |by: Mono| lives.iter().rposition(|life| life.birth.to <= by);
        let of = newest(at);
        match roster.filter(|(met, _)| newest(*met) == of) {
            Some((_, place)) => place,
            None => of.and_then(|number| lives.get(number)).map_or(Place::Unknown, |life| life.place),
        }
    }

    /// Whether the kernel has told the end of this process: what still shows of it is a zombie.
    pub(super) fn has_ended(&self, pid: u32, birth: Birth) -> bool {
        self.find(pid, Some(birth), false).is_some() && self.find(pid, Some(birth), true).is_none()
    }

    /// A process left the roster: its account waits here for its end, or for a thread that was overtaken, so that nothing is
    /// counted twice. To be told once every birth before it was met is.
    pub(super) fn depart(&mut self, gone: Gone, now: Mono) {
        let Gone { pid, met, account, place } = gone;
        let is_it = |life: &&mut Life| {
            life.ended.is_some() == met.ended && life.account.is_none() && life.birth.to <= met.at && life.birth.meets(met.birth)
        };
        let known = self.by_pid.get_mut(&pid).and_then(|lives| lives.iter_mut().rfind(is_it));
        if let Some(life) = known {
            life.place = place;
            life.account = Some(Box::new(account));
            life.missed.get_or_insert(now);
        } else if !met.ended {
            self.begin(pid, Life { account: Some(Box::new(account)), missed: Some(now), ..Life::new(met.birth, place) });
        }
    }

    /// A thread ended. Answers what is final where its process ended with it, or had ended before.
    pub(super) fn exited(&mut self, exit: &Exit, asked: Asked) -> Option<End> {
        if exit.process.is_none() {
            return self.leader_exited(exit, asked);
        }
        let pid = exit.process?;
        let last = exit.final_totals().map(|(_, totals)| totals_of(totals));
        let told = exit.age_us.map(|age| Birth::told(age, asked));
        let Some(life) = self.life_of(pid, told, last.is_some()) else {
            // There is no room: by itself.
            let birth = told.unwrap_or(Birth { from: Mono(0), to: asked.end });
            return last.map(|totals| End { pid, birth, totals, parent: exit.parent, over: true, again: false, ambiguous: false });
        };
        let mut totals = last;
        if exit.group.is_some() || last.is_none() || life.threads.is_some() {
            let sum = life.threads.get_or_insert_with(Box::default);
            **sum = plus(sum, &totals_of(&exit.thread));
            totals = Some(last.map_or(**sum, |last| larger(&last, sum)));
        }
        let again = life.ended.is_some();
        if last.is_some() {
            life.ended = Some(asked.end);
        }
        life.ended?;
        let birth = life.birth;
        Some(End { pid, birth, totals: totals?, parent: exit.parent, over: true, again, ambiguous: self.is_ambiguous(pid, birth) })
    }

    /// Before 5.19 a message does not tell of which process the thread was, nor whether it was the last one. That of a first
    /// thread is told by its id; it may be only part of what its process waited, never too much.
    fn leader_exited(&mut self, exit: &Exit, asked: Asked) -> Option<End> {
        let told = exit.thread.age_us.map(|age| Birth::told(age, asked));
        let number = self.find(exit.tid, told, true).or_else(|| self.find_held_up(exit.tid, told?, true))?;
        let life = self.by_pid.get_mut(&exit.tid)?.get_mut(number)?;
        let (pid, birth, totals) = (exit.tid, life.birth, totals_of(&exit.thread));
        Some(End { pid, birth, totals, parent: exit.parent, over: false, again: false, ambiguous: self.is_ambiguous(pid, birth) })
    }

    /// Whether several processes of this pid began within the time that `/proc` tells as one.
    fn is_ambiguous(&self, pid: u32, birth: Birth) -> bool {
        let near = Birth { from: birth.from.minus(LONGEST_TICK_NS), to: birth.to.plus(LONGEST_TICK_NS) };
        self.by_pid.get(&pid).is_some_and(|lives| lives.iter().filter(|life| life.birth.meets(near)).count() > 1)
    }

    /// The life an exit is about, begun where its birth was not told. A process ends once: the end of one that has ended is
    /// the end of another with the same pid. All messages of a process come before any of the next one with its pid.
    fn life_of(&mut self, pid: u32, told: Option<Birth>, is_end: bool) -> Option<&mut Life> {
        let (open, over) = (self.find(pid, told, true), self.find(pid, told, false));
        let number = match (open, over, told) {
            (Some(open), None, _) => open,
            (Some(open), Some(_), _) if is_end => open,
            // A thread of either: too little is better than too much.
            (Some(_), Some(_), _) => return None,
            (None, Some(over), _) if !is_end => over,
            (None, _, Some(birth)) => match self.find_held_up(pid, birth, is_end) {
                Some(number) => number,
                None if self.begin(pid, Life::new(birth, Place::Unknown)) => self.by_pid.get(&pid)?.len().checked_sub(1)?,
                None => return None,
            },
            (None, _, None) => return None,
        };
        self.by_pid.get_mut(&pid)?.get_mut(number)
    }

    /// The life of a message that no life fits by the time it came.
    fn find_held_up(&self, pid: u32, told: Birth, is_end: bool) -> Option<usize> {
        let told = Some(told.if_held_up());
        self.find(pid, told, true).or_else(|| self.find(pid, told, false).filter(|_| !is_end))
    }

    /// A life of this pid that began when told: the oldest that goes on, or the newest that is over.
    fn find(&self, pid: u32, told: Option<Birth>, open: bool) -> Option<usize> {
        let fits = |life: &Life| told.is_none_or(|told| life.birth.meets(told)) && life.ended.is_none() == open;
        let lives = self.by_pid.get(&pid)?;
        if open { lives.iter().position(fits) } else { lives.iter().rposition(fits) }
    }

    /// Whether this pid was several processes' of late. Where messages were lost an end may then be anybody's.
    pub(super) fn is_crowded(&self, pid: u32, roster: Option<Birth>) -> bool {
        self.by_pid
            .get(&pid)
            .is_some_and(|lives| lives.len() > 1 || roster.is_some_and(|birth| !lives.iter().any(|life| life.birth.meets(birth))))
    }

    /// Whether an end is that of the roster's process of this pid, which was met then. At any time a pid is one process's: one
    /// met before the exit is the one that ended. One met about then is told by its birth; `goes_on` says whether it lives.
    pub(super) fn is_end_of(&self, end: &End, met: Met, asked: Asked, goes_on: impl FnOnce() -> bool) -> bool {
        if met.ended != end.again || !met.birth.meets(end.birth) {
            return false;
        }
        if met.at < asked.begin && !end.again {
            return true;
        }
        let there = |life: &&Life| life.birth.to <= met.at && life.birth.meets(met.birth);
        match self.by_pid.get(&end.pid).and_then(|lives| lives.iter().rfind(there)).filter(|_| end.ambiguous) {
            Some(newest) => newest.birth == end.birth,
            None => end.again || !goes_on(),
        }
    }

    /// Takes the end of a process that is not in the roster; answers what is new in it and whose it is.
    pub(super) fn charge(&mut self, end: &End, place: impl FnOnce(Place) -> Place) -> (Totals, Place) {
        let life = self.by_pid.get_mut(&end.pid).and_then(|lives| lives.iter_mut().find(|life| life.birth == end.birth));
        let Some(life) = life else {
            return (ProcessAccount::new(true).observe(&end.totals), place(Place::Unknown));
        };
        life.place = place(life.place);
        life.missed = None;
        let account = life.account.get_or_insert_with(|| Box::new(ProcessAccount::new(true)));
        (account.observe(&end.totals), life.place)
    }

    /// Forgets whom no message can be about any more. `pids` are those there are, ascending, as of `listed`. Answers the
    /// containers of processes that were gone without word of their end.
    pub(super) fn forget(&mut self, pids: &[u32], listed: Mono) -> Vec<ContainerKey> {
        let horizon = listed.minus(LINGER_NS);
        let mut missed = Vec::new();
        self.by_pid.retain(|pid, lives| {
            let there = pids.binary_search(pid).is_ok();
            let newest = lives.len();
            let mut number = 0;
            lives.retain(|life| {
                number += 1;
                let gone = !there || number < newest;
                let over = life.ended.or(life.missed).unwrap_or(life.birth.to);
                let keep = !gone || over > horizon;
                if !keep && life.ended.is_none() {
                    missed.extend(life.place.container());
                }
                keep
            });
            !lives.is_empty()
        });
        self.count = self.by_pid.values().map(Vec::len).sum();
        missed
    }
}

/// As readings have them.
pub(super) fn totals_of(told: &TaskDelays) -> Totals {
    Totals { delay_ns: told.delay_ns, delay_count: told.delay_count, run_ns: told.run_ns, throttled_ns: None }
}

#[cfg(test)]
#[path = "lives_tests.rs"]
mod tests;
