//! Room `export`: see the map in the crate root.
