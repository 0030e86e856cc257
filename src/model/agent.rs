//! What the agent counts of its own work.

use super::{Signal, Wall};

/// What became of spans (`stallspan.outcome` of `stallspan.agent.spans`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanOutcome {
    /// Taken off the wire and answered: always the sum of forwarded, refused and failed.
    Received,
    /// Left with numbers of their container.
    Enriched,
    /// Left without, because no container of this node was found for them.
    Unmatched,
    /// Accepted downstream.
    Forwarded,
    /// Not taken: malformed, or refused downstream. Those of a request that was turned away are not known.
    Refused,
    /// Not answered: their sender went away meanwhile, or the agent was stopped; else an error of the agent's own.
    Failed,
}

impl SpanOutcome {
    /// Every outcome, in the contract's order.
    pub const ALL: [Self; 6] = [Self::Received, Self::Enriched, Self::Unmatched, Self::Forwarded, Self::Refused, Self::Failed];

    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Enriched => "enriched",
            Self::Unmatched => "unmatched",
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// Downstream accepted it.
    Forwarded,
    /// Refused, here or downstream.
    Refused,
    /// Nobody waited for the answer any more: the sender, or the agent that was stopped; else an error of the agent's own.
    Failed,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 3] = [Self::Forwarded, Self::Refused, Self::Failed];

    /// Value of `stallspan.outcome`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Why a span left without a delay on it (`stallspan.reason` of `stallspan.agent.unenriched_spans`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unenriched {
    /// No container of this node was found for its resource.
    Unmatched,
    /// No answer within `traces.max_hold`.
    Late,
    /// Start or end missing, or end before start.
    BadTimes,
    /// The history holds no reading of the span's window.
    NoReadings,
    /// The request would have grown past a limit, or did past that of an exporter's downstream, which got it as it came.
    TooLarge,
    /// Enrichment itself failed.
    Failed,
}

impl Unenriched {
    /// Every reason.
    pub const ALL: [Self; 6] = [Self::Unmatched, Self::Late, Self::BadTimes, Self::NoReadings, Self::TooLarge, Self::Failed];

    /// Value of `stallspan.reason`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unmatched => "unmatched",
            Self::Late => "late",
            Self::BadTimes => "bad_times",
            Self::NoReadings => "no_readings",
            Self::TooLarge => "too_large",
            Self::Failed => "failed",
        }
    }
}

/// Why a line of the agent's own log was left out (`stallspan.reason` of `stallspan.agent.log_lines.suppressed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOutLine {
    /// Too many of the same kind within a second.
    Repeated,
    /// Standard error did not take lines as fast as they came.
    Backlog,
}

impl LeftOutLine {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Repeated, Self::Backlog];

    /// Value of `stallspan.reason`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Backlog => "backlog",
        }
    }
}

/// What became of the kernel's word about threads that ended (`stallspan.outcome` of `stallspan.agent.exits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitOutcome {
    /// It came.
    Received,
    /// The kernel could not tell it: the buffer was full.
    Lost,
    /// It came, and the process belonged nobody knows where.
    Unplaced,
}

impl ExitOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Received, Self::Lost, Self::Unplaced];

    /// Value of `stallspan.outcome`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Lost => "lost",
            Self::Unplaced => "unplaced",
        }
    }
}

/// Why a request was refused before it was taken (`stallspan.reason` of `stallspan.agent.turned_away_requests`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TurnedAway {
    /// Larger than the receiver's limit.
    TooLarge,
    /// No room in memory, or let go for others.
    NoRoom,
    /// It did not arrive in time, or broke off.
    Incomplete,
    /// Broken, or of a kind that is not served.
    Malformed,
    /// The agent is being stopped, or the connection has to end.
    Stopping,
    /// It could not be answered before its deadline.
    TimedOut,
}

impl TurnedAway {
    /// Every reason.
    pub const ALL: [Self; 6] = [Self::TooLarge, Self::NoRoom, Self::Incomplete, Self::Malformed, Self::Stopping, Self::TimedOut];

    /// Value of `stallspan.reason`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::Incomplete => "incomplete",
            Self::Malformed => "malformed",
            Self::Stopping => "stopping",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Why a connection was not served (`stallspan.reason` of `stallspan.agent.turned_away_connections`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unserved {
    /// More than `limits.max_connections`.
    TooMany,
    /// The system could not accept one.
    NotAccepted,
    /// Its TLS handshake, or its first bytes, failed or took too long.
    Handshake,
}

impl Unserved {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::TooMany, Self::NotAccepted, Self::Handshake];

    /// Value of `stallspan.reason`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::NotAccepted => "not_accepted",
            Self::Handshake => "handshake",
        }
    }
}

/// What the receiver counts of those it does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounters {
    /// Requests, by [`TurnedAway`].
    pub turned_away: [u64; 6],
    /// Connections, by [`Unserved`].
    pub unserved: [u64; 3],
}

/// One look at the agent's own counters: cumulative since `since` unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCounters {
    /// When the agent began to count.
    pub since: Wall,
    /// Spans, by [`SpanOutcome`].
    pub spans: [u64; 6],
    /// Spans without a delay, by [`Unenriched`].
    pub unenriched: [u64; 6],
    /// Requests answered, by [`Signal`] and [`Ending`].
    pub requests: [[u64; 3]; 3],
    /// Those that were not taken.
    pub door: DoorCounters,
    /// Requests being worked on now.
    pub active_requests: u64,
    /// Bytes of requests held now.
    pub request_memory: u64,
    /// Connections open now.
    pub active_connections: u64,
    /// Exports of container metrics, by [`Ending`].
    pub metric_exports: [u64; 3],
    /// Containers left out of a metrics export because of the cap.
    pub resources_left_out: u64,
    /// Counter points that would have gone backwards and were held at their last value.
    pub points_held_back: u64,
    /// Lines of the agent's own log not written, by [`LeftOutLine`].
    pub lines_left_out: [u64; 2],
    /// Exports of the agent's own telemetry that nobody accepted, by [`Signal`].
    pub telemetry_failures: [u64; 3],
    /// Ends of threads, by [`ExitOutcome`].
    pub exits: [u64; 3],
}

impl AgentCounters {
    /// The number of spans with this outcome.
    #[must_use]
    pub fn spans(&self, outcome: SpanOutcome) -> u64 {
        self.spans.get(outcome as usize).copied().unwrap_or(0)
    }

    /// The number of requests of a signal that ended this way.
    #[must_use]
    pub fn requests(&self, signal: Signal, ending: Ending) -> u64 {
        self.requests.get(signal as usize).and_then(|endings| endings.get(ending as usize)).copied().unwrap_or(0)
    }
}
