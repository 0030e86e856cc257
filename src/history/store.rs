//! All subjects under one budget.

use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::clock::Clock;
use super::series::Series;
use super::slice::between;
use crate::model::{Mono, Reading, Subject, Wall, Window};

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
    /// Bytes for all readings (`sources.history.memory_limit_mib`).
    pub memory: usize,
}

/// The readings of every subject.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    series: HashMap<Subject, Series>,
    clock: Clock,
    /// Heap of all series, bytes.
    heap: usize,
    /// Newest instant seen: the age of readings is measured from it.
    now: u64,
}

impl Store {
    /// An empty history.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, series: HashMap::new(), clock: Clock::default(), heap: 0, now: 0 }
    }

    /// Adds a reading. A subject's first one is its baseline. One that is not newer than the subject's newest is ignored.
    pub fn record(&mut self, reading: Reading) {
        self.now = self.now.max(reading.at.0);
        if !self.series.contains_key(&reading.subject) && self.series.len() >= self.settings.memory / BYTES_PER_SUBJECT {
            self.forget_least();
        }
        let spacing = nanoseconds(MIN_SPACING.min(self.settings.resolution));
        let cutoff = reading.at.0.saturating_sub(nanoseconds(self.settings.retention));
        let series = self.series.entry(reading.subject).or_default();
        let before = series.heap();
        series.expire(cutoff);
        series.push(&reading, spacing);
        self.heap = self.heap.saturating_sub(before).saturating_add(series.heap());
        if self.memory() > self.settings.memory {
            self.make_room();
        }
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

    /// What happened to a subject between two instants of the wall clock. Missing (zero) or reversed times, a subject
    /// that was never read, and times outside its readings answer with coverage 0 and nothing known.
    #[must_use]
    pub fn window(&self, subject: Subject, start: Wall, end: Wall) -> Window {
        if start.0 == 0 || end < start {
            return Window::default();
        }
        match (self.to_mono(start), self.to_mono(end)) {
            (Some(start), Some(end)) => self.window_mono(subject, start, end),
            _ => Window::default(),
        }
    }

    /// The same between two instants of the readings' own clock.
    #[must_use]
    pub fn window_mono(&self, subject: Subject, start: Mono, end: Mono) -> Window {
        let Some(series) = self.series.get(&subject) else { return Window::default() };
        series.note_asked(self.now);
        between(series, start, end).unwrap_or_default()
    }

    /// Time of a subject's newest reading.
    #[must_use]
    pub fn newest(&self, subject: Subject) -> Option<Mono> {
        self.series.get(&subject).and_then(Series::newest)
    }

    /// Subjects of which a window was asked for since `cutoff`.
    #[must_use]
    pub fn asked_since(&self, cutoff: Mono) -> Vec<Subject> {
        self.series.iter().filter(|(_, series)| series.asked() > cutoff.0).map(|(subject, _)| *subject).collect()
    }

    /// Drops a subject.
    pub fn forget(&mut self, subject: Subject) {
        if let Some(series) = self.series.remove(&subject) {
            self.heap = self.heap.saturating_sub(series.heap());
        }
    }

    /// Drops readings older than the retention, and subjects that have no newer ones.
    pub fn expire(&mut self, now: Mono) {
        self.now = self.now.max(now.0);
        let cutoff = now.minus(nanoseconds(self.settings.retention));
        self.clock.expire(cutoff);
        self.series.retain(|_, series| {
            series.expire(cutoff.0);
            series.newest().is_some_and(|newest| newest >= cutoff)
        });
        if self.series.capacity() > 4 * self.series.len() + 64 {
            self.series.shrink_to_fit();
        }
        self.heap = self.series.values().map(Series::heap).sum();
    }

    /// Bytes held. Never more than the budget.
    #[must_use]
    pub fn memory(&self) -> usize {
        // A hash table keeps one control byte a slot and at most seven eighths of its slots in use.
        self.heap + self.series.capacity() * (size_of::<(Subject, Series)>() + 1) * 8 / 7
    }

    /// Number of subjects held.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.series.len()
    }

    /// How little a series is worth keeping: the age of its oldest reading and the time since it was asked for.
    fn staleness(&self, series: &Series) -> u64 {
        let age = series.oldest().map_or(u64::MAX, |oldest| self.now.saturating_sub(oldest.0));
        age.saturating_add(self.now.saturating_sub(series.asked()))
    }

    /// Frees a sixteenth of the budget: again and again the older half of the stalest series.
    fn make_room(&mut self) {
        let target = self.settings.memory - self.settings.memory / HEADROOM_PART;
        let mut stalest: BinaryHeap<(u64, Subject)> =
            self.series.iter().map(|(subject, series)| (self.staleness(series), *subject)).collect();
        while self.memory() > target {
            let Some((_, subject)) = stalest.pop() else { break };
            let Some(series) = self.series.get_mut(&subject) else { continue };
            if series.len() <= 2 {
                self.forget(subject);
                continue;
            }
            let before = series.heap();
            series.drop_oldest(series.len() / 2);
            self.heap = self.heap.saturating_sub(before).saturating_add(series.heap());
            if let Some(series) = self.series.get(&subject) {
                stalest.push((self.staleness(series), subject));
            }
        }
        if self.memory() > self.settings.memory {
            self.series.shrink_to_fit();
        }
    }

    /// Makes room for one more subject by forgetting a sixteenth of them, the stalest first.
    fn forget_least(&mut self) {
        let mut order: Vec<(u64, Subject)> = self.series.iter().map(|(subject, series)| (self.staleness(series), *subject)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        order.truncate(order.len().div_ceil(HEADROOM_PART));
        for (_, subject) in order {
            self.forget(subject);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerKey, DelayKind, Evidence, Totals};

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
        Reading { subject: subject(number), at: Mono(at), totals, evidence: Evidence::Taskstats, tasks: 3 }
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
    fn forgotten_is_gone() {
        let mut store = store(1 << 20);
        store.record(busy(1, SECOND));
        store.forget(subject(1));
        store.forget(subject(2));
        assert_eq!((store.newest(subject(1)), store.subjects()), (None, 0));
    }
}
