//! Times in which single waits were lost: of everybody, or of one container only.

use std::collections::{HashMap, VecDeque};

use crate::model::Subject;

/// Most holes remembered of one; past it the two oldest are one with what lies between.
pub(super) const MOST: usize = 512;
/// Most subjects with holes of their own; past it what is lost of further ones is lost of everybody.
const MOST_OWN: usize = 1024;

/// From `0` to `1`.
pub(super) type Span = (u64, u64);

/// Holes without overlaps, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes {
    holes: VecDeque<Span>,
}

impl Holes {
    fn add(&mut self, from: u64, to: u64) {
        let first = self.holes.partition_point(|hole| hole.1 < from);
        let last = self.holes.partition_point(|hole| hole.0 <= to);
        let (mut from, mut to) = (from, to);
        for hole in self.holes.range(first..last.max(first)) {
            (from, to) = (from.min(hole.0), to.max(hole.1));
        }
        self.holes.drain(first..last.max(first));
        self.holes.insert(first, (from, to));
        if self.holes.len() > MOST
            && let Some((oldest, _)) = self.holes.pop_front()
            && let Some(next) = self.holes.front_mut()
        {
            next.0 = oldest;
        }
    }

    /// Those that end after `from`.
    pub(super) fn after(&self, from: u64) -> impl Iterator<Item = Span> + '_ {
        self.holes.range(self.holes.partition_point(|hole| hole.1 <= from)..).copied()
    }

    /// Forgets what ended before.
    fn expire(&mut self, cutoff: u64) {
        while self.holes.front().is_some_and(|hole| hole.1 <= cutoff) {
            self.holes.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.holes.len()
    }
}

/// What was lost, and whose.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Of everybody.
    common: Holes,
    /// Of some, with what was lost of everybody.
    own: HashMap<Subject, Holes>,
    /// All together: of whom nobody knows which of them he is.
    any: Holes,
}

impl Lost {
    /// Some waits of this time were lost, of everybody or of one.
    pub(super) fn add(&mut self, of: Option<Subject>, from: u64, to: u64) {
        if from >= to {
            return;
        }
        self.any.add(from, to);
        match of.filter(|one| self.own.len() < MOST_OWN || self.own.contains_key(one)) {
            Some(one) => self.own.entry(one).or_insert_with(|| self.common.clone()).add(from, to),
            None => {
                self.common.add(from, to);
                self.own.values_mut().for_each(|holes| holes.add(from, to));
            }
        }
    }

    /// Whether nothing was.
    pub(super) fn is_empty(&self) -> bool {
        self.any.holes.is_empty()
    }

    /// What was lost of a container; `None`: of somebody who is in one, but nobody knows in which.
    pub(super) fn of(&self, container: Option<Subject>) -> &Holes {
        match container {
            Some(one) => self.own.get(&one).unwrap_or(&self.common),
            None => &self.any,
        }
    }

    /// Forgets what lies before `cutoff`.
    pub(super) fn expire(&mut self, cutoff: u64) {
        self.any.expire(cutoff);
        self.common.expire(cutoff);
        self.own.retain(|_, holes| {
            holes.expire(cutoff);
            !holes.holes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerKey;

    fn container(number: u64) -> Subject {
        Subject::Container(ContainerKey(number))
    }

    #[track_caller]
    fn check(lost: &Lost, of: Option<Subject>, expected: &[Span]) {
        assert_eq!(lost.of(of).after(0).collect::<Vec<_>>(), expected, "{of:?}");
    }

    #[test]
    fn what_is_lost_of_one_is_not_lost_of_others() {
        let mut lost = Lost::default();
        lost.add(None, 10, 20);
        lost.add(Some(container(1)), 30, 40);
        lost.add(None, 50, 60);
        check(&lost, Some(container(1)), &[(10, 20), (30, 40), (50, 60)]);
        check(&lost, Some(container(2)), &[(10, 20), (50, 60)]);
        check(&lost, None, &[(10, 20), (30, 40), (50, 60)]);
        lost.expire(55);
        check(&lost, Some(container(1)), &[(50, 60)]);
        lost.expire(60);
        assert!(lost.own.is_empty());
        check(&lost, Some(container(1)), &[]);
    }

    #[test]
    fn past_the_bound_everybody_lost_it() {
        let mut lost = Lost::default();
        for number in 0..=MOST_OWN as u64 {
            lost.add(Some(container(number)), 10, 20);
        }
        check(&lost, Some(container(u64::MAX)), &[(10, 20)]);
        assert_eq!(lost.own.len(), MOST_OWN);
    }
}
