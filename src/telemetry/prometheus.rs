//! The agent's counters as a Prometheus page (`/metrics` of the health endpoint), text format 0.0.4.

use std::fmt::Write;

use crate::model::{AgentCounters, seconds};
use crate::otlp::metric_names::prometheus::{label, name, type_word};
use crate::otlp::metric_names::{Metric, agent_points};

/// `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole page.
#[must_use]
pub fn page(counters: &AgentCounters, version: &str) -> String {
    let mut page = String::with_capacity(8 << 10);
    // Writing to a String cannot fail.
    let _infallible = write!(
        page,
        "# HELP stallspan_build_info Version of the agent.\n\
         # TYPE stallspan_build_info gauge\n\
         stallspan_build_info{{version=\"{}\"}} 1\n\
         # HELP stallspan_start_time_seconds Start of the agent as a Unix time.\n\
         # TYPE stallspan_start_time_seconds gauge\n\
         stallspan_start_time_seconds {}\n",
        Escaped(version),
        seconds(counters.since.0)
    );
    let mut current: Option<&'static Metric> = None;
    for point in agent_points(counters) {
        if !current.is_some_and(|metric| std::ptr::eq(metric, point.metric)) {
            current = Some(point.metric);
            head(&mut page, point.metric);
        }
        sample(&mut page, &name(point.metric), &point.attributes, point.value);
    }
    page
}

fn head(page: &mut String, metric: &Metric) {
    let name = name(metric);
    let _infallible = writeln!(page, "# HELP {name} {}", metric.description);
    let _infallible = writeln!(page, "# TYPE {name} {}", type_word(metric.instrument));
}

fn sample(page: &mut String, name: &str, attributes: &[(&str, &str)], value: u64) {
    page.push_str(name);
    for (index, (key, value)) in attributes.iter().enumerate() {
        page.push(if index == 0 { '{' } else { ',' });
        let _infallible = write!(page, "{}=\"{}\"", label(key), Escaped(value));
    }
    if !attributes.is_empty() {
        page.push('}');
    }
    let _infallible = writeln!(page, " {value}");
}

/// A label value with what the format asks to be escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sample_stands_under_its_help_and_type_and_every_name_once() {
        let page = page(&AgentCounters { spans: [3, 2, 1, 3, 0, 0], ..AgentCounters::default() }, "0.1.0");
        let (mut described, mut typed) = (BTreeSet::new(), BTreeSet::new());
        for line in page.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("#"), Some("HELP")) => assert!(described.insert(words.next().unwrap().to_owned()), "{line}"),
                (Some("#"), Some("TYPE")) => assert!(typed.insert(words.next().unwrap().to_owned()), "{line}"),
                (Some(sample), Some(value)) => {
                    let name = sample.split('{').next().unwrap();
                    assert!(described.contains(name) && typed.contains(name), "{line}");
                    value.parse::<f64>().unwrap();
                }
                _ => panic!("{line}"),
            }
        }
        assert!(page.contains("\nstallspan_agent_spans_total{stallspan_outcome=\"received\"} 3\n"), "{page}");
        assert!(page.contains("\nstallspan_agent_requests_total{stallspan_signal=\"logs\",stallspan_outcome=\"failed\"} 0\n"));
        assert!(page.contains("\nstallspan_agent_request_memory_bytes 0\n"));
    }

    #[test]
    fn label_values_are_escaped() {
        assert!(page(&AgentCounters::default(), "1\"\\\n").contains("version=\"1\\\"\\\\\\n\""));
    }
}
