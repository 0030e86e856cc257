//! Room `parse`: kernel text and bytes -> values. Pure; one format a file.
//!
//! What is missing, cut short, too large or unknown to us makes its own field absent, never the rest, and never a
//! panic. Deliberately not here: opening anything (`host`), deciding which source counts (`ladder`), turning totals
//! into differences (`source`, `history`).

pub mod btf;
pub mod cgroup;
pub mod netlink;
pub mod node;
pub mod proc_event;
pub mod process;
pub mod schedstat;
pub mod sock_diag;
pub mod taskstats;
pub mod taskstats_message;
pub mod text;
