//! What the server counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::problem::Problem;
use crate::model::DoorCounters;

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub connections_accepted: Counter,
    /// Connections ended. Open ones are the difference.
    pub connections_ended: Counter,
    /// Connections closed at once for want of a place (`limits.max_connections`).
    pub connections_refused: Counter,
    /// Errors of `accept`, such as no file descriptor left.
    pub accept_errors: Counter,
    /// TLS handshakes and HTTP/2 prefaces that failed or took too long.
    pub handshakes_failed: Counter,
    /// Requests given to the handler.
    pub handled: Counter,
    /// Refused at the door: larger than the limit.
    pub too_large: Counter,
    /// Refused at the door: no room in the budget.
    pub over_budget: Counter,
    /// Refused at the door: slow or broken off.
    pub incomplete: Counter,
    /// Refused at the door: broken, or of a kind not served.
    pub bad: Counter,
    /// Refused because the server is being stopped, or the connection has reached its age.
    pub stopping: Counter,
    /// Answered for a handler that outstayed its deadline.
    pub timed_out: Counter,
}

impl Counters {
    /// Requests that were not taken, and connections that were not served.
    #[must_use]
    pub fn door(&self) -> DoorCounters {
        let Self { too_large, over_budget, incomplete, bad, stopping, timed_out, .. } = self;
        let unserved = [&self.connections_refused, &self.accept_errors, &self.handshakes_failed];
        DoorCounters {
            turned_away: [too_large, over_budget, incomplete, bad, stopping, timed_out].map(Counter::get),
            unserved: unserved.map(Counter::get),
        }
    }

    pub(super) fn count(&self, problem: &Problem) {
        match problem {
            Problem::TooLarge { .. } | Problem::Swollen { .. } => &self.too_large,
            Problem::OverBudget(_) => &self.over_budget,
            Problem::Slow | Problem::Gone => &self.incomplete,
            Problem::Stopping | Problem::Closing => &self.stopping,
            Problem::TimedOut => &self.timed_out,
            Problem::Broken(_)
            | Problem::UnknownCoding(_)
            | Problem::UnknownType
            | Problem::NoSuchMethod(_)
            | Problem::NotPost
            | Problem::MessageCount => &self.bad,
        }
        .add_one();
    }
}
