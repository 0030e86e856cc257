//! What is kept of one subject: its readings and its single waits.

use std::collections::VecDeque;

use super::series::Series;
use super::waits::Waits;
use crate::model::{OpenWait, Reading, Subject, Wait};

/// Readings and waits with which a subject is small: it goes as a whole or not at all.
const FEW_READINGS: usize = 2;
const FEW_WAITS: usize = 16;
/// Times in which readings lack something that are told apart.
const MOST_MISSING: usize = 64;

/// One subject.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) series: Series,
    /// Absent until waits are seen as events.
    waits: Option<Box<Waits>>,
    /// Since when its waits are seen, where not everybody's are.
    pub(super) seen: Option<u64>,
    /// The container that it is in, where somebody told.
    pub(super) container: Option<Subject>,
    /// Times in which readings lack something, ascending.
    missing: VecDeque<(u64, u64)>,
}

impl Entry {
    /// Readings between these instants lack something: the delays are lower bounds there.
    pub(super) fn record_missing(&mut self, from: u64, to: u64) {
        match self.missing.back_mut().filter(|last| from <= last.1) {
            Some(last) => last.1 = last.1.max(to),
            None => self.missing.push_back((from, to)),
        }
        if self.missing.len() > MOST_MISSING
            && let Some((from, _)) = self.missing.pop_front()
            && let Some(next) = self.missing.front_mut()
        {
            // The two oldest become one: too little coverage is told, never too much.
            next.0 = from;
        }
    }

    /// Whether readings lack something at any time.
    pub(super) fn lacks_something(&self) -> bool {
        !self.missing.is_empty()
    }

    /// How much of a window lacks something, ns.
    pub(super) fn missing(&self, start: u64, end: u64) -> u64 {
        self.missing.iter().fold(0, |sum, (from, to)| sum.saturating_add(end.min(*to).saturating_sub(start.max(*from))))
    }

    /// Adds a reading. `events`: single waits are being seen, and of this subject none before the instant given is known.
    pub(super) fn record(&mut self, reading: &Reading, spacing: u64, cutoff: u64, events: Option<u64>) {
        self.expire(cutoff);
        if let Some(known_from) = events {
            self.waits(known_from);
        }
        if let Some(waits) = &mut self.waits {
            waits.note_reading(reading, spacing);
        }
        self.series.push(reading, spacing);
    }

    /// Adds a wait that ended.
    pub(super) fn record_wait(&mut self, wait: &Wait, known_from: u64) {
        self.waits(known_from).record(wait);
    }

    /// Tells of the waits in progress.
    pub(super) fn record_open(&mut self, open: &[OpenWait], at: u64, known_from: u64) {
        self.waits(known_from).record_open(open, at);
    }

    /// From when on its waits can be known; `None`: they are not seen.
    pub(super) fn known_from(&self, forgotten: u64, some_subjects: bool) -> Option<u64> {
        if some_subjects { self.seen.map(|seen| seen.max(forgotten)) } else { Some(forgotten) }
    }

    fn waits(&mut self, known_from: u64) -> &mut Waits {
        self.waits.get_or_insert_with(|| Box::new(Waits::new(known_from)))
    }

    /// Its single waits, where any source of events was there.
    pub(super) fn single_waits(&self) -> Option<&Waits> {
        self.waits.as_deref()
    }

    /// Drops what is older than `cutoff`.
    pub(super) fn expire(&mut self, cutoff: u64) {
        self.series.expire(cutoff);
        while self.missing.front().is_some_and(|(_, to)| *to < cutoff) {
            self.missing.pop_front();
        }
        if let Some(waits) = &mut self.waits {
            waits.expire(cutoff);
        }
    }

    /// Drops the older half of what takes more room. `false`: there is hardly anything.
    pub(super) fn drop_older_half(&mut self) -> bool {
        let (readings, waits) = (self.series.len(), self.waits.as_ref().map_or(0, |waits| waits.len()));
        if readings <= FEW_READINGS && waits <= FEW_WAITS {
            return false;
        }
        match &mut self.waits {
            Some(held) if readings <= FEW_READINGS || waits > FEW_WAITS && held.heap() > self.series.heap() => held.drop_older_half(),
            held => {
                self.series.drop_oldest(readings / 2);
                if let (Some(held), Some(oldest)) = (held, self.series.oldest()) {
                    held.expire_rest(oldest.0);
                }
            }
        }
        true
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let missing = self.missing.capacity() * size_of::<(u64, u64)>();
        self.series.heap() + missing + self.waits.as_ref().map_or(0, |waits| size_of::<Waits>() + waits.heap())
    }

    /// Time of the oldest thing kept.
    pub(super) fn oldest(&self) -> Option<u64> {
        let waits = self.waits.as_ref().and_then(|waits| waits.oldest());
        self.series.oldest().map(|at| at.0).into_iter().chain(waits).min()
    }

    /// Time of the newest thing kept.
    pub(super) fn newest(&self) -> Option<u64> {
        let waits = self.waits.as_ref().and_then(|waits| waits.newest());
        self.series.newest().map(|at| at.0).into_iter().chain(waits).max()
    }
}
