//! The readings of one subject, packed: 32 bytes a reading, 64 more where something beside the CPU wait moved.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{DelayKind, Evidence, Mono, Reading, Totals};

/// Values beside the CPU wait: the seven other kinds, then the cgroup's throttled clock.
pub(super) const OTHERS: usize = 8;

/// Bit of the throttled clock in a set of known values; the bits below are the delay kinds.
pub(super) const THROTTLED: u16 = 1 << 8;

/// Bit of the run time.
pub(super) const RUN: u16 = 1 << 9;

/// Parts in which a share of tasks is told: halves, thirds, quarters and so on up to sixths are exact.
pub(super) const WHOLE: u8 = 240;

/// Rows asked for at least when a deque grows.
const MIN_GROWTH: usize = 8;

/// One reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// When.
    pub(super) at: u64,
    /// CPU wait, ns.
    pub(super) cpu: u64,
    /// Time on a CPU, ns.
    pub(super) run: u64,
    /// Number of the record with the other values, wrapping.
    others: u32,
    /// How many intervals so far had, at one of their ends, another number of tasks than one; wrapping.
    pub(super) crowded: u32,
}

/// A stretch of readings that know the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    /// Number of its first row.
    first: u64,
    /// What is known: bit per delay kind, and [`THROTTLED`]. 0 is a gap.
    pub(super) known: u16,
    /// By what evidence.
    pub(super) evidence: Evidence,
    /// How many of [`WHOLE`] parts of the tasks the kinds beside the CPU wait are known of.
    pub(super) counted: u8,
}

/// The readings of one subject, oldest first.
#[derive(Debug, Default)]
pub(super) struct Series {
    rows: VecDeque<Row>,
    /// Number of the oldest row.
    first_row: u64,
    others: VecDeque<[u64; OTHERS]>,
    /// Number of the oldest record of other values.
    first_other: u32,
    eras: VecDeque<Era>,
    /// Whether the newest row had exactly one task.
    alone: bool,
    /// When a window was last asked for, on the readings' clock; 0 is never.
    asked: AtomicU64,
}

impl Series {
    /// Adds a reading. One that is not newer than the newest is ignored. Of readings nearer together than `spacing`
    /// the newest is kept and the one in the middle goes.
    pub(super) fn push(&mut self, reading: &Reading, spacing: u64) {
        let at = reading.at.0;
        if self.rows.back().is_some_and(|last| at <= last.at) {
            return;
        }
        let known = known(&reading.totals);
        let era = Era { first: 0, known, evidence: reading.evidence, counted: counted(reading) };
        let carried = self.newest_values();
        let (cpu, others) = values(&reading.totals, carried, self.eras.back().map_or(0, |era| era.known));
        let alone = reading.tasks == 1;
        let run_before = self.rows.back().map_or(0, |row| row.run);
        let middle = self.take_middle(spacing);
        let crowded = match (middle, self.rows.back()) {
            (Some(middle), Some(before)) => before.crowded.wrapping_add(u32::from(middle.crowded != before.crowded || !alone)),
            (_, Some(before)) => before.crowded.wrapping_add(u32::from(!(alone && self.alone))),
            (_, None) => 0,
        };
        self.alone = alone;
        let others = self.note_others(others);
        let run = reading.totals.run_ns.unwrap_or(0).max(run_before);
        let number = self.first_row.wrapping_add(self.rows.len().try_into().unwrap_or(u64::MAX));
        if self.eras.back().is_none_or(|last| Era { first: 0, ..*last } != era) {
            self.eras.push_back(Era { first: number, ..era });
        }
        grow(&mut self.rows);
        self.rows.push_back(Row { at, cpu, run, others, crowded });
    }

    /// Takes the newest row out if it stands nearer to the one before than `spacing` and no era begins with it.
    fn take_middle(&mut self, spacing: u64) -> Option<Row> {
        let newest = self.rows.len().checked_sub(1)?;
        let (before, last) = (*self.rows.get(newest.checked_sub(1)?)?, *self.rows.get(newest)?);
        let begins_era = self.eras.back().is_some_and(|era| self.index(era.first) == newest);
        if begins_era || last.at.saturating_sub(before.at) >= spacing {
            return None;
        }
        self.rows.pop_back();
        if before.others != last.others {
            self.others.pop_back();
        }
        Some(last)
    }

    /// The number of the record holding these values: the newest one if it does already.
    fn note_others(&mut self, others: [u64; OTHERS]) -> u32 {
        if self.others.back() != Some(&others) {
            grow(&mut self.others);
            self.others.push_back(others);
        }
        let count = u32::try_from(self.others.len()).unwrap_or(u32::MAX);
        self.first_other.wrapping_add(count).wrapping_sub(1)
    }

    fn newest_values(&self) -> (u64, [u64; OTHERS]) {
        (self.rows.back().map_or(0, |row| row.cpu), self.others.back().copied().unwrap_or_default())
    }

    fn index(&self, row_number: u64) -> usize {
        usize::try_from(row_number.wrapping_sub(self.first_row)).unwrap_or(usize::MAX)
    }

    /// Drops the `count` oldest rows.
    pub(super) fn drop_oldest(&mut self, count: usize) {
        let count = count.min(self.rows.len());
        self.rows.drain(..count);
        self.first_row = self.first_row.wrapping_add(count.try_into().unwrap_or(u64::MAX));
        match self.rows.front() {
            None => {
                self.others.clear();
                self.eras.clear();
            }
            Some(row) => {
                let unused = usize::try_from(row.others.wrapping_sub(self.first_other)).unwrap_or(0).min(self.others.len());
                self.others.drain(..unused);
                self.first_other = row.others;
                while self.eras.get(1).is_some_and(|next| self.index(next.first) == 0 || next.first < self.first_row) {
                    self.eras.pop_front();
                }
            }
        }
        shrink(&mut self.rows);
        shrink(&mut self.others);
        shrink(&mut self.eras);
    }

    /// Drops what is older than `cutoff`, but keeps the reading just before it: it is the baseline of what remains.
    pub(super) fn expire(&mut self, cutoff: u64) {
        if self.rows.get(1).is_some_and(|second| second.at <= cutoff) {
            let older = self.rows.partition_point(|row| row.at <= cutoff);
            self.drop_oldest(older.saturating_sub(1));
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.others.capacity() * size_of::<[u64; OTHERS]>()
            + self.eras.capacity() * size_of::<Era>()
    }

    /// Number of readings held.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Time of the oldest reading.
    pub(super) fn oldest(&self) -> Option<Mono> {
        self.rows.front().map(|row| Mono(row.at))
    }

    /// Time of the newest reading.
    pub(super) fn newest(&self) -> Option<Mono> {
        self.rows.back().map(|row| Mono(row.at))
    }

    /// When a window was last asked for.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes that a window was asked for.
    pub(super) fn note_asked(&self, now: u64) {
        self.asked.store(now, Ordering::Relaxed);
    }

    /// The row of this index, 0 being the oldest.
    pub(super) fn row(&self, index: usize) -> Option<&Row> {
        self.rows.get(index)
    }

    /// How many rows are not after `at`. `near`: a guess, and the answer afterwards.
    #[inline]
    pub(super) fn rows_until(&self, at: u64, near: &mut usize) -> usize {
        self.rows_while(|row| row.at <= at, near)
    }

    /// How many rows are before `at`. `near`: a guess, and the answer afterwards.
    #[inline]
    pub(super) fn rows_before(&self, at: u64, near: &mut usize) -> usize {
        self.rows_while(|row| row.at < at, near)
    }

    /// Spans of one request lie near each other: their rows are mostly those of the span before.
    #[inline]
    fn rows_while(&self, earlier: impl Fn(&Row) -> bool, near: &mut usize) -> usize {
        let last_is = near.checked_sub(1).is_none_or(|last| self.rows.get(last).is_some_and(&earlier));
        if !last_is || self.rows.get(*near).is_some_and(&earlier) {
            *near = self.rows.partition_point(earlier);
        }
        *near
    }

    /// Whether nothing but CPU wait and run time moved between two rows.
    #[inline]
    pub(super) fn only_cpu_moved(first: &Row, last: &Row) -> bool {
        first.others == last.others
    }

    /// The values beside the CPU wait at a row.
    pub(super) fn others(&self, row: &Row) -> [u64; OTHERS] {
        let index = usize::try_from(row.others.wrapping_sub(self.first_other)).unwrap_or(usize::MAX);
        self.others.get(index).copied().unwrap_or_default()
    }

    /// Eras with the indices of their first and last rows, cut to `first..=last`.
    pub(super) fn eras(&self, first: usize, last: usize) -> impl Iterator<Item = (Era, usize, usize)> + '_ {
        let end_of = move |next: Option<&Era>| next.map_or(last, |next| self.index(next.first).saturating_sub(1));
        self.eras.iter().enumerate().filter_map(move |(number, era)| {
            let begin = if era.first <= self.first_row { 0 } else { self.index(era.first) };
            let end = end_of(self.eras.get(number + 1));
            (begin <= last && end >= first).then(|| (*era, begin.max(first), end.min(last)))
        })
    }
}

/// The parts of [`WHOLE`] of a reading's tasks that are counted; never none, for then nothing would be told of them.
fn counted(reading: &Reading) -> u8 {
    let (tasks, uncounted) = (u64::from(reading.tasks.max(1)), u64::from(reading.uncounted.min(reading.tasks)));
    let parts = u64::from(WHOLE) * (tasks - uncounted) / tasks;
    u8::try_from(parts).unwrap_or(WHOLE).clamp(1, WHOLE)
}

/// The set of values a reading knows.
fn known(totals: &Totals) -> u16 {
    let kinds = DelayKind::ALL.into_iter().filter(|kind| totals.delay_ns.get(*kind).is_some());
    let bits = kinds.fold(0, |bits, kind| bits | 1u16 << (kind as u16));
    let bits = if totals.throttled_ns.is_some() { bits | THROTTLED } else { bits };
    // Without any wait it is a gap, whoever ran.
    if totals.run_ns.is_some() && bits != 0 { bits | RUN } else { bits }
}

/// What to store for a reading: unknown values stay as they stood (so that nothing moves in storage), and a value that
/// was known just before never goes back.
fn values(totals: &Totals, carried: (u64, [u64; OTHERS]), known_before: u16) -> (u64, [u64; OTHERS]) {
    let pick = |value: Option<u64>, before: u64, bit: u16| match value {
        None => before,
        Some(value) if known_before & bit != 0 => value.max(before),
        Some(value) => value,
    };
    let (cpu, mut others) = carried;
    let cpu = pick(totals.delay_ns.get(DelayKind::Cpu), cpu, 1);
    for (slot, kind) in others.iter_mut().zip(DelayKind::ALL.into_iter().skip(1)) {
        *slot = pick(totals.delay_ns.get(kind), *slot, 1 << (kind as u16));
    }
    if let Some(slot) = others.last_mut() {
        *slot = pick(totals.throttled_ns, *slot, THROTTLED);
    }
    (cpu, others)
}

/// Grows by a quarter, not by doubling: the slack counts against the budget.
fn grow<T>(deque: &mut VecDeque<T>) {
    if deque.len() == deque.capacity() {
        deque.reserve_exact(MIN_GROWTH.max(deque.len() / 4));
    }
}

fn shrink<T>(deque: &mut VecDeque<T>) {
    if deque.capacity() > 2 * deque.len() + 2 * MIN_GROWTH {
        deque.shrink_to(deque.len() + deque.len() / 4);
    }
}
