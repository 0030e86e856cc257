//! Who was asked for in vain lately. A look at all processes costs a millisecond and makes a request wait for it: spans of
//! other nodes, relayed through this one, must not cause one each.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::model::{ClaimValue, Claims, Mono};

/// How long somebody who was not found is not looked for again.
const MEMORY_NS: u64 = 1_000_000_000;
/// Most of them remembered; past it all are forgotten, which costs looks and nothing else.
const MAX_KNOWN: usize = 4_096;

/// Claims that led nowhere, by hash, and when. Two claims with one hash are looked for once: nobody is refused anything.
#[derive(Debug, Default)]
pub struct Strangers {
    seen: Mutex<HashMap<u64, Mono>>,
    hasher: RandomState,
}

impl Strangers {
    /// Whether it is worth looking for whoever makes these claims; notes that somebody does.
    pub fn worth_a_look(&self, claims: &Claims, now: Mono) -> bool {
        if claims.attributes.is_empty() && claims.peer.pid.is_none() {
            return false;
        }
        let hash = self.hash(claims);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&hash).is_some_and(|then| now.since(*then) < MEMORY_NS) {
            return false;
        }
        if seen.len() >= MAX_KNOWN {
            seen.clear();
        }
        seen.insert(hash, now);
        true
    }

    fn hash(&self, claims: &Claims) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (claims.peer.pid, claims.peer.started).hash(&mut hasher);
        for (name, value) in &claims.attributes {
            name.hash(&mut hasher);
            match value {
                ClaimValue::Text(text) => text.hash(&mut hasher),
                ClaimValue::Int(number) => number.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Peer;

    fn claims(id: &str) -> Claims {
        Claims { attributes: vec![("container.id".to_owned(), ClaimValue::Text(id.to_owned()))], ..Claims::default() }
    }

    #[test]
    fn somebody_is_looked_for_once_a_second() {
        let strangers = Strangers::default();
        assert!(strangers.worth_a_look(&claims("a"), Mono(0)));
        assert!(!strangers.worth_a_look(&claims("a"), Mono(MEMORY_NS - 1)));
        assert!(strangers.worth_a_look(&claims("b"), Mono(1)));
        assert!(strangers.worth_a_look(&claims("a"), Mono(MEMORY_NS)));
    }

    #[test]
    fn who_claims_nothing_is_not_looked_for() {
        assert!(!Strangers::default().worth_a_look(&Claims::default(), Mono(0)));
    }

    #[test]
    fn a_process_the_kernel_names_is_looked_for() {
        let strangers = Strangers::default();
        let of = |pid| Claims { peer: Peer { pid: Some(pid), ..Peer::default() }, ..Claims::default() };
        assert!(strangers.worth_a_look(&of(7), Mono(0)));
        assert!(!strangers.worth_a_look(&of(7), Mono(1)));
        assert!(strangers.worth_a_look(&of(8), Mono(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let strangers = Strangers::default();
        for number in 0..=MAX_KNOWN {
            assert!(strangers.worth_a_look(&claims(&number.to_string()), Mono(0)));
        }
        assert!(strangers.seen.lock().unwrap().len() <= MAX_KNOWN);
    }
}
