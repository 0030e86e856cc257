//! The wait categories of the kernel's delay accounting (`include/uapi/linux/taskstats.h`).

/// One category. Categories overlap (a thrashing wait is also a block I/O wait): they are never added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DelayKind {
    /// Runnable but not running; contains CFS throttling (`sched_info.run_delay`).
    Cpu,
    /// Synchronous block I/O (`blkio_delay_total`).
    BlockIo,
    /// Swap reads (`swapin_delay_total`).
    Swapin,
    /// Direct memory reclaim, global and memcg (`freepages_delay_total`).
    Reclaim,
    /// Direct compaction (`compact_delay_total`).
    Compaction,
    /// Waiting for a page that was just evicted (`thrashing_delay_total`).
    Thrashing,
    /// Copy-on-write faults (`wpcopy_delay_total`).
    WriteProtectCopy,
    /// Interrupts on top of the task (`irq_delay_total`).
    Irq,
}

impl DelayKind {
    /// Every kind, in the order of [`Delays`].
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::BlockIo, Self::Swapin, Self::Reclaim, Self::Compaction, Self::Thrashing, Self::WriteProtectCopy, Self::Irq];

    /// The word used in attribute keys and as value of `stallspan.delay.type`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::BlockIo => "block_io",
            Self::Swapin => "swapin",
            Self::Reclaim => "reclaim",
            Self::Compaction => "compaction",
            Self::Thrashing => "thrashing",
            Self::WriteProtectCopy => "write_protect_copy",
            Self::Irq => "irq",
        }
    }
}

/// One optional value per [`DelayKind`]: `None` is unknown, `Some(0)` is measured zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays<T>(pub [Option<T>; 8]);

impl<T: Copy> Delays<T> {
    /// The value of one kind.
    #[must_use]
    pub fn get(&self, kind: DelayKind) -> Option<T> {
        self.0.get(kind as usize).copied().flatten()
    }

    /// Sets the value of one kind.
    pub fn set(&mut self, kind: DelayKind, value: Option<T>) {
        if let Some(slot) = self.0.get_mut(kind as usize) {
            *slot = value;
        }
    }

    /// Kinds with their known values.
    pub fn known(&self) -> impl Iterator<Item = (DelayKind, T)> + '_ {
        DelayKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }
}
