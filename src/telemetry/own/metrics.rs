//! The agent's counters as observable instruments, from the same table and the same walk as everywhere else.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::otlp::metric_names::{AGENT_METRICS, Instrument, Metric, Number, SCOPE, agent_points};
use crate::telemetry::Counters;

/// Makes an instrument of every metric of the agent's that the counters supply. The provider keeps the callbacks.
pub(super) fn register(provider: &SdkMeterProvider, counters: &Arc<Counters>) {
    let meter = provider.meter(SCOPE);
    for metric in AGENT_METRICS.iter().copied().filter(|metric| metric.number == Number::Int) {
        instrument(&meter, metric, Arc::clone(counters));
    }
}

fn instrument(meter: &Meter, metric: &'static Metric, counters: Arc<Counters>) {
    match metric.instrument {
        Instrument::Counter => {
            let _kept_by_provider = meter
                .u64_observable_counter(metric.name)
                .with_unit(metric.unit)
                .with_description(metric.description)
                .with_callback(move |observer| each(metric, &counters, |value, attributes| observer.observe(value, attributes)))
                .build();
        }
        Instrument::UpDownCounter => {
            let _kept_by_provider = meter
                .i64_observable_up_down_counter(metric.name)
                .with_unit(metric.unit)
                .with_description(metric.description)
                .with_callback(move |observer| {
                    each(metric, &counters, |value, attributes| observer.observe(i64::try_from(value).unwrap_or(i64::MAX), attributes));
                })
                .build();
        }
        Instrument::Gauge | Instrument::ExponentialHistogram => {}
    }
}

fn each(metric: &'static Metric, counters: &Counters, mut observe: impl FnMut(u64, &[KeyValue])) {
    for point in agent_points(&counters.snapshot()).into_iter().filter(|point| std::ptr::eq(point.metric, metric)) {
        let attributes: Vec<_> = point.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        observe(point.value, &attributes);
    }
}
