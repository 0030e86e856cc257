//! Room `history`: cumulative readings over time in, windows out. Pure: fixed memory, no clock, no I/O.
//!
//! Everything a span asks is a difference of cumulative functions of time. For each subject and each kind of wait the
//! readings are the break points of W(t), the nanoseconds its tasks waited up to t; between two readings W runs straight.
//! A window is W(end) − W(start), so adjacent windows add up exactly, whatever the resolution.
//!
//! What is not here, and where it will stand: polled readings say nothing of single waits, so `stalled`, `longest_wait`,
//! `neighbor`, `self`, culprits and stalls stay absent. Exact waits (eBPF) bring break points of their own for W(t), for
//! U(t) = ∫ \[any task waiting\] and for T(t) = ∫ tasks throttled; they are overlaid per subject between `series::Series`
//! (what was polled) and `slice` (what is answered), and make the resolution 0 where they cover the edges.
//!
//! Decisions a reader should know:
//!
//! * A subject's first reading is a baseline: what happened before it is not in any window.
//! * A kind of wait is in the answer only if every reading in and around the window knows it. A reading that knows no
//!   kind at all is a gap: it ends one stretch and begins another, what lies between adds nothing and lowers `coverage`.
//! * Coverage is the share of the window that lies between readings of the same stretch.
//! * Evicted and expired readings are the oldest of a subject, so loss shows as coverage, never as a wrong number.
//! * The wall clock is translated through the offset that held at the time (`clock`), so that a step moves no stall.

mod clock;
mod merge;
mod series;
mod slice;
mod store;

#[cfg(test)]
mod properties;

pub use merge::merge;
pub use store::{MIN_SPACING, Settings, Store};
