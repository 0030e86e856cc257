//! `google.rpc.Status` with `google.rpc.RetryInfo` or `google.rpc.BadRequest`: the body of every HTTP error, and the details of a
//! gRPC one.
//!
//! Field numbers are those of `google/rpc/status.proto`, `error_details.proto`, `google/protobuf/{any,duration}.proto`.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{base64, codes};
use crate::model::{Code, Refusal};
use crate::otlp::wire::{self, Fields, Value};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// Longest message written; a downstream's essay is not carried further.
pub const MAX_MESSAGE_LEN: usize = 4096;

/// What a `google.rpc.Status` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcStatus {
    /// `code`, as sent.
    pub code: u64,
    /// `message`
    pub message: String,
    /// `RetryInfo.retry_delay` among the details.
    pub retry_delay: Option<Duration>,
}

impl From<&Refusal> for RpcStatus {
    fn from(refusal: &Refusal) -> Self {
        Self { code: u64::from(codes::number(refusal.code)), message: clip(&refusal.message).to_owned(), retry_delay: refusal.retry_after }
    }
}

impl RpcStatus {
    /// As protobuf.
    #[must_use]
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 80);
        if self.code != 0 {
            wire::push_tag(&mut out, 1, wire::wire_type::VARINT);
            wire::push_varint(&mut out, self.code);
        }
        if !self.message.is_empty() {
            wire::push_len(&mut out, 2, self.message.as_bytes());
        }
        if let Some(delay) = self.retry_delay {
            wire::push_len(&mut out, 3, &detail(RETRY_INFO, &retry_info(delay)));
        }
        if let Some(description) = self.violation() {
            wire::push_len(&mut out, 3, &detail(BAD_REQUEST, &bad_request(description)));
        }
        out
    }

    /// What is wrong with the data, where it is (opentelemetry.io/docs/specs/otlp, "Bad Data").
    fn violation(&self) -> Option<&str> {
        let bad = self.code == u64::from(codes::number(Code::InvalidArgument)) && !self.message.is_empty();
        bad.then_some(self.message.as_str())
    }

    /// As proto3 JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let retry = self.retry_delay.map(|delay| {
            let delay = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
            json!({ "@type": RETRY_INFO, "retryDelay": delay })
        });
        let violation =
            self.violation().map(|description| json!({ "@type": BAD_REQUEST, "fieldViolations": [{ "description": description }] }));
        let details: Vec<Json> = retry.into_iter().chain(violation).collect();
        let mut status = json!({ "code": self.code, "message": self.message });
        if let (false, Some(status)) = (details.is_empty(), status.as_object_mut()) {
            status.insert("details".to_owned(), details.into());
        }
        status.to_string().into_bytes()
    }

    /// From protobuf; `None` where the bytes are none. Details that are not understood are left out.
    #[must_use]
    pub fn from_protobuf(bytes: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        for field in Fields::of(bytes) {
            let field = field.ok()?;
            match (field.number, field.value) {
                (1, Value::Varint(code)) => status.code = code,
                (2, Value::Len(message)) => status.message = String::from_utf8_lossy(message).into_owned(),
                (3, Value::Len(any)) => status.retry_delay = status.retry_delay.or_else(|| retry_delay_of_any(any)),
                _ => {}
            }
        }
        Some(status)
    }

    /// From proto3 JSON; `None` where the text is none.
    #[must_use]
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let json: Json = serde_json::from_slice(text).ok()?;
        let json = json.as_object()?;
        let retry_delay = json.get("details").and_then(Json::as_array).into_iter().flatten().find_map(|detail| {
            let is_retry_info = detail.get("@type")?.as_str()?.ends_with("google.rpc.RetryInfo");
            if is_retry_info { json_duration(detail.get("retryDelay")?.as_str()?) } else { None }
        });
        Some(Self {
            code: json.get("code").and_then(Json::as_u64).unwrap_or(0),
            message: json.get("message").and_then(Json::as_str).unwrap_or_default().to_owned(),
            retry_delay,
        })
    }
}

/// Value of `grpc-status-details-bin` for a refusal; `None` where `grpc-status` and `grpc-message` say it all.
#[must_use]
pub fn details_header(refusal: &Refusal) -> Option<String> {
    refusal.retry_after?;
    Some(base64::encode(&RpcStatus::from(refusal).to_protobuf(), false))
}

/// Reads `grpc-status-details-bin`.
#[must_use]
pub fn from_details_header(value: &[u8]) -> Option<RpcStatus> {
    RpcStatus::from_protobuf(&base64::decode(value.trim_ascii())?)
}

/// The part of a message that is carried on: at most [`MAX_MESSAGE_LEN`] bytes, whole characters.
pub(super) fn clip(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MAX_MESSAGE_LEN)).unwrap_or(message)
}

fn detail(type_url: &str, value: &[u8]) -> Vec<u8> {
    let mut any = Vec::new();
    wire::push_len(&mut any, 1, type_url.as_bytes());
    wire::push_len(&mut any, 2, value);
    any
}

/// Of no field in particular: the message names the place.
fn bad_request(description: &str) -> Vec<u8> {
    let (mut violation, mut bad_request) = (Vec::new(), Vec::new());
    wire::push_len(&mut violation, 2, description.as_bytes());
    wire::push_len(&mut bad_request, 1, &violation);
    bad_request
}

fn retry_info(delay: Duration) -> Vec<u8> {
    let mut duration = Vec::new();
    for (number, value) in [(1, delay.as_secs()), (2, u64::from(delay.subsec_nanos()))] {
        if value != 0 {
            wire::push_tag(&mut duration, number, wire::wire_type::VARINT);
            wire::push_varint(&mut duration, value);
        }
    }
    let mut info = Vec::new();
    wire::push_len(&mut info, 1, &duration);
    info
}

fn retry_delay_of_any(any: &[u8]) -> Option<Duration> {
    let type_url = last_len(any, 1)?;
    if !type_url.ends_with(b"/google.rpc.RetryInfo") {
        return None;
    }
    let duration = last_len(last_len(any, 2)?, 1)?;
    let (mut seconds, mut nanos) = (0_u64, 0_u64);
    for field in Fields::of(duration) {
        match field.ok()? {
            wire::Field { number: 1, value: Value::Varint(value), .. } => seconds = value,
            wire::Field { number: 2, value: Value::Varint(value), .. } => nanos = value,
            _ => {}
        }
    }
    // A negative number (top bit set) is no delay; nanos of a second or more are no duration.
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    i64::try_from(seconds).ok().map(|_| Duration::new(seconds, nanos))
}

fn last_len(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let mut last = None;
    for field in Fields::of(bytes) {
        if let wire::Field { number: found, value: Value::Len(payload), .. } = field.ok()?
            && found == number
        {
            last = Some(payload);
        }
    }
    last
}

/// `"1.5s"`: decimal seconds with up to nine digits behind the point.
fn json_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<prost_types::Duration>,
    }

    #[test]
    fn another_implementation_reads_what_is_written() {
        let refusal = Refusal::new(Code::ResourceExhausted, "busy").retry_after(Duration::from_millis(1500));
        let status = Status::decode(RpcStatus::from(&refusal).to_protobuf().as_slice()).unwrap();
        assert_eq!((status.code, status.message.as_str()), (8, "busy"));
        assert_eq!(status.details[0].type_url, RETRY_INFO);
        let info = RetryInfo::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!(info.retry_delay, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    }

    #[derive(Clone, PartialEq, Message)]
    struct BadRequest {
        #[prost(message, repeated, tag = "1")]
        field_violations: Vec<FieldViolation>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct FieldViolation {
        #[prost(string, tag = "1")]
        field: String,
        #[prost(string, tag = "2")]
        description: String,
    }

    #[test]
    fn bad_data_is_described_in_the_details() {
        let refusal = Refusal::new(Code::InvalidArgument, "not protobuf");
        let status = Status::decode(RpcStatus::from(&refusal).to_protobuf().as_slice()).unwrap();
        let [detail] = status.details.as_slice() else { panic!("{status:?}") };
        assert_eq!(detail.type_url, BAD_REQUEST);
        let violations = BadRequest::decode(detail.value.as_slice()).unwrap().field_violations;
        assert_eq!(violations, [FieldViolation { field: String::new(), description: "not protobuf".to_owned() }]);
        let json: Json = serde_json::from_slice(&RpcStatus::from(&refusal).to_json()).unwrap();
        assert_eq!(json["details"], json!([{"@type": BAD_REQUEST, "fieldViolations": [{"description": "not protobuf"}]}]));
        assert!(
            Status::decode(RpcStatus::from(&Refusal::new(Code::Unavailable, "later")).to_protobuf().as_slice()).unwrap().details.is_empty()
        );
    }

    #[test]
    fn json_is_what_otlp_http_asks_for() {
        let refusal = Refusal::new(Code::Unavailable, "later \"please\"").retry_after(Duration::from_secs(2));
        let text = String::from_utf8(RpcStatus::from(&refusal).to_json()).unwrap();
        assert_eq!(
            serde_json::from_str::<Json>(&text).unwrap(),
            json!({"code": 14, "message": "later \"please\"", "details": [{"@type": RETRY_INFO, "retryDelay": "2.000000000s"}]})
        );
        assert_eq!(RpcStatus::from_json(text.as_bytes()), Some(RpcStatus::from(&refusal)));
    }

    fn check_duration(text: &str, expected: Option<Duration>) {
        assert_eq!(json_duration(text), expected, "{text}");
    }

    #[test]
    fn durations_in_json() {
        check_duration("1.5s", Some(Duration::from_millis(1500)));
        check_duration("0s", Some(Duration::ZERO));
        check_duration("3.000000001s", Some(Duration::new(3, 1)));
        for text in ["1.5", "-1s", "s", ".5s", "1.0000000001s", "1e3s", "99999999999999999999s"] {
            check_duration(text, None);
        }
    }

    #[test]
    fn a_hostile_status_is_no_panic_and_no_delay() {
        assert_eq!(RpcStatus::from_protobuf(&[0x0a, 0x05]), None);
        assert_eq!(RpcStatus::from_json(b"[]"), None);
        assert_eq!(RpcStatus::from_json(b"not json"), None);
        let mut any = Vec::new();
        wire::push_len(&mut any, 1, RETRY_INFO.as_bytes());
        wire::push_len(&mut any, 2, &[0x0a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(retry_delay_of_any(&any), None, "minus one second");
    }

    #[test]
    fn a_long_message_is_clipped_between_characters() {
        let long = "ä".repeat(MAX_MESSAGE_LEN);
        assert_eq!(clip(&long).len(), MAX_MESSAGE_LEN);
        assert_eq!(clip(&format!("x{long}")).len(), MAX_MESSAGE_LEN - 1);
    }

    proptest! {
        #[test]
        fn both_encodings_are_read_back(code in 0_u64..20, message in ".{0,40}", delay in proptest::option::of((0_u64..1 << 40, 0_u32..1_000_000_000))) {
            let status = RpcStatus { code, message, retry_delay: delay.map(|(seconds, nanos)| Duration::new(seconds, nanos)) };
            prop_assert_eq!(RpcStatus::from_protobuf(&status.to_protobuf()), Some(status.clone()));
            prop_assert_eq!(RpcStatus::from_json(&status.to_json()), Some(status));
        }

        #[test]
        fn bytes_of_any_kind_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = RpcStatus::from_protobuf(&bytes);
            let _ = RpcStatus::from_json(&bytes);
            let _ = from_details_header(&bytes);
        }
    }
}
