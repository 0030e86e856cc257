//! Room `app`: see the map in the crate root.
