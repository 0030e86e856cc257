//! Room `demo`: the whole job on this machine with nothing else installed.
//!
//! Two child processes in cgroups of their own share one CPU: a service that works in requests and reports them with the
//! OpenTelemetry SDK, and a noisy neighbor. Their spans go through a real agent in this process to an embedded receiver.
//! The service also notes what the kernel told its own threads (`/proc/self/task/*/schedstat`): the truth that the result
//! is held against. Everything made here is gone afterwards.

mod cgroups;
mod children;
mod neighbor;
mod picture;
mod receiver;
mod report;
mod scene;
mod victim;

pub use neighbor::neighbor_main;
pub use report::Outcome;
pub use scene::{DemoError, Settings, Shown, run};
pub use victim::{VictimArgs, victim_main};
