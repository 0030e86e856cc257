//! What a window adds up: sums, the longest waits, who ran meanwhile. Fixed in size: asking allocates no more than it tells.

use smallvec::SmallVec;

use crate::model::DelayKind;

/// Most waits told of one window.
pub(super) const MOST_PICKS: usize = 128;

/// As many need no memory from the heap.
const USUAL_PICKS: usize = 16;

/// Culprits counted side by side. Whoever ran for more than one part in `MOST_BLAMED` + 1 of the time is among them.
const MOST_BLAMED: usize = 32;

/// Sums over waits, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) waited: u64,
    pub(super) throttled: u64,
    pub(super) own: u64,
    pub(super) neighbor: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: Self) {
        self.waited = self.waited.saturating_add(other.waited);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.own = self.own.saturating_add(other.own);
        self.neighbor = self.neighbor.saturating_add(other.neighbor);
    }
}

/// Waits of one kind inside a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) sums: Sums,
    /// Time in which any wait lasted.
    pub(super) stalled: u64,
    /// Longest part of a wait.
    pub(super) longest: u64,
}

/// The part of a wait inside a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) duration: u64,
    pub(super) begin: u64,
    /// Begin of the whole wait.
    pub(super) began: u64,
    pub(super) tid: u32,
    pub(super) kind: DelayKind,
    pub(super) culprit: Option<u32>,
}

impl Pick {
    /// Whether it goes before the other: the longer, then the earlier; the rest only so that there is one order.
    fn before(&self, other: &Self) -> bool {
        let rank = |pick: &Self| (u64::MAX - pick.duration, pick.begin, pick.kind, pick.culprit, pick.tid);
        rank(self) < rank(other)
    }
}

/// The longest waits of a window, longest first.
#[derive(Debug)]
pub(super) struct Picks<'a> {
    picks: SmallVec<[Pick; USUAL_PICKS]>,
    most: usize,
    least_ns: u64,
    /// Culprits who belong to those asked about: they are none.
    own: &'a [u32],
}

impl<'a> Picks<'a> {
    pub(super) fn new(most: usize, least_ns: u64, own: &'a [u32]) -> Self {
        Self { picks: SmallVec::new(), most: most.min(MOST_PICKS), least_ns: least_ns.max(1), own }
    }

    /// Whether a wait of this length and begin can be among them, or a later and shorter one.
    pub(super) fn wants(&self, duration: u64, begin: u64) -> bool {
        let beats = |last: &Pick| duration > last.duration || duration == last.duration && begin <= last.begin;
        duration >= self.least_ns && (self.picks.len() < self.most || self.picks.last().is_some_and(beats))
    }

    pub(super) fn offer(&mut self, pick: Pick) {
        let pick = Pick { culprit: pick.culprit.filter(|key| !self.own.contains(key)), ..pick };
        let place = self.picks.partition_point(|longer| longer.before(&pick));
        if place >= self.most {
            return;
        }
        self.picks.truncate(self.most - 1);
        self.picks.insert(place, pick);
    }

    pub(super) fn as_slice(&self) -> &[Pick] {
        &self.picks
    }
}

/// Who ran, and for how long. Where there are too many, each newcomer is set off against all that are counted
/// (Misra and Gries, "Finding repeated elements"), which keeps the large ones; a second pass then counts these exactly.
#[derive(Debug)]
pub(super) struct Blames<'a> {
    slots: [(u32, u64); MOST_BLAMED],
    used: usize,
    crowded: bool,
    recount: bool,
    own: &'a [u32],
    /// While those ran who belong to those asked about.
    pub(super) own_ns: u64,
}

impl<'a> Blames<'a> {
    pub(super) fn new(own: &'a [u32]) -> Self {
        Self { slots: [(0, 0); MOST_BLAMED], used: 0, crowded: false, recount: false, own, own_ns: 0 }
    }

    pub(super) fn add(&mut self, key: u32, ns: u64) {
        if self.own.contains(&key) {
            self.own_ns = self.own_ns.saturating_add(if self.recount { 0 } else { ns });
            return;
        }
        let slots = self.slots.get_mut(..self.used).unwrap_or_default();
        if let Some((_, total)) = slots.iter_mut().find(|(known, _)| *known == key) {
            *total = total.saturating_add(ns);
        } else if !self.recount {
            let ns = if self.used == MOST_BLAMED { self.set_off(ns) } else { ns };
            if let Some(slot) = self.slots.get_mut(self.used).filter(|_| ns > 0) {
                *slot = (key, ns);
                self.used += 1;
            }
        }
    }

    /// Takes the least of all away from all, and from `ns`; what remains of it.
    fn set_off(&mut self, ns: u64) -> u64 {
        self.crowded = true;
        let least = self.slots.iter().map(|(_, total)| *total).min().unwrap_or(0).min(ns);
        let mut kept = 0;
        for place in 0..MOST_BLAMED {
            let Some((key, total)) = self.slots.get(place).copied().filter(|(_, total)| *total > least) else { continue };
            if let Some(slot) = self.slots.get_mut(kept) {
                *slot = (key, total - least);
                kept += 1;
            }
        }
        self.used = kept;
        ns - least
    }

    /// Begins the second pass, where one is needed.
    pub(super) fn recount(&mut self) -> bool {
        if self.crowded {
            self.recount = true;
            self.slots.iter_mut().for_each(|(_, total)| *total = 0);
        }
        self.crowded
    }

    /// Who ran longest; of equals the lowest number.
    pub(super) fn largest(&self) -> Option<(u32, u64)> {
        let slots = self.slots.get(..self.used).unwrap_or_default();
        slots.iter().copied().max_by_key(|(key, ns)| (*ns, std::cmp::Reverse(*key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICK: Pick = Pick { duration: 0, begin: 0, began: 0, tid: 1, kind: DelayKind::Cpu, culprit: None };

    #[test]
    fn the_longest_come_first_whatever_the_order() {
        let mut picks = Picks::new(3, 10, &[7]);
        for (duration, begin, culprit) in [(20, 5, Some(1)), (9, 1, None), (30, 9, Some(7)), (20, 4, None), (25, 0, None), (19, 0, None)] {
            if picks.wants(duration, begin) {
                picks.offer(Pick { duration, begin, culprit, ..PICK });
            }
        }
        let found: Vec<_> = picks.as_slice().iter().map(|pick| (pick.duration, pick.begin, pick.culprit)).collect();
        assert_eq!(found, [(30, 9, None), (25, 0, None), (20, 4, None)]);
    }

    #[test]
    fn none_are_wanted_where_none_may_be_told() {
        let mut picks = Picks::new(0, 1, &[]);
        assert!(!picks.wants(u64::MAX, 0));
        picks.offer(Pick { duration: 5, ..PICK });
        assert!(picks.as_slice().is_empty());
    }

    #[test]
    fn a_tenth_is_found_among_hundreds_and_counted_exactly() {
        let crowd: Vec<(u32, u64)> =
            (100..1_000).map(|key| (key, 10)).chain([(5, 600), (6, 700)]).chain((100..500).map(|key| (key, 3))).collect();
        let mut blames = Blames::new(&[]);
        for pass in 0..2 {
            for (key, ns) in &crowd {
                blames.add(*key, *ns);
            }
            if pass == 0 {
                assert!(blames.recount());
            }
        }
        assert_eq!(blames.largest(), Some((6, 700)));
    }

    #[test]
    fn ones_own_are_no_culprits() {
        let mut blames = Blames::new(&[5]);
        for (key, ns) in [(5, 100), (6, 10), (4, 10), (5, 1)] {
            blames.add(key, ns);
        }
        assert_eq!((blames.largest(), blames.own_ns, blames.recount()), (Some((4, 10)), 101, false));
    }
}
