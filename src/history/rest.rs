//! What polled totals know beyond the single waits: the waits too short to be told one by one.
//!
//! At a reading, the total less the single waits that had ended is what all others add up to; between readings it runs
//! straight, as polled totals do. Three things make the difference jump about, none of them a wait:
//!
//! * A reading is taken some time around the instant it bears (its blur), so of single waits that ended about then it is open whether
//!   the total has them: the difference lies in a corridor, and what is told of it moves no more than the corridor demands.
//! * A wait that migrates adds to the kernel's total when it moves (`sched_info_dequeue`), and stands here when it ends:
//!   the difference rises too early and falls back. So a fall takes back what rose before it; what it cannot take back is
//!   owed, and the next rise pays it.
//! * A total that is not known for a while proves nothing: the difference goes on from where it stood.
//!
//! So what is told of the rest is moved in time by these, but in the end adds up to what the totals say.

use std::collections::VecDeque;

use super::timeline::Timeline;

/// How far apart the clocks of readings and of single waits may be, ns: the latter's is learned from the former's.
pub(super) const CLOCKS_APART: u64 = 50_000;

/// A fall takes back what rose this long before it, and is forgiven when it has been owed for so long, ns: longer waits
/// hardly occur.
const TAKE_BACK: u64 = 10_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    at: u64,
    /// Waits that ended later are not in its total.
    until: u64,
    /// Waited beyond the single waits, ns, up to a constant. Never goes back from point to point.
    rest: i64,
}

/// The rest over time, of one subject and one kind.
#[derive(Debug, Default)]
pub(super) struct Rest {
    points: VecDeque<Point>,
    /// The newest total, as it was read.
    total: u64,
    /// Waits that ended until then are in its total.
    clear: u64,
    /// Length of these, as far as they were single ones, ns.
    ended: u64,
    /// Added to the difference, so that what is no wait does not show.
    shift: i64,
    /// The last reading did not know the total.
    broken: bool,
    /// Since when the difference has been below what is told.
    owed_since: Option<u64>,
}

impl Rest {
    /// Notes the total of a reading. `spacing`: points nearer together are thinned.
    pub(super) fn push(&mut self, (at, blur): (u64, u64), total: Option<u64>, waits: &Timeline, spacing: u64) {
        let last = self.points.back().copied();
        let Some(total) = total else {
            self.broken = last.is_some();
            return;
        };
        if last.is_some_and(|last| at <= last.at) {
            return;
        }
        let slack = blur.saturating_add(CLOCKS_APART);
        let before = self.clear;
        self.clear = at.saturating_sub(slack).max(before);
        let until = at.saturating_add(slack).max(last.map_or(0, |last| last.until));
        let Some(last) = last else {
            (self.total, self.ended) = (total, waits.ended(0, self.clear));
            self.append(Point { at, until, rest: self.highest() });
            return;
        };
        self.ended = self.ended.saturating_add(waits.ended(before, self.clear));
        if std::mem::take(&mut self.broken) {
            self.total = total;
            self.shift = self.shift.saturating_add(last.rest.saturating_sub(self.highest()));
        }
        self.total = total.max(self.total);
        self.thin(spacing);
        let highest = self.highest();
        let rest = if highest < last.rest {
            let rest = highest.max(self.take_back_floor(at));
            self.lower(rest);
            rest
        } else {
            let open = waits.ended(self.clear, until);
            last.rest.max(highest.saturating_sub(signed(open)))
        };
        self.settle(at, rest.saturating_sub(highest));
        self.append(Point { at, until, rest });
    }

    /// The difference at the newest reading, if none of the single waits in doubt is in the total.
    fn highest(&self) -> i64 {
        signed(self.total).saturating_sub(signed(self.ended)).saturating_add(self.shift)
    }

    /// Forgives what has been owed for too long.
    fn settle(&mut self, at: u64, owed: i64) {
        let since = *self.owed_since.get_or_insert(at);
        if owed <= 0 {
            self.owed_since = None;
        } else if at.saturating_sub(since) > TAKE_BACK {
            self.shift = self.shift.saturating_add(owed);
            self.owed_since = None;
        }
    }

    /// The value below which a fall at `at` does not go.
    fn take_back_floor(&self, at: u64) -> i64 {
        let older = self.points.partition_point(|point| point.at < at.saturating_sub(TAKE_BACK));
        self.points.get(older.saturating_sub(1)).map_or(i64::MIN, |point| point.rest)
    }

    /// Makes no point higher than `rest`.
    fn lower(&mut self, rest: i64) {
        for point in self.points.iter_mut().rev().take_while(|point| point.rest > rest) {
            point.rest = rest;
        }
    }

    /// Of points too near together the middle one goes.
    fn thin(&mut self, spacing: u64) {
        let newest = self.points.len().saturating_sub(1);
        if let (Some(before), Some(last)) = (newest.checked_sub(1).and_then(|at| self.points.get(at)), self.points.back())
            && last.at - before.at < spacing
        {
            self.points.pop_back();
        }
    }

    /// Where nothing rises, two points are enough.
    fn append(&mut self, point: Point) {
        let newest = self.points.len().saturating_sub(1);
        let flat = |index: Option<usize>| index.and_then(|index| self.points.get(index)).is_some_and(|at| at.rest == point.rest);
        if flat(Some(newest)) && flat(newest.checked_sub(1)) {
            self.points.pop_back();
        }
        if self.points.len() == self.points.capacity() {
            self.points.reserve_exact((self.points.len() / 4).max(4));
        }
        self.points.push_back(point);
    }

    /// A single wait has come that ended at `end`: points after it have taken it for rest until now.
    pub(super) fn note_wait(&mut self, end: u64, length: u64) {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else { return };
        // Doubt reaches as far back as ahead.
        if end <= first.at.saturating_sub(first.until - first.at) || end > last.until {
            return;
        }
        if end <= self.clear {
            self.ended = self.ended.saturating_add(length);
        }
        let from = self.points.partition_point(|point| point.until < end).max(1);
        let mut floor = self.points.get(from - 1).map_or(i64::MIN, |point| point.rest);
        for point in self.points.range_mut(from.min(self.points.len())..) {
            point.rest = point.rest.saturating_sub(signed(length)).max(floor);
            floor = point.rest;
        }
    }

    /// The rest between two instants.
    pub(super) fn between(&self, start: u64, end: u64) -> u64 {
        // Of most kinds nothing ever rises.
        if self.points.front().map(|point| point.rest) == self.points.back().map(|point| point.rest) {
            return 0;
        }
        u64::try_from(self.at(end).saturating_sub(self.at(start))).unwrap_or(0)
    }

    /// Interpolated; outside of the points as at the nearest one.
    fn at(&self, instant: u64) -> i64 {
        let later = self.points.partition_point(|point| point.at <= instant);
        match (later.checked_sub(1).and_then(|index| self.points.get(index)), self.points.get(later)) {
            (Some(before), Some(after)) => {
                let (rise, length) = (after.rest.saturating_sub(before.rest), signed(after.at - before.at).max(1));
                let passed = signed(instant - before.at);
                // 128-bit division is slow and rarely needed.
                let part = match rise.checked_mul(passed) {
                    Some(product) => product / length,
                    None => i64::try_from(i128::from(rise) * i128::from(passed) / i128::from(length)).unwrap_or(rise),
                };
                before.rest.saturating_add(part)
            }
            (Some(point), None) | (None, Some(point)) => point.rest,
            (None, None) => 0,
        }
    }

    /// Whether any total is known.
    pub(super) fn is_known(&self) -> bool {
        !self.points.is_empty()
    }

    /// Drops points older than `cutoff`, but for the last of them.
    pub(super) fn expire(&mut self, cutoff: u64) {
        let older = self.points.partition_point(|point| point.at <= cutoff);
        self.points.drain(..older.saturating_sub(1));
        if self.points.capacity() > 2 * self.points.len() + 16 {
            self.points.shrink_to(self.points.len() + self.points.len() / 4);
        }
    }

    /// Time of the point in the middle.
    pub(super) fn middle(&self) -> Option<u64> {
        self.points.get(self.points.len() / 2).map(|point| point.at)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.points.capacity() * size_of::<Point>()
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DelayKind, Mono, Wait};

    const MS: u64 = 1_000_000;

    /// Readings (time in ms, total in ms or unknown) and waits (begin, end in ms), each told when its time has come.
    fn rest(readings: &[(u64, Option<u64>)], waits: &[(u64, u64)]) -> Rest {
        let (mut rest, mut timeline) = (Rest::default(), Timeline::default());
        let mut waits = waits.iter().peekable();
        for (at, total) in readings {
            while let Some((begin, end)) = waits.next_if(|(_, end)| end <= at) {
                timeline.insert(&Wait::new(1, DelayKind::Cpu, Mono(begin * MS), Mono(end * MS)));
                rest.note_wait(end * MS, (end - begin) * MS);
            }
            rest.push((at * MS, MS), total.map(|total| total * MS), &timeline, MS);
        }
        rest
    }

    #[track_caller]
    fn check(rest: &Rest, start: u64, end: u64, expected: u64) {
        assert_eq!(rest.between(start * MS, end * MS), expected * MS, "{start}..{end}: {:?}", rest.points);
    }

    #[test]
    fn what_the_waits_do_not_explain_is_interpolated() {
        let rest = rest(&[(100, Some(7)), (200, Some(37)), (300, Some(57))], &[(130, 150), (260, 280)]);
        check(&rest, 100, 200, 10);
        check(&rest, 150, 200, 5);
        check(&rest, 0, 400, 10);
    }

    #[test]
    fn what_rose_too_early_is_taken_back() {
        // A wait from 150 to 350 that migrated at 190: 40 in the total then, 160 at its end.
        let rest = rest(&[(100, Some(0)), (200, Some(41)), (300, Some(42)), (400, Some(203))], &[(150, 350)]);
        check(&rest, 100, 400, 3);
        check(&rest, 100, 200, 3);
    }

    #[test]
    fn a_wait_that_ends_as_the_reading_is_taken_is_no_rest_on_either_side() {
        for (total, ends) in [(0, 200), (20, 200), (0, 199), (20, 201)] {
            let rest = rest(&[(100, Some(0)), (200, Some(total)), (300, Some(20)), (400, Some(25))], &[(180, ends)]);
            let expected = 25 - (ends - 180);
            check(&rest, 100, 400, expected);
            assert!(rest.between(100 * MS, 300 * MS) <= 2 * MS, "{total} {ends}: {:?}", rest.points);
        }
        for total in [0, 20] {
            check(&rest(&[(100, Some(0)), (200, Some(total))], &[(180, 200)]), 100, 200, 0);
        }
    }

    #[test]
    fn who_always_waits_when_it_is_read_has_no_rest() {
        // Whoever reads it keeps it from its CPU: half a millisecond of its wait is yet to come.
        let (mut rest, mut waits, mut total, mut told) = (Rest::default(), Timeline::default(), 0, 0);
        for number in 1..100 {
            let at = number * 20 * MS;
            rest.push((at, MS / 100), Some(total), &waits, MS);
            told += rest.between(at - 19 * MS, at);
            let wait = Wait::new(1, DelayKind::Cpu, Mono(at - MS / 2), Mono(at + MS / 2));
            waits.insert(&wait);
            rest.note_wait(wait.end.0, MS);
            total += MS + 10_000;
        }
        assert!(told < 99 * 10_000, "{told}");
    }

    #[test]
    fn a_late_reading_is_owed_what_it_did_not_see() {
        // The total stood as it was 10 ms before the instant it bears.
        let rest = rest(&[(100, Some(0)), (200, Some(0)), (300, Some(20)), (400, Some(20))], &[(175, 195)]);
        check(&rest, 100, 400, 0);
    }

    #[test]
    fn a_gap_proves_nothing() {
        let rest = rest(&[(100, Some(0)), (200, Some(10)), (300, None), (400, Some(500)), (500, Some(507))], &[]);
        check(&rest, 100, 200, 10);
        check(&rest, 200, 400, 0);
        check(&rest, 400, 500, 7);
    }

    #[test]
    fn a_debt_is_forgiven_in_the_end() {
        let mut readings = vec![(1_000, Some(0)), (1_100, Some(0))];
        readings.extend((2..300).map(|tenth| (1_000 + tenth * 100, Some(0))));
        readings.extend([(31_000, Some(3)), (31_100, Some(5))]);
        let rest = rest(&readings, &[(1_020, 1_050)]);
        check(&rest, 1_000, 30_900, 0);
        check(&rest, 30_900, 31_100, 5);
    }

    #[test]
    fn where_nothing_rises_two_points_are_enough() {
        let still: Vec<(u64, Option<u64>)> = (1..1_000).map(|at| (at * 100, Some(5))).collect();
        let rest = rest(&still, &[]);
        assert_eq!(rest.points.len(), 2);
        check(&rest, 0, 100_000, 0);
    }
}
