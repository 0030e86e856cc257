//! The contract, sentence by sentence, against the real binary: what is tried here knows the agent only by its command line, its
//! configuration, its sockets and what arrives downstream.

#[path = "rig/agent.rs"]
mod agent;
#[path = "rig/claims.rs"]
mod claims;
#[path = "rig/downstream.rs"]
mod downstream;
#[path = "rig/scene.rs"]
mod scene;
#[path = "rig/sender.rs"]
mod sender;

mod acknowledging;
mod association;
mod commands;
mod configuration;
mod enriching;
mod health;
mod metrics;
mod passing;
mod starting;
mod stopping;
