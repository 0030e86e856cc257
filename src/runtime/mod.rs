//! Room `runtime`: the only reader of clocks, the only spawner of tasks and threads, and what both ends of the
//! hop share about stopping, pausing and watching files.
//!
//! It knows nothing of OTLP, of HTTP or of the kernel's readings; it starts nothing by itself.

pub mod backoff;
pub mod budget;
pub mod buffers;
pub mod clock;
pub mod files;
pub mod heavy;
pub mod in_turn;
pub mod io;
pub mod line;
pub mod pem;
pub mod pulse;
pub mod scratch;
pub mod shutdown;
pub mod slow;
pub mod tasks;
pub mod thread;

pub use backoff::Backoff;
pub use buffers::Buffers;
pub use files::Reloading;
pub use heavy::Heavy;
pub use in_turn::InTurn;
pub use io::{Io, poll_send, unpaced_within_the_host};
pub use line::{Line, Standing};
pub use scratch::Scratch;
pub use shutdown::Stop;
pub use tasks::{Manners, NO_PAUSE, Pause, Spawner, Task, TaskFailed, Tasks};
