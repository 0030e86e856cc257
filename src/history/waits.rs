//! The single waits of one subject: those that ended, by kind, those that have not, and what polled totals know beyond.

use super::chunk::Cut;
use super::rest::Rest;
use super::tally::{Blames, Measured, Pick, Picks};
use super::timeline::Timeline;
use crate::model::{DelayKind, OpenWait, Reading, Wait};

/// The kinds that are seen as single waits.
pub(super) const KINDS: [DelayKind; 3] = [DelayKind::Cpu, DelayKind::Reclaim, DelayKind::Compaction];

/// Most waits in progress kept of one subject.
const MOST_OPEN: usize = 1024;

/// One kind of single waits.
#[derive(Debug, Default)]
struct Lane {
    ended: Timeline,
    rest: Rest,
}

impl Lane {
    fn find(&self, cut: Cut, kind: DelayKind, picks: &mut Picks<'_>) -> (Measured, Option<u64>) {
        let rest = self.rest.is_known().then(|| self.rest.between(cut.start, cut.end));
        (self.ended.measure(cut, kind, picks), rest)
    }
}

/// The single waits of one subject.
#[derive(Debug, Default)]
pub(super) struct Waits {
    lanes: [Lane; 3],
    /// Waits for a CPU in progress at `open_at`.
    open: Vec<OpenWait>,
    open_at: u64,
    /// Of what lasted before, some is forgotten.
    known_from: u64,
}

/// What lies in a window: per kind of [`KINDS`], the waits in progress among them, and what polled totals know beyond.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) measured: [Measured; 3],
    /// `None`: no reading knew that kind.
    pub(super) rest: [Option<u64>; 3],
}

impl Waits {
    /// Nothing, and nothing known before `known_from`.
    pub(super) fn new(known_from: u64) -> Self {
        Self { known_from, ..Self::default() }
    }

    /// Adds a wait that ended. One of a kind that is not seen as single waits is ignored.
    pub(super) fn record(&mut self, wait: &Wait) {
        let lane = KINDS.iter().zip(&mut self.lanes).find(|(kind, _)| **kind == wait.kind);
        let Some((kind, lane)) = lane else { return };
        if *kind == DelayKind::Cpu {
            self.open.retain(|open| open.tid != wait.tid || open.begin >= wait.end);
        }
        lane.ended.insert(wait);
        lane.rest.note_wait(wait.end.0, wait.end.since(wait.begin));
    }

    /// All waits for a CPU in progress at an instant. Told of an older instant than before, nothing changes.
    pub(super) fn record_open(&mut self, open: &[OpenWait], at: u64) {
        if at < self.open_at {
            return;
        }
        self.open.clear();
        let begun = open.iter().filter(|wait| wait.begin.0 < at);
        self.open.extend(begun.take(MOST_OPEN));
        if self.open.capacity() > 2 * self.open.len() + 8 {
            self.open.shrink_to_fit();
        }
        self.open_at = at;
    }

    /// Notes the totals of a reading.
    pub(super) fn note_reading(&mut self, reading: &Reading, spacing: u64) {
        for (kind, lane) in KINDS.into_iter().zip(&mut self.lanes) {
            lane.rest.push((reading.at.0, reading.blur_ns), reading.totals.delay_ns.get(kind), &lane.ended, spacing);
        }
    }

    /// From when on everything is known.
    pub(super) fn known_from(&self) -> u64 {
        self.known_from
    }

    /// What lies inside `cut`.
    pub(super) fn find(&self, cut: Cut, picks: &mut Picks<'_>) -> Found {
        let mut found = Found::default();
        let places = found.measured.iter_mut().zip(&mut found.rest);
        for ((kind, lane), (measured, rest)) in KINDS.into_iter().zip(&self.lanes).zip(places) {
            (*measured, *rest) = lane.find(cut, kind, picks);
        }
        let [measured, ..] = &mut found.measured;
        self.add_open(cut, measured, picks);
        found
    }

    /// Whether nothing but waits for a CPU lies inside `cut`.
    pub(super) fn only_cpu_in(&self, cut: Cut) -> bool {
        let [_, others @ ..] = &self.lanes;
        others.iter().all(|lane| lane.rest.between(cut.start, cut.end) == 0 && lane.ended.parts(cut).next().is_none())
    }

    /// The waits for a CPU inside `cut`, and what polled totals know beyond.
    pub(super) fn find_cpu(&self, cut: Cut, picks: &mut Picks<'_>) -> (Measured, Option<u64>) {
        let [lane, ..] = &self.lanes;
        let (mut measured, rest) = lane.find(cut, DelayKind::Cpu, picks);
        self.add_open(cut, &mut measured, picks);
        (measured, rest)
    }

    fn add_open(&self, cut: Cut, measured: &mut Measured, picks: &mut Picks<'_>) {
        let Some(open) = self.open_part(cut) else { return };
        for wait in &self.open {
            let (begin, end) = (wait.begin.0.max(open.start), open.end);
            let inside = end.saturating_sub(begin);
            let throttled_until = wait.begin.0.saturating_add(wait.throttled_ns).min(end);
            measured.sums.waited = measured.sums.waited.saturating_add(inside);
            measured.sums.throttled = measured.sums.throttled.saturating_add(throttled_until.saturating_sub(begin));
            measured.longest = measured.longest.max(inside);
            if picks.wants(inside, begin) {
                picks.offer(Pick { duration: inside, begin, began: wait.begin.0, tid: wait.tid, kind: DelayKind::Cpu, culprit: None });
            }
        }
        measured.stalled = self.stalled(cut);
    }

    /// The time inside `cut` with a wait in progress: they all reach to the instant at which they were looked at.
    pub(super) fn open_part(&self, cut: Cut) -> Option<Cut> {
        let begin = self.open.iter().map(|wait| wait.begin.0).min()?;
        let part = Cut { start: begin.max(cut.start), end: self.open_at.min(cut.end) };
        (part.start < part.end).then_some(part)
    }

    fn stalled(&self, cut: Cut) -> u64 {
        let ended = |start, end| self.cpu().stalled(Cut { start, end });
        match self.open_part(cut) {
            Some(open) => ended(cut.start, open.start) + (open.end - open.start) + ended(open.end, cut.end),
            None => ended(cut.start, cut.end),
        }
    }

    /// The waits for a CPU that ended.
    pub(super) fn cpu(&self) -> &Timeline {
        let [cpu, ..] = &self.lanes;
        &cpu.ended
    }

    /// The waits of one thread that began at `born` or later.
    pub(super) fn of_thread(&self, tid: u32, born: u64) -> Vec<Wait> {
        let lanes = KINDS.into_iter().zip(&self.lanes);
        lanes.flat_map(|(kind, lane)| lane.ended.of_thread(kind, tid, born)).collect()
    }

    /// Adds who ran during the waits inside `cut`.
    pub(super) fn blame(&self, cut: Cut, blames: &mut Blames<'_>) {
        self.cpu().blame(cut, blames);
    }

    /// Drops the older half of the waits, and what else is as old.
    pub(super) fn drop_older_half(&mut self) {
        let dropped = self.lanes.iter_mut().filter_map(|lane| lane.ended.drop_older_half()).max();
        let middle = self.lanes.iter().filter_map(|lane| lane.rest.middle()).max();
        self.open = Vec::new();
        self.known_from = self.known_from.max(dropped.unwrap_or(0));
        self.expire_rest(middle.unwrap_or(0));
    }

    /// Drops what polled totals knew before `cutoff`.
    pub(super) fn expire_rest(&mut self, cutoff: u64) {
        for lane in &mut self.lanes {
            lane.rest.expire(cutoff);
        }
    }

    /// Drops what does not reach past `cutoff`.
    pub(super) fn expire(&mut self, cutoff: u64) {
        for lane in &mut self.lanes {
            let dropped = lane.ended.expire(cutoff);
            lane.rest.expire(cutoff);
            self.known_from = self.known_from.max(dropped.unwrap_or(0));
        }
        if self.open_at <= cutoff {
            self.open = Vec::new();
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.ended.heap() + lane.rest.heap()).sum();
        lanes + self.open.capacity() * size_of::<OpenWait>()
    }

    /// Number of waits held.
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.ended.len()).sum()
    }

    /// Begin of the oldest wait.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.ended.oldest()).min()
    }

    /// When the last wait ended, or was looked at, also of those that were dropped.
    pub(super) fn newest(&self) -> Option<u64> {
        let open = self.open.first().map(|_| self.open_at);
        let dropped = (self.known_from > 0).then_some(self.known_from);
        self.lanes.iter().filter_map(|lane| lane.ended.newest()).chain(open).chain(dropped).max()
    }
}
