//! Room `parse`: see the map in the crate root.
