//! Room `containers`: see the map in the crate root.
