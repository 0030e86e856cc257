//! The one table of metrics: name, instrument, unit, attributes, meaning, and the kernel's source of the fact.
//!
//! The encoder, the agent's own counters, the Prometheus page and `docs/metrics.md` are all written from it. Names under
//! `container.` and `system.` are OpenTelemetry's (semantic conventions 1.44), everything else stands under `stallspan.`.

mod agent;
mod container;
mod host;
pub mod key;
pub mod prometheus;
pub mod reference;

pub use agent::*;
pub use container::*;
pub use host::*;

/// Schema of the standard names and of the resource attributes.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Instrumentation scope of everything the agent measures, and its `service.name`.
pub const SCOPE: &str = "stallspan";

/// Whose resource carries a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One resource a container.
    Container,
    /// The host's resource.
    Host,
    /// The agent's own resource (`service.name` = `stallspan`).
    Agent,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// Monotonic cumulative sum.
    Counter,
    /// Sum that may fall.
    UpDownCounter,
    /// Value of the moment.
    Gauge,
    /// Distribution, base-2 exponential buckets.
    ExponentialHistogram,
}

impl Instrument {
    /// The word of the OpenTelemetry specification.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "Counter",
            Self::UpDownCounter => "UpDownCounter",
            Self::Gauge => "Gauge",
            Self::ExponentialHistogram => "ExponentialHistogram",
        }
    }
}

/// Number type of the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// `as_int`
    Int,
    /// `as_double`
    Double,
}

/// An attribute of a metric's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its key.
    pub key: &'static str,
    /// Its values, where they are a closed set.
    pub values: &'static [&'static str],
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name on the wire.
    pub name: &'static str,
    /// Whose resource carries it.
    pub level: Level,
    /// How it behaves.
    pub instrument: Instrument,
    /// Number type of its points.
    pub number: Number,
    /// UCUM unit.
    pub unit: &'static str,
    /// Attributes of its points.
    pub attributes: &'static [Attribute],
    /// What it means, in one sentence.
    pub description: &'static str,
    /// Where the number comes from.
    pub source: &'static str,
}

/// Declares the rows of one level: a static each, and a slice of all of them.
macro_rules! rows {
    ($level:ident, $all:ident: $($id:ident = $instrument:ident $number:ident $name:literal $unit:literal [$($attribute:expr),*] $description:literal $source:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $description)]
            pub static $id: crate::otlp::metric_names::Metric = crate::otlp::metric_names::Metric {
                name: $name,
                level: crate::otlp::metric_names::Level::$level,
                instrument: crate::otlp::metric_names::Instrument::$instrument,
                number: crate::otlp::metric_names::Number::$number,
                unit: $unit,
                attributes: &[$($attribute),*],
                description: $description,
                source: $source,
            };
        )+
        /// Every metric of this level, in the order of the reference.
        pub static $all: &[&crate::otlp::metric_names::Metric] = &[$(&$id),+];
    };
}
use rows;

/// Every metric.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    CONTAINER_METRICS.iter().chain(HOST_METRICS).chain(AGENT_METRICS).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Name, instrument, unit and attribute keys of every metric of the contract, §2.
    const CONTRACT: &[(&str, Instrument, &str, &[&str])] = &[
        ("container.cpu.time", Instrument::Counter, "s", &["cpu.mode"]),
        ("container.cpu.usage", Instrument::Gauge, "{cpu}", &[]),
        ("container.memory.usage", Instrument::UpDownCounter, "By", &[]),
        ("container.memory.working_set", Instrument::UpDownCounter, "By", &[]),
        ("container.paging.faults", Instrument::Counter, "{fault}", &["system.paging.fault.type"]),
        ("container.uptime", Instrument::Gauge, "s", &[]),
        ("system.paging.operations", Instrument::Counter, "{operation}", &["system.paging.fault.type", "system.paging.direction"]),
        ("system.paging.faults", Instrument::Counter, "{fault}", &["system.paging.fault.type"]),
        ("stallspan.container.delay.time", Instrument::Counter, "s", &["stallspan.delay.type"]),
        ("stallspan.container.delays", Instrument::Counter, "{delay}", &["stallspan.delay.type"]),
        ("stallspan.container.cpu.run.time", Instrument::Counter, "s", &[]),
        ("stallspan.container.cpu.throttled.time", Instrument::Counter, "s", &[]),
        ("stallspan.container.cpu.periods", Instrument::Counter, "{period}", &[]),
        ("stallspan.container.cpu.throttled_periods", Instrument::Counter, "{period}", &[]),
        ("stallspan.container.cpu.limit", Instrument::Gauge, "{cpu}", &[]),
        ("stallspan.container.cpu.burst", Instrument::Gauge, "s", &[]),
        ("stallspan.container.pressure.time", Instrument::Counter, "s", &["stallspan.pressure.resource", "stallspan.pressure.stall_type"]),
        ("stallspan.container.cpu.wait.duration", Instrument::ExponentialHistogram, "s", &[]),
        ("stallspan.container.reclaim.duration", Instrument::ExponentialHistogram, "s", &[]),
        ("stallspan.container.compaction.duration", Instrument::ExponentialHistogram, "s", &[]),
        ("stallspan.container.long_waits", Instrument::Counter, "{wait}", &["stallspan.threshold"]),
        ("stallspan.container.cpu.wait.blamed.time", Instrument::Counter, "s", &["stallspan.culprit.name", "stallspan.culprit.type"]),
        ("stallspan.container.memory.reclaim.pages", Instrument::Counter, "{page}", &["stallspan.reclaim.kind", "stallspan.reclaim.step"]),
        ("stallspan.container.memory.events", Instrument::Counter, "{event}", &["stallspan.memory.event"]),
        ("stallspan.node.cpu.wait.time", Instrument::Counter, "s", &["cpu.logical_number"]),
        ("stallspan.node.cpu.run.time", Instrument::Counter, "s", &["cpu.logical_number"]),
        ("stallspan.node.cpu.timeslices", Instrument::Counter, "{timeslice}", &["cpu.logical_number"]),
        ("stallspan.node.pressure.time", Instrument::Counter, "s", &["stallspan.pressure.resource", "stallspan.pressure.stall_type"]),
        ("stallspan.node.memory.reclaim.pages", Instrument::Counter, "{page}", &["stallspan.reclaim.kind", "stallspan.reclaim.step"]),
        ("stallspan.node.memory.allocation_stalls", Instrument::Counter, "{stall}", &[]),
        ("stallspan.node.memory.compaction_stalls", Instrument::Counter, "{stall}", &[]),
        ("stallspan.node.cgroups.dying", Instrument::Gauge, "{cgroup}", &[]),
        ("stallspan.node.mesh.proxies", Instrument::Gauge, "{container}", &["container.name"]),
        ("stallspan.source.enabled", Instrument::Gauge, "{source}", &["stallspan.source", "stallspan.reason"]),
        ("stallspan.agent.unexplained_delay.ratio", Instrument::Gauge, "1", &[]),
        ("stallspan.agent.spans", Instrument::Counter, "{span}", &["stallspan.outcome"]),
    ];

    #[test]
    fn the_contract_s_list_is_complete() {
        for (name, instrument, unit, keys) in CONTRACT {
            let metric = all().find(|metric| metric.name == *name).unwrap_or_else(|| panic!("{name} is not in the table"));
            let own_keys: Vec<_> = metric.attributes.iter().map(|attribute| attribute.key).collect();
            assert_eq!((metric.instrument, metric.unit, own_keys.as_slice()), (*instrument, *unit, *keys), "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_follow_the_naming_rules() {
        let mut seen = BTreeSet::new();
        for metric in all() {
            assert!(seen.insert(metric.name), "{} stands twice", metric.name);
            let well_formed = metric.name.split('.').all(|part| {
                part.starts_with(|c: char| c.is_ascii_lowercase())
                    && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                    && !part.ends_with('_')
                    && part != "total"
            });
            assert!(well_formed, "{}", metric.name);
            let standard = metric.name.starts_with("container.") || metric.name.starts_with("system.");
            assert!(standard || metric.name.starts_with("stallspan."), "{}", metric.name);
        }
    }

    #[test]
    fn names_of_ours_do_not_stand_under_a_namespace_of_others() {
        let standard: Vec<_> = all().map(|metric| metric.name).filter(|name| !name.starts_with("stallspan.")).collect();
        let allowed: Vec<_> = CONTRACT.iter().map(|(name, ..)| *name).filter(|name| !name.starts_with("stallspan.")).collect();
        assert!(standard.iter().all(|name| allowed.contains(name)), "{standard:?}");
    }

    #[test]
    fn every_row_says_what_it_is_and_where_it_comes_from() {
        for metric in all() {
            assert!(metric.description.ends_with('.') && metric.description.len() <= 200, "{}", metric.name);
            assert!(!metric.source.is_empty(), "{}", metric.name);
            assert!(!metric.unit.is_empty(), "{}", metric.name);
        }
    }

    #[test]
    fn durations_are_double_seconds_and_counts_are_whole() {
        for metric in all() {
            let double = matches!(metric.unit, "s" | "1" | "{cpu}");
            assert_eq!(metric.number == Number::Double, double, "{}", metric.name);
        }
    }
}
