//! Whether a container has stood still since its last full reading, told by one number: the CPU time of its cgroup. Pure.
//!
//! A container that used no CPU since has nothing new to tell. A wait for a CPU is added when its task gets one
//! (`sched_info_arrive`), one for a block device when it is woken (`delayacct_blkio_end`), the others when the task goes on
//! (`delayacct_end`): each is followed at once by the task's running, which its cgroup is charged for at its next tick or
//! switch at the latest (`update_curr`). So what stands still by this number can at most be late by a tick, and the next
//! reading, for which the number has moved, has it all. Nothing is ever lost: totals are cumulative.
//!
//! What the number does not tell: a process moved into the cgroup brings its past along, and may be moved into one hierarchy
//! after the other; so a container whose members changed is read fully for some time. And whoever asks for a reading at
//! the end of a span is never answered by this number, for there a tick matters.

use crate::model::Mono;

/// So long after its members changed a container is read fully: by then a runtime has moved a process into all hierarchies.
const SETTLING_NS: u64 = 5_000_000_000;

/// Full readings are at most so far apart, whatever the number says.
const RESYNC_NS: u64 = 60_000_000_000;

/// What one container's number said at its last full reading.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Still {
    /// CPU time just before that reading and when it was taken; `None`: the next reading is a full one.
    seen: Option<(u64, Mono)>,
    /// When its members changed last.
    shaken: Mono,
}

impl Still {
    /// Its members changed.
    pub(super) fn shake(&mut self, now: Mono) {
        self.shaken = self.shaken.max(now);
        self.forget();
    }

    /// What was read may mean something else by now.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// A full reading was made; `usage` was told before it.
    pub(super) fn read_fully(&mut self, usage: Option<u64>, at: Mono) {
        self.seen = usage.map(|usage| (usage, at));
    }

    /// Whether nothing can have changed by now, when the number is `usage`.
    pub(super) fn holds(&self, usage: Option<u64>, now: Mono) -> bool {
        let settled = self.shaken == Mono(0) || now.since(self.shaken) >= SETTLING_NS;
        let same = |(seen, at): (u64, Mono)| usage == Some(seen) && now.since(at) < RESYNC_NS;
        settled && self.seen.is_some_and(same)
    }
}

#[cfg(test)]
#[path = "still_tests.rs"]
mod tests;
