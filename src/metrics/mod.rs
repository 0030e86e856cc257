//! Room `metrics`: see the map in the crate root.
