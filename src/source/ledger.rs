//! Whom a container's waits are blamed on: a few by name, the rest together. Pure.
//!
//! Counters behind names must not go back, so whoever has a name keeps it for the life of the container. A newcomer gets
//! one while there are few, and later where it did twice as much of late as the least of the largest, up to a bound.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{Blamed, CulpritKind, Wall};

/// Culprits with a name for each container, as long as nobody comes who does far more.
pub(super) const TOP: usize = 10;
/// Names that a container ever gives.
const MOST: usize = 30;

/// What somebody who ran is called; two containers of one name (a life and the next) are one culprit. `None`: nobody
/// knows.
pub(super) type Culprit = Option<(CulpritKind, String)>;

#[derive(Clone, Debug)]
struct Named {
    kind: CulpritKind,
    name: String,
    since: Wall,
    ns: u64,
    /// What it did of late, older collections counting half each.
    lately: u64,
}

/// The culprits of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    named: Vec<Named>,
    /// Neighbors, and host processes, without a name.
    other_ns: [u64; 2],
}

impl Ledger {
    /// Takes what everybody did between two collections, the first of them at `from`.
    pub(super) fn take(&mut self, from: Wall, grown: BTreeMap<Culprit, u64>) {
        for named in &mut self.named {
            named.lately /= 2;
        }
        let mut grown: Vec<(Culprit, u64)> = grown.into_iter().collect();
        grown.sort_by_key(|(_, ns)| Reverse(*ns));
        for (culprit, ns) in grown {
            let Some((kind, name)) = culprit else {
                self.other(CulpritKind::Neighbor, ns);
                continue;
            };
            if let Some(named) = self.named.iter_mut().find(|named| named.kind == kind && named.name == name) {
                named.ns = named.ns.saturating_add(ns);
                named.lately = named.lately.saturating_add(ns);
            } else if self.has_room(ns) {
                self.named.push(Named { kind, name, since: from, ns, lately: ns });
            } else {
                self.other(kind, ns);
            }
        }
    }

    /// Whether a newcomer who did this much gets a name.
    fn has_room(&self, ns: u64) -> bool {
        if self.named.len() < TOP {
            return true;
        }
        let mut lately: Vec<u64> = self.named.iter().map(|named| named.lately).collect();
        lately.sort_unstable_by_key(|ns| Reverse(*ns));
        self.named.len() < MOST && lately.get(TOP - 1).is_some_and(|least| *least < ns / 2)
    }

    fn other(&mut self, kind: CulpritKind, ns: u64) {
        if let Some(sum) = self.other_ns.get_mut(usize::from(kind == CulpritKind::Host)) {
            *sum = sum.saturating_add(ns);
        }
    }

    /// Everybody, `other` where there is any; that began at `since`.
    pub(super) fn told(&self, since: Wall) -> impl Iterator<Item = Blamed> + '_ {
        let named = self.named.iter().map(|one| Blamed { name: one.name.clone(), kind: one.kind, since: one.since, ns: one.ns });
        let others = [CulpritKind::Neighbor, CulpritKind::Host].into_iter().zip(self.other_ns).filter(|(_, ns)| *ns > 0);
        named.chain(others.map(move |(kind, ns)| Blamed { name: "other".to_owned(), kind, since, ns }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn who(number: u64) -> Culprit {
        let kind = if number.is_multiple_of(2) { CulpritKind::Neighbor } else { CulpritKind::Host };
        Some((kind, format!("culprit {number}")))
    }

    fn told(ledger: &Ledger) -> Vec<(String, u64, u64)> {
        ledger.told(Wall(1)).map(|blamed| (blamed.name, blamed.since.0, blamed.ns)).collect()
    }

    fn full() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.take(Wall(1), (0..20).map(|number| (who(number), 100 - number)).collect());
        ledger
    }

    #[test]
    fn the_largest_are_named_and_the_rest_is_other_of_its_kind() {
        let ledger = full();
        let all = told(&ledger);
        assert_eq!(all.len(), TOP + 2);
        assert_eq!(all[0], ("culprit 0".to_owned(), 1, 100));
        assert_eq!(all[TOP..].iter().map(|(name, _, ns)| (name.as_str(), *ns)).collect::<Vec<_>>(), [("other", 430), ("other", 425)]);
        let mut nameless = Ledger::default();
        nameless.take(Wall(1), BTreeMap::from([(None, 5)]));
        assert_eq!(told(&nameless), [("other".to_owned(), 1, 5)]);
    }

    #[test]
    fn whoever_does_far_more_of_late_gets_a_name_too() {
        let mut ledger = full();
        ledger.take(Wall(2), BTreeMap::from([(who(30), 60)]));
        assert!(told(&ledger).iter().all(|(_, since, _)| *since == 1), "not twice as much");
        ledger.take(Wall(3), BTreeMap::from([(who(30), 60)]));
        let all = told(&ledger);
        assert_eq!(all[TOP], ("culprit 30".to_owned(), 3, 60));
        assert_eq!(all.iter().map(|(_, _, ns)| ns).sum::<u64>(), (81..=100).sum::<u64>() + 120);
    }

    #[test]
    fn names_are_bounded() {
        let mut ledger = full();
        for round in 2..60 {
            ledger.take(Wall(round), BTreeMap::from([(who(100 + round), 1 << round)]));
        }
        assert_eq!(told(&ledger).len(), MOST + 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_name_goes_back_or_begins_anew(rounds in prop::collection::vec(prop::collection::vec((0u64..40, 1u64..1_000), 0..30), 1..30)) {
            let mut ledger = Ledger::default();
            let mut before: BTreeMap<(String, bool), (u64, u64)> = BTreeMap::new();
            let mut sum = 0;
            for (round, grown) in (2..).zip(rounds) {
                let mut merged: BTreeMap<Culprit, u64> = BTreeMap::new();
                for (number, ns) in grown {
                    *merged.entry(who(number).filter(|_| number != 7)).or_default() += ns;
                    sum += ns;
                }
                ledger.take(Wall(round), merged);
                let now: BTreeMap<_, _> = ledger
                    .told(Wall(1))
                    .map(|blamed| ((blamed.name, blamed.kind == CulpritKind::Host), (blamed.since.0, blamed.ns)))
                    .collect();
                prop_assert_eq!(now.values().map(|(_, ns)| ns).sum::<u64>(), sum);
                prop_assert!(now.len() <= MOST + 2);
                for (series, (since, ns)) in &before {
                    prop_assert!(now.get(series).is_some_and(|now| now.0 == *since && now.1 >= *ns), "{:?}", series);
                }
                before = now;
            }
        }
    }
}
