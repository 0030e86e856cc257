//! gRPC codes, HTTP status codes, and the way between them (contract §5, OTLP specification "Failures").

use std::time::Duration;

use super::rpc_status::{RpcStatus, from_details_header};
use super::{decode_message, parse_retry_after};
use crate::model::{Code, Refusal, Wall};

/// The number of a code on the wire.
#[must_use]
pub const fn number(code: Code) -> u8 {
    code as u8
}

/// The code of a number; numbers nobody defined are `Unknown`, 0 is no refusal.
#[must_use]
pub const fn code_from_number(number: u64) -> Option<Code> {
    Some(match number {
        0 => return None,
        1 => Code::Cancelled,
        3 => Code::InvalidArgument,
        4 => Code::DeadlineExceeded,
        5 => Code::NotFound,
        6 => Code::AlreadyExists,
        7 => Code::PermissionDenied,
        8 => Code::ResourceExhausted,
        9 => Code::FailedPrecondition,
        10 => Code::Aborted,
        11 => Code::OutOfRange,
        12 => Code::Unimplemented,
        13 => Code::Internal,
        14 => Code::Unavailable,
        15 => Code::DataLoss,
        16 => Code::Unauthenticated,
        _ => Code::Unknown,
    })
}

/// Whether a client may send the same request again after this refusal.
///
/// `RESOURCE_EXHAUSTED` only where the server said when: without `RetryInfo` it means that the request can never be taken.
#[must_use]
pub const fn retryable(refusal: &Refusal) -> bool {
    match refusal.code {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::OutOfRange | Code::DataLoss => true,
        Code::ResourceExhausted => refusal.retry_after.is_some(),
        Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

/// Whether a client may send the same request again after this HTTP status.
#[must_use]
pub const fn retryable_http(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// The HTTP status with which a refusal is told to a sender over HTTP.
///
/// Codes that a gRPC client may try again but the table does not name (`ABORTED` and the like) become 503: as 500 an HTTP
/// client would drop what downstream only put off.
#[must_use]
pub const fn http_status(refusal: &Refusal) -> u16 {
    match refusal.code {
        Code::InvalidArgument => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound | Code::Unimplemented => 404,
        Code::ResourceExhausted if refusal.retry_after.is_some() => 429,
        Code::ResourceExhausted => 413,
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::OutOfRange | Code::DataLoss => 503,
        Code::DeadlineExceeded => 504,
        Code::Unknown | Code::AlreadyExists | Code::FailedPrecondition | Code::Internal => 500,
    }
}

/// The refusal that an HTTP answer of downstream other than 2xx amounts to.
///
/// `body` is the answer's `google.rpc.Status` where one could be read (its message is kept; the code is the table's),
/// `retry_after` the header's value, `now` turns a date in it into a delay.
#[must_use]
pub fn from_http(status: u16, body: Option<RpcStatus>, retry_after: Option<&[u8]>, now: Wall) -> Refusal {
    let code = match status {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        413 => Code::ResourceExhausted,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Internal,
    };
    let (said, hint) = body.map_or((String::new(), None), |body| (body.message, body.retry_delay));
    let message =
        if said.is_empty() { format!("downstream answered HTTP {status}") } else { format!("downstream answered HTTP {status}: {said}") };
    // A hint turns RESOURCE_EXHAUSTED into something retryable, and 413 is not: only retryable statuses keep it.
    let retry_after = if retryable_http(status) { retry_after.and_then(|text| parse_retry_after(text, now)).or(hint) } else { None };
    Refusal { code, message, retry_after }
}

/// The refusal that a gRPC answer amounts to, from its trailers' raw values; `None` for `grpc-status: 0`.
///
/// A status that is no number is `UNKNOWN`; details that cannot be read are left out.
#[must_use]
pub fn from_grpc(grpc_status: &[u8], grpc_message: Option<&[u8]>, details: Option<&[u8]>) -> Option<Refusal> {
    let number = std::str::from_utf8(grpc_status).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(2);
    let code = code_from_number(number)?;
    let retry_after: Option<Duration> = details.and_then(from_details_header).and_then(|status| status.retry_delay);
    Some(Refusal { code, message: grpc_message.map(decode_message).unwrap_or_default(), retry_after })
}

/// The refusal for an answer to a gRPC call that has an HTTP status but no `grpc-status`: a proxy's words.
///
/// The table is gRPC's own (`doc/http-grpc-status-mapping.md`).
#[must_use]
pub fn from_grpc_http(status: u16) -> Refusal {
    let code = match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Refusal::new(code, format!("downstream answered HTTP {status} without a grpc-status: is a gRPC server listening there?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: Code, retry: bool) -> Refusal {
        Refusal { code, message: String::new(), retry_after: retry.then_some(Duration::from_secs(1)) }
    }

    fn check_told(code: Code, retry: bool, http: u16, again: bool) {
        let refusal = refusal(code, retry);
        assert_eq!(http_status(&refusal), http, "{code:?}");
        assert_eq!(retryable(&refusal), again, "{code:?}");
        assert_eq!(retryable_http(http), again, "{code:?}: both transports must agree on another try");
    }

    #[test]
    fn each_code_is_told_over_http_as_the_contract_says() {
        check_told(Code::InvalidArgument, false, 400, false);
        check_told(Code::Unauthenticated, false, 401, false);
        check_told(Code::PermissionDenied, false, 403, false);
        check_told(Code::NotFound, false, 404, false);
        check_told(Code::Unimplemented, false, 404, false);
        check_told(Code::ResourceExhausted, false, 413, false);
        check_told(Code::ResourceExhausted, true, 429, true);
        check_told(Code::Unavailable, false, 503, true);
        check_told(Code::DeadlineExceeded, false, 504, true);
        check_told(Code::Cancelled, false, 503, true);
        check_told(Code::Aborted, false, 503, true);
        check_told(Code::OutOfRange, false, 503, true);
        check_told(Code::DataLoss, false, 503, true);
        check_told(Code::Internal, true, 500, false);
        check_told(Code::Unknown, false, 500, false);
        check_told(Code::AlreadyExists, false, 500, false);
        check_told(Code::FailedPrecondition, false, 500, false);
    }

    fn check_heard(http: u16, code: Code, keeps_hint: bool) {
        let heard = from_http(http, None, Some(b"7"), Wall(0));
        assert_eq!((heard.code, heard.retry_after), (code, keeps_hint.then_some(Duration::from_secs(7))), "{http}");
        assert_eq!(retryable(&heard), retryable_http(http), "{http}");
    }

    #[test]
    fn each_http_status_of_downstream_becomes_the_contracts_code() {
        check_heard(400, Code::InvalidArgument, false);
        check_heard(401, Code::Unauthenticated, false);
        check_heard(403, Code::PermissionDenied, false);
        check_heard(404, Code::Unimplemented, false);
        check_heard(413, Code::ResourceExhausted, false);
        check_heard(429, Code::Unavailable, true);
        check_heard(502, Code::Unavailable, true);
        check_heard(503, Code::Unavailable, true);
        check_heard(504, Code::Unavailable, true);
        check_heard(500, Code::Internal, false);
        check_heard(405, Code::Internal, false);
        check_heard(302, Code::Internal, false);
    }

    #[test]
    fn every_number_of_a_code_is_read_back() {
        for value in 1..=16 {
            assert_eq!(code_from_number(value).map(number), Some(u8::try_from(value).unwrap()));
        }
        assert_eq!(code_from_number(0), None);
        assert_eq!(code_from_number(17), Some(Code::Unknown));
    }

    #[test]
    fn a_grpc_refusal_is_read_from_its_trailers() {
        assert_eq!(from_grpc(b"0", Some(b"fine"), None), None);
        assert_eq!(from_grpc(b"14", Some(b"gone%20away"), None), Some(Refusal::new(Code::Unavailable, "gone away")));
        assert_eq!(from_grpc(b"x", None, None), Some(Refusal::new(Code::Unknown, "")));
        let told = Refusal::new(Code::ResourceExhausted, "busy").retry_after(Duration::from_millis(1500));
        let details = super::super::details_header(&told).unwrap();
        assert_eq!(from_grpc(b"8", Some(b"busy"), Some(details.as_bytes())), Some(told));
        assert_eq!(from_grpc(b"8", None, Some(b"!!")), Some(Refusal::new(Code::ResourceExhausted, "")));
    }
}
