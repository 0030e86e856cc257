//! What the agent sent: the last value of every point, and the spans.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

/// The last value of every point (of a distribution its sum, as `NAME sum`), by who it is about, its metric and its attributes.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// With the time of each, ns since the epoch.
    values: BTreeMap<(String, String, String), (u64, f64)>,
    /// Time of the newest point, ns since the epoch.
    pub last: u64,
    /// Points of counters that were below an earlier one of the same start time.
    pub backwards: Vec<String>,
    /// Attributes of the spans that came back, by their name.
    pub spans: BTreeMap<String, BTreeMap<String, String>>,
}

impl Points {
    /// Takes one request in.
    pub fn add(&mut self, request: &ExportMetricsServiceRequest) {
        for of in &request.resource_metrics {
            let who = attributes(of.resource.as_ref().map_or(&[], |resource| &resource.attributes));
            let who = match who.get("container.id") {
                Some(id) => id.clone(),
                None if who.contains_key("service.name") => "agent".to_owned(),
                None => "host".to_owned(),
            };
            for metric in of.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                self.take(&who, metric);
            }
        }
    }

    /// Takes a span in.
    pub fn add_span(&mut self, span: &Span) {
        let mut told = attributes(&span.attributes);
        told.insert("events".to_owned(), span.events.len().to_string());
        self.spans.insert(span.name.clone(), told);
    }

    fn take(&mut self, who: &str, metric: &Metric) {
        let (points, monotonic) = match metric.data.as_ref() {
            Some(Data::Sum(sum)) => (&sum.data_points, sum.is_monotonic),
            Some(Data::Gauge(gauge)) => (&gauge.data_points, false),
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    let words: Vec<String> = attributes(&point.attributes).into_values().collect();
                    let key = (who.to_owned(), format!("{} sum", metric.name), words.join(" "));
                    self.values.insert(key, (point.time_unix_nano, point.sum.unwrap()));
                }
                return;
            }
            _ => return,
        };
        for point in points {
            let words: Vec<String> = attributes(&point.attributes).into_values().collect();
            let value = match point.value.unwrap() {
                Value::AsDouble(value) => value,
                Value::AsInt(value) => value as f64,
            };
            self.last = self.last.max(point.time_unix_nano);
            let key = (who.to_owned(), metric.name.clone(), words.join(" "));
            let before = self.values.get(&key).copied();
            // On a starved host an export that timed out may arrive after the next one: it is of its own time.
            if before.is_some_and(|(time, _)| point.time_unix_nano < time) {
                continue;
            }
            if monotonic && before.is_some_and(|(_, before)| value < before) {
                self.backwards.push(format!("{key:?}"));
            }
            self.values.insert(key, (point.time_unix_nano, value));
        }
    }

    /// A point; `words`: values of its attributes in the order of their keys.
    pub fn get(&self, who: &str, name: &str, words: &str) -> Option<f64> {
        self.values.get(&(who.to_owned(), name.to_owned(), words.to_owned())).map(|(_, value)| *value)
    }

    /// A point that must be there.
    #[track_caller]
    pub fn of(&self, who: &str, name: &str, words: &str) -> f64 {
        self.get(who, name, words).unwrap_or_else(|| panic!("no point {name} {words} of {who}"))
    }

    /// Whether a source is used, as the agent tells it: of itself, or of the node.
    pub fn enabled(&self, source: &str) -> Option<f64> {
        ["agent", "host"].iter().find_map(|who| self.get(who, "stallspan.source.enabled", source))
    }

    /// All points of a metric, with the values of their attributes.
    pub fn all(&self, who: &str, name: &str) -> Vec<(&str, f64)> {
        self.values
            .iter()
            .filter(|((w, n, _), _)| w == who && n == name)
            .map(|((_, _, words), (_, value))| (words.as_str(), *value))
            .collect()
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        _ => String::new(),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}
