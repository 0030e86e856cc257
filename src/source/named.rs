//! Which threads the numbers on spans mean. Pure.
//!
//! A span names a thread by the id it has in the sender's own pid namespace; such a number is given again to others. So a
//! thread is known by where it lives, its own number, and from when to when it lived: a span's start decides.

use std::collections::{HashMap, VecDeque};

use crate::model::{Mono, ProcessKey, Subject, TaskKey};

/// Most threads known at once, dead ones included; of further ones only the process or container is told.
pub(super) const MAX_THREADS: usize = 4_096;
/// How long a number that was not found is not looked for again.
const MISSED_NS: u64 = 1_000_000_000;
/// Most of those remembered; past it all are forgotten, which costs looks and nothing else.
const MAX_MISSED: usize = 4_096;

/// One thread's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    task: TaskKey,
    process: ProcessKey,
    born: Mono,
    died: Option<Mono>,
}

/// Threads by where they live and by their own number.
#[derive(Debug, Default)]
pub struct NamedThreads {
    lives: HashMap<(Subject, u32), Vec<Life>>,
    /// The places of every thread, so that it can be taken out.
    homes: HashMap<TaskKey, Home>,
    dead: VecDeque<(Mono, TaskKey)>,
    missed: HashMap<(Subject, u32), Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    process: ProcessKey,
    container: Option<Subject>,
    own_tid: u32,
}

impl Home {
    fn places(&self) -> impl Iterator<Item = (Subject, u32)> + use<> {
        let own_tid = self.own_tid;
        [Some(Subject::Process(self.process)), self.container].into_iter().flatten().map(move |place| (place, own_tid))
    }
}

impl NamedThreads {
    /// The thread that these numbers mean to somebody whose span began at `start`; `None` where none does, or several do.
    #[must_use]
    pub fn find(&self, within: &[Subject], own_tid: u32, start: Mono) -> Option<TaskKey> {
        let lives = within.iter().filter_map(|subject| self.lives.get(&(*subject, own_tid))).flatten();
        let mut found: Option<Life> = None;
        for life in lives.filter(|life| life.born <= start && life.died.is_none_or(|died| start < died)) {
            match found {
                // Two processes of one container may stand in pid namespaces of their own.
                Some(other) if other.process != life.process => return None,
                Some(other) if other.born >= life.born => {}
                _ => found = Some(*life),
            }
        }
        found.map(|life| life.task)
    }

    /// Whether anybody alive has this number there.
    pub(super) fn lives(&self, within: Subject, own_tid: u32) -> impl Iterator<Item = TaskKey> + '_ {
        let lives = self.lives.get(&(within, own_tid)).into_iter().flatten();
        lives.filter(|life| life.died.is_none()).map(|life| life.task)
    }

    /// Whether this number was looked for in vain a moment ago.
    pub(super) fn was_missed(&self, within: Subject, own_tid: u32, now: Mono) -> bool {
        self.missed.get(&(within, own_tid)).is_some_and(|then| now.since(*then) < MISSED_NS)
    }

    /// Notes that nobody has this number there.
    pub(super) fn miss(&mut self, within: Subject, own_tid: u32, now: Mono) {
        if self.missed.len() >= MAX_MISSED {
            self.missed.clear();
        }
        self.missed.insert((within, own_tid), now);
    }

    /// Notes a thread that was met; `false` where there is no room.
    pub(super) fn met(&mut self, task: TaskKey, process: ProcessKey, container: Option<Subject>, own_tid: u32, born: Mono) -> bool {
        if self.homes.contains_key(&task) {
            return true;
        }
        if self.homes.len() >= MAX_THREADS && !self.forget_oldest_dead() {
            return false;
        }
        let home = Home { process, container, own_tid };
        for place in home.places() {
            self.missed.remove(&place);
            self.lives.entry(place).or_default().push(Life { task, process, born, died: None });
        }
        self.homes.insert(task, home);
        true
    }

    /// Notes that a thread is gone.
    pub(super) fn gone(&mut self, task: TaskKey, now: Mono) {
        let Some(home) = self.homes.get(&task).copied() else { return };
        let mut was_alive = false;
        for place in home.places() {
            let lives = self.lives.get_mut(&place).into_iter().flatten();
            for life in lives.filter(|life| life.task == task && life.died.is_none()) {
                life.died = Some(now);
                was_alive = true;
            }
        }
        if was_alive {
            self.dead.push_back((now, task));
        }
    }

    /// Takes a thread out that is no longer watched.
    pub(super) fn forget(&mut self, task: TaskKey) {
        let Some(home) = self.homes.remove(&task) else { return };
        for place in home.places() {
            if let Some(lives) = self.lives.get_mut(&place) {
                lives.retain(|life| life.task != task);
                if lives.is_empty() {
                    self.lives.remove(&place);
                }
            }
        }
    }

    /// Forgets threads that died before `horizon`.
    pub(super) fn sweep(&mut self, horizon: Mono) {
        while self.dead.front().is_some_and(|(died, _)| *died < horizon) {
            self.forget_oldest_dead();
        }
    }

    fn forget_oldest_dead(&mut self) -> bool {
        let Some((_, task)) = self.dead.pop_front() else { return false };
        self.forget(task);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerKey;

    const CONTAINER: Subject = Subject::Container(ContainerKey(1));

    fn process(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 1 }
    }

    fn task(tid: u32, start_ticks: u64) -> TaskKey {
        TaskKey { tid, start_ticks }
    }

    /// `(host tid, process, own tid, born, died)`
    fn known(threads: &[(u32, u32, u32, u64, Option<u64>)]) -> NamedThreads {
        let mut named = NamedThreads::default();
        for (tid, pid, own_tid, born, died) in threads {
            let task = task(*tid, *born);
            assert!(named.met(task, process(*pid), Some(CONTAINER), *own_tid, Mono(*born)));
            if let Some(died) = died {
                named.gone(task, Mono(*died));
            }
        }
        named
    }

    #[track_caller]
    fn check(named: &NamedThreads, within: Subject, own_tid: u32, start: u64, expected: Option<(u32, u64)>) {
        let expected = expected.map(|(tid, born)| task(tid, born));
        assert_eq!(named.find(&[within], own_tid, Mono(start)), expected, "{own_tid} at {start}");
    }

    #[test]
    fn a_thread_is_found_by_its_own_number_in_process_and_container() {
        let named = known(&[(1007, 1000, 7, 100, None), (1008, 1000, 8, 100, None)]);
        for within in [CONTAINER, Subject::Process(process(1000))] {
            check(&named, within, 7, 200, Some((1007, 100)));
            check(&named, within, 1007, 200, None);
        }
        check(&named, Subject::Process(process(1)), 7, 200, None);
        check(&named, Subject::Container(ContainerKey(2)), 7, 200, None);
    }

    #[test]
    fn a_number_used_again_means_who_had_it_when_the_span_began() {
        let named = known(&[(1007, 1000, 7, 100, Some(300)), (1007, 1000, 7, 400, None)]);
        check(&named, CONTAINER, 7, 99, None);
        check(&named, CONTAINER, 7, 299, Some((1007, 100)));
        check(&named, CONTAINER, 7, 350, None);
        check(&named, CONTAINER, 7, 400, Some((1007, 400)));
        // The death of the first was noticed late.
        let named = known(&[(1007, 1000, 7, 100, Some(450)), (1007, 1000, 7, 400, None)]);
        check(&named, CONTAINER, 7, 420, Some((1007, 400)));
        check(&named, CONTAINER, 7, 399, Some((1007, 100)));
    }

    #[test]
    fn two_processes_with_one_number_are_not_told_apart_in_their_container() {
        let named = known(&[(1007, 1000, 7, 100, None), (2007, 2000, 7, 100, None)]);
        check(&named, CONTAINER, 7, 200, None);
        check(&named, Subject::Process(process(2000)), 7, 200, Some((2007, 100)));
    }

    #[test]
    fn who_is_not_there_is_not_looked_for_at_once_again() {
        let mut named = known(&[]);
        assert!(!named.was_missed(CONTAINER, 7, Mono(5)));
        named.miss(CONTAINER, 7, Mono(5));
        assert!(named.was_missed(CONTAINER, 7, Mono(5 + MISSED_NS - 1)) && !named.was_missed(CONTAINER, 7, Mono(5 + MISSED_NS)));
        assert!(named.met(task(9, 6), process(1), Some(CONTAINER), 7, Mono(6)));
        assert!(!named.was_missed(CONTAINER, 7, Mono(6)));
    }

    #[test]
    fn the_living_are_kept_and_the_dead_make_room() {
        let mut named = NamedThreads::default();
        let tid = |number: usize| u32::try_from(number).unwrap() + 1;
        for number in 0..MAX_THREADS {
            assert!(named.met(task(tid(number), 1), process(1), None, tid(number), Mono(1)));
        }
        assert!(!named.met(task(0, 1), process(1), None, 0, Mono(1)));
        named.gone(task(5, 1), Mono(2));
        assert!(named.met(task(0, 1), process(1), None, 0, Mono(1)));
        assert_eq!(named.find(&[Subject::Process(process(1))], 5, Mono(1)), None);
        named.gone(task(6, 1), Mono(3));
        named.sweep(Mono(4));
        named.forget(task(7, 1));
        assert_eq!((named.homes.len(), named.lives.len()), (MAX_THREADS - 2, MAX_THREADS - 2));
    }
}
