//! Room `demo`: the whole job on this machine with nothing else installed.
//!
//! Child processes in cgroups of their own: a service that works in requests and reports them with the OpenTelemetry SDK,
//! and what holds it back: in the first scene a noisy neighbor on its CPU, in the second a quota. The spans, which name
//! their thread, go through a real agent in this process to an embedded receiver. The service also notes what the kernel told
//! that thread (`/proc/thread-self/schedstat`): the truth that the result is held against. Everything made here is gone afterwards.

mod cgroups;
mod children;
mod neighbor;
mod picture;
mod play;
mod receiver;
mod report;
mod scene;
mod victim;

pub use neighbor::neighbor_main;
pub use report::{Outcome, Result};
pub use scene::{DemoError, Settings, Shown, run};
pub use victim::{VictimArgs, victim_main};
