//! Room `history`: see the map in the crate root.
