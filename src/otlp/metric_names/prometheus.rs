//! Names as Prometheus knows them, by the same rule as the Collector's Prometheus exporter, so that a dashboard works with
//! either way in.

use super::{Instrument, Metric};

/// Name of a metric: dots become underscores, the unit is spelled out, counters end in `_total`.
#[must_use]
pub fn name(metric: &Metric) -> String {
    let mut name = label(metric.name);
    if let Some(unit) = unit_word(metric)
        && !name.ends_with(unit)
    {
        name.push('_');
        name.push_str(unit);
    }
    if metric.instrument == Instrument::Counter {
        name.push_str("_total");
    }
    name
}

/// Name of a label.
#[must_use]
pub fn label(key: &str) -> String {
    key.replace('.', "_")
}

/// Word of the type line.
#[must_use]
pub const fn type_word(instrument: Instrument) -> &'static str {
    match instrument {
        Instrument::Counter => "counter",
        Instrument::UpDownCounter | Instrument::Gauge => "gauge",
        Instrument::ExponentialHistogram => "histogram",
    }
}

/// Units in braces are annotations and leave no trace in the name.
fn unit_word(metric: &Metric) -> Option<&'static str> {
    match metric.unit {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        "1" if metric.instrument == Instrument::Gauge => Some("ratio"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn names_follow_the_collector_s_rule() {
        #[track_caller]
        fn check(metric: &Metric, expected: &str) {
            assert_eq!(name(metric), expected);
        }
        check(&CONTAINER_DELAY_TIME, "stallspan_container_delay_time_seconds_total");
        check(&CONTAINER_DELAYS, "stallspan_container_delays_total");
        check(&CONTAINER_MEMORY_USAGE, "container_memory_usage_bytes");
        check(&CONTAINER_CPU_LIMIT, "stallspan_container_cpu_limit");
        check(&AGENT_UNEXPLAINED_DELAY_RATIO, "stallspan_agent_unexplained_delay_ratio");
        check(&AGENT_REQUEST_MEMORY, "stallspan_agent_request_memory_bytes");
        assert_eq!(label("stallspan.delay.type"), "stallspan_delay_type");
    }
}
