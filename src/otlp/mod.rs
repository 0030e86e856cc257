//! Room `otlp`: see the map in the crate root.

pub mod metric_names;
