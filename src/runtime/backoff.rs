//! Pauses between tries: growing, bounded, and spread so that many who failed together do not return together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Growth of the pause from one try to the next, as the Collector has it.
const MULTIPLIER: f64 = 1.5;
/// A pause is drawn from `1 ± SPREAD` times its nominal length, as the Collector has it.
const SPREAD: f64 = 0.5;

/// Exponential back-off with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
    first: Duration,
}

impl Backoff {
    /// Pauses begin around `first` and never exceed `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max, first: first.min(max) }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let nominal = self.next;
        self.next = nominal.mul_f64(MULTIPLIER).min(self.max);
        spread(nominal, random_fraction()).min(self.max)
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `nominal` moved within `1 ± SPREAD` by `fraction`, 0..1.
fn spread(nominal: Duration, fraction: f64) -> Duration {
    nominal.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * fraction.clamp(0.0, 1.0))
}

/// 0..1, different for every call. Not for secrets: the keys of the standard library's hasher are random per process
/// and advance per use, which is all that spreading pauses needs.
fn random_fraction() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_bound_and_stays_within_the_spread() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(30));
        let mut nominal = 5.0_f64;
        for _ in 0..12 {
            let pause = backoff.pause().as_secs_f64();
            assert!(pause >= nominal * 0.5 - 1e-6 && pause <= (nominal * 1.5).min(30.0) + 1e-6, "{pause} around {nominal}");
            nominal = (nominal * 1.5).min(30.0);
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(7500));
    }

    #[test]
    fn a_first_pause_above_the_bound_is_the_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(50), Duration::from_secs(2));
        assert!(backoff.pause() <= Duration::from_secs(2));
    }

    #[test]
    fn pauses_differ() {
        let drawn: std::collections::BTreeSet<u64> = (0..32).map(|_| random_fraction().to_bits()).collect();
        assert!(drawn.len() > 16, "{} different of 32", drawn.len());
    }

    #[test]
    fn the_spread_is_symmetric() {
        let second = Duration::from_secs(1);
        assert_eq!(spread(second, 0.0), Duration::from_millis(500));
        assert_eq!(spread(second, 0.5), second);
        assert_eq!(spread(second, 1.0), Duration::from_millis(1500));
    }
}
