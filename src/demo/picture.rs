//! Draws one slow trace as a waterfall with its stalls, and the table of containers.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::receiver::{number, text};
use super::report::hex;

/// Columns of the time axis.
const WIDTH: usize = 56;

/// The trace with this id as a waterfall.
#[must_use]
pub fn waterfall(spans: &[Span], trace_id: &str, requests: usize) -> String {
    let mut trace: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace_id).collect();
    trace.sort_by_key(|span| (span.start_time_unix_nano, !span.parent_span_id.is_empty()));
    let begin = trace.iter().map(|span| span.start_time_unix_nano).min().unwrap_or(0);
    let end = trace.iter().map(|span| span.end_time_unix_nano).max().unwrap_or(0);
    let exact = trace.iter().any(|span| span.events.iter().any(|event| event.name == "stallspan.stall"));
    let mut out = format!("trace {trace_id}, the slowest of {requests} requests\n\n");
    for span in trace {
        let indent = if span.parent_span_id.is_empty() { "" } else { "  " };
        let waited = number(&span.attributes, "stallspan.delay.cpu").map_or_else(|| "unknown".to_owned(), milliseconds);
        let verdict = text(&span.attributes, "stallspan.verdict").unwrap_or("unknown");
        let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        let label = format!("{indent}{}", span.name);
        let took = milliseconds(crate::model::time::seconds(took));
        let _written = writeln!(out, "{label:<16} |{}| {took:>9}  waited {waited:>9}  {verdict}", bar(span, begin, end));
    }
    let legend = if exact { "at its true instants" } else { "spread evenly: this source knows how long, not when" };
    let _written = writeln!(out, "\n# ran   . waited for a CPU ({legend})");
    out
}

/// One span's bar: its place on the axis, with the waiting part dotted.
fn bar(span: &Span, begin: u64, end: u64) -> String {
    let column = |at: u64| scale(at.saturating_sub(begin), end.saturating_sub(begin));
    let first = column(span.start_time_unix_nano).min(WIDTH.saturating_sub(1));
    let last = column(span.end_time_unix_nano).clamp(first.saturating_add(1), WIDTH);
    let mut cells = vec![' '; WIDTH];
    for cell in cells.iter_mut().take(last).skip(first) {
        *cell = '#';
    }
    let stalls: Vec<(u64, f64)> = span
        .events
        .iter()
        .filter(|event| event.name == "stallspan.stall")
        .filter_map(|event| Some((event.time_unix_nano, number(&event.attributes, "stallspan.stall.duration")?)))
        .collect();
    if stalls.is_empty() {
        let length = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        let ratio = number(&span.attributes, "stallspan.delay.cpu").unwrap_or(0.0) / crate::model::time::seconds(length.max(1));
        spread(&mut cells, first, last, ratio);
    }
    for (at, seconds) in stalls {
        let until = at.saturating_add(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)).as_nanos().try_into().unwrap_or(0));
        let (from, to) = (column(at), column(until).max(column(at).saturating_add(1)));
        for cell in cells.iter_mut().take(to.min(last)).skip(from) {
            *cell = '.';
        }
    }
    cells.into_iter().collect()
}

/// Dots `ratio` of the cells between two columns, evenly.
fn spread(cells: &mut [char], first: usize, last: usize, ratio: f64) {
    let mut owed = 0.0;
    for cell in cells.iter_mut().take(last).skip(first) {
        owed += ratio.clamp(0.0, 1.0);
        if owed >= 0.5 {
            *cell = '.';
            owed -= 1.0;
        }
    }
}

fn scale(part: u64, whole: u64) -> usize {
    let columns = u128::from(part) * u128::try_from(WIDTH).unwrap_or(0) / u128::from(whole.max(1));
    usize::try_from(columns).unwrap_or(WIDTH)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// One line a container: the newest value of each counter.
#[must_use]
pub fn table(requests: &[ExportMetricsServiceRequest], name_of: &dyn Fn(&str) -> String) -> String {
    let mut rows: Vec<(String, [Option<f64>; 4])> = Vec::new();
    for resource in requests.iter().flat_map(|request| &request.resource_metrics) {
        let attributes = resource.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let Some(id) = text(attributes, "container.id") else { continue };
        let name = name_of(id);
        let metrics: Vec<&Metric> = resource.scope_metrics.iter().flat_map(|scope| &scope.metrics).collect();
        let values = [
            sum(&metrics, "stallspan.container.cpu.run.time", None),
            sum(&metrics, "stallspan.container.delay.time", Some("cpu")),
            sum(&metrics, "stallspan.container.cpu.throttled.time", None),
            sum(&metrics, "stallspan.container.delay.time", Some("block_io")),
        ];
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = values,
            None => rows.push((name, values)),
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = format!("{:<18} {:>12} {:>12} {:>12} {:>12}\n", "container", "ran", "waited", "throttled", "block I/O");
    for (name, values) in rows {
        let [run, wait, throttled, block] = values.map(|v| v.map_or_else(|| "unknown".to_owned(), |s| format!("{s:.3} s")));
        let _written = writeln!(out, "{name:<18} {run:>12} {wait:>12} {throttled:>12} {block:>12}");
    }
    out
}

fn sum(metrics: &[&Metric], name: &str, kind: Option<&str>) -> Option<f64> {
    let metric = metrics.iter().find(|metric| metric.name == name)?;
    let Data::Sum(sum) = metric.data.as_ref()? else { return None };
    let matches = |attributes: &[KeyValue]| kind.is_none_or(|kind| text(attributes, "stallspan.delay.type") == Some(kind));
    let point = sum.data_points.iter().find(|point| matches(&point.attributes))?;
    match point.value? {
        number_data_point::Value::AsDouble(value) => Some(value),
        number_data_point::Value::AsInt(_) => None,
    }
}
