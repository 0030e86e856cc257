//! Room `runtime`: the only reader of clocks and the only spawner of tasks and threads.

pub mod clock;
pub mod thread;
