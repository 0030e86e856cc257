//! What can be wrong with a request before the handler sees it, and what the sender is told then.

use http::StatusCode;

use super::budget::OverBudget;
use crate::model::{Code, Refusal};

/// Why a request was refused at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// More than `limit` bytes, announced, arrived or inflated.
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// Compressed better than telemetry is, and larger than what is taken of such.
    Swollen {
        /// In bytes.
        limit: usize,
    },
    /// No room for it now.
    OverBudget(OverBudget),
    /// Its body did not arrive in time.
    Slow,
    /// Its body broke off.
    Gone,
    /// Not what it claims to be.
    Broken(String),
    /// A content coding not spoken here.
    UnknownCoding(String),
    /// A content type not spoken here.
    UnknownType,
    /// No such path or method.
    NoSuchMethod(String),
    /// HTTP: another method than POST.
    NotPost,
    /// gRPC: a number of messages other than one.
    MessageCount,
    /// The server is being stopped.
    Stopping,
    /// The connection has to end.
    Closing,
    /// The handler outstayed the deadline.
    TimedOut,
}

impl From<OverBudget> for Problem {
    fn from(which: OverBudget) -> Self {
        Self::OverBudget(which)
    }
}

impl Problem {
    /// As a status both transports can tell.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge { limit } => Refusal::new(
                Code::ResourceExhausted,
                format!("request is larger than {limit} bytes after inflation: send smaller batches or raise the receiver's limit"),
            ),
            Self::Swollen { limit } => Refusal::new(
                Code::ResourceExhausted,
                format!(
                    "request is larger than {limit} bytes after inflation, and was compressed better than 256 to one: send smaller batches"
                ),
            ),
            Self::OverBudget(which) => (*which).into(),
            Self::Slow => Refusal::new(Code::DeadlineExceeded, "the request's body did not arrive in time"),
            Self::Gone => Refusal::new(Code::Cancelled, "the request's body broke off"),
            Self::Broken(why) => Refusal::new(Code::InvalidArgument, why.as_str()),
            Self::UnknownCoding(name) => {
                Refusal::new(Code::Unimplemented, format!("content coding `{name}` is not supported: use gzip, zstd or identity"))
            }
            Self::UnknownType => Refusal::new(
                Code::InvalidArgument,
                "content type is not supported: use application/x-protobuf or application/json over HTTP, application/grpc over gRPC",
            ),
            Self::NoSuchMethod(path) => Refusal::new(Code::Unimplemented, format!("nothing is served at `{path}`")),
            Self::NotPost => Refusal::new(Code::Unimplemented, "only POST is served here"),
            Self::MessageCount => Refusal::new(Code::Unimplemented, "a unary call carries exactly one message"),
            Self::Stopping => Refusal::new(Code::Unavailable, "stallspan is being stopped"),
            Self::Closing => Refusal::new(Code::Unavailable, "the connection has reached its max_connection_age: send it over a new one"),
            Self::TimedOut => Refusal::new(Code::DeadlineExceeded, "no answer before the deadline"),
        }
    }

    /// The HTTP status, where the code alone does not tell it.
    #[must_use]
    pub fn http_status(&self) -> Option<StatusCode> {
        match self {
            Self::TooLarge { .. } | Self::Swollen { .. } => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Slow => Some(StatusCode::REQUEST_TIMEOUT),
            Self::Gone => Some(StatusCode::BAD_REQUEST),
            Self::UnknownCoding(_) | Self::UnknownType => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::NotPost => Some(StatusCode::METHOD_NOT_ALLOWED),
            _ => None,
        }
    }
}
