//! Room `otlp`: see the map in the crate root.
