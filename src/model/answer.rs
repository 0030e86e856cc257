//! What a sender is told, whatever transport it used.

use std::time::Duration;

use bytes::Bytes;

/// An OTLP signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `opentelemetry.proto.collector.trace.v1.TraceService`
    Traces,
    /// `opentelemetry.proto.collector.metrics.v1.MetricsService`
    Metrics,
    /// `opentelemetry.proto.collector.logs.v1.LogsService`
    Logs,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The word used in configuration and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// gRPC status codes (`google.rpc.Code`), the common tongue of both transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "names are the specification's")]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub code: Code,
    /// What is wrong and what would help.
    pub message: String,
    /// How long to wait before the next try (`RetryInfo`, `Retry-After`).
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without a retry hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The same refusal with a retry hint.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

/// The body of an `Export…ServiceResponse` (protobuf), or why not.
pub type Answer = Result<Bytes, Refusal>;
