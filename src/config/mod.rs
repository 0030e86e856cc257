//! Room `config`: YAML text -> [`Config`]. Pure: opens nothing but what `validate` is told to look at.

pub mod meaning;

pub use meaning::Config;
