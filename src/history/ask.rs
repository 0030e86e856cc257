//! What a span asks: the window of one subject, or of several as one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::chunk::Cut;
use super::clock::Newest;
use super::entry::Entry;
use super::frame::Frame;
use super::merge::merge_onto;
use super::overlay::{Events, USUAL_VIEWS, View, union};
use super::slice::{Near, between_onto, share};
use super::store::Store;
use super::tally::{Blames, Pick, Picks};
use crate::model::{Culprit, DelayKind, Mono, Stall, Subject, Wall, Window};

/// Clocks whose offset did not change agree to this.
const AGREED_NS: u64 = 1_000_000;

/// Of all waiting, a culprit that is named has at least this share.
const LEAST_SHARE: f64 = 0.1;

impl Store {
    /// What happened to a subject between two instants of the wall clock. Missing (zero) or reversed times, a subject
    /// that was never read, and times outside of what is known answer with coverage 0 and nothing known.
    #[must_use]
    pub fn window(&self, subject: Subject, start: Wall, end: Wall) -> Window {
        self.window_of(&[subject], start, end)
    }

    /// The same of several subjects as one, the containers of a pod: what one's waiting has to do with another's
    /// running is taken into account, which no sum of their windows can.
    #[must_use]
    pub fn window_of(&self, subjects: &[Subject], start: Wall, end: Wall) -> Window {
        let mut window = Window::default();
        self.window_onto(&mut window, subjects, start, end);
        window
    }

    /// The same, written over what was told of another span.
    pub fn window_onto(&self, window: &mut Window, subjects: &[Subject], start: Wall, end: Wall) {
        let Some((from, to, agreed)) = self.between(start, end) else { return window.clear() };
        self.window_onto_mono(window, subjects, from, to);
        window.coverage *= agreed;
    }

    /// When that was, and how far the clocks agree on how long it took: of a span across a step of the wall clock nobody knows
    /// whether its sender looked at that or measured how long it took. `None` where it cannot be known when it was, or the clock
    /// skipped all of it.
    fn between(&self, start: Wall, end: Wall) -> Option<(Mono, Mono, f64)> {
        let (from, to) = self.to_mono(start).zip(self.to_mono(end)).filter(|_| start.0 > 0 && start <= end)?;
        let oldest = self.oldest();
        if self.clock.occurred_twice(start, oldest) || self.clock.occurred_twice(end, oldest) {
            return None;
        }
        let (told, was) = (end.since(start), to.since(from));
        let never_was = || self.to_wall(from).is_none_or(|shown| shown.0.abs_diff(start.0) > AGREED_NS);
        if was == 0 && (told > 0 || never_was()) {
            return None;
        }
        let agreed = if told.abs_diff(was) <= AGREED_NS { 1.0 } else { share(told.min(was), told.max(was)) };
        Some((from, to, agreed))
    }

    /// [`Store::window`] between two instants of the readings' own clock.
    #[must_use]
    pub fn window_mono(&self, subject: Subject, start: Mono, end: Mono) -> Window {
        self.window_of_mono(&[subject], start, end)
    }

    /// [`Store::window_of`] between two instants of the readings' own clock.
    #[must_use]
    pub fn window_of_mono(&self, subjects: &[Subject], start: Mono, end: Mono) -> Window {
        let mut window = Window::default();
        self.window_onto_mono(&mut window, subjects, start, end);
        window
    }

    fn window_onto_mono(&self, window: &mut Window, subjects: &[Subject], start: Mono, end: Mono) {
        match subjects {
            _ if start > end => window.clear(),
            [only] => self.one_onto(window, (*only, self.entries.get(only)), start, end, &mut Near::default()),
            several => self.several_onto(window, several, &self.names.keys_of(several), start, end),
        }
    }

    /// For many windows of the same subjects, one after the other: what is the same for all of them is looked up once.
    #[must_use]
    pub fn look<'s>(&'s self, subjects: &'s [Subject]) -> Look<'s> {
        let only = match subjects {
            [only] => Some((*only, self.entries.get(only))),
            _ => None,
        };
        let own = if only.is_some() { Vec::new() } else { self.names.keys_of(subjects) };
        Look { store: self, subjects, own, only, clock: self.clock.newest(), near: Near::default(), asked: false, frame: None }
    }

    /// The same, written where it is wanted.
    fn one_onto(&self, window: &mut Window, (subject, entry): (Subject, Option<&Entry>), start: Mono, end: Mono, near: &mut Near) {
        window.clear();
        if is_unknown(subject, entry) {
            return;
        }
        let polled = entry.is_some_and(|entry| self.polled_onto(window, entry, start, end, near));
        // Before single waits can be known, or where none were ever seen, readings answer at once.
        let known_from = self.known_from(entry);
        if self.sight.is_blind() || known_from > end.0 {
            return;
        }
        let cut = Cut { start: start.0, end: end.0 };
        let sight = (&self.sight, container_of(subject, entry));
        let events = Events::of(polled.then_some(&mut *window), entry.and_then(Entry::single_waits), sight, known_from, cut);
        if let Some(events) = events {
            let mut picks = self.picks();
            events.onto(window, polled, &mut picks);
            self.tell_whose(window, &events, &picks);
        }
    }

    fn picks(&self) -> Picks<'static> {
        Picks::new(self.stalls.most, self.stalls.least_ns, &[])
    }

    fn tell_whose(&self, window: &mut Window, events: &Events<'_>, picks: &Picks<'_>) {
        self.blame(window, |blames| events.blame(blames), &[]);
        self.tell_stalls_of(window, picks);
    }

    /// The windows like this one of somebody of whom something is read.
    fn frame<'s>(
        &'s self,
        window: &Window,
        (subject, entry): (Subject, Option<&'s Entry>),
        between: (Mono, Mono),
        near: &mut Near,
    ) -> Option<Frame<'s>> {
        let sight = (&self.sight, container_of(subject, entry));
        Frame::around(window, entry?, sight, self.known_from(entry), between, near)
    }

    /// What the readings say, onto an empty window; false where they say nothing.
    fn polled_onto(&self, window: &mut Window, entry: &Entry, start: Mono, end: Mono, near: &mut Near) -> bool {
        entry.series.note_asked(self.now);
        let polled = between_onto(window, &entry.series, start, end, near).is_some();
        if polled && entry.lacks_something() {
            let lacking = share(entry.missing(start.0, end.0), end.since(start).max(1));
            window.coverage = (window.coverage - lacking).max(0.0);
        }
        polled
    }

    /// `own`: the numbers under which these run.
    fn several_onto(&self, window: &mut Window, subjects: &[Subject], own: &[u32], start: Mono, end: Mono) {
        let view_of = |subject: &Subject| self.view(*subject, self.entries.get(subject), start, end);
        let mut views: SmallVec<[Option<View<'_>>; USUAL_VIEWS]> = subjects.iter().map(view_of).collect();
        let mut picks = Picks::new(self.stalls.most, self.stalls.least_ns, own);
        merge_onto(window, views.iter_mut().map(|view| view.as_mut().map(|view| view.window(&mut picks)).unwrap_or_default()));
        let seen = || views.iter().flatten().filter(|view| view.has_events());
        if !views.is_empty() && seen().count() == views.len() {
            window.stalled_ns = Some(union(seen().map(View::parts)));
            self.blame(window, |blames| seen().for_each(|view| view.blame(blames)), own);
            self.tell_stalls_of(window, &picks);
        }
    }

    /// What is known of a subject.
    fn view<'s>(&'s self, subject: Subject, entry: Option<&'s Entry>, start: Mono, end: Mono) -> Option<View<'s>> {
        if is_unknown(subject, entry) {
            return None;
        }
        let mut window = Window::default();
        let polled = entry.is_some_and(|entry| self.polled_onto(&mut window, entry, start, end, &mut Near::default()));
        let waits = entry.and_then(|entry| entry.single_waits());
        let sight = (&self.sight, container_of(subject, entry));
        let cut = Cut { start: start.0, end: end.0 };
        Some(View::new(polled.then_some(window), waits, sight, self.known_from(entry), cut))
    }

    /// From when on a subject's single waits are known.
    fn known_from(&self, entry: Option<&Entry>) -> u64 {
        let unseen = entry.is_none_or(|entry| entry.known_from(self.forgotten, self.some_subjects).is_none()) && self.some_subjects;
        if unseen { u64::MAX } else { entry.and_then(Entry::single_waits).map_or(self.forgotten, |waits| waits.known_from()) }
    }

    /// Names the culprit, and counts as own what ran in the scope itself.
    fn blame<'o>(&self, window: &mut Window, all: impl Fn(&mut Blames<'o>), own: &'o [u32]) {
        let waited = window.delay_ns.get(DelayKind::Cpu).unwrap_or(0);
        if waited == 0 {
            return;
        }
        let mut blames = Blames::new(own);
        all(&mut blames);
        if blames.recount() {
            all(&mut blames);
        }
        let moved = blames.own_ns.min(window.neighbor_ns.unwrap_or(0));
        window.neighbor_ns = window.neighbor_ns.map(|ns| ns.saturating_sub(moved));
        window.self_ns = window.self_ns.map(|ns| ns.saturating_add(moved));
        let Some((key, ns)) = blames.largest() else { return };
        let share = share(ns, waited);
        if share >= LEAST_SHARE {
            window.culprit = self.names.name(key).map(|name| Culprit { name: Arc::clone(name), share });
        }
    }

    fn tell_stalls_of(&self, window: &mut Window, picks: &Picks<'_>) {
        let name = |key: Option<u32>| key.and_then(|key| self.names.name(key)).map(Arc::clone);
        let stall = |pick: &Pick| Stall {
            begin: Mono(pick.begin),
            began: Mono(pick.began),
            tid: pick.tid,
            duration_ns: pick.duration,
            kind: pick.kind,
            culprit: name(pick.culprit),
        };
        window.stalls.clear();
        window.stalls.extend(picks.as_slice().iter().map(stall));
    }
}

/// Looks at the same subjects again and again.
#[derive(Debug)]
pub struct Look<'s> {
    store: &'s Store,
    subjects: &'s [Subject],
    /// Of several: the numbers under which they run.
    own: Vec<u32>,
    /// Of one subject alone: what is known of it.
    only: Option<(Subject, Option<&'s Entry>)>,
    clock: Option<Newest>,
    near: Near,
    /// Whether it was asked before: for one window alone a frame does not pay.
    asked: bool,
    frame: Option<Frame<'s>>,
}

impl<'s> Look<'s> {
    /// As [`Store::window_of`].
    pub fn window(&mut self, window: &mut Window, start: Wall, end: Wall) {
        let mono = self.clock.and_then(|clock| Some((clock.to_mono(start)?, clock.to_mono(end)?)));
        match (self.only, mono) {
            (Some(only), Some((from, to))) if start.0 > 0 && from <= to => self.one_onto(window, only, from, to),
            (None, Some((from, to))) if start.0 > 0 && from <= to => self.store.several_onto(window, self.subjects, &self.own, from, to),
            _ => self.store.window_onto(window, self.subjects, start, end),
        }
    }

    fn one_onto(&mut self, window: &mut Window, only: (Subject, Option<&'s Entry>), start: Mono, end: Mono) {
        let frame = self.frame.as_ref().filter(|frame| frame.holds(start, end));
        if let Some(same) = frame.and_then(Frame::same) {
            if let Some(events) = same.onto(window, start, end) {
                let mut picks = self.store.picks();
                events.cpu_onto(window, &mut picks);
                self.store.tell_whose(window, &events, &picks);
            }
            return;
        }
        let known = frame.is_some();
        self.store.one_onto(window, only, start, end, &mut self.near);
        if std::mem::replace(&mut self.asked, true) && !known {
            self.frame = self.store.frame(window, only, (start, end), &mut self.near);
        }
    }

    /// As [`Store::to_wall`].
    #[must_use]
    pub fn wall(&self, instant: Mono) -> Option<Wall> {
        self.store.to_wall(instant)
    }

    /// Everything else.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }
}

/// Whether nothing can be told. A task of which nothing is known never waited, where all waits are seen.
fn is_unknown(subject: Subject, entry: Option<&Entry>) -> bool {
    entry.is_none() && !matches!(subject, Subject::Task(_))
}

/// Of whom something has to be lost for it to be lost of this subject.
fn container_of(subject: Subject, entry: Option<&Entry>) -> Option<Subject> {
    match subject {
        Subject::Container(_) => Some(subject),
        Subject::Process(_) | Subject::Task(_) => entry.and_then(|entry| entry.container),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::Settings;
    use crate::model::{ContainerKey, CulpritKey, EventFields, Evidence, Reading, TaskKey, Totals, Wait};

    const MS: u64 = 1_000_000;
    const CONTAINER: Subject = Subject::Container(ContainerKey(1));
    const TASK: Subject = Subject::Task(TaskKey { tid: 5, start_ticks: 9 });
    const ALL: EventFields = EventFields { throttled: true, culprits: true, memory: true, some_subjects: false };

    fn empty() -> Store {
        Store::new(Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory: 8 << 20 })
    }

    /// Readings from 1 000 to 2 000 ms with a CPU wait that grows by a tenth of the time, of four tasks.
    fn read(store: &mut Store) {
        for tenth in 10..=20u64 {
            let mut totals = Totals { throttled_ns: Some(tenth), ..Totals::default() };
            totals.delay_ns.set(DelayKind::Cpu, Some(tenth * 10 * MS));
            totals.delay_ns.set(DelayKind::Reclaim, Some(tenth * MS));
            let at = Mono(tenth * 100 * MS);
            store.record(Reading { subject: CONTAINER, at, totals, evidence: Evidence::Taskstats, tasks: 4, uncounted: 0, blur_ns: 0 });
        }
    }

    fn wait(begin_ms: u64, end_ms: u64) -> Wait {
        Wait::new(5, DelayKind::Cpu, Mono(begin_ms * MS), Mono(end_ms * MS))
    }

    fn window(store: &Store, subject: Subject, start_ms: u64, end_ms: u64) -> Window {
        store.window_mono(subject, Mono(start_ms * MS), Mono(end_ms * MS))
    }

    #[test]
    fn what_readings_lack_is_told_as_coverage_and_their_delays_stay() {
        let mut store = empty();
        read(&mut store);
        store.record_missing(CONTAINER, Mono(1_100 * MS), Mono(1_300 * MS));
        store.record_missing(CONTAINER, Mono(1_200 * MS), Mono(1_400 * MS));
        let check = |start, end, coverage: f64| {
            let window = window(&store, CONTAINER, start, end);
            assert!((window.coverage - coverage).abs() < 1e-9, "{window:?}");
            assert_eq!(window.delay_ns.get(DelayKind::Cpu), Some((end - start) / 10 * MS));
        };
        check(1_000, 2_000, 0.7);
        check(1_500, 2_000, 1.0);
        check(1_100, 1_300, 0.0);
        check(1_350, 1_450, 0.5);
    }

    #[test]
    fn readings_answer_where_too_little_was_seen() {
        let mut store = empty();
        store.events_begin(Mono(1_500 * MS), ALL);
        store.events_until(Mono(1_900 * MS));
        store.record_lost(Mono(1_600 * MS), Mono(1_700 * MS));
        read(&mut store);
        let told = |start, end| {
            let window = window(&store, CONTAINER, start, end);
            (window.evidence, window.coverage, window.resolution_ns / MS, window.stalled_ns)
        };
        assert_eq!(told(1_000, 1_500), (Some(Evidence::Taskstats), 1.0, 100, None), "before");
        assert_eq!(told(1_410, 1_590), (Some(Evidence::Bpf), 0.5, 100, Some(0)), "half of it");
        assert_eq!(told(1_409, 1_590), (Some(Evidence::Taskstats), 1.0, 100, None), "less than half");
        assert_eq!(told(1_500, 1_600), (Some(Evidence::Bpf), 1.0, 0, Some(0)), "all");
        assert_eq!(told(1_600, 1_700), (Some(Evidence::Taskstats), 0.5, 100, None), "all lost");
        assert_eq!(told(1_500, 1_900), (Some(Evidence::Bpf), 0.75, 100, Some(0)), "a quarter lost");
        assert_eq!(told(1_950, 1_980), (Some(Evidence::Taskstats), 1.0, 100, None), "not told yet");
    }

    #[test]
    fn what_is_lost_of_a_container_is_lost_of_its_threads_and_of_nobody_else() {
        const OTHER: Subject = Subject::Container(ContainerKey(2));
        let mut store = empty();
        store.events_begin(Mono(0), EventFields { some_subjects: true, ..ALL });
        for container in [CONTAINER, OTHER] {
            store.sees(container, Mono(1));
        }
        let (Subject::Task(mine), his) = (TASK, TaskKey { tid: 6, start_ticks: 9 }) else { unreachable!() };
        assert!(store.sees_thread(mine, CONTAINER, Mono(1)) && store.sees_thread(his, OTHER, Mono(1)));
        store.sees_within(Subject::Process(crate::model::ProcessKey { pid: 7, start_ticks: 1 }), OTHER, Mono(1));
        store.record_lost_of(CONTAINER, Mono(500 * MS), Mono(600 * MS));
        store.events_until(Mono(1_000 * MS));
        let coverage = |subject| window(&store, subject, 500, 700).coverage;
        assert_eq!([coverage(CONTAINER), coverage(TASK)], [0.5, 0.5]);
        assert_eq!([coverage(OTHER), coverage(Subject::Task(his))], [1.0, 1.0]);
        assert_eq!(coverage(Subject::Process(crate::model::ProcessKey { pid: 7, start_ticks: 1 })), 1.0);
    }

    #[test]
    fn single_waits_and_readings_stand_side_by_side() {
        let mut store = empty();
        store.events_begin(Mono(0), ALL);
        read(&mut store);
        store.events_until(Mono(3_000 * MS));
        store.record_wait(&[CONTAINER], wait(1_120, 1_125));
        let within = window(&store, CONTAINER, 1_100, 1_200);
        assert_eq!((within.delay_ns.get(DelayKind::Cpu), within.stalled_ns), (Some(10 * MS), Some(5 * MS)));
        assert_eq!((within.delay_ns.get(DelayKind::Reclaim), within.delay_ns.get(DelayKind::BlockIo)), (Some(MS), None));
        assert_eq!((within.throttled_ns, within.throttled_clock_ns), (Some(0), Some(1)));
        let beyond = window(&store, CONTAINER, 1_900, 2_300);
        assert_eq!((beyond.coverage, beyond.delay_ns.get(DelayKind::Reclaim), beyond.throttled_clock_ns), (1.0, Some(MS), None));
    }

    #[test]
    fn what_the_source_does_not_see_is_absent_or_as_it_was_read() {
        let mut store = empty();
        store.events_begin(Mono(0), EventFields::default());
        read(&mut store);
        store.events_until(Mono(3_000 * MS));
        let container = window(&store, CONTAINER, 1_100, 1_200);
        assert_eq!((container.throttled_ns, container.neighbor_ns, container.self_ns), (None, None, None));
        assert_eq!(container.delay_ns.get(DelayKind::Reclaim), Some(MS));
        assert_eq!(window(&store, TASK, 1_100, 1_200).delay_ns.known().collect::<Vec<_>>(), [(DelayKind::Cpu, 0)]);
    }

    #[test]
    fn nobody_knows_a_container_never_told_of_but_a_task_never_waited() {
        let mut store = empty();
        assert_eq!(window(&store, TASK, 1, 2), Window::default());
        store.events_begin(Mono(0), ALL);
        store.events_until(Mono(1_000 * MS));
        assert_eq!(window(&store, CONTAINER, 1, 2), Window::default());
        let task = window(&store, TASK, 1, 2);
        assert_eq!((task.delay_ns.get(DelayKind::Cpu), task.coverage, task.longest_wait_ns), (Some(0), 1.0, Some(0)));
        store.record_wait(&[TASK], wait(500, 600));
        store.expire(Mono(130_000 * MS));
        assert_eq!(window(&store, TASK, 500, 600), Window::default(), "out of history");
    }

    #[test]
    fn a_culprit_has_a_name_and_a_tenth() {
        let mut store = empty();
        store.events_begin(Mono(0), ALL);
        store.events_until(Mono(5_000 * MS));
        store.culprit_name(CulpritKey(3), "cron", None);
        for (begin, length, key, ns) in [(100, 100, 3, 10 * MS), (300, 100, 3, 10 * MS - 1), (500, 100, 4, 90 * MS)] {
            let mut one = wait(begin, begin + length);
            one.blame(CulpritKey(key), ns);
            store.record_wait(&[TASK], one);
        }
        let culprit = |start, end| window(&store, TASK, start, end).culprit.map(|culprit| (culprit.name, culprit.share));
        assert_eq!(culprit(100, 200), Some(("cron".into(), 0.1)));
        assert_eq!((culprit(300, 400), culprit(500, 600)), (None, None));
        let stall = |start, end| window(&store, TASK, start, end).stalls[0].culprit.clone();
        assert_eq!((stall(150, 180), stall(500, 600)), (Some("cron".into()), None));
    }

    #[test]
    fn a_wait_of_minutes_keeps_its_length_and_nearly_its_parts() {
        let mut store = empty();
        store.events_begin(Mono(0), ALL);
        store.events_until(Mono(500_000 * MS));
        let mut long = wait(1_000, 101_000);
        (long.throttled_ns, long.self_ns) = (40_000 * MS + 1, 20_000 * MS + 1);
        long.blame(CulpritKey(1), 40_000 * MS - 2);
        store.record_wait(&[TASK], long);
        let window = window(&store, TASK, 0, 200_000);
        assert_eq!((window.stalled_ns, window.longest_wait_ns), (Some(100_000 * MS), Some(100_000 * MS)));
        for (part, truth) in [(window.throttled_ns, 40_000 * MS), (window.self_ns, 20_000 * MS), (window.neighbor_ns, 40_000 * MS)] {
            assert!(part.unwrap().abs_diff(truth) < 50, "{part:?} {truth}");
        }
    }

    #[test]
    fn a_wait_takes_less_than_forty_eight_bytes() {
        let mut store = empty();
        let before = store.memory();
        for number in 0..10_000 {
            let mut one = wait(number * 10, number * 10 + 15);
            one.blame(CulpritKey(u32::try_from(number % 5).unwrap()), 5 * MS);
            store.record_wait(&[TASK], one);
        }
        let each = (store.memory() - before) / 10_000;
        assert!(each < 48, "{each} bytes");
    }

    #[test]
    fn of_a_pod_one_of_whose_containers_is_not_seen_only_sums_are_told() {
        let mut store = empty();
        store.events_begin(Mono(0), ALL);
        store.events_until(Mono(3_000 * MS));
        store.record_wait(&[TASK], wait(1_100, 1_150));
        let pod = |store: &Store| store.window_of_mono(&[TASK, CONTAINER], Mono(1_100 * MS), Mono(1_200 * MS));
        assert_eq!((pod(&store).coverage, pod(&store).stalled_ns), (0.0, None));
        read(&mut store);
        let both = pod(&store);
        assert_eq!((both.stalled_ns, both.delay_ns.get(DelayKind::Cpu)), (Some(50 * MS), Some(60 * MS)));
    }
}
