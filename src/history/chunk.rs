//! Some dozens of single waits with begins side by side, packed, and what can be said of all of them at once.

use super::tally::{Blames, Measured, Pick, Picks, Sums};
use crate::model::{CulpritKey, DelayKind, MAX_CULPRITS, Mono, Wait};

/// Most waits of a chunk: enough that a long window adds up few chunks, and few enough to look through one at a cut.
pub(super) const CHUNK_LEN: usize = 64;

/// A window on the clock of the readings: `start` <= `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Bits of a thread id: `PID_MAX_LIMIT` (include/linux/threads.h).
const TID_BITS: u32 = 22;

/// Longest wait kept, 73 minutes: of a longer one the beginning is cut off.
const MOST_LENGTH: u64 = u64::MAX >> TID_BITS;

/// One wait in 32 bytes. Parts are kept in units of 2^`scale` ns: 1 ns but for waits longer than 4.29 s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    begin: u64,
    /// Length above, thread id below.
    length_and_tid: u64,
    throttled: u32,
    own: u32,
    neighbor: u32,
    /// Where its blames begin in the chunk's.
    blames: u16,
    /// How many there are.
    blamed: u8,
    scale: u8,
}

/// Of one wait: how long somebody else ran, in the units of its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blame {
    key: u32,
    part: u32,
}

impl Row {
    /// Packs a wait and its culprits, the largest first. Parts are cut so that together they are not more than the wait.
    pub(super) fn pack(wait: &Wait) -> (Self, [Blame; MAX_CULPRITS]) {
        let length = wait.end.since(wait.begin).min(MOST_LENGTH);
        let scale = 32u32.saturating_sub(length.leading_zeros());
        let pack = |ns: u64| u32::try_from(ns.checked_shr(scale).unwrap_or(0)).unwrap_or(u32::MAX);
        let throttled = wait.throttled_ns.min(length);
        let own = wait.self_ns.min(length - throttled);
        let neighbor = wait.neighbor_ns.min(length - throttled - own);
        let mut culprits = wait.culprits;
        culprits.sort_unstable_by_key(|(key, ns)| (std::cmp::Reverse(*ns), *key));
        let mut left = pack(neighbor);
        let blames = culprits.map(|(key, ns)| {
            let part = pack(ns).min(left);
            left -= part;
            Blame { key: key.0, part }
        });
        let blamed = blames.iter().fold(0, |blamed, blame| blamed + u8::from(blame.part > 0));
        let row = Self {
            begin: wait.end.0.saturating_sub(length),
            length_and_tid: length << TID_BITS | u64::from(wait.tid) & !(u64::MAX << TID_BITS),
            throttled: pack(throttled),
            own: pack(own),
            neighbor: pack(neighbor),
            blames: 0,
            blamed,
            scale: u8::try_from(scale).unwrap_or(u8::MAX),
        };
        (row, blames)
    }

    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    pub(super) fn end(&self) -> u64 {
        self.begin.saturating_add(self.length())
    }

    pub(super) fn length(&self) -> u64 {
        self.length_and_tid >> TID_BITS
    }

    /// The thread that waited.
    pub(super) fn tid(&self) -> u32 {
        u32::try_from(self.length_and_tid & !(u64::MAX << TID_BITS)).unwrap_or(0)
    }

    fn whole(&self, part: u32) -> u64 {
        u64::from(part).checked_shl(u32::from(self.scale)).unwrap_or(0)
    }

    /// The throttled part stands at the begin.
    fn throttled_until(&self) -> u64 {
        self.begin.saturating_add(self.whole(self.throttled))
    }

    /// Of a part that is spread evenly over the time after the throttled one: how much lies in `cut`. A difference of
    /// two values of one function of time, so adjacent cuts add up.
    fn share(&self, part: u32, cut: Cut) -> u64 {
        let from = self.throttled_until();
        let length = self.end().saturating_sub(from);
        let part = self.whole(part);
        if part == 0 || cut.start <= from && cut.end >= self.end() {
            return part;
        }
        let until = |instant: u64| {
            let passed = instant.saturating_sub(from).min(length);
            match part.checked_mul(passed) {
                Some(product) => product.checked_div(length).unwrap_or(part),
                None => u64::try_from(u128::from(part) * u128::from(passed) / u128::from(length.max(1))).unwrap_or(part),
            }
        };
        until(cut.end).saturating_sub(until(cut.start))
    }

    /// The part of the wait inside `cut`.
    fn inside(&self, cut: Cut) -> u64 {
        self.end().min(cut.end).saturating_sub(self.begin.max(cut.start))
    }

    fn sums(&self, cut: Cut) -> Sums {
        if cut.start <= self.begin && cut.end >= self.end() {
            let (throttled, own, neighbor) = (self.whole(self.throttled), self.whole(self.own), self.whole(self.neighbor));
            return Sums { waited: self.length(), throttled, own, neighbor };
        }
        let throttled = self.throttled_until().min(cut.end).saturating_sub(self.begin.max(cut.start));
        Sums { waited: self.inside(cut), throttled, own: self.share(self.own, cut), neighbor: self.share(self.neighbor, cut) }
    }
}

/// Waits in the order of their begins, with sums over all of them.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    rows: Vec<Row>,
    blames: Vec<Blame>,
    /// Blamed nanoseconds by culprit.
    totals: Vec<(u32, u64)>,
    sums: Sums,
    longest: u64,
    /// Latest end of its waits.
    reach: u64,
    /// Latest end of all waits in earlier chunks.
    before: u64,
    /// Time in which any of its waits lasts and none of the earlier chunks.
    fresh: u64,
}

impl Chunk {
    /// Adds a wait, behind those of the same begin.
    pub(super) fn insert(&mut self, row: Row, blames: &[Blame]) {
        let blames = blames.get(..usize::from(row.blamed)).unwrap_or_default();
        let row = Row { blames: u16::try_from(self.blames.len()).unwrap_or(u16::MAX), ..row };
        self.blames.extend_from_slice(blames);
        for blame in blames {
            let ns = row.whole(blame.part);
            match self.totals.iter_mut().find(|(key, _)| *key == blame.key) {
                Some((_, total)) => *total = total.saturating_add(ns),
                None => self.totals.push((blame.key, ns)),
            }
        }
        self.sums.add(row.sums(Cut { start: 0, end: u64::MAX }));
        self.longest = self.longest.max(row.length());
        let place = self.rows.partition_point(|earlier| earlier.begin <= row.begin);
        let last = place == self.rows.len();
        if last {
            self.fresh += row.end().saturating_sub(row.begin.max(self.before).max(self.reach));
        }
        self.reach = self.reach.max(row.end());
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact(self.rows.len().clamp(4, CHUNK_LEN));
        }
        self.rows.insert(place, row);
        if !last {
            self.refresh();
        }
    }

    /// Tells how far the earlier chunks reach. `false`: nothing changed.
    pub(super) fn follow(&mut self, before: u64) -> bool {
        let (former, first) = (std::mem::replace(&mut self.before, before), self.first());
        if before >= self.reach {
            self.fresh = 0;
        } else if former.max(before) > first {
            self.refresh();
        }
        former != before
    }

    fn refresh(&mut self) {
        let all = Cut { start: 0, end: u64::MAX };
        self.fresh = self.covered(all);
    }

    /// Takes the later half out.
    pub(super) fn split(&mut self) -> Self {
        let (mut earlier, mut later) = (Self { before: self.before, ..Self::default() }, Self::default());
        for (place, row) in self.rows.iter().enumerate() {
            let half = if place < CHUNK_LEN / 2 { &mut earlier } else { &mut later };
            half.insert(*row, self.blames_of(row));
        }
        *self = earlier;
        later.follow(self.end_of_all());
        later
    }

    /// Gives back what was reserved for waits to come.
    pub(super) fn seal(&mut self) {
        self.rows.shrink_to_fit();
        self.blames.shrink_to_fit();
        self.totals.shrink_to_fit();
    }

    pub(super) fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.blames.capacity() * size_of::<Blame>()
            + self.totals.capacity() * size_of::<(u32, u64)>()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Begin of its first wait.
    pub(super) fn first(&self) -> u64 {
        self.rows.first().map_or(u64::MAX, Row::begin)
    }

    /// Begin of its last wait.
    pub(super) fn last(&self) -> u64 {
        self.rows.last().map_or(0, Row::begin)
    }

    /// Latest end of its waits.
    pub(super) fn reach(&self) -> u64 {
        self.reach
    }

    /// Latest end of its waits and all earlier ones: never goes back from chunk to chunk.
    pub(super) fn end_of_all(&self) -> u64 {
        self.before.max(self.reach)
    }

    fn blames_of(&self, row: &Row) -> &[Blame] {
        self.blames.get(usize::from(row.blames)..).and_then(|blames| blames.get(..usize::from(row.blamed))).unwrap_or_default()
    }

    fn within(&self, cut: Cut) -> bool {
        self.first() >= cut.start && self.reach <= cut.end
    }

    /// The waits that have a part in `cut`, by begin.
    pub(super) fn rows_in(&self, cut: Cut) -> impl Iterator<Item = &Row> {
        let begun = self.rows.partition_point(|row| row.begin < cut.end);
        self.rows.get(..begun).unwrap_or_default().iter().filter(move |row| row.end() > cut.start)
    }

    /// Time inside `cut` in which any of its waits lasts and none of the earlier chunks.
    fn covered(&self, cut: Cut) -> u64 {
        let mut until = self.before.max(cut.start);
        let mut covered = 0;
        for row in self.rows_in(cut) {
            let end = row.end().min(cut.end);
            covered += end.saturating_sub(row.begin.max(until));
            until = until.max(end);
        }
        covered
    }

    /// Time inside `cut` with any wait; the earlier chunks counted apart.
    pub(super) fn stalled(&self, cut: Cut) -> u64 {
        if self.within(cut) { self.fresh } else { self.covered(cut) }
    }

    /// Adds what lies inside `cut`.
    pub(super) fn measure(&self, cut: Cut, kind: DelayKind, measured: &mut Measured, picks: &mut Picks<'_>) {
        if self.within(cut) {
            measured.stalled += self.fresh;
            measured.sums.add(self.sums);
            measured.longest = measured.longest.max(self.longest);
            if picks.wants(self.longest, self.first()) {
                self.rows.iter().for_each(|row| self.pick(row, cut, kind, picks));
            }
            return;
        }
        let mut until = self.before.max(cut.start);
        for row in self.rows_in(cut) {
            let end = row.end().min(cut.end);
            measured.stalled += end.saturating_sub(row.begin.max(until));
            until = until.max(end);
            measured.sums.add(row.sums(cut));
            measured.longest = measured.longest.max(row.inside(cut));
            self.pick(row, cut, kind, picks);
        }
    }

    fn pick(&self, row: &Row, cut: Cut, kind: DelayKind, picks: &mut Picks<'_>) {
        let (inside, begin) = (row.inside(cut), row.begin.max(cut.start));
        if picks.wants(inside, begin) {
            let culprit = self.blames_of(row).first().map(|blame| blame.key);
            picks.offer(Pick { duration: inside, begin, began: row.begin, tid: row.tid(), kind, culprit });
        }
    }

    /// The waits of one thread that began at `born` or later, unpacked.
    pub(super) fn of_thread(&self, kind: DelayKind, tid: u32, born: u64) -> impl Iterator<Item = Wait> {
        let rows = self.rows.iter().filter(move |row| row.tid() == tid && row.begin >= born);
        rows.map(move |row| {
            let mut wait = Wait::new(tid, kind, Mono(row.begin), Mono(row.end()));
            wait.throttled_ns = row.whole(row.throttled);
            wait.self_ns = row.whole(row.own);
            for blame in self.blames_of(row) {
                wait.blame(CulpritKey(blame.key), row.whole(blame.part));
            }
            wait.neighbor_ns = row.whole(row.neighbor);
            wait
        })
    }

    /// Adds who ran during what lies inside `cut`.
    pub(super) fn blame(&self, cut: Cut, blames: &mut Blames<'_>) {
        if self.within(cut) {
            for (key, ns) in &self.totals {
                blames.add(*key, *ns);
            }
            return;
        }
        for row in self.rows_in(cut) {
            for blame in self.blames_of(row) {
                blames.add(blame.key, row.share(blame.part, cut));
            }
        }
    }
}
