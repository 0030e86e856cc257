//! The single waits of one subject and one kind, in chunks by begin. A wait is known when it ends, so those that took
//! long come late: they are sorted in, and what later chunks know of earlier ones is told anew as far as it changed.

use super::chunk::{CHUNK_LEN, Chunk, Cut, Row};
use super::tally::{Blames, Measured, Picks};
use crate::model::{DelayKind, Wait};

/// Single waits.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    chunks: Vec<Chunk>,
    /// Heap of the chunks, bytes, without the list of them.
    heap: usize,
    waits: usize,
}

impl Timeline {
    /// Sorts a wait in.
    pub(super) fn insert(&mut self, wait: &Wait) {
        let (row, blames) = Row::pack(wait);
        let place = self.place_for(&row);
        let Some(chunk) = self.chunks.get_mut(place) else { return };
        let before = chunk.heap();
        chunk.insert(row, &blames);
        self.heap = self.heap.saturating_sub(before).saturating_add(chunk.heap());
        self.waits += 1;
        self.tell_on(place);
    }

    /// The chunk in which a wait belongs, with room for it.
    fn place_for(&mut self, row: &Row) -> usize {
        let begin = row.begin();
        let place = self.chunks.partition_point(|chunk| chunk.first() <= begin).saturating_sub(1);
        let newest = place + 1 >= self.chunks.len();
        match self.chunks.get_mut(place) {
            Some(chunk) if chunk.len() < CHUNK_LEN => place,
            Some(chunk) if newest && chunk.last() <= begin => {
                let before = chunk.heap();
                chunk.seal();
                self.heap = self.heap.saturating_sub(before).saturating_add(chunk.heap());
                self.put(place + 1, Chunk::default());
                self.tell_on(place);
                place + 1
            }
            Some(chunk) => {
                let before = chunk.heap();
                let later = chunk.split();
                self.heap = self.heap.saturating_sub(before).saturating_add(chunk.heap() + later.heap());
                let here = later.first() > begin;
                self.put(place + 1, later);
                if here { place } else { place + 1 }
            }
            None => {
                self.put(0, Chunk::default());
                0
            }
        }
    }

    /// Grows by a quarter, not by doubling: the slack counts against the budget.
    fn put(&mut self, place: usize, chunk: Chunk) {
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks.reserve_exact((self.chunks.len() / 4).max(1));
        }
        self.chunks.insert(place.min(self.chunks.len()), chunk);
    }

    /// Tells the chunks behind this one how far it reaches, until one knows already.
    fn tell_on(&mut self, place: usize) {
        let Some((told, rest)) = self.chunks.get_mut(place..).and_then(<[Chunk]>::split_first_mut) else { return };
        let mut reach = told.end_of_all();
        for chunk in rest {
            if !chunk.follow(reach) {
                break;
            }
            reach = chunk.end_of_all();
        }
    }

    /// The chunks with waits that have a part in `cut`, oldest first.
    fn chunks_in(&self, cut: Cut) -> impl Iterator<Item = &Chunk> {
        let begun = self.chunks.partition_point(|chunk| chunk.first() < cut.end);
        let over = self.chunks.partition_point(|chunk| chunk.end_of_all() <= cut.start);
        self.chunks.get(over..begun).unwrap_or_default().iter().filter(move |chunk| chunk.reach() > cut.start)
    }

    /// Adds what lies inside `cut`.
    pub(super) fn measure(&self, cut: Cut, kind: DelayKind, picks: &mut Picks<'_>) -> Measured {
        let mut measured = Measured::default();
        for chunk in self.chunks_in(cut) {
            chunk.measure(cut, kind, &mut measured, picks);
        }
        measured
    }

    /// Time inside `cut` with any wait.
    pub(super) fn stalled(&self, cut: Cut) -> u64 {
        self.chunks_in(cut).map(|chunk| chunk.stalled(cut)).sum()
    }

    /// Adds who ran during the waits inside `cut`.
    pub(super) fn blame(&self, cut: Cut, blames: &mut Blames<'_>) {
        for chunk in self.chunks_in(cut) {
            chunk.blame(cut, blames);
        }
    }

    /// Begin and end of the parts inside `cut`, by begin.
    pub(super) fn parts(&self, cut: Cut) -> impl Iterator<Item = (u64, u64)> {
        let parts = self.chunks_in(cut).flat_map(move |chunk| chunk.rows_in(cut));
        parts.map(move |row| (row.begin().max(cut.start), row.end().min(cut.end)))
    }

    /// The waits of one thread that began at `born` or later.
    pub(super) fn of_thread(&self, kind: DelayKind, tid: u32, born: u64) -> impl Iterator<Item = Wait> {
        let chunks = self.chunks_in(Cut { start: born, end: u64::MAX });
        chunks.flat_map(move |chunk| chunk.of_thread(kind, tid, born))
    }

    /// Length of the waits that ended later than `after` and not later than `until`.
    pub(super) fn ended(&self, after: u64, until: u64) -> u64 {
        let cut = Cut { start: after, end: until.max(after) };
        let ended = self.chunks_in(cut).flat_map(|chunk| chunk.rows_in(cut)).filter(|row| row.end() <= until);
        ended.fold(0, |sum, row| sum.saturating_add(row.length()))
    }

    /// Drops the older half; until when waits were among what was dropped.
    pub(super) fn drop_older_half(&mut self) -> Option<u64> {
        self.drop_oldest(self.chunks.len().div_ceil(2))
    }

    /// Drops chunks of which nothing reaches past `cutoff`; until when waits were among what was dropped.
    pub(super) fn expire(&mut self, cutoff: u64) -> Option<u64> {
        self.drop_oldest(self.chunks.partition_point(|chunk| chunk.end_of_all() <= cutoff))
    }

    fn drop_oldest(&mut self, count: usize) -> Option<u64> {
        let dropped = self.chunks.get(..count)?;
        let until = dropped.last()?.end_of_all();
        self.heap = self.heap.saturating_sub(dropped.iter().map(Chunk::heap).sum());
        self.waits = self.waits.saturating_sub(dropped.iter().map(Chunk::len).sum());
        self.chunks.drain(..count);
        if self.chunks.capacity() > 2 * self.chunks.len() + 8 {
            self.chunks.shrink_to(self.chunks.len() + self.chunks.len() / 4);
        }
        Some(until)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.heap + self.chunks.capacity() * size_of::<Chunk>()
    }

    /// Number of waits held.
    pub(super) fn len(&self) -> usize {
        self.waits
    }

    /// Begin of the oldest wait held.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.chunks.first().map(Chunk::first)
    }

    /// Latest end.
    pub(super) fn newest(&self) -> Option<u64> {
        self.chunks.last().map(Chunk::end_of_all)
    }
}
