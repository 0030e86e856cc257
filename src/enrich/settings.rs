//! What the wiring decides once, for all requests.

use std::fmt;

use crate::diagnose::Hints;
use crate::model::{Evidence, Verdict, Window};

/// How a window becomes a verdict: the window, the span's duration in nanoseconds, and what is known of the scope beside it.
type Judge = dyn Fn(&Window, u64, Hints) -> Verdict + Send + Sync;

/// What the wiring decides once, for all requests.
pub struct Settings {
    /// Resource attributes that an association rule names: the claims.
    pub claim_names: Vec<String>,
    /// Span attribute that holds an OS thread id, where thread scope is on.
    pub thread_attribute: Option<String>,
    /// Stall events; `None` is off.
    pub events: Option<EventSettings>,
    /// Stall spans; `None` is off.
    pub stall_spans: Option<EventSettings>,
    /// The verdict's rules (`diagnose::verdict`).
    pub verdict: Box<Judge>,
    /// Told as `stallspan.source` where a window has no evidence: the best that this host supplies.
    pub best_evidence: Evidence,
    /// Told as `stallspan.resolution` where a window has no evidence: the configured distance of readings, ns.
    pub resolution_ns: u64,
    /// Most bytes that a request may grow by. Spans past it go on as they came.
    pub max_added: usize,
}

/// `traces.events`, `traces.stall_spans`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSettings {
    /// Shortest wait that is told, ns.
    pub min_wait_ns: u64,
    /// Most waits told of one span.
    pub max_per_span: usize,
}

impl Settings {
    /// Default of `max_added`: as much again as the largest request accepted by default (20 MiB), and a half.
    pub const MAX_ADDED: usize = 32 * 1024 * 1024;
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("claim_names", &self.claim_names)
            .field("thread_attribute", &self.thread_attribute)
            .field("events", &self.events)
            .field("stall_spans", &self.stall_spans)
            .field("best_evidence", &self.best_evidence)
            .field("resolution_ns", &self.resolution_ns)
            .field("max_added", &self.max_added)
            .finish_non_exhaustive()
    }
}
