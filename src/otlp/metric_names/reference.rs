//! The reference of metrics for readers (`docs/metrics.md`), written from the table.

use std::fmt::Write;

use super::{AGENT_METRICS, Attribute, CONTAINER_METRICS, HOST_METRICS, Metric, prometheus};

const HEAD: &str = "\
# Metrics

Written from the table in `src/otlp/metric_names`; do not edit. To write it anew: `UPDATE_GOLDEN=1 cargo test --lib metric_names`.

What the numbers mean and do not mean stands in [numbers.md](numbers.md). Counters are cumulative and never go backwards; a number that
is not known is absent, zero means measured zero. Stability of every name under `stallspan.`: development.
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    section(
        &mut page,
        "Containers",
        "One resource a container, with `container.id`, `container.name`, `container.image.name`, `container.runtime.name`, `k8s.*` and `host.name` \
         as far as they are known.",
        CONTAINER_METRICS,
    );
    section(&mut page, "Host", "One resource, with `host.name` and, where known, `k8s.node.name`.", HOST_METRICS);
    section(&mut page, "The agent itself", "One resource, with `service.name` = `stallspan`.", AGENT_METRICS);
    page
}

fn section(page: &mut String, title: &str, about: &str, metrics: &[&Metric]) {
    // Writing to a String cannot fail.
    let _infallible = write!(page, "\n## {title}\n\n{about}\n");
    for metric in metrics {
        row(page, metric);
    }
}

fn row(page: &mut String, metric: &Metric) {
    let Metric { name, unit, description, source, instrument, .. } = metric;
    let _infallible = write!(page, "\n### `{name}`\n\n{description}\n\n");
    let _infallible = writeln!(page, "* {}, unit `{unit}`", instrument.word());
    for attribute in metric.attributes {
        let _infallible = writeln!(page, "* {}", attribute_line(attribute));
    }
    let _infallible = writeln!(page, "* from: {source}");
    let _infallible = writeln!(page, "* in Prometheus: `{}`", prometheus::name(metric));
}

fn attribute_line(attribute: &Attribute) -> String {
    if attribute.values.is_empty() {
        return format!("attribute `{}`", attribute.key);
    }
    let values: Vec<_> = attribute.values.iter().map(|value| format!("`{value}`")).collect();
    format!("attribute `{}`: {}", attribute.key, values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_table_s() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let fresh = markdown();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &fresh).expect("docs can be written");
            panic!("docs/metrics.md was written anew: look at the difference and run again without UPDATE_GOLDEN");
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == fresh, "docs/metrics.md is not what the table says; UPDATE_GOLDEN=1 writes it anew");
    }
}
