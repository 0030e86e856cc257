//! A node in small: processes of several threads in three containers, few pids used again and again, a kernel that tells
//! births and ends, and a roster that looks now and then, by the rules of `ended`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::DelayKind;

const MS: u64 = 1_000_000;
const TICK: u64 = 10 * MS;

fn waited(ns: u64) -> TaskDelays {
    let mut told = TaskDelays { version: 16, run_ns: Some(2 * ns), ..TaskDelays::default() };
    told.delay_ns.set(DelayKind::Cpu, Some(ns));
    told
}

fn cpu(totals: &Totals) -> u64 {
    totals.delay_ns.get(DelayKind::Cpu).unwrap_or(0)
}

fn asked(begin_ms: u64, end_ms: u64) -> Asked {
    Asked { begin: Mono(begin_ms * MS), end: Mono(end_ms * MS) }
}

/// The end of a process of one thread.
fn single(pid: u32, parent: u32, age_ms: u64, wait: u64) -> Exit {
    let age_us = Some(age_ms * 1_000);
    Exit { tid: pid, process: Some(pid), parent: Some(parent), age_us, last: Some(true), thread: waited(wait), group: None }
}

const A: Place = Place::In(ContainerKey(1));
const B: Place = Place::In(ContainerKey(2));

#[test]
fn a_child_lives_where_its_parent_did_and_ends_once() {
    let mut lives = Lives::default();
    lives.born(9, Mono(100 * MS), A);
    let end = lives.exited(&single(9, 1, 20, 7), asked(110, 125)).unwrap();
    let (growth, place) = lives.charge(&end, |known| known);
    assert_eq!((cpu(&growth), place), (7, A));
    assert!(lives.has_ended(9, Birth::ticked(Mono(100 * MS), TICK)));
    let (again, _) = lives.charge(&end, |known| known);
    assert_eq!(cpu(&again), 0, "the same word twice");
}

#[test]
fn a_pid_given_again_at_once_is_another_life() {
    let mut lives = Lives::default();
    lives.born(9, Mono(100 * MS), A);
    lives.born(9, Mono(103 * MS), B);
    for (age, wait, expected) in [(2, 7, A), (3, 8, B)] {
        let end = lives.exited(&single(9, 1, age, wait), asked(99, 107)).unwrap();
        let (growth, place) = lives.charge(&end, |known| known);
        assert_eq!((cpu(&growth), place), (wait, expected));
    }
}

#[test]
fn one_that_was_held_up_between_its_last_word_and_its_sending_is_still_itself() {
    for held_up_ms in [0, 2, 50, 400] {
        let mut lives = Lives::default();
        lives.born(9, Mono(100 * MS), A);
        // It filled its message in at the age of 20 ms, and the sampler looked before that came.
        let end = lives.exited(&single(9, 1, 20, 7), asked(120 + held_up_ms, 130 + held_up_ms)).unwrap();
        let (growth, place) = lives.charge(&end, |known| known);
        assert_eq!((cpu(&growth), place, end.birth), (7, A, Birth::stamped(Mono(100 * MS))), "{held_up_ms} ms");
        assert_eq!(lives.count, 1, "{held_up_ms} ms");
    }
}

#[test]
fn ten_thousand_reuses_of_one_pid_between_two_containers_are_told_apart() {
    let (mut lives, mut sums, mut now) = (Lives::default(), [0_u64; 2], 1_000_000_u64);
    for number in 0..10_000_u64 {
        let at = usize::from(number % 3 == 0);
        let (place, wait, life_us) = ([A, B][at], 1 + number % 7 + 1_000_000 * at as u64, 200 + number % 900);
        lives.born(77, Mono(now), place);
        let begin = Mono(now.saturating_sub(2 * MS));
        now += life_us * 1_000;
        let exit = Exit { age_us: Some(life_us), ..single(77, 1, 0, wait) };
        now += 50_000;
        let end = lives.exited(&exit, Asked { begin, end: Mono(now) }).unwrap();
        let (growth, found) = lives.charge(&end, |known| known);
        assert_eq!((found, cpu(&growth)), (place, wait), "{number}");
        sums[at] += cpu(&growth);
        if number % 500 == 0 {
            let _missed = lives.forget(&[77], Mono(now));
        }
    }
    assert!(sums[0] < 6_667 * 8 && sums[1] >= 3_334 * 1_000_000);
    let _missed = lives.forget(&[], Mono(now + 3 * LINGER_NS));
    assert_eq!(lives.count, 0, "all are forgotten");
}

#[test]
fn an_account_that_left_the_roster_is_not_counted_again() {
    let mut lives = Lives::default();
    let mut account = ProcessAccount::new(true);
    account.observe(&totals_of(&waited(5)));
    let met = Met { birth: Birth::ticked(Mono(100 * MS), TICK), at: Mono(150 * MS), ended: false };
    lives.depart(Gone { pid: 9, met, account, place: A }, Mono(300 * MS));
    let end = lives.exited(&single(9, 1, 200, 7), asked(295, 305)).unwrap();
    let (growth, place) = lives.charge(&end, |known| known);
    assert_eq!((cpu(&growth), place), (2, A));
}

#[test]
fn threads_that_overtake_each_other_at_the_end_both_count() {
    let mut lives = Lives::default();
    lives.born(9, Mono(100 * MS), A);
    let thread = |tid, wait, last, group| Exit { tid, last: Some(last), thread: waited(wait), group, ..single(9, 1, 50, 0) };
    assert!(lives.exited(&thread(10, 30, false, None), asked(140, 160)).is_none());
    // The group's sum lacks thread 11, which is told only later.
    let end = lives.exited(&thread(9, 5, true, Some(waited(35))), asked(140, 160)).unwrap();
    let first = cpu(&lives.charge(&end, |known| known).0);
    let end = lives.exited(&thread(11, 7, false, None), asked(140, 160)).unwrap();
    let late = cpu(&lives.charge(&end, |known| known).0);
    assert_eq!((first, late), (35, 7));
}

#[test]
fn who_is_gone_without_a_word_is_told_once_and_forgotten() {
    let mut lives = Lives::default();
    lives.born(9, Mono(100 * MS), A);
    lives.born(10, Mono(100 * MS), B);
    assert_eq!(lives.forget(&[10], Mono(101 * MS)), [], "its end may still come");
    assert_eq!(lives.forget(&[10], Mono(200 * MS + LINGER_NS)), [ContainerKey(1)]);
    assert_eq!(lives.forget(&[10], Mono(300 * MS + LINGER_NS)), []);
    assert_eq!((lives.place(9), lives.place(10)), (Place::Unknown, B));
}

#[test]
fn before_5_19_the_end_of_a_first_thread_is_a_lower_bound() {
    let mut lives = Lives::default();
    lives.born(9, Mono(100 * MS), A);
    let mut thread = waited(7);
    thread.age_us = Some(20_000);
    let exit = Exit { process: None, age_us: None, last: None, thread, ..single(9, 1, 0, 0) };
    let end = lives.exited(&exit, asked(110, 125)).unwrap();
    assert!(!end.over);
    assert_eq!(cpu(&lives.charge(&end, |known| known).0), 7);
    assert!(lives.exited(&Exit { tid: 10, ..exit }, asked(110, 125)).is_none(), "whose thread that was is not told");
}

/// A process as the kernel knows it.
#[derive(Clone, Debug)]
struct Task {
    born: u64,
    place: u64,
    /// What its living threads waited, by thread id.
    threads: BTreeMap<u32, u64>,
    /// What its ended threads waited.
    saved: u64,
    zombie: bool,
    several: bool,
}

#[derive(Debug)]
struct Watched {
    /// What its handle knows.
    born: u64,
    met: u64,
    birth: Birth,
    account: ProcessAccount,
    place: u64,
    ended: bool,
}

/// Pids for all that end.
const PIDS: u32 = 8;

#[derive(Default)]
struct World {
    now: u64,
    next_tid: u32,
    last_pid: u32,
    kernel: BTreeMap<u32, Task>,
    truth: BTreeMap<u64, u64>,
    births: Vec<(u32, u32, u64)>,
    exits: Vec<Exit>,
    lossy: bool,
    lost: bool,
    steps: u32,
    // The agent.
    since: u64,
    lives: Lives,
    roster: BTreeMap<u32, Watched>,
    left: Vec<(u32, Watched)>,
    counted: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Fork(u8),
    Thread(u8),
    Wait(u8, u8),
    EndThread(u8),
    End(u8, bool),
    Reap(u8),
    Poll,
    Round,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Fork),
        2 => any::<u8>().prop_map(Step::Thread),
        6 => (any::<u8>(), 1..50_u8).prop_map(|(who, ns)| Step::Wait(who, ns)),
        1 => any::<u8>().prop_map(Step::EndThread),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(who, late)| Step::End(who, late)),
        4 => any::<u8>().prop_map(Step::Reap),
        2 => Just(Step::Poll),
        2 => Just(Step::Round),
        1 => Just(Step::Lose),
    ]
}

impl World {
    fn new(lossy: bool) -> Self {
        let mut world = Self { now: 1_000 * MS, next_tid: 1_000, lossy, since: 1_000 * MS, ..Self::default() };
        // One process in each container that never ends.
        for pid in 1..=3 {
            world.birth(pid, u64::from(pid), None);
        }
        world.poll();
        world
    }

    fn birth(&mut self, pid: u32, place: u64, parent: Option<u32>) {
        let task = Task { born: self.now, place, threads: BTreeMap::from([(pid, 0)]), saved: 0, zombie: false, several: false };
        self.kernel.insert(pid, task);
        self.births.extend(parent.map(|parent| (pid, parent, self.now)));
    }

    /// A process by a random number: one that may end, or any.
    fn pick(&self, who: u8, mortal: bool) -> Option<u32> {
        let there: Vec<u32> =
            self.kernel.iter().filter(|(pid, task)| !task.zombie && (!mortal || **pid > 3)).map(|(pid, _)| *pid).collect();
        there.get(usize::from(who) % there.len().max(1)).copied()
    }

    fn step(&mut self, step: &Step) {
        // Forced, a pid can come back within a third of a millisecond; by itself, with losses, only after many rounds.
        self.now += if self.lossy { 1_200 * MS } else { MS / 3 };
        self.steps += 1;
        if self.steps.is_multiple_of(if self.lossy { 1 } else { 8 }) {
            self.round();
        }
        match step {
            Step::Fork(who) => {
                // As the kernel does (idr_alloc_cyclic in kernel/pid.c): the next free one. Here they come around after eight.
                let free = (1..=PIDS).map(|ahead| 4 + (self.last_pid + ahead) % PIDS).find(|pid| !self.kernel.contains_key(pid));
                let (Some(parent), Some(pid)) = (self.pick(*who, false), free) else { return };
                self.last_pid = pid - 4;
                self.birth(pid, self.kernel[&parent].place, Some(parent));
            }
            Step::Thread(who) => {
                self.next_tid += 1;
                if let Some(task) = self.pick(*who, true).and_then(|pid| self.kernel.get_mut(&pid)) {
                    task.several = true;
                    task.threads.insert(self.next_tid, 0);
                }
            }
            Step::Wait(who, ns) => {
                if let Some(task) = self.pick(*who, false).and_then(|pid| self.kernel.get_mut(&pid)) {
                    let number = usize::from(*who) % task.threads.len();
                    *task.threads.values_mut().nth(number).unwrap() += u64::from(*ns);
                    *self.truth.entry(task.place).or_default() += u64::from(*ns);
                }
            }
            Step::EndThread(who) => {
                if let Some(pid) = self.pick(*who, true).filter(|pid| self.kernel[pid].threads.len() > 1) {
                    self.end_thread(pid, false);
                }
            }
            Step::End(who, late) => {
                if let Some(pid) = self.pick(*who, true) {
                    self.end(pid, *late);
                }
            }
            Step::Reap(who) => {
                let zombies: Vec<u32> = self.kernel.iter().filter(|(_, task)| task.zombie).map(|(pid, _)| *pid).collect();
                if let Some(pid) = zombies.get(usize::from(*who) % zombies.len().max(1)) {
                    self.kernel.remove(pid);
                }
            }
            Step::Poll => self.poll(),
            Step::Round => self.round(),
            Step::Lose => {
                if self.lossy {
                    self.lost = true;
                    self.exits.pop();
                    self.births.pop();
                }
            }
        }
    }

    /// The last thread of the list ends.
    fn end_thread(&mut self, pid: u32, is_last: bool) -> u64 {
        let now = self.now;
        let task = self.kernel.get_mut(&pid).unwrap();
        let (tid, wait) = task.threads.pop_last().unwrap();
        task.saved += wait;
        let group = (is_last && task.several).then(|| waited(task.saved));
        self.exits.push(Exit {
            tid,
            process: Some(pid),
            parent: Some(1),
            age_us: Some((now - task.born) / 1_000),
            last: Some(is_last),
            thread: waited(wait),
            group,
        });
        wait
    }

    /// All threads end; `late`: the last one but one overtakes the last.
    fn end(&mut self, pid: u32, late: bool) {
        while self.kernel[&pid].threads.len() > 1 {
            self.end_thread(pid, false);
        }
        self.end_thread(pid, true);
        self.kernel.get_mut(&pid).unwrap().zombie = true;
        let count = self.exits.len();
        if late && self.kernel[&pid].several && count >= 2 && self.exits[count - 2].process == Some(pid) {
            let missing = cpu(&totals_of(&self.exits[count - 2].thread));
            let last = &mut self.exits[count - 1];
            let group = cpu(&totals_of(last.group.as_ref().unwrap()));
            last.group = Some(waited(group - missing));
            self.exits.swap(count - 1, count - 2);
            // Were its pid given again at once, nobody could tell whose the late thread was.
            self.round();
        }
    }

    fn count(&mut self, place: u64, growth: &Totals) {
        *self.counted.entry(place).or_default() += cpu(growth);
        assert_eq!(growth.run_ns.unwrap_or(0), 2 * cpu(growth), "both grow together");
    }

    fn poll(&mut self) {
        let gone: Vec<u32> = self.roster.keys().filter(|pid| !self.is_it(**pid)).copied().collect();
        for pid in gone {
            let left = self.roster.remove(&pid).unwrap();
            self.left.push((pid, left));
        }
        for (pid, task) in self.kernel.clone() {
            let birth = Birth::ticked(Mono(task.born / TICK * TICK), TICK);
            if !self.roster.contains_key(&pid) {
                // All it ever waited is told by its end.
                if task.zombie {
                    continue;
                }
                self.roster.insert(
                    pid,
                    Watched { born: task.born, met: self.now, birth, account: ProcessAccount::new(true), place: task.place, ended: false },
                );
            }
            let watched = self.roster.get_mut(&pid).unwrap();
            if !watched.ended {
                let told = if task.zombie && !task.several { 0 } else { task.saved + task.threads.values().sum::<u64>() };
                let growth = watched.account.observe(&totals_of(&waited(told)));
                let place = watched.place;
                self.count(place, &growth);
            }
        }
    }

    /// Whether the kernel's process of this pid is still the roster's.
    fn is_it(&self, pid: u32) -> bool {
        self.kernel.get(&pid).is_some_and(|task| task.born == self.roster[&pid].born)
    }

    fn round(&mut self) {
        let asked = Asked { begin: Mono(self.since), end: Mono(self.now) };
        self.since = self.now;
        let lost = std::mem::take(&mut self.lost);
        for (pid, parent, at) in std::mem::take(&mut self.births) {
            let watched = self.roster.get(&parent).filter(|watched| watched.birth.from <= Mono(at));
            let met = watched.map(|watched| (Mono(watched.met), Place::In(ContainerKey(watched.place))));
            let place = self.lives.place_at(parent, Mono(at), met);
            self.lives.born(pid, Mono(at), place);
        }
        for (pid, Watched { birth, met, account, place, ended, .. }) in std::mem::take(&mut self.left) {
            let met = Met { birth, at: Mono(met), ended };
            self.lives.depart(Gone { pid, met, account, place: Place::In(ContainerKey(place)) }, Mono(self.now));
        }
        for exit in std::mem::take(&mut self.exits) {
            let Some(end) = self.lives.exited(&exit, asked) else { continue };
            if lost && self.lives.is_crowded(end.pid, self.roster.get(&end.pid).map(|watched| watched.birth)) {
                continue;
            }
            let is_it = |watched: &&mut Watched| {
                let met = Met { birth: watched.birth, at: Mono(watched.met), ended: watched.ended };
                let goes_on = || self.kernel.get(&end.pid).is_some_and(|task| task.born == watched.born && !task.zombie);
                self.lives.is_end_of(&end, met, asked, goes_on)
            };
            match self.roster.get_mut(&end.pid).filter(is_it) {
                Some(watched) => {
                    watched.ended = true;
                    let (growth, place) = (watched.account.observe(&end.totals), watched.place);
                    self.count(place, &growth);
                }
                None => {
                    let (growth, place) = self.lives.charge(&end, |known| known);
                    self.count(place.container().map_or(0, |key| key.0), &growth);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn sums_are_true_whatever_the_order_of_births_looks_and_ends(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new(false);
        for step in &steps {
            world.step(step);
        }
        world.round();
        world.poll();
        let expected: BTreeMap<u64, u64> = world.truth.iter().filter(|(_, ns)| **ns > 0).map(|(place, ns)| (*place, *ns)).collect();
        world.counted.retain(|_, ns| *ns > 0);
        prop_assert_eq!(&world.counted, &expected);
    }

    #[test]
    fn what_is_lost_is_missing_and_nothing_is_counted_twice(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new(true);
        for step in &steps {
            world.step(step);
        }
        world.round();
        world.poll();
        let sum = |of: &BTreeMap<u64, u64>| of.values().sum::<u64>();
        prop_assert!(sum(&world.counted) <= sum(&world.truth), "{:?} of {:?}", world.counted, world.truth);
    }
}
