//! All subjects under one budget.

use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::clock::Clock;
use super::entry::Entry;
use super::names::Names;
use super::sight::Sight;
use crate::model::{CulpritKey, EventFields, Mono, OpenWait, Reading, Subject, TaskKey, Wait, Wall};

/// Readings nearer together than this are thinned: requests may ask for readings thousands of times a second.
pub const MIN_SPACING: Duration = Duration::from_millis(2);

/// Bytes of the budget per subject: more subjects than the budget has of these are not kept.
const BYTES_PER_SUBJECT: usize = 1024;

/// Part of the budget freed at once when it is exceeded, so that eviction is rare.
const HEADROOM_PART: usize = 16;

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long readings are kept (`sources.history.retention`).
    pub retention: Duration,
    /// Intended distance of readings (`sources.history.resolution`); thinning never touches readings this far apart.
    pub resolution: Duration,
    /// Bytes for all readings and single waits (`sources.history.memory_limit_mib`).
    pub memory: usize,
}

/// Which single waits a window tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallSettings {
    /// Most of one window; never more than 128.
    pub most: usize,
    /// Shortest, ns.
    pub least_ns: u64,
}

impl Default for StallSettings {
    /// The contract's: at most 8, of at least 1 ms.
    fn default() -> Self {
        Self { most: 8, least_ns: 1_000_000 }
    }
}

/// The readings and single waits of every subject.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    pub(super) stalls: StallSettings,
    pub(super) entries: HashMap<Subject, Entry>,
    pub(super) clock: Clock,
    pub(super) sight: Sight,
    pub(super) names: Names,
    /// Only subjects told of are seen by the event source.
    pub(super) some_subjects: bool,
    /// Heap of all entries, bytes.
    heap: usize,
    /// Newest instant seen: the age of readings is measured from it.
    pub(super) now: u64,
    /// Until when there was anything of a subject that had to be forgotten.
    pub(super) forgotten: u64,
}

impl Store {
    /// An empty history.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            stalls: StallSettings::default(),
            entries: HashMap::new(),
            clock: Clock::default(),
            sight: Sight::default(),
            names: Names::default(),
            some_subjects: false,
            heap: 0,
            now: 0,
            forgotten: 0,
        }
    }

    /// Which single waits windows tell from now on.
    pub fn tell_stalls(&mut self, stalls: StallSettings) {
        self.stalls = stalls;
    }

    /// Before it, nothing is kept.
    pub(super) fn oldest(&self) -> Mono {
        Mono(self.now.saturating_sub(nanoseconds(self.settings.retention)))
    }

    /// Adds a reading. A subject's first one is its baseline. One that is not newer than the subject's newest is ignored.
    pub fn record(&mut self, reading: Reading) {
        let spacing = nanoseconds(MIN_SPACING.min(self.settings.resolution));
        let cutoff = reading.at.0.saturating_sub(nanoseconds(self.settings.retention));
        let (live, forgotten, some_subjects) = (self.sight.is_live(), self.forgotten, self.some_subjects);
        self.change(reading.subject, reading.at, |entry| {
            let events = entry.known_from(forgotten, some_subjects).filter(|_| live);
            entry.record(&reading, spacing, cutoff, events);
        });
    }

    /// An event source begins to see all waits that end after `at`, over its floor. What it sees of each is told by `fields`.
    pub fn events_begin(&mut self, at: Mono, fields: EventFields) {
        self.some_subjects = fields.some_subjects;
        self.sight.begin(at.0, fields);
    }

    /// From `at` on the event source sees this subject's waits. To be told where it does not see everybody's
    /// ([`EventFields::some_subjects`]); until then its waits are known from readings only. The first word stands.
    pub fn sees(&mut self, subject: Subject, at: Mono) {
        self.change(subject, at, |entry| {
            entry.seen.get_or_insert(at.0);
        });
    }

    /// The same of a process in a container: what is lost of that one is lost of it.
    pub fn sees_within(&mut self, subject: Subject, container: Subject, at: Mono) {
        self.change(subject, at, |entry| {
            entry.seen.get_or_insert(at.0);
            entry.container = Some(container);
        });
    }

    /// Whether this subject was told as seen, and has not been dropped since: then it has to be told again.
    #[must_use]
    pub fn is_seen(&self, subject: Subject) -> bool {
        self.entries.get(&subject).is_some_and(|entry| entry.seen.is_some())
    }

    /// A thread's waits are told as its own from now on. Those of the past are taken from what is known of the container
    /// or process that it belongs to: of a number that others had before, only what began after `born`. False where the waits of
    /// that one are not seen themselves, or not yet.
    pub fn sees_thread(&mut self, thread: TaskKey, whole: Subject, born: Mono) -> bool {
        let subject = Subject::Task(thread);
        if self.is_seen(subject) {
            return true;
        }
        let (forgotten, some_subjects) = (self.forgotten, self.some_subjects);
        let around = self.entries.get(&whole).and_then(|whole| Some((whole.known_from(forgotten, some_subjects)?, whole)));
        let Some((seen, entry)) = around else { return false };
        let container = if matches!(whole, Subject::Container(_)) { Some(whole) } else { entry.container };
        let since = entry.single_waits().map_or(seen, |waits| waits.known_from().max(seen));
        let past: Vec<Wait> = entry.single_waits().map(|waits| waits.of_thread(thread.tid, born.0)).unwrap_or_default();
        let at = past.iter().map(|wait| wait.end).max().unwrap_or(Mono(since));
        self.change(subject, at, |entry| {
            entry.seen = Some(since);
            entry.container = container;
            for wait in &past {
                entry.record_wait(wait, since.max(forgotten));
            }
        });
        true
    }

    /// All waits that ended until `at` have been recorded, or told as lost. Windows that end later are not wholly covered.
    pub fn events_until(&mut self, at: Mono) {
        self.sight.extend(at.0);
    }

    /// The event source sees no more.
    pub fn events_end(&mut self) {
        self.sight.end();
    }

    /// Whether an event source sees now.
    #[must_use]
    pub fn sees_events(&self) -> bool {
        self.sight.is_live()
    }

    /// Some waits that ended in this time were lost: it does not count as covered.
    pub fn record_lost(&mut self, from: Mono, to: Mono) {
        self.sight.lose(None, from.0, to.0);
    }

    /// The same of the waits of one container only.
    pub fn record_lost_of(&mut self, container: Subject, from: Mono, to: Mono) {
        self.sight.lose(Some(container), from.0, to.0);
    }

    /// Readings of a subject lack something of what was waited in this time: a process ended and nobody told what it had
    /// waited last. Delays of windows in it are lower bounds; it does not count as covered. In order of time.
    pub fn record_missing(&mut self, subject: Subject, from: Mono, to: Mono) {
        self.change(subject, to, |entry| entry.record_missing(from.0, to.0));
    }

    /// Adds a wait that ended, to each of its subjects: container, process, task. Waits may come in any order. One without
    /// length, or of a kind that is not seen as single waits, is ignored.
    pub fn record_wait(&mut self, subjects: &[Subject], wait: Wait) {
        if wait.begin >= wait.end {
            return;
        }
        let (forgotten, some_subjects) = (self.forgotten, self.some_subjects);
        for subject in subjects {
            if some_subjects && self.entries.get(subject).is_none_or(|entry| entry.seen.is_none()) {
                continue;
            }
            self.change(*subject, wait.end, |entry| {
                if let Some(known_from) = entry.known_from(forgotten, some_subjects) {
                    entry.record_wait(&wait, known_from);
                }
            });
        }
    }

    /// Tells which waits for a CPU of a subject are in progress at an instant: all of them, each time. To be told before
    /// the waits are recorded that ended after that instant, for a wait is taken out when its end is recorded.
    pub fn record_open_waits(&mut self, subject: Subject, open: &[OpenWait], at: Mono) {
        let known_from = |entry: &Entry| entry.known_from(self.forgotten, self.some_subjects);
        let known_from = match self.entries.get(&subject) {
            Some(entry) => known_from(entry),
            None => known_from(&Entry::default()).filter(|_| !open.is_empty()),
        };
        if let Some(known_from) = known_from {
            self.change(subject, at, |entry| entry.record_open(open, at.0, known_from));
        }
    }

    /// What a culprit is called, and which container it is. At most 4096 have a name, those told of last; a number told
    /// again is renamed, also for waits long past.
    pub fn culprit_name(&mut self, culprit: CulpritKey, name: &str, subject: Option<Subject>) {
        self.names.tell(culprit, name, subject);
        self.keep_the_budget();
    }

    /// Whether a culprit has a name.
    #[must_use]
    pub fn knows_culprit(&self, culprit: CulpritKey) -> bool {
        self.names.name(culprit.0).is_some()
    }

    /// Changes one subject, and keeps count and budget.
    fn change(&mut self, subject: Subject, at: Mono, change: impl FnOnce(&mut Entry)) {
        self.now = self.now.max(at.0);
        if !self.entries.contains_key(&subject) && self.entries.len() >= self.settings.memory / BYTES_PER_SUBJECT {
            self.forget_least();
        }
        let entry = self.entries.entry(subject).or_default();
        let before = entry.heap();
        change(entry);
        self.heap = self.heap.saturating_sub(before).saturating_add(entry.heap());
        self.keep_the_budget();
    }

    /// Notes what both clocks showed at one instant. To be called at every tick: a step of the wall clock is placed
    /// between two of these.
    pub fn observe_clock(&mut self, mono: Mono, wall: Wall) {
        self.now = self.now.max(mono.0);
        self.clock.observe(mono, wall);
    }

    /// The instant at which the wall clock showed `wall`; `None` where that cannot be told.
    #[must_use]
    pub fn to_mono(&self, wall: Wall) -> Option<Mono> {
        self.clock.to_mono(wall)
    }

    /// What the wall clock showed at `instant`; `None` before the first observation of the clocks.
    #[must_use]
    pub fn to_wall(&self, instant: Mono) -> Option<Wall> {
        self.clock.to_wall(instant)
    }

    /// Time of a subject's newest reading.
    #[must_use]
    pub fn newest(&self, subject: Subject) -> Option<Mono> {
        self.entries.get(&subject).and_then(|entry| entry.series.newest())
    }

    /// When a window of a subject was last asked for; `None` is never.
    #[must_use]
    pub fn asked(&self, subject: Subject) -> Option<Mono> {
        self.entries.get(&subject).map(|entry| Mono(entry.series.asked())).filter(|asked| asked.0 > 0)
    }

    /// Subjects of which a window was asked for since `cutoff`.
    #[must_use]
    pub fn asked_since(&self, cutoff: Mono) -> Vec<Subject> {
        self.entries.iter().filter(|(_, entry)| entry.series.asked() > cutoff.0).map(|(subject, _)| *subject).collect()
    }

    /// Drops a subject.
    pub fn forget(&mut self, subject: Subject) {
        if let Some(entry) = self.entries.remove(&subject) {
            self.heap = self.heap.saturating_sub(entry.heap());
        }
    }

    /// Drops a subject for want of room: what is known of it begins anew.
    fn evict(&mut self, subject: Subject) {
        let newest = self.entries.get(&subject).and_then(Entry::newest);
        self.forgotten = self.forgotten.max(newest.unwrap_or(0));
        self.forget(subject);
    }

    /// Drops readings and waits older than the retention, and subjects that have no newer ones.
    pub fn expire(&mut self, now: Mono) {
        self.now = self.now.max(now.0);
        let cutoff = now.minus(nanoseconds(self.settings.retention));
        self.clock.expire(cutoff);
        self.sight.expire(cutoff.0);
        self.entries.retain(|_, entry| {
            entry.expire(cutoff.0);
            // One that is seen and of which nothing was told yet is no old one.
            entry.newest().max(entry.seen).is_some_and(|newest| newest >= cutoff.0)
        });
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to_fit();
        }
        self.heap = self.entries.values().map(Entry::heap).sum();
    }

    /// Bytes held. Never more than the budget.
    #[must_use]
    pub fn memory(&self) -> usize {
        // A hash table keeps one control byte a slot and at most seven eighths of its slots in use.
        self.heap + self.names.heap() + self.entries.capacity() * (size_of::<(Subject, Entry)>() + 1) * 8 / 7
    }

    /// Number of subjects held.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.entries.len()
    }

    /// How little an entry is worth keeping: the age of its oldest part and the time since it was asked for.
    fn staleness(&self, entry: &Entry) -> u64 {
        let age = entry.oldest().map_or(u64::MAX, |oldest| self.now.saturating_sub(oldest));
        age.saturating_add(self.now.saturating_sub(entry.series.asked()))
    }

    fn keep_the_budget(&mut self) {
        if self.memory() > self.settings.memory {
            self.make_room();
        }
    }

    /// Frees a sixteenth of the budget: again and again the older half of the stalest entry.
    fn make_room(&mut self) {
        let target = self.settings.memory - self.settings.memory / HEADROOM_PART;
        let mut stalest: BinaryHeap<(u64, Subject)> =
            self.entries.iter().map(|(subject, entry)| (self.staleness(entry), *subject)).collect();
        while self.memory() > target {
            let Some((_, subject)) = stalest.pop() else { break };
            let Some(entry) = self.entries.get_mut(&subject) else { continue };
            let before = entry.heap();
            if !entry.drop_older_half() {
                self.evict(subject);
                continue;
            }
            self.heap = self.heap.saturating_sub(before).saturating_add(entry.heap());
            if let Some(entry) = self.entries.get(&subject) {
                stalest.push((self.staleness(entry), subject));
            }
        }
        if self.memory() > self.settings.memory {
            self.entries.shrink_to_fit();
        }
        if self.memory() > self.settings.memory {
            self.names.clear();
        }
    }

    /// Makes room for one more subject by forgetting a sixteenth of them, the stalest first.
    fn forget_least(&mut self) {
        let mut order: Vec<(u64, Subject)> = self.entries.iter().map(|(subject, entry)| (self.staleness(entry), *subject)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        order.truncate(order.len().div_ceil(HEADROOM_PART));
        for (_, subject) in order {
            self.evict(subject);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerKey, DelayKind, Evidence, Totals, Window};

    const SECOND: u64 = 1_000_000_000;
    const BASE: u64 = 1_700_000_000 * SECOND;

    fn store(memory: usize) -> Store {
        Store::new(Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory })
    }

    fn subject(number: u64) -> Subject {
        Subject::Container(ContainerKey(number))
    }

    /// A reading in which every value moved since the last one.
    fn busy(number: u64, at: u64) -> Reading {
        let mut totals = Totals { throttled_ns: Some(at / 7), ..Totals::default() };
        for kind in DelayKind::ALL {
            totals.delay_ns.set(kind, Some(at / (2 + kind as u64)));
        }
        Reading { subject: subject(number), at: Mono(at), totals, evidence: Evidence::Taskstats, tasks: 3, uncounted: 0, blur_ns: 0 }
    }

    #[test]
    fn a_full_node_fits_in_twenty_mebibytes() {
        let mut store = store(64 << 20);
        for tenth in 0..1_300u64 {
            for number in 0..110 {
                store.record(busy(number, 500 * SECOND + tenth * SECOND / 10));
            }
        }
        let mebibytes = store.memory() / (1 << 20);
        assert!(store.memory() < 20 << 20, "{mebibytes} MiB");
        let window = store.window_mono(subject(7), Mono(511 * SECOND), Mono(629 * SECOND));
        assert_eq!((window.coverage, window.delay_ns.get(DelayKind::Cpu)), (1.0, Some(59 * SECOND)));
    }

    #[test]
    fn the_oldest_and_least_asked_for_goes_first() {
        let mut store = store(1 << 20);
        for tenth in 0..1_000u64 {
            for number in 0..20 {
                store.record(busy(number, 500 * SECOND + tenth * SECOND / 10));
            }
            let _asked = store.window_mono(subject(3), Mono(1), Mono(2));
        }
        let reach = |number| store.window_mono(subject(number), Mono(500 * SECOND), Mono(599 * SECOND)).coverage;
        let others = (0..20).filter(|number| *number != 3).map(reach).fold(0.0, f64::max);
        assert!(reach(3) > others && others > 0.05 && others < 1.0, "{} against {others}", reach(3));
        assert!((0..20).all(|number| store.newest(subject(number)) == Some(Mono(599_900_000_000))));
    }

    #[test]
    fn windows_of_the_wall_clock() {
        let mut store = store(1 << 20);
        for tenth in 0..100 {
            let at = 500 * SECOND + tenth * SECOND / 10;
            store.observe_clock(Mono(at), Wall(BASE + at));
            store.record(busy(1, at));
        }
        let wall = |second: u64| Wall(BASE + second * SECOND);
        let coverage = |start, end| store.window(subject(1), start, end).coverage;
        assert_eq!(coverage(wall(502), wall(504)), 1.0);
        assert_eq!(coverage(wall(504), wall(502)), 0.0, "reversed");
        assert_eq!(coverage(Wall(0), wall(502)), 0.0, "no start");
        assert_eq!(coverage(wall(502), Wall(0)), 0.0, "no end");
        assert_eq!(coverage(wall(490), wall(500)), 0.0, "before the first reading");
        assert_eq!(coverage(wall(495), wall(505)), 0.5, "partly before the first reading");
        assert_eq!(store.window(subject(2), wall(502), wall(504)), Window::default(), "never read");
    }

    #[test]
    fn too_many_subjects_are_not_kept() {
        let mut store = store(256 << 10);
        for number in 0..2_000 {
            store.record(busy(number, 500 * SECOND + number));
            assert!(store.memory() <= 256 << 10);
        }
        assert!(store.subjects() <= 256 && store.newest(subject(1_999)).is_some() && store.newest(subject(0)).is_none());
    }

    #[test]
    fn a_subject_seen_before_its_first_reading_stays_seen() {
        let mut store = store(1 << 20);
        let fields = EventFields { throttled: true, culprits: true, memory: true, some_subjects: true };
        store.events_begin(Mono(500 * SECOND), fields);
        store.sees(subject(1), Mono(501 * SECOND));
        store.expire(Mono(502 * SECOND));
        assert!(store.is_seen(subject(1)) && !store.is_seen(subject(2)));
        store.expire(Mono(5_000 * SECOND));
        assert!(!store.is_seen(subject(1)), "to be told again");
    }

    #[test]
    fn forgotten_is_gone() {
        let mut store = store(1 << 20);
        store.record(busy(1, SECOND));
        store.forget(subject(1));
        store.forget(subject(2));
        assert_eq!((store.newest(subject(1)), store.subjects()), (None, 0));
    }
}
