//! Room `app`: wiring only. Builds the rooms from a configuration, connects them, takes them down again.

mod agent;
pub mod check;
mod collect;
mod health;
mod hop;
mod outlet;
mod owners;
mod people;
mod recent;
mod settings;
mod strangers;
mod view;

pub use agent::{Agent, StartError, VERSION};
pub use settings::start_telemetry;
