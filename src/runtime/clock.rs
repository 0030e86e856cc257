//! The only place that reads a clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::model::{Mono, Wall};

/// `CLOCK_MONOTONIC` now.
#[must_use]
pub fn mono_now() -> Mono {
    Mono(nanoseconds(ClockId::Monotonic))
}

/// `CLOCK_REALTIME` now.
#[must_use]
pub fn wall_now() -> Wall {
    Wall(nanoseconds(ClockId::Realtime))
}

/// `CLOCK_BOOTTIME` now, nanoseconds: like the monotonic clock, but it runs on while the machine is suspended. The kernel
/// tells start times of tasks on it (`fs/proc/array.c`: `start_boottime`).
#[must_use]
pub fn boot_now() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Both clocks at (nearly) one instant: the wall clock is read between two monotonic reads, and of a few tries
/// the one with the narrowest bracket is taken.
#[must_use]
pub fn both_now() -> (Mono, Wall) {
    let mut best = (u64::MAX, Mono(0), Wall(0));
    for _ in 0..3 {
        let before = mono_now();
        let wall = wall_now();
        let width = mono_now().since(before);
        if width < best.0 {
            best = (width, before.plus(width / 2), wall);
        }
    }
    (best.1, best.2)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads a clock")]
fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds).as_nanos().try_into().unwrap_or(u64::MAX - 1_000_000_000).saturating_add(nanoseconds)
}

/// Now, as deadlines are counted. Under a paused test clock this is the test's time.
#[must_use]
pub fn instant_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// So much later; an instant that cannot be counted is none to wait for: `now`.
#[must_use]
pub fn later(now: tokio::time::Instant, delay: Duration) -> tokio::time::Instant {
    now.checked_add(delay).unwrap_or(now)
}

/// CPU time of the calling thread, nanoseconds (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_cpu_now() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}
