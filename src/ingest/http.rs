//! OTLP/HTTP: a POST whose body is the request, in protobuf or JSON.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;

use super::body::whole;
use super::budget::Ticket;
use super::door::{Door, Refused};
use super::heavy;
use super::inflate::Coding;
use super::problem::Problem;
use super::reply::Reply;
use super::stream::Activity;
use crate::model::{Refusal, Signal};
use crate::otlp::json;
use crate::otlp::status::{self, RpcStatus};
use crate::runtime::Pause;
use crate::runtime::clock::{instant_now, later};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// Bounds of one request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest body, before and after inflation, bytes.
    pub body: usize,
    /// Time for the body to arrive.
    pub read_timeout: Duration,
}

/// Serves one request.
pub async fn serve<B>(door: &Door, bounds: Bounds, activity: &Activity, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin,
{
    let encoding = encoding_of(request.headers());
    let version = request.version();
    let (head, mut body) = request.into_parts();
    let answer = take(door, bounds, &head, encoding, &mut body).await;
    let mut response = match answer {
        Ok((signal, message)) => accepted(signal, encoding.unwrap_or(Encoding::Protobuf), message),
        Err(refused) => {
            let (refusal, own_status) = door.told(refused);
            turned_away(encoding.unwrap_or(Encoding::Protobuf), &refusal, own_status)
        }
    };
    if version < Version::HTTP_2 && !body.is_end_stream() {
        // The rest of the body is not read: the connection cannot carry another request.
        activity.left_unread();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn take<B>(
    door: &Door,
    bounds: Bounds,
    head: &http::request::Parts,
    encoding: Option<Encoding>,
    body: &mut B,
) -> Result<(Signal, Bytes), Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    door.open()?;
    let path = head.uri.path();
    let signal = signal_of(path).ok_or_else(|| Problem::NoSuchMethod(path.chars().take(200).collect()))?;
    if head.method != Method::POST {
        return Err(Problem::NotPost.into());
    }
    let encoding = encoding.ok_or(Problem::UnknownType)?;
    let coding = coding_of(&head.headers)?;
    let arrived_by = later(instant_now(), bounds.read_timeout);
    let mut ticket = door.share.ticket();
    let wire = tokio::select! {
        biased;
        wire = whole(body, bounds.body, &mut ticket, arrived_by, &door.standing) => wire?,
        () = door.house.cut.wait() => return Err(Problem::Stopping.into()),
    };
    let _runs = door.standing.runs();
    let deadline = door.deadline(instant_now(), None);
    let heavy = &door.house.heavy;
    let decoding = async {
        let (inflated, mut ticket) = heavy::inflated(heavy, coding, wire, bounds.body, ticket).await?;
        match encoding {
            Encoding::Protobuf => Ok((inflated, ticket)),
            Encoding::Json => {
                let size = inflated.len();
                heavy::run(heavy, size, move |pause| Ok((from_json(signal, &inflated, bounds.body, &mut ticket, pause)?, ticket))).await
            }
        }
    };
    let (message, ticket) = door.in_time(deadline, decoding).await?;
    let answer = door.hand_over(signal, message, deadline, ticket).await?;
    Ok((signal, answer))
}

/// A request in JSON as protobuf, which is rarely longer, and up to `limit`; the ticket holds both while both are there.
fn from_json(signal: Signal, text: &[u8], limit: usize, ticket: &mut Ticket, pause: Pause) -> Result<Bytes, Problem> {
    let request = json::Message::Request(signal);
    let usual = json::usual_bytes(text);
    ticket.grow(usual)?;
    let mut read = json::to_protobuf_within(request, text, usual, pause);
    if read.is_none() {
        let most = json::most_bytes(text).min(usual.max(limit.saturating_add(json::SPARE)));
        ticket.grow(most.saturating_sub(usual))?;
        read = json::to_protobuf_within(request, text, most, pause);
    }
    let too_large = Problem::TooLarge { limit };
    let mut message = read.ok_or(too_large.clone())?.map_err(|why| Problem::Broken(why.to_string()))?;
    if message.len() > limit {
        return Err(too_large);
    }
    message.shrink_to_fit();
    ticket.shrink_to(message.capacity());
    Ok(Bytes::from(message))
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/v1/traces" => Some(Signal::Traces),
        "/v1/metrics" => Some(Signal::Metrics),
        "/v1/logs" => Some(Signal::Logs),
        _ => None,
    }
}

fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next()?.trim();
    if kind.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if kind.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

fn coding_of(headers: &HeaderMap) -> Result<Coding, Problem> {
    let names: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let name = names.join(",");
    Coding::named(&name).ok_or_else(|| Problem::UnknownCoding(name.chars().take(50).collect()))
}

fn accepted(signal: Signal, encoding: Encoding, message: Bytes) -> Response<Reply> {
    let body = match encoding {
        Encoding::Protobuf => message,
        // Downstream accepted, whatever it said then.
        Encoding::Json => json::from_protobuf(json::Message::Response(signal), &message).map_or(Bytes::from_static(b"{}"), Bytes::from),
    };
    let mut response = Response::new(Reply::data(body));
    response.headers_mut().insert(CONTENT_TYPE, content_type(encoding));
    response
}

fn turned_away(encoding: Encoding, refusal: &Refusal, own_status: Option<StatusCode>) -> Response<Reply> {
    let told = RpcStatus::from(refusal);
    let body = match encoding {
        Encoding::Protobuf => told.to_protobuf(),
        Encoding::Json => told.to_json(),
    };
    let mut response = Response::new(Reply::data(Bytes::from(body)));
    let status = own_status.or_else(|| StatusCode::from_u16(status::http_status(refusal)).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(encoding));
    if own_status == Some(StatusCode::METHOD_NOT_ALLOWED) {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if let Some(Ok(delay)) = refusal.retry_after.map(|delay| HeaderValue::try_from(status::render_retry_after(delay))) {
        headers.insert(RETRY_AFTER, delay);
    }
    response
}

fn content_type(encoding: Encoding) -> HeaderValue {
    match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => JSON,
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Budget, Share};
    use super::*;
    use crate::runtime::NO_PAUSE;

    /// A histogram of so many numbers, two bytes of text each and eight of protobuf.
    fn numbers(many: usize) -> Vec<u8> {
        let list = vec!["0"; many].join(",");
        let point = format!("{{\"histogram\":{{\"dataPoints\":[{{\"explicitBounds\":[{list}]}}]}}}}");
        format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{point}]}}]}}]}}").into_bytes()
    }

    /// Length of the message, and bytes that are booked for it.
    fn taken(text: &[u8], limit: usize, memory: usize) -> Result<(usize, usize), Problem> {
        let mut ticket = Share::new(&Budget::new(memory)).ticket();
        ticket.grow(text.len()).unwrap();
        from_json(Signal::Metrics, text, limit, &mut ticket, NO_PAUSE).map(|message| (message.len(), ticket.bytes()))
    }

    #[test]
    fn what_becomes_longer_as_protobuf_is_booked_before_and_bounded() {
        const MANY: usize = 100_000;
        let text = numbers(MANY);
        let (length, booked) = taken(&text, 2 << 20, 1 << 30).unwrap();
        assert!(length > MANY * 8 && booked >= length && booked < length + length / 8, "{booked} for {length}");
        assert_eq!(taken(&text, MANY * 4, 1 << 30), Err(Problem::TooLarge { limit: MANY * 4 }), "as a body in protobuf would be");
        assert_eq!(taken(&text, length - 1, 1 << 30), Err(Problem::TooLarge { limit: length - 1 }));
        assert!(taken(&text, length, 1 << 30).is_ok());
        let no_room = taken(&text, 2 << 20, 1 << 20);
        assert!(matches!(no_room, Err(Problem::OverBudget(_))), "{no_room:?}");
        let (length, booked) = taken(&numbers(1), 2 << 20, 1 << 20).unwrap();
        assert!((8..100).contains(&length) && booked < 200, "{booked} for {length}");
    }
}
