//! Room `history`: cumulative readings over time in, windows out. Pure: fixed memory, no clock, no I/O.
//!
//! Everything a span asks is a difference of cumulative functions of time. For each subject and each kind of wait the
//! readings are the break points of W(t), the nanoseconds its tasks waited up to t; between two readings W runs straight.
//! A window is W(end) − W(start), so adjacent windows add up exactly, whatever the resolution.
//!
//! Single waits, where an event source sees them, are break points of their own, overlaid on the readings (`overlay`):
//!
//! ```text
//! readings ──► series ──────────────► slice ─────────┐
//!      └─────► rest: totals less single waits ──┐    ├─► overlay ──► ask: a window
//! waits ─────► chunk, timeline ─────────────────┴────┤
//! lost ──────► sight: when all waits were seen ──────┘
//! ```
//!
//! For many windows of one subject (`ask::Look`) what is the same of those beside each other is kept (`frame`).
//!
//! * W(t) is the sum of the single waits' parts before t, and of the waits too short to be told one by one, which only
//!   the polled totals know. U(t), the time in which anybody waited, and T(t), the throttled part, come from single waits
//!   alone, as do the longest wait, culprits and stalls; where no event source saw, these are absent.
//! * A chunk of single waits knows the sums over itself, so a window adds up chunks, and looks at waits at its two cuts only.
//! * A wait is told when it ends, and is sorted in. One in progress is told by whoever asks (`record_open_waits`), and
//!   counts for what has passed of it.
//!
//! Decisions a reader should know:
//!
//! * A subject's first reading is a baseline: what happened before it is not in any window.
//! * A kind of wait is in the answer only if every reading in and around the window knows it. A reading that knows no
//!   kind at all is a gap: it ends one stretch and begins another, what lies between adds nothing and lowers `coverage`.
//! * Coverage is the share of the window that lies between readings of the same stretch. Where single waits were seen for at
//!   least half of a window they answer, and coverage is the share in which none was lost, resolution 0 where that is all.
//! * The throttled part of a wait stands at its begin, its other parts are spread evenly over what remains of it.
//! * Evicted and expired readings and waits are the oldest of a subject, so loss shows as coverage, never as a wrong number.
//! * The wall clock is translated through the offset that held at the time (`clock`), so that a step moves no stall.

mod ask;
mod chunk;
mod clock;
mod entry;
mod frame;
mod holes;
mod merge;
mod names;
mod overlay;
mod rest;
mod series;
mod sight;
mod slice;
mod store;
mod tally;
mod timeline;
mod waits;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod wait_properties;

pub use ask::Look;
pub use store::{MIN_SPACING, Settings, StallSettings, Store};
