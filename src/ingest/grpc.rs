//! OTLP/gRPC: one unary call is a head, one message behind five bytes, and trailers.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Ticket;
use super::door::{Door, Refused};
use super::heavy;
use super::inflate::Coding;
use super::message::{Message, PREFIX};
use super::problem::Problem;
use crate::framing::{Fields, put_field, put_indexed};
use crate::model::{Refusal, Signal};
use crate::otlp::status;
use crate::runtime::clock::instant_now;

/// Time for a message to arrive, where the sender sets no earlier deadline.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Content codings spoken.
const ACCEPTED: &str = "identity,gzip,zstd";
/// `:status` 200 in the fixed table (RFC 7541, Appendix A).
const STATUS_200: u8 = 8;

/// A call whose message is arriving.
#[derive(Debug)]
pub struct Call {
    signal: Signal,
    coding: Coding,
    arrival: Instant,
    timeout: Option<Duration>,
    message: Message,
    ticket: Ticket,
}

/// A call that is not answered like one: its head says that it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCall {
    /// The HTTP status.
    pub status: u16,
}

/// Why there is no call to go on with.
#[derive(Debug)]
pub enum Turned {
    /// Answered by a gRPC status.
    Away(Refused),
    /// Answered by an HTTP status.
    Back(NoCall),
}

impl<T: Into<Refused>> From<T> for Turned {
    fn from(why: T) -> Self {
        Self::Away(why.into())
    }
}

/// What the head of a request says about the call.
#[derive(Default)]
struct Asked<'f> {
    method: &'f [u8],
    path: &'f [u8],
    kind: &'f [u8],
    coding: Option<&'f [u8]>,
    timeout: Option<&'f [u8]>,
}

impl<'f> Asked<'f> {
    fn of(fields: &'f Fields) -> Self {
        let mut asked = Self::default();
        for (name, value) in fields.iter() {
            match name {
                b":method" => asked.method = value,
                b":path" => asked.path = value,
                b"content-type" => asked.kind = value,
                b"grpc-encoding" => asked.coding = Some(value),
                b"grpc-timeout" => asked.timeout = Some(value),
                _ => {}
            }
        }
        asked
    }
}

impl Call {
    /// Begins a call with its head. `limit`: largest message after inflation, bytes.
    ///
    /// # Errors
    /// Where the head says that there is nothing to wait for.
    pub fn begin(door: &Door, limit: usize, fields: &Fields, arrival: Instant) -> Result<Self, Turned> {
        let asked = Asked::of(fields);
        if fields.too_large() {
            door.house.counters.count(&Problem::Broken(String::new()));
            return Err(Turned::Back(NoCall { status: 431 }));
        }
        if !asked.kind.starts_with(b"application/grpc") {
            door.house.counters.count(&Problem::UnknownType);
            return Err(Turned::Back(NoCall { status: 415 }));
        }
        door.open()?;
        let signal = signal_of(asked.path).filter(|_| asked.method == b"POST");
        let signal = signal.ok_or_else(|| Problem::NoSuchMethod(String::from_utf8_lossy(asked.path).chars().take(200).collect()))?;
        if !is_protobuf(asked.kind) {
            return Err(Problem::UnknownType.into());
        }
        let coding = asked.coding.map_or(Ok(Coding::Identity), coding_of)?;
        let timeout = asked.timeout.map(timeout_of).transpose()?;
        Ok(Self { signal, coding, arrival, timeout, message: Message::new(limit), ticket: door.share.ticket() })
    }

    /// When the message must have arrived.
    pub fn arrives_by(&self) -> Instant {
        let timeout = self.timeout.unwrap_or(MESSAGE_TIMEOUT).min(MESSAGE_TIMEOUT);
        self.arrival.checked_add(timeout).unwrap_or(self.arrival)
    }

    /// Takes a piece of the message.
    ///
    /// # Errors
    /// Too large, too much, or no room for it.
    pub fn take(&mut self, piece: &[u8], door: &Door) -> Result<(), Problem> {
        self.message.take(piece, &mut self.ticket, &door.house.buffers)
    }

    /// Looks whether its message comes too slowly; whether it may be let go for others.
    pub fn look(&mut self) -> bool {
        self.ticket.look()
    }

    /// Ready once it was let go.
    pub fn poll_let_go(&self, context: &Context<'_>) -> Poll<()> {
        self.ticket.poll_let_go(context)
    }

    /// The whole message has arrived: when it must be answered, and what is to be done for that.
    ///
    /// # Errors
    /// It is not whole after all, or was let go before.
    pub fn whole(
        self,
        door: &Arc<Door>,
        limit: usize,
    ) -> Result<(Instant, impl Future<Output = Result<Bytes, Refused>> + Send + 'static), Refused> {
        let Self { signal, coding, arrival, timeout, message, mut ticket } = self;
        let (compressed, mut message) = message.whole()?;
        ticket.keep().map_err(Problem::from)?;
        if compressed && coding == Coding::Identity {
            return Err(Problem::Broken("a compressed message without grpc-encoding".to_owned()).into());
        }
        // A sender without a deadline waits for downstream, not for itself to send.
        let begin = if timeout.is_some() { arrival } else { instant_now() };
        let deadline = door.deadline(begin, timeout);
        let (door, runs) = (Arc::clone(door), door.standing.runs());
        let answer = async move {
            let _runs = runs;
            if compressed {
                (message, ticket) = heavy::inflated(&door.house.heavy, coding, message, limit, ticket).await?;
            }
            let buffer = message.clone();
            let answer = door.deliver(signal, message, deadline, ticket).await;
            door.house.buffers.give_back(buffer);
            answer
        };
        Ok((Door::overstayed(deadline), answer))
    }
}

fn signal_of(path: &[u8]) -> Option<Signal> {
    match path {
        b"/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        b"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        b"/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

fn is_protobuf(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

fn coding_of(name: &[u8]) -> Result<Coding, Problem> {
    let name = String::from_utf8_lossy(name);
    Coding::named(&name).ok_or_else(|| Problem::UnknownCoding(name.chars().take(50).collect()))
}

fn timeout_of(value: &[u8]) -> Result<Duration, Problem> {
    status::parse_timeout(value).ok_or_else(|| Problem::Broken("grpc-timeout is not one to eight digits and a unit".to_owned()))
}

/// The head of an accepted call's answer, a header block.
pub fn accepted_head() -> Vec<u8> {
    let mut block = Vec::new();
    put_indexed(&mut block, STATUS_200);
    put_field(&mut block, b"content-type", b"application/grpc", false);
    block
}

/// What stands before its message.
pub fn prefix(message: &Bytes) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// Its trailers.
pub fn accepted_trailers() -> Vec<u8> {
    let mut block = Vec::new();
    put_field(&mut block, b"grpc-status", b"0", false);
    block
}

/// "Trailers-Only": the refusal stands in the head, and nothing follows.
pub fn turned_away(door: &Door, refused: Refused) -> Vec<u8> {
    let unknown_coding = matches!(refused, Refused::Here(Problem::UnknownCoding(_)));
    let (refusal, _) = door.told(refused);
    let Refusal { code, message, .. } = &refusal;
    let mut block = accepted_head();
    put_field(&mut block, b"grpc-status", status::number(*code).to_string().as_bytes(), false);
    put_field(&mut block, b"grpc-message", status::encode_message(message).as_bytes(), false);
    if let Some(details) = status::details_header(&refusal) {
        put_field(&mut block, b"grpc-status-details-bin", details.as_bytes(), false);
    }
    if unknown_coding {
        put_field(&mut block, b"grpc-accept-encoding", ACCEPTED.as_bytes(), false);
    }
    block
}

/// A head that is nothing but a status.
pub fn bare(no_call: NoCall) -> Vec<u8> {
    let mut block = Vec::new();
    put_field(&mut block, b":status", no_call.status.to_string().as_bytes(), false);
    block
}
