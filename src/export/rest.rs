//! How long an address that refuses is passed over.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::dial::CONNECT;
use crate::runtime::clock::instant_now;

/// An address that refused is not asked again for this long, so that many requests do not queue for one refusal.
pub const REFUSED_FOR: Duration = Duration::from_millis(250);
/// An address that keeps refusing is passed over for up to this long while another one answers.
pub const RESTS_AT_MOST: Duration = Duration::from_secs(30);

/// Refusals of one address since it last took a connection.
#[derive(Debug)]
pub struct Rest {
    start: Instant,
    refusals: AtomicU32,
    /// Milliseconds from `start`.
    until: AtomicU64,
    /// Somebody tries whether it is still so.
    tried: AtomicBool,
}

impl Rest {
    /// It never refused.
    #[must_use]
    pub fn new() -> Self {
        Self { start: instant_now(), refusals: AtomicU32::new(0), until: AtomicU64::new(0), tried: AtomicBool::new(false) }
    }

    /// It refused: it rests twice as long as after the refusal before. Of many that tried at one time the first is counted.
    pub fn refused(&self) {
        if !self.tried.swap(false, Ordering::SeqCst) && self.now() < self.until.load(Ordering::SeqCst) {
            return;
        }
        let refusals = self.refusals.fetch_add(1, Ordering::SeqCst);
        let rest = REFUSED_FOR.saturating_mul(1 << refusals.min(10)).min(RESTS_AT_MOST);
        self.until.store(self.now().saturating_add(milliseconds(rest)), Ordering::SeqCst);
    }

    /// It took a connection.
    pub fn taken(&self) {
        self.refusals.store(0, Ordering::SeqCst);
        self.until.store(0, Ordering::SeqCst);
        self.tried.store(false, Ordering::SeqCst);
    }

    /// Whether it refused lately. At the end of its rest one who asks is told that it does not, and is to try; it rests for
    /// all others as long as that may take.
    #[must_use]
    pub fn rests(&self) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        if until == 0 {
            return false;
        }
        let now = self.now();
        if now < until {
            return true;
        }
        let trial = now.saturating_add(milliseconds(CONNECT));
        let is_first = self.until.compare_exchange(until, trial, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if is_first {
            self.tried.store(true, Ordering::SeqCst);
        }
        !is_first
    }

    /// Milliseconds since it was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        milliseconds(instant_now().duration_since(self.start))
    }
}

/// As a whole number.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rested(rest: &Rest) -> u64 {
        rest.until.load(Ordering::SeqCst).saturating_sub(rest.now())
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_at_one_time_are_one_and_one_at_a_time_tries_again() {
        let rest = Rest::new();
        assert!(!rest.rests() && !rest.rests());
        for refusals in 0..3 {
            for _ in 0..8 {
                rest.refused();
            }
            let expected = milliseconds(REFUSED_FOR) << refusals;
            assert_eq!((rested(&rest), rest.rests()), (expected, true));
            tokio::time::advance(Duration::from_millis(expected)).await;
            assert_eq!([rest.rests(), rest.rests()], [false, true], "the first tries");
        }
        rest.taken();
        assert!(!rest.rests() && !rest.rests());
        rest.refused();
        assert_eq!(rested(&rest), milliseconds(REFUSED_FOR));
    }
}
