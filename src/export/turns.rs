//! A queue in which whoever has much waiting does not keep others waiting: each one's things in their order, one of each in turn.

use std::collections::{BTreeMap, VecDeque};

/// Things that wait, by whose they are.
#[derive(Debug)]
pub struct Turns<T> {
    waiting: BTreeMap<usize, VecDeque<T>>,
    /// Everybody of whom something waits, once.
    order: VecDeque<usize>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Puts a thing behind those of the same owner.
    pub fn push(&mut self, whose: usize, thing: T) {
        let own = self.waiting.entry(whose).or_default();
        if own.is_empty() {
            self.order.push_back(whose);
        }
        own.push_back(thing);
    }

    /// The first thing of whoever's turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let whose = self.order.pop_front()?;
        let own = self.waiting.get_mut(&whose)?;
        let thing = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&whose);
        } else {
            self.order.push_back(whose);
        }
        thing
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Takes things out, wherever they stand.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.values_mut().for_each(|own| own.retain(&keep));
        self.waiting.retain(|_, own| !own.is_empty());
        self.order.retain(|whose| self.waiting.contains_key(whose));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all<T>(turns: &mut Turns<T>) -> Vec<T> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn who_comes_late_with_little_waits_for_one_of_each_other() {
        let mut turns = Turns::default();
        (0..1000).for_each(|number| turns.push(1, (1, number)));
        (0..1000).for_each(|number| turns.push(2, (2, number)));
        assert_eq!(turns.pop(), Some((1, 0)));
        turns.push(3, (3, 0));
        let next: Vec<_> = std::iter::from_fn(|| turns.pop()).take(4).collect();
        assert_eq!(next, [(2, 0), (1, 1), (3, 0), (2, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_ones_things_keep_their_order(
            steps in prop::collection::vec(prop_oneof![3 => (0_usize..5).prop_map(Some), 1 => Just(None)], 0..100),
            without in 0_u32..120,
        ) {
            let (mut turns, mut there, mut taken) = (Turns::default(), Vec::new(), Vec::new());
            for (number, step) in (0..).zip(steps) {
                match step {
                    Some(whose) => {
                        turns.push(whose, (whose, number));
                        there.push((whose, number));
                    }
                    None => taken.extend(turns.pop()),
                }
                prop_assert_eq!(turns.is_empty(), taken.len() == there.len());
            }
            turns.retain(|(_, number)| *number != without);
            there.retain(|thing| thing.1 != without || taken.contains(thing));
            let behind = all(&mut turns);
            // One of each in turn, as long as there are several.
            let mut left: Vec<usize> = behind.iter().map(|(whose, _)| *whose).collect();
            while let Some(first) = left.first().copied() {
                let others: std::collections::BTreeSet<_> = left.iter().copied().collect();
                let round: std::collections::BTreeSet<_> = left.drain(..others.len()).collect();
                prop_assert_eq!(round, others, "{}", first);
            }
            taken.extend(behind);
            for whose in 0..5 {
                let of = |things: &[(usize, u32)]| things.iter().filter(|thing| thing.0 == whose).copied().collect::<Vec<_>>();
                prop_assert_eq!(of(&taken), of(&there));
            }
        }
    }
}
