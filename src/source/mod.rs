//! Room `source`: the sampler. One thread of its own looks at the kernel (through `host`), adds up what it sees per process
//! and per container, and writes readings into the history and collections for the metrics.
//!
//! * [`Node`] is what it writes and others read: the index, the history, the latest collection.
//! * [`start`] begins it; [`SamplerHandle`] asks it for fresh readings (`cover`), a look for new containers (`rescan`) or a
//!   last collection (`collect`).
//!
//! Three rhythms: subjects that sent spans of late are read every `history.resolution`, all others every
//! `collection_interval`, and new processes are looked for every second and whenever somebody names an unknown one.
//! Processes in an active container's cgroup are looked for at each of its readings.
//!
//! What it deliberately does not do: decide which source to use (`ladder`), know who is who (`containers`), parse
//! (`parse`), or make metrics (`metrics`). It never holds a lock while it reads the kernel.
//!
//! Rules of adding up (`account`, `accounting`, `threads` hold them as pure code): an older process's first look is its
//! baseline, one born under the agent's eyes counts from zero; counters never go back; the dead stay in their container's
//! total; every answer is checked against the process's kept handle, so a pid used again confuses nothing, and against the ages of
//! its threads (`ages`), so a thread that is just ending does not count twice; delays that
//! the kernel never counted are unknown.
//!
//! Who stands still costs next to nothing: a container whose cgroup used no CPU since its last full reading is not asked about
//! its processes (`still`), but by whoever wants a reading now.
//!
//! Threads are read one by one where spans name them (`watch`, `named`), and only there.
//!
//! Kernel threads are read at collections only, and only to hold the sum of all tasks against the node's (`conservation`).
//!
//! Processes that live too short to be looked at are told by the kernel when they end (`exits` listens, `lives` knows whose
//! they are, `ended` counts each once).

mod above;
mod account;
mod accounting;
mod ages;
mod book;
pub mod bpf;
mod collect;
mod conservation;
mod crowd;
mod ended;
mod exits;
mod feed;
mod handle;
mod ledger;
mod lives;
mod meter;
mod named;
mod node;
mod past;
mod reading;
mod roster;
mod sampler;
mod serve;
mod singles;
mod still;
mod sweep;
mod threads;
mod units;
mod watch;

#[cfg(test)]
mod above_live_tests;
#[cfg(test)]
mod allocation_tests;
#[cfg(test)]
mod exits_live_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod still_live_tests;
#[cfg(test)]
mod thread_tests;
#[cfg(test)]
mod unit_tests;

pub use crowd::Crowd;
pub use exits::try_exits;
pub use handle::SamplerHandle;
pub use named::NamedThreads;
pub use node::{Collection, Node};
pub use sampler::{RESCAN_SPACING, start, try_bpf};
