//! When single waits were seen: from where to where an event source told all of them, and where it lost some.

use std::collections::VecDeque;

use super::chunk::Cut;
use super::holes::{Lost, MOST, Span};
use crate::model::{EventFields, Subject};

/// How much of a window was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Nanoseconds of the window.
    pub(super) ns: u64,
    /// Longest stretch of it that was not seen.
    pub(super) hole: u64,
    /// Whether an empty window was seen.
    pub(super) instant: bool,
}

/// Where single waits were seen.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// In which an event source told of all waits that ended; the newest may still grow.
    stretches: VecDeque<Span>,
    /// Where some were lost.
    lost: Lost,
    live: bool,
    fields: EventFields,
}

impl Sight {
    /// An event source begins to see.
    pub(super) fn begin(&mut self, at: u64, fields: EventFields) {
        if self.stretches.len() >= MOST {
            self.stretches.pop_front();
        }
        self.stretches.push_back((at, at));
        self.live = true;
        self.fields = fields;
    }

    /// All waits that ended until `at` have been told.
    pub(super) fn extend(&mut self, at: u64) {
        if let Some((_, until)) = self.stretches.back_mut().filter(|_| self.live) {
            *until = at.max(*until);
        }
    }

    /// The event source sees no more.
    pub(super) fn end(&mut self) {
        self.live = false;
    }

    /// Whether an event source sees now.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether nothing was ever seen.
    pub(super) fn is_blind(&self) -> bool {
        self.stretches.is_empty() && self.lost.is_empty()
    }

    /// What the newest event source sees.
    pub(super) fn fields(&self) -> EventFields {
        self.fields
    }

    /// Some waits that lasted in this time were lost, of everybody or of one container.
    pub(super) fn lose(&mut self, of: Option<Subject>, from: u64, to: u64) {
        self.lost.add(of, from, to);
    }

    /// How much of `cut` lies where waits were lost of somebody of whom nothing is known before `known_from`, ns. `container`:
    /// that one is in it, or it is that one.
    pub(super) fn lost(&self, cut: Cut, known_from: u64, container: Option<Subject>) -> u64 {
        let from = cut.start.max(known_from);
        let holes = self.lost.of(container).after(from).take_while(|hole| hole.0 < cut.end);
        holes.map(|hole| hole.1.min(cut.end).saturating_sub(hole.0.max(from))).sum()
    }

    /// How much of `cut` was seen of somebody of whom nothing is known before `known_from`.
    pub(super) fn seen(&self, cut: Cut, known_from: u64, container: Option<Subject>) -> Seen {
        let mut seen = Seen::default();
        let mut until = cut.start;
        let first = self.stretches.partition_point(|stretch| stretch.1 < cut.start);
        for stretch in self.stretches.range(first..).take_while(|stretch| stretch.0 <= cut.end) {
            let (mut from, to) = (stretch.0.max(cut.start).max(known_from), stretch.1.min(cut.end));
            let mut piece = |from: u64, to: u64| {
                if from <= to {
                    seen.instant = true;
                    seen.ns += to - from;
                    seen.hole = seen.hole.max(from.saturating_sub(until));
                    until = until.max(to);
                }
            };
            for hole in self.lost.of(container).after(from).take_while(|hole| hole.0 < to) {
                piece(from, hole.0);
                from = from.max(hole.1);
            }
            piece(from, to);
        }
        seen.hole = seen.hole.max(cut.end.saturating_sub(until));
        seen
    }

    /// The largest part of `whole` around `inner` of which everything was seen and nothing lost.
    pub(super) fn all_seen_around(&self, inner: Cut, whole: Cut, known_from: u64, container: Option<Subject>) -> Option<Cut> {
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.0 <= inner.start && inner.end <= stretch.1)?;
        let seen = Cut { start: whole.start.max(stretch.0).max(known_from), end: whole.end.min(stretch.1) };
        let none_lost = self.lost.of(container).after(seen.start).next().is_none_or(|hole| hole.0 >= seen.end);
        (seen.start <= inner.start && none_lost).then_some(seen)
    }

    /// Forgets what lies before `cutoff`, which then counts as not seen.
    pub(super) fn expire(&mut self, cutoff: u64) {
        self.lost.expire(cutoff);
        while self.stretches.len() > 1 && self.stretches.front().is_some_and(|stretch| stretch.1 <= cutoff) {
            self.stretches.pop_front();
        }
        if let Some((from, until)) = self.stretches.front_mut() {
            (*from, *until) = ((*from).max(cutoff), (*until).max(cutoff));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(stretches: &[Span], holes: &[Span]) -> Sight {
        let mut sight = Sight::default();
        for (from, until) in stretches {
            sight.begin(*from, EventFields::default());
            sight.extend(*until);
            sight.end();
        }
        for (from, to) in holes {
            sight.lose(None, *from, *to);
        }
        sight
    }

    #[track_caller]
    fn check(sight: &Sight, start: u64, end: u64, known_from: u64, ns: u64, hole: u64) {
        let seen = sight.seen(Cut { start, end }, known_from, None);
        assert_eq!((seen.ns, seen.hole), (ns, hole), "{start}..{end}");
    }

    #[test]
    fn what_lies_in_stretches_and_not_in_holes_was_seen() {
        let sight = sight(&[(100, 200), (300, 400)], &[(320, 340), (120, 130), (330, 350), (350, 355)]);
        check(&sight, 100, 200, 0, 90, 10);
        check(&sight, 140, 200, 0, 60, 0);
        check(&sight, 120, 130, 0, 0, 10);
        check(&sight, 125, 150, 0, 20, 5);
        check(&sight, 150, 350, 0, 70, 100);
        check(&sight, 0, 1_000, 0, 90 + 65, 600);
        check(&sight, 150, 200, 180, 20, 30);
        check(&sight, 150, 200, 500, 0, 50);
        check(&sight, 200, 300, 0, 0, 100);
    }

    #[test]
    fn what_lies_in_holes_was_lost() {
        let sight = sight(&[(100, 200), (300, 400)], &[(120, 130), (330, 350)]);
        let lost = |start, end, known_from| sight.lost(Cut { start, end }, known_from, None);
        assert_eq!([lost(0, 500, 0), lost(125, 340, 0), lost(130, 330, 0), lost(122, 124, 0)], [30, 15, 0, 2]);
        assert_eq!([lost(0, 500, 125), lost(0, 500, 340), lost(0, 500, u64::MAX)], [25, 10, 0]);
    }

    #[test]
    fn an_instant_is_seen_inside_a_stretch() {
        let sight = sight(&[(100, 200)], &[(120, 130)]);
        let instant = |at| sight.seen(Cut { start: at, end: at }, 0, None).instant;
        assert_eq!([99, 100, 119, 125, 150, 200, 201].map(instant), [false, true, true, false, true, true, false]);
    }

    #[test]
    fn too_many_holes_become_larger_ones() {
        let mut sight = sight(&[(0, 1_000_000)], &[]);
        for hole in 0..2 * MOST as u64 {
            sight.lose(None, hole * 100, hole * 100 + 1);
        }
        assert_eq!(sight.lost.of(None).len(), MOST);
        check(&sight, 50, 60, 0, 0, 10);
        check(&sight, 99_950, 99_960, 0, 10, 0);
    }
}
