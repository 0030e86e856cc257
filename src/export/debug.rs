//! The `debug` exporter: what passes, on standard output.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::config::meaning::Verbosity;
use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::count::records;
use crate::otlp::json;
use crate::runtime::Tasks;

/// A `debug` exporter.
#[derive(Debug)]
pub struct DebugExporter {
    verbosity: Verbosity,
    tasks: Tasks,
    /// One writer at a time: a terminal that is not read from blocks one thread, not all.
    turn: Arc<Mutex<()>>,
}

impl DebugExporter {
    /// Writes nothing yet.
    #[must_use]
    pub fn new(verbosity: Verbosity, tasks: Tasks) -> Self {
        Self { verbosity, tasks, turn: Arc::default() }
    }

    /// Writes one request.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Answer {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let text = render(self.verbosity, signal, &body);
        let written = self.tasks.blocking("debug exporter", move || {
            let _turn = turn;
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written.await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(why)) => Err(Refusal::new(Code::Unavailable, format!("standard output cannot be written to: {why}"))),
            Err(_) => Err(Refusal::new(Code::Internal, "writing to standard output failed")),
        }
    }
}

/// What is written for one request.
fn render(verbosity: Verbosity, signal: Signal, body: &[u8]) -> String {
    let (count, length) = (records(body), body.len());
    let mut text = format!("{}: {count} {}, {length} bytes\n", signal.word(), things(signal));
    if verbosity == Verbosity::Basic {
        return text;
    }
    let told = json::from_protobuf(json::Message::Request(signal), body).map_err(|why| why.to_string());
    match told.and_then(|json| serde_json::from_slice::<Value>(&json).map_err(|why| why.to_string())) {
        Err(why) => text.push_str(&format!("  cannot be shown: {why}\n")),
        Ok(request) if verbosity == Verbosity::Detailed => text.push_str(&format!("{request:#}\n")),
        Ok(request) => one_line_each(signal, &request, &mut text),
    }
    text
}

const fn things(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "metrics",
        Signal::Logs => "log records",
    }
}

/// A line for each span, metric point or log record. Strings are quoted as in JSON, so that no text of a sender can
/// move the cursor.
fn one_line_each(signal: Signal, request: &Value, text: &mut String) {
    let (groups, scopes, items) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
    };
    let scopes = list(request, groups).flat_map(|group| list(group, scopes));
    for item in scopes.flat_map(|scope| list(scope, items)) {
        match signal {
            Signal::Traces => line(text, &[&item["name"], &item["traceId"], &item["spanId"], &item["attributes"]]),
            Signal::Logs => line(text, &[&item["timeUnixNano"], &item["severityText"], &item["body"], &item["attributes"]]),
            Signal::Metrics => {
                let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
                for point in kinds.iter().flat_map(|kind| list(&item[kind], "dataPoints")) {
                    line(text, &[&item["name"], &item["unit"], point]);
                }
            }
        }
    }
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn line(text: &mut String, values: &[&Value]) {
    text.push(' ');
    for value in values.iter().filter(|value| !value.is_null()) {
        text.push(' ');
        text.push_str(&value.to_string());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One resource, one scope, two items with these bytes.
    fn request(first: &[u8], second: &[u8]) -> Vec<u8> {
        let framed = |tag: u8, inner: &[u8]| [&[tag, u8::try_from(inner.len()).unwrap()], inner].concat();
        framed(0x0a, &framed(0x12, &[framed(0x12, first), framed(0x12, second)].concat()))
    }

    #[test]
    fn each_verbosity_shows_more() {
        let spans = request(b"\x2a\x02a\x1b", b"\x2a\x01b");
        assert_eq!(render(Verbosity::Basic, Signal::Traces, &spans), "traces: 2 spans, 15 bytes\n");
        let normal = "traces: 2 spans, 15 bytes\n  \"a\\u001b\"\n  \"b\"\n";
        assert_eq!(render(Verbosity::Normal, Signal::Traces, &spans), normal);
        let detailed = render(Verbosity::Detailed, Signal::Traces, &spans);
        assert!(detailed.contains("\"resourceSpans\": [") && detailed.lines().count() > 10, "{detailed}");
        let logs = request(b"\x1a\x04WARN", b"\x2a\x03\x0a\x01x");
        let normal = "logs: 2 log records, 19 bytes\n  \"WARN\"\n  {\"stringValue\":\"x\"}\n";
        assert_eq!(render(Verbosity::Normal, Signal::Logs, &logs), normal);
        let metrics = request(b"\x0a\x01m\x2a\x04\x0a\x00\x0a\x00", b"");
        assert_eq!(render(Verbosity::Normal, Signal::Metrics, &metrics).lines().count(), 3);
    }

    #[test]
    fn what_is_no_protobuf_is_told_as_such() {
        let text = render(Verbosity::Normal, Signal::Metrics, b"\x0a\x09x");
        assert!(text.starts_with("metrics: 0 metrics, 3 bytes\n  cannot be shown: not protobuf"), "{text}");
    }
}
