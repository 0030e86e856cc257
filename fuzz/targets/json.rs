//! OTLP/JSON from and to protobuf.

use stallspan::model::Signal;
use stallspan::otlp::json::{Message, from_protobuf, to_protobuf};

/// What was made of JSON can be told as JSON again, and from then on nothing changes any more. Any bytes as protobuf are
/// refused or told.
pub fn json(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, data));
    let signal = [Signal::Traces, Signal::Metrics, Signal::Logs][usize::from(first % 3)];
    let message = if first & 4 == 0 { Message::Request(signal) } else { Message::Response(signal) };
    if let Ok(bytes) = to_protobuf(message, data) {
        assert!(bytes.len() <= data.len().saturating_mul(4) + 64, "{} bytes out of {}", bytes.len(), data.len());
        settles(message, &bytes);
    }
    settles(message, data);
}

fn settles(message: Message, bytes: &[u8]) {
    let Ok(text) = from_protobuf(message, bytes) else { return };
    std::str::from_utf8(&text).expect("UTF-8");
    // Values inside values may be written deeper than JSON is read.
    let Ok(again) = to_protobuf(message, &text) else { return };
    let settled = from_protobuf(message, &again).expect("what we made of JSON");
    assert_eq!(String::from_utf8(settled).unwrap(), String::from_utf8(text).unwrap());
}
