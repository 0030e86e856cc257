//! What the agent counts of its own work, as atomics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::model::{AgentCounters, DoorCounters, Ending, LeftOutLine, Signal, SpanOutcome, Unenriched, Wall};

/// The agent's counters. Relaxed throughout: each is right by itself, and the one sum that must hold at every instant
/// (received = forwarded + refused + failed) is formed when they are read.
#[derive(Debug)]
pub struct Counters {
    since: Wall,
    settled_spans: [AtomicU64; 3],
    enriched: AtomicU64,
    unenriched: [AtomicU64; 6],
    requests: [[AtomicU64; 3]; 3],
    door: OnceLock<Door>,
    active_requests: AtomicU64,
    request_memory: AtomicU64,
    active_connections: AtomicU64,
    metric_exports: [AtomicU64; 3],
    resources_left_out: AtomicU64,
    points_held_back: AtomicU64,
    lines_left_out: [AtomicU64; 2],
    telemetry_failures: [AtomicU64; 3],
    exits: [AtomicU64; 3],
}

/// Where the receiver counts.
struct Door(Box<dyn Fn() -> DoorCounters + Send + Sync>);

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(formatter)
    }
}

impl Counters {
    /// All zero, counting from `since`.
    #[must_use]
    pub fn new(since: Wall) -> Arc<Self> {
        Arc::new(Self {
            since,
            settled_spans: Default::default(),
            enriched: AtomicU64::default(),
            unenriched: Default::default(),
            requests: Default::default(),
            door: OnceLock::new(),
            active_requests: AtomicU64::default(),
            request_memory: AtomicU64::default(),
            active_connections: AtomicU64::default(),
            metric_exports: Default::default(),
            resources_left_out: AtomicU64::default(),
            points_held_back: AtomicU64::default(),
            lines_left_out: Default::default(),
            telemetry_failures: Default::default(),
            exits: Default::default(),
        })
    }

    /// A request of a signal was answered; `spans` is how many spans it carried (0 for other signals).
    pub fn settled(&self, signal: Signal, ending: Ending, spans: u64) {
        add(self.requests.get(signal as usize).and_then(|endings| endings.get(ending as usize)), 1);
        add(self.settled_spans.get(ending as usize), spans);
    }

    /// What the receiver counts is told with the rest from now on; the first one.
    pub fn with_door(&self, look: impl Fn() -> DoorCounters + Send + Sync + 'static) {
        let _there_is_one = self.door.set(Door(Box::new(look)));
    }

    /// Spans got numbers of their container.
    pub fn enriched(&self, spans: u64) {
        add(Some(&self.enriched), spans);
    }

    /// Spans go on without a delay.
    pub fn unenriched(&self, reason: Unenriched, spans: u64) {
        add(self.unenriched.get(reason as usize), spans);
    }

    /// Holds a request of so many bytes as being worked on, until the guard is dropped.
    #[must_use]
    pub fn hold_request(self: &Arc<Self>, bytes: u64) -> HeldRequest {
        add(Some(&self.active_requests), 1);
        add(Some(&self.request_memory), bytes);
        HeldRequest { counters: Arc::clone(self), bytes }
    }

    /// Holds a connection as open, until the guard is dropped.
    #[must_use]
    pub fn open_connection(self: &Arc<Self>) -> OpenConnection {
        add(Some(&self.active_connections), 1);
        OpenConnection { counters: Arc::clone(self) }
    }

    /// A request with container metrics ended.
    pub fn metrics_exported(&self, ending: Ending) {
        add(self.metric_exports.get(ending as usize), 1);
    }

    /// What the encoder left out and held back in one collection.
    pub fn metrics_encoded(&self, resources_left_out: u64, points_held_back: u64) {
        add(Some(&self.resources_left_out), resources_left_out);
        add(Some(&self.points_held_back), points_held_back);
    }

    /// A line of the log was left out.
    pub fn line_left_out(&self, reason: LeftOutLine) {
        add(self.lines_left_out.get(reason as usize), 1);
    }

    /// Own telemetry was not accepted.
    pub fn telemetry_failed(&self, signal: Signal) {
        add(self.telemetry_failures.get(signal as usize), 1);
    }

    /// The kernel told so many more ends of threads; `lost` is how many it could not tell so far, which only grows.
    pub fn exits(&self, received: u64, lost: u64) {
        let [told, missing, _] = &self.exits;
        add(Some(told), received);
        missing.fetch_max(lost, Ordering::Relaxed);
    }

    /// A process ended of which nobody knows where it belonged.
    pub fn exit_unplaced(&self) {
        let [_, _, unplaced] = &self.exits;
        add(Some(unplaced), 1);
    }

    /// One look at all of them.
    #[must_use]
    pub fn snapshot(&self) -> AgentCounters {
        let unenriched = read(&self.unenriched);
        let [forwarded, refused, failed] = read(&self.settled_spans);
        let received = forwarded.saturating_add(refused).saturating_add(failed);
        let [unmatched, ..] = unenriched;
        let mut spans = [0; 6];
        for (outcome, slot) in SpanOutcome::ALL.into_iter().zip(&mut spans) {
            *slot = match outcome {
                SpanOutcome::Received => received,
                SpanOutcome::Enriched => self.enriched.load(Ordering::Relaxed),
                SpanOutcome::Unmatched => unmatched,
                SpanOutcome::Forwarded => forwarded,
                SpanOutcome::Refused => refused,
                SpanOutcome::Failed => failed,
            };
        }
        AgentCounters {
            since: self.since,
            spans,
            unenriched,
            requests: self.requests.each_ref().map(read),
            door: self.door.get().map(|door| door.0()).unwrap_or_default(),
            active_requests: self.active_requests.load(Ordering::Relaxed),
            request_memory: self.request_memory.load(Ordering::Relaxed),
            active_connections: self.active_connections.load(Ordering::Relaxed),
            metric_exports: read(&self.metric_exports),
            resources_left_out: self.resources_left_out.load(Ordering::Relaxed),
            points_held_back: self.points_held_back.load(Ordering::Relaxed),
            lines_left_out: read(&self.lines_left_out),
            telemetry_failures: read(&self.telemetry_failures),
            exits: read(&self.exits),
        }
    }
}

/// A request being worked on.
#[derive(Debug)]
pub struct HeldRequest {
    counters: Arc<Counters>,
    bytes: u64,
}

impl HeldRequest {
    /// The request grew or shrank to this many bytes.
    pub fn resize(&mut self, bytes: u64) {
        add(Some(&self.counters.request_memory), bytes.wrapping_sub(self.bytes));
        self.bytes = bytes;
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.counters.active_requests.fetch_sub(1, Ordering::Relaxed);
        self.counters.request_memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An open connection.
#[derive(Debug)]
pub struct OpenConnection {
    counters: Arc<Counters>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counters.active_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: Option<&AtomicU64>, count: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

fn read<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    counters.each_ref().map(|counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_received_are_those_settled_whatever_happened_to_them() {
        let counters = Counters::new(Wall(7));
        counters.settled(Signal::Traces, Ending::Forwarded, 10);
        counters.settled(Signal::Traces, Ending::Refused, 3);
        counters.settled(Signal::Traces, Ending::Failed, 1);
        counters.settled(Signal::Logs, Ending::Forwarded, 0);
        counters.enriched(8);
        counters.unenriched(Unenriched::Unmatched, 2);
        counters.unenriched(Unenriched::Late, 4);
        let snapshot = counters.snapshot();
        assert_eq!(SpanOutcome::ALL.map(|outcome| snapshot.spans(outcome)), [14, 8, 2, 10, 3, 1]);
        assert_eq!(snapshot.requests(Signal::Traces, Ending::Forwarded), 1);
        assert_eq!(snapshot.requests(Signal::Logs, Ending::Forwarded), 1);
        assert_eq!(snapshot.unenriched, [2, 4, 0, 0, 0, 0]);
        assert_eq!(snapshot.since, Wall(7));
    }

    #[test]
    fn what_is_held_is_given_back_when_the_guard_goes() {
        let counters = Counters::new(Wall(0));
        let mut request = counters.hold_request(100);
        let connection = counters.open_connection();
        request.resize(40);
        let during = counters.snapshot();
        assert_eq!((during.active_requests, during.request_memory, during.active_connections), (1, 40, 1));
        drop((request, connection));
        let after = counters.snapshot();
        assert_eq!((after.active_requests, after.request_memory, after.active_connections), (0, 0, 0));
    }
}
