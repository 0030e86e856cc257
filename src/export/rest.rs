//! How long an address that refuses is passed over.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

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
}

impl Rest {
    /// It never refused.
    #[must_use]
    pub fn new() -> Self {
        Self { start: instant_now(), refusals: AtomicU32::new(0), until: AtomicU64::new(0) }
    }

    /// It refused: twice as long as after the refusal before.
    pub fn refused(&self) {
        let refusals = self.refusals.fetch_add(1, Ordering::SeqCst);
        let rest = REFUSED_FOR.saturating_mul(1 << refusals.min(10)).min(RESTS_AT_MOST);
        self.until.store(self.now().saturating_add(milliseconds(rest)), Ordering::SeqCst);
    }

    /// It took a connection.
    pub fn taken(&self) {
        self.refusals.store(0, Ordering::SeqCst);
        self.until.store(0, Ordering::SeqCst);
    }

    /// Whether it refused lately.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.now() < self.until.load(Ordering::SeqCst)
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
