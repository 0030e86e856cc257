//! Room `telemetry`: see the map in the crate root.
