//! So many lines of one kind a second, and no more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tracing::callsite::Identifier;

use crate::model::Mono;

/// Lines of one kind in one second.
const LINES_A_SECOND: u32 = 10;

/// One second.
const SECOND_NS: u64 = 1_000_000_000;

/// Places in the code told apart; what comes from further ones is limited together. There are a few hundred in the whole binary.
const MAX_PLACES: usize = 4_096;

/// Lets through so many lines a second of each place in the code, and remembers how many it did not.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    places: Mutex<HashMap<Option<Identifier>, Place>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    second: Mono,
    passed: u32,
    left_out: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Write it; so many of its kind were left out since the last one written.
    Pass {
        left_out: u64,
    },
    LeaveOut,
}

impl Limiter {
    /// Rules on one line.
    pub(super) fn rule(&self, place: Identifier, now: Mono) -> Ruling {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Some(place).filter(|place| places.len() < MAX_PLACES || places.contains_key(&Some(place.clone())));
        let place = places.entry(place).or_default();
        if now.since(place.second) >= SECOND_NS {
            place.second = now;
            place.passed = 0;
        }
        if place.passed >= LINES_A_SECOND {
            place.left_out = place.left_out.saturating_add(1);
            return Ruling::LeaveOut;
        }
        place.passed = place.passed.saturating_add(1);
        Ruling::Pass { left_out: std::mem::take(&mut place.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::metadata::Kind;

    use super::*;

    fn places() -> [Identifier; 2] {
        static A: tracing::callsite::DefaultCallsite = tracing::callsite::DefaultCallsite::new(META);
        static B: tracing::callsite::DefaultCallsite = tracing::callsite::DefaultCallsite::new(META);
        static META: &tracing::Metadata<'static> = &tracing::Metadata::new(
            "event",
            "stallspan",
            tracing::Level::WARN,
            None,
            None,
            None,
            tracing::field::FieldSet::new(&[], tracing::callsite::Identifier(&A)),
            Kind::EVENT,
        );
        let _same = A.metadata();
        [Identifier(&A), Identifier(&B)]
    }

    #[test]
    fn ten_a_second_of_each_place_and_the_next_one_says_how_many_are_missing() {
        let limiter = Limiter::default();
        let [a, b] = places();
        let start = 5 * SECOND_NS;
        for nanosecond in 0..10 {
            assert_eq!(limiter.rule(a.clone(), Mono(start + nanosecond)), Ruling::Pass { left_out: 0 });
        }
        for nanosecond in 10..25 {
            assert_eq!(limiter.rule(a.clone(), Mono(start + nanosecond)), Ruling::LeaveOut);
        }
        assert_eq!(limiter.rule(b, Mono(start + 25)), Ruling::Pass { left_out: 0 }, "another place is not concerned");
        assert_eq!(limiter.rule(a.clone(), Mono(start + SECOND_NS - 1)), Ruling::LeaveOut);
        assert_eq!(limiter.rule(a.clone(), Mono(start + SECOND_NS)), Ruling::Pass { left_out: 16 });
        assert_eq!(limiter.rule(a, Mono(start + SECOND_NS + 1)), Ruling::Pass { left_out: 0 });
    }
}
