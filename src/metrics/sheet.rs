//! The metrics of one resource while they are being written down.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric as MetricMessage, NumberDataPoint, Sum,
    exponential_histogram_data_point::Buckets,
};

use super::memory::ResourceMemory;
use crate::model::{Durations, Wall, seconds};
use crate::otlp::metric_names::{Instrument, Metric, Number};

/// Longest attribute value sent, in bytes: longer than any name of Linux, containerd or Kubernetes, and short enough that a
/// hostile label cannot fill a request.
const MAX_ATTRIBUTE_BYTES: usize = 4_096;

/// Points of one resource, in the order they were added.
pub(super) struct Sheet<'a> {
    now: Wall,
    memory: &'a mut ResourceMemory,
    metrics: Vec<MetricMessage>,
    held_back: u64,
}

/// Attributes of a point, and its number among the points of its metric.
#[derive(Clone, Debug, Default)]
pub(super) struct Point {
    number: u32,
    attributes: Vec<KeyValue>,
}

impl Point {
    /// The point with this number and these text attributes. The number must stay the same from collection to collection.
    pub(super) fn of(number: usize, attributes: &[(&str, &str)]) -> Self {
        let attributes = attributes.iter().map(|(key, value)| text(key, value)).collect();
        Self { number: u32::try_from(number).unwrap_or(u32::MAX), attributes }
    }

    /// With a number (in seconds) as attribute.
    pub(super) fn of_seconds(number: usize, key: &str, ns: u64) -> Self {
        let value = AnyValue { value: Some(any_value::Value::DoubleValue(seconds(ns))) };
        let attribute = KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() };
        Self { number: u32::try_from(number).unwrap_or(u32::MAX), attributes: vec![attribute] }
    }

    /// A point of a CPU.
    pub(super) fn of_cpu(key: &str, cpu: u32) -> Self {
        let value = AnyValue { value: Some(any_value::Value::IntValue(i64::from(cpu))) };
        Self { number: cpu, attributes: vec![KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }] }
    }
}

impl<'a> Sheet<'a> {
    pub(super) fn new(now: Wall, memory: &'a mut ResourceMemory) -> Self {
        Self { now, memory, metrics: Vec::new(), held_back: 0 }
    }

    /// A counter, in the raw unit: nanoseconds for metrics in seconds. Nothing where it is not known.
    pub(super) fn counter(&mut self, metric: &'static Metric, point: Point, start: Wall, value: Option<u64>) {
        let Some(value) = value else { return };
        let held = self.memory.hold(metric, point.number, start, value);
        self.held_back = self.held_back.saturating_add(u64::from(held.held_back));
        let value = match metric.number {
            Number::Double => Value::AsDouble(seconds(held.value)),
            Number::Int => Value::AsInt(i64::try_from(held.value).unwrap_or(i64::MAX)),
        };
        self.push(metric, point.attributes, held.start, value);
    }

    /// A counter that only grows under its start by the word of whoever counts, and whose points come and go: not remembered.
    pub(super) fn grown(&mut self, metric: &'static Metric, point: Point, start: Wall, value: u64) {
        let value = match metric.number {
            Number::Double => Value::AsDouble(seconds(value)),
            Number::Int => Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)),
        };
        self.push(metric, point.attributes, start, value);
    }

    /// A distribution of durations. Nothing where it is not known.
    pub(super) fn durations(&mut self, metric: &'static Metric, start: Wall, durations: Option<&Durations>) {
        let Some(durations) = durations else { return };
        let point = histogram(durations, start, self.now.max(start));
        let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: AggregationTemporality::Cumulative.into() };
        self.metrics.push(named(metric, Data::ExponentialHistogram(data)));
    }

    /// A whole number of the moment (gauge or up-down counter). Nothing where it is not known.
    pub(super) fn level(&mut self, metric: &'static Metric, point: Point, start: Wall, value: Option<u64>) {
        let Some(value) = value else { return };
        let start = if metric.instrument == Instrument::Gauge { Wall(0) } else { start };
        self.push(metric, point.attributes, start, Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// A double gauge. Nothing where it is not known or not a number.
    pub(super) fn gauge(&mut self, metric: &'static Metric, point: Point, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        self.push(metric, point.attributes, Wall(0), Value::AsDouble(value));
    }

    /// What is remembered of this resource's CPU time.
    pub(super) fn memory(&mut self) -> &mut ResourceMemory {
        self.memory
    }

    /// Wall time of the collection.
    pub(super) fn now(&self) -> Wall {
        self.now
    }

    /// Counter points that would have gone backwards.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }

    /// Everything written down.
    pub(super) fn into_metrics(self) -> Vec<MetricMessage> {
        self.metrics
    }

    fn push(&mut self, metric: &'static Metric, attributes: Vec<KeyValue>, start: Wall, value: Value) {
        let point = NumberDataPoint {
            attributes,
            start_time_unix_nano: start.0,
            // A wall clock set back must not put a point before its own start.
            time_unix_nano: self.now.max(start).0,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let points = self.metrics.last_mut().filter(|message| message.name == metric.name).and_then(points_of);
        match points {
            Some(points) => points.push(point),
            None => self.metrics.push(message(metric, point)),
        }
    }
}

/// A text attribute, cut at a character where it is too long.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let mut end = value.len().min(MAX_ATTRIBUTE_BYTES);
    while !value.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let value = value.get(..end).unwrap_or_default().to_owned();
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(any_value::Value::StringValue(value)) }), ..KeyValue::default() }
}

fn points_of(message: &mut MetricMessage) -> Option<&mut Vec<NumberDataPoint>> {
    match message.data.as_mut()? {
        Data::Sum(sum) => Some(&mut sum.data_points),
        Data::Gauge(gauge) => Some(&mut gauge.data_points),
        _ => None,
    }
}

fn message(metric: &'static Metric, first: NumberDataPoint) -> MetricMessage {
    let sum = |is_monotonic, first| {
        Data::Sum(Sum { data_points: vec![first], aggregation_temporality: AggregationTemporality::Cumulative.into(), is_monotonic })
    };
    let data = match metric.instrument {
        Instrument::Counter => sum(true, first),
        Instrument::UpDownCounter => sum(false, first),
        // Distributions come with single waits; a number cannot be one.
        Instrument::Gauge | Instrument::ExponentialHistogram => Data::Gauge(Gauge { data_points: vec![first] }),
    };
    named(metric, data)
}

fn named(metric: &'static Metric, data: Data) -> MetricMessage {
    MetricMessage {
        name: metric.name.to_owned(),
        description: metric.description.to_owned(),
        unit: metric.unit.to_owned(),
        data: Some(data),
        ..MetricMessage::default()
    }
}

/// Buckets from the first that holds something to the last; what is shorter than the first there is counts as zero.
fn histogram(durations: &Durations, start: Wall, now: Wall) -> ExponentialHistogramDataPoint {
    let counts = &durations.counts;
    let filled = |count: &u64| *count > 0;
    let positive = counts.iter().position(filled).map(|first| {
        let last = counts.iter().rposition(filled).unwrap_or(first);
        Buckets {
            offset: durations.first.saturating_add(i32::try_from(first).unwrap_or(i32::MAX)),
            bucket_counts: counts.get(first..=last).unwrap_or_default().to_vec(),
        }
    });
    ExponentialHistogramDataPoint {
        start_time_unix_nano: start.0,
        time_unix_nano: now.0,
        count: durations.count(),
        sum: Some(seconds(durations.sum_ns)),
        scale: durations.scale,
        zero_count: durations.below,
        zero_threshold: (f64::from(durations.first) / f64::from(durations.scale).exp2()).exp2(),
        positive,
        ..ExponentialHistogramDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_at_a_character() {
        #[track_caller]
        fn check(value: &str, expected: usize) {
            let Some(AnyValue { value: Some(any_value::Value::StringValue(kept)) }) = text("k", value).value else {
                panic!("a string");
            };
            assert_eq!(kept.len(), expected);
        }
        check("short", 5);
        check(&"a".repeat(MAX_ATTRIBUTE_BYTES + 9), MAX_ATTRIBUTE_BYTES);
        check(&format!("a{}", "ü".repeat(MAX_ATTRIBUTE_BYTES)), MAX_ATTRIBUTE_BYTES - 1);
    }
}
