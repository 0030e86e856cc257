//! One wait of one task, as an event source sees it, and what such a source can see.

use super::{DelayKind, Mono};

/// Most culprits told of one wait.
pub const MAX_CULPRITS: usize = 4;

/// Somebody who ran while others waited. The source of the waits gives the numbers, and never one a second time to
/// somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CulpritKey(pub u32);

/// A wait that has ended. Its parts do not overlap; what they leave of the length nobody explains (an idle CPU).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The waiting thread, as the host numbers it.
    pub tid: u32,
    /// What was waited for: [`DelayKind::Cpu`], [`DelayKind::Reclaim`] or [`DelayKind::Compaction`].
    pub kind: DelayKind,
    /// When it began.
    pub begin: Mono,
    /// When it ended.
    pub end: Mono,
    /// Of the length: held back by a CPU quota, from the begin on.
    pub throttled_ns: u64,
    /// Of the length: tasks of the same container ran.
    pub self_ns: u64,
    /// Of the length: others ran.
    pub neighbor_ns: u64,
    /// Of `neighbor_ns`: who ran for how many nanoseconds. Unused places have none.
    pub culprits: [(CulpritKey, u64); MAX_CULPRITS],
}

impl Wait {
    /// A wait of which only the times are known.
    #[must_use]
    pub const fn new(tid: u32, kind: DelayKind, begin: Mono, end: Mono) -> Self {
        let nobody = (CulpritKey(0), 0);
        Self { tid, kind, begin, end, throttled_ns: 0, self_ns: 0, neighbor_ns: 0, culprits: [nobody; MAX_CULPRITS] }
    }

    /// Adds `ns` of a culprit, and to `neighbor_ns`. Where there is no place left, the smallest loses its name.
    pub fn blame(&mut self, culprit: CulpritKey, ns: u64) {
        self.neighbor_ns = self.neighbor_ns.saturating_add(ns);
        let known = |(key, had): &&mut (CulpritKey, u64)| *key == culprit && *had > 0;
        if let Some((_, had)) = self.culprits.iter_mut().find(known) {
            *had = had.saturating_add(ns);
        } else if let Some(least) = self.culprits.iter_mut().min_by_key(|(_, had)| *had)
            && least.1 < ns
        {
            *least = (culprit, ns);
        }
    }
}

/// A wait for a CPU that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWait {
    /// The waiting thread, as the host numbers it.
    pub tid: u32,
    /// When it began.
    pub begin: Mono,
    /// Held back by a CPU quota so far, from the begin on.
    pub throttled_ns: u64,
}

/// What an event source sees, beside begin and end of the waits for a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFields {
    /// The throttled part of each wait.
    pub throttled: bool,
    /// Who ran meanwhile: `self_ns`, `neighbor_ns`, culprits.
    pub culprits: bool,
    /// Direct reclaim and compaction.
    pub memory: bool,
    /// Not every task is seen: only subjects told of (`history::Store::sees`) are, from then on.
    pub some_subjects: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_culprits_keep_their_names() {
        let mut wait = Wait::new(1, DelayKind::Cpu, Mono(0), Mono(100));
        for (key, ns) in [(1, 5), (2, 1), (3, 7), (1, 2), (4, 3), (5, 2), (6, 1)] {
            wait.blame(CulpritKey(key), ns);
        }
        assert_eq!(wait.neighbor_ns, 21);
        assert_eq!(wait.culprits.map(|(key, ns)| (key.0, ns)), [(1, 7), (5, 2), (3, 7), (4, 3)]);
    }
}
