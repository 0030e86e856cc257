//! OTLP/gRPC: one unary call is a path, a frame of five bytes and a message, and trailers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::body::{Collected, Pieces};
use super::budget::Ticket;
use super::door::{Door, Refused};
use super::inflate::{Coding, inflate};
use super::problem::Problem;
use super::reply::Reply;
use crate::model::{Refusal, Signal};
use crate::otlp::status;
use crate::runtime::clock::instant_now;

/// Time for a message to arrive, where the sender sets no earlier deadline.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Compressed-flag and length, gRPC over HTTP/2 "Length-Prefixed-Message".
const PREFIX: usize = 5;
/// Content codings spoken.
const ACCEPTED: &str = "identity,gzip,zstd";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Serves one call. `limit`: largest message after inflation, bytes.
pub async fn serve<B>(door: &Door, limit: usize, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin,
{
    let arrival = instant_now();
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !kind.starts_with(GRPC.as_bytes()) {
        door.house.counters.count(&Problem::UnknownType);
        return bare(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    match call(door, limit, request, arrival).await {
        Ok(message) => accepted(&message),
        Err(refused) => {
            let unknown_coding = matches!(refused, Refused::Here(Problem::UnknownCoding(_)));
            let (refusal, _) = door.told(refused);
            let mut response = turned_away(&refusal);
            if unknown_coding {
                response.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
            }
            response
        }
    }
}

async fn call<B>(door: &Door, limit: usize, request: Request<B>, arrival: Instant) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    door.open()?;
    let (head, body) = request.into_parts();
    let signal = signal_of(head.uri.path()).filter(|_| head.method == Method::POST);
    let signal = signal.ok_or_else(|| Problem::NoSuchMethod(head.uri.path().chars().take(200).collect()))?;
    if !is_protobuf(&head.headers) {
        return Err(Problem::UnknownType.into());
    }
    let coding = coding_of(&head.headers)?;
    let timeout = timeout_of(&head.headers)?;
    let deadline = door.deadline(arrival, timeout);
    let arrived_by = arrival.checked_add(timeout.unwrap_or(MESSAGE_TIMEOUT).min(MESSAGE_TIMEOUT)).unwrap_or(arrival);
    let mut ticket = door.share.ticket();
    let (compressed, mut message) = read_message(Pieces::new(body, arrived_by), limit, &mut ticket).await?;
    if compressed {
        if coding == Coding::Identity {
            return Err(Problem::Broken("a compressed message without grpc-encoding".to_owned()).into());
        }
        let size = message.len();
        let inflating = move || inflate(coding, message, limit, &mut ticket).map(|inflated| (inflated, ticket));
        (message, ticket) = door.house.heavy.run(size, inflating).await?;
    }
    // A sender without a deadline waits for downstream, not for itself to send.
    let deadline = if timeout.is_some() { deadline } else { door.deadline(instant_now(), None) };
    door.hand_over(signal, message, deadline, ticket).await
}

/// The one message of a call, and whether it is compressed.
async fn read_message<B>(mut pieces: Pieces<B>, limit: usize, ticket: &mut Ticket) -> Result<(bool, Bytes), Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut collected = Collected::default();
    let mut frame: Option<Prefix> = None;
    let mut start = BytesMut::new();
    while let Some(mut piece) = pieces.next().await? {
        let prefix = match &frame {
            Some(prefix) => prefix,
            None => {
                let missing = PREFIX.saturating_sub(start.len()).min(piece.len());
                start.extend_from_slice(&piece.split_to(missing));
                let Some(prefix) = Prefix::read(&start) else { continue };
                let prefix = prefix?;
                if prefix.length > limit {
                    return Err(Problem::TooLarge { limit });
                }
                frame.insert(prefix)
            }
        };
        if piece.len() > prefix.length.saturating_sub(collected.len()) {
            return Err(Problem::MessageCount);
        }
        ticket.grow(piece.len())?;
        collected.add(piece, prefix.length);
    }
    let prefix = match frame {
        Some(prefix) => prefix,
        None if start.is_empty() => return Err(Problem::MessageCount),
        None => return Err(Problem::Broken("the message ends within its length prefix".to_owned())),
    };
    if collected.len() < prefix.length {
        return Err(Problem::Broken(format!("the message ends after {} of {} bytes", collected.len(), prefix.length)));
    }
    Ok((prefix.compressed, collected.into_bytes()))
}

struct Prefix {
    compressed: bool,
    length: usize,
}

impl Prefix {
    /// `None` while fewer than five bytes are there.
    fn read(bytes: &[u8]) -> Option<Result<Self, Problem>> {
        let [flag, length @ ..] = *bytes.first_chunk::<PREFIX>()?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        Some(match flag {
            0 | 1 => Ok(Self { compressed: flag == 1, length }),
            other => Err(Problem::Broken(format!("{other} is no compressed-flag"))),
        })
    }
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/grpc") || kind.eq_ignore_ascii_case("application/grpc+proto")
}

fn coding_of(headers: &HeaderMap) -> Result<Coding, Problem> {
    let Some(name) = headers.get(GRPC_ENCODING) else { return Ok(Coding::Identity) };
    let name = String::from_utf8_lossy(name.as_bytes());
    match Coding::named(&name) {
        Some(coding) if coding != Coding::Deflate => Ok(coding),
        _ => Err(Problem::UnknownCoding(name.chars().take(50).collect())),
    }
}

fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    match status::parse_timeout(value.as_bytes()) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Problem::Broken("grpc-timeout is not one to eight digits and a unit".to_owned())),
    }
}

fn accepted(message: &Bytes) -> Response<Reply> {
    let mut data = BytesMut::with_capacity(message.len().saturating_add(PREFIX));
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    data.extend_from_slice(message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply::with_trailers(data.freeze(), trailers));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// "Trailers-Only": the refusal stands in the headers, and nothing follows.
fn turned_away(refusal: &Refusal) -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status::number(refusal.code))));
    if let Ok(message) = HeaderValue::try_from(status::encode_message(&refusal.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(Ok(details)) = status::details_header(refusal).map(HeaderValue::try_from) {
        headers.insert(GRPC_DETAILS, details);
    }
    response
}

fn bare(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = status;
    response
}
