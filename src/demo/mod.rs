//! Room `demo`: see the map in the crate root.
