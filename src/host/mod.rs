//! Room `host`: the only code that opens kernel files and sockets.

mod error;
mod files;
mod netlink;
mod taskstats;

pub use error::{ErrorClass, HostError, Place};
pub use taskstats::Taskstats;
