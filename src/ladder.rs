//! Room `ladder`: see the map in the crate root.
