//! Room `diagnose`: see the map in the crate root.
