//! What the programs hand over, by the offsets that `src/bpf/wire.h` writes down. Pure: bytes in, values out; bytes that
//! do not have the length of what they claim to be are nothing.

/// Buckets of a histogram.
pub const BUCKETS: usize = 96;
/// Scale of OTLP's exponential histogram in which the buckets are counted.
pub const BUCKET_SCALE: i32 = 2;
/// Index of the first bucket at that scale, in seconds: it holds (2^-20, 2^-19.75].
pub const FIRST_BUCKET: i32 = -20 * 4;
/// Thresholds of long waits.
pub const THRESHOLDS: usize = 4;
/// Culprits of one record at most.
pub const CULPRITS: usize = 8;

pub(super) const TOTALS_LEN: usize = 488;
pub(super) const MEMORY_LEN: usize = 816;
pub(super) const BLAME_KEY_LEN: usize = 24;
pub(super) const WAITING_LEN: usize = 56;
const HEAD_LEN: usize = 56;
const CULPRITS_AT: usize = 88;
const CULPRIT_LEN: usize = 32;
const CULPRITS_SHORT: usize = 2;
const WAIT_LEN: usize = 344;
const WAIT_SHORT_LEN: usize = 152;

const _: () = assert!(TOTALS_LEN == 100 + BUCKETS * 4 + 4);
const _: () = assert!(MEMORY_LEN == 2 * (20 + BUCKETS * 4 + 4));
const _: () = assert!(WAIT_LEN == CULPRITS_AT + CULPRITS * CULPRIT_LEN);
const _: () = assert!(WAIT_SHORT_LEN == CULPRITS_AT + CULPRITS_SHORT * CULPRIT_LEN);

/// Where a container's numbers stand in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// Everything that is in no container with a slot of its own.
    pub const HOST: Self = Self(0);
    const OTHER: Self = Self(0xffff_fffe);
}

/// A process's name as the kernel keeps it (`comm`): up to 15 bytes, then zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first zero; they may be anything.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..len).unwrap_or_default()
    }
}

/// Somebody who ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runner {
    /// A container.
    Container(Slot),
    /// A process outside of every container, by its name.
    Host(Comm),
    /// Several for whom there was no room.
    Others,
}

/// Somebody who ran while somebody else waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who.
    pub runner: Runner,
    /// For how long, of the wait.
    pub ns: u64,
}

/// Which task did or suffered something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its container.
    pub slot: Slot,
    /// Thread group in the host's namespace.
    pub tgid: u32,
    /// Thread in the host's namespace.
    pub tid: u32,
    /// Start of the thread, nanoseconds of `CLOCK_BOOTTIME`.
    pub task_started_ns: u64,
    /// Start of the process, nanoseconds of `CLOCK_BOOTTIME`.
    pub process_started_ns: u64,
}

/// One finished wait. Times in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waited.
    pub task: Task,
    /// Its number in its own pid namespace, what `gettid` returns to it; 0 where that is unknown.
    pub own_tid: u32,
    /// The CPU that it got.
    pub cpu: u32,
    /// When it began to run.
    pub end_ns: u64,
    /// How long it had waited.
    pub length_ns: u64,
    /// Of that, at the beginning: held back by quota.
    pub throttled_ns: u64,
    /// Of that: tasks of its own container ran.
    pub self_ns: u64,
    /// Of that: nobody ran.
    pub idle_ns: u64,
    /// Of that: others ran for whom there was no room in `culprits`.
    pub other_ns: u64,
    /// Others who ran, each once.
    pub culprits: Vec<Share>,
}

impl Wait {
    /// Time in which others ran.
    #[must_use]
    pub fn neighbor_ns(&self) -> u64 {
        self.culprits.iter().fold(self.other_ns, |sum, share| sum.saturating_add(share.ns))
    }
}

/// One direct reclaim or compaction. Times in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryWork {
    /// Who did it.
    pub task: Task,
    /// When it was done.
    pub end_ns: u64,
    /// How long it took.
    pub length_ns: u64,
}

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A wait for a CPU.
    Wait(Wait),
    /// Direct reclaim, global or for a cgroup's limit.
    Reclaim(MemoryWork),
    /// Direct compaction.
    Compaction(MemoryWork),
}

/// A wait that has not ended. Times in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Who waits.
    pub task: Task,
    /// Since when.
    pub begin_ns: u64,
    /// When it was looked at.
    pub now_ns: u64,
    /// Held back by quota so far.
    pub throttled_ns: u64,
}

/// Counts of durations by bucket, cumulative and wrapping: only differences mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Shorter than the first bucket.
    pub below: u32,
    /// In each bucket; what is longer than the last one is in the last one.
    pub counts: [u32; BUCKETS],
}

/// Totals of one container over all CPUs, cumulative since the programs were loaded. The counts in `buckets`
/// wrap: take differences with [`Buckets::since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotTotals {
    /// Waited, ns.
    pub wait_ns: u64,
    /// Waits that ended.
    pub waits: u64,
    /// Of `wait_ns`: held back by quota.
    pub throttled_ns: u64,
    /// Of `wait_ns`: its own tasks ran.
    pub self_ns: u64,
    /// Of `wait_ns`: nobody ran.
    pub idle_ns: u64,
    /// Ran, ns.
    pub run_ns: u64,
    /// Records for which the ring had no room.
    pub lost: u64,
    /// Waits and memory work in those, ns.
    pub lost_ns: u64,
    /// Waits at least as long as each threshold.
    pub long_waits: [u64; THRESHOLDS],
    /// Waits by length.
    pub buckets: Buckets,
}

/// Memory work of one container, cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTotals {
    /// Time, ns.
    pub ns: u64,
    /// How often.
    pub count: u64,
    /// By length.
    pub buckets: Buckets,
}

/// How long a container waited while somebody ran, cumulative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Who waited.
    pub victim: Slot,
    /// Who ran, and for how long.
    pub share: Share,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_ne_bytes(*eight))
}

fn runner(slot: u32, name: &[u8]) -> Option<Runner> {
    Some(match Slot(slot) {
        Slot::HOST => Runner::Host(Comm(*name.first_chunk()?)),
        Slot::OTHER => Runner::Others,
        slot => Runner::Container(slot),
    })
}

impl Record {
    /// Reads one record of the ring.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let kind = u32_at(bytes, 0)?;
        match (kind, bytes.len()) {
            (1, WAIT_LEN | WAIT_SHORT_LEN) => wait(bytes).map(Self::Wait),
            (2, HEAD_LEN) => memory_work(bytes).map(Self::Reclaim),
            (3, HEAD_LEN) => memory_work(bytes).map(Self::Compaction),
            _ => None,
        }
    }
}

fn task(bytes: &[u8]) -> Option<Task> {
    Some(Task {
        slot: Slot(u32_at(bytes, 24)?),
        tgid: u32_at(bytes, 28)?,
        tid: u32_at(bytes, 32)?,
        task_started_ns: u64_at(bytes, 40)?,
        process_started_ns: u64_at(bytes, 48)?,
    })
}

fn memory_work(bytes: &[u8]) -> Option<MemoryWork> {
    Some(MemoryWork { task: task(bytes)?, end_ns: u64_at(bytes, 8)?, length_ns: u64_at(bytes, 16)? })
}

fn wait(bytes: &[u8]) -> Option<Wait> {
    let word = u32_at(bytes, 36)?;
    let filled = usize::try_from(word & 0xff).ok()?;
    let places = bytes.get(CULPRITS_AT..)?.chunks_exact(CULPRIT_LEN);
    let culprits =
        places.take(filled).map(|place| Some(Share { runner: runner(u32_at(place, 8)?, place.get(16..)?)?, ns: u64_at(place, 0)? }));
    Some(Wait {
        task: task(bytes)?,
        own_tid: word >> 8,
        cpu: u32_at(bytes, 4)?,
        end_ns: u64_at(bytes, 8)?,
        length_ns: u64_at(bytes, 16)?,
        throttled_ns: u64_at(bytes, 56)?,
        self_ns: u64_at(bytes, 64)?,
        idle_ns: u64_at(bytes, 72)?,
        other_ns: u64_at(bytes, 80)?,
        culprits: culprits.collect::<Option<_>>()?,
    })
}

impl Waiting {
    /// Reads what the iterator wrote: whole records, one after the other.
    pub fn read_all(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(WAITING_LEN).filter_map(|one| {
            Some(Self { task: task(one)?, begin_ns: u64_at(one, 0)?, now_ns: u64_at(one, 8)?, throttled_ns: u64_at(one, 16)? })
        })
    }
}

impl Buckets {
    const NONE: Self = Self { below: 0, counts: [0; BUCKETS] };

    fn add(&mut self, bytes: &[u8], at: usize) -> Option<()> {
        self.below = self.below.wrapping_add(u32_at(bytes, at)?);
        for (sum, count) in self.counts.iter_mut().zip(bytes.get(at + 4..)?.chunks_exact(4)) {
            *sum = sum.wrapping_add(u32_at(count, 0)?);
        }
        Some(())
    }

    /// What was counted since an earlier look, as long as no bucket got 2^32 more.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut grown = Self { below: self.below.wrapping_sub(earlier.below), ..Self::NONE };
        for ((grown, now), before) in grown.counts.iter_mut().zip(self.counts).zip(earlier.counts) {
            *grown = now.wrapping_sub(before);
        }
        grown
    }
}

impl SlotTotals {
    /// Nothing yet.
    pub const NONE: Self = Self {
        wait_ns: 0,
        waits: 0,
        throttled_ns: 0,
        self_ns: 0,
        idle_ns: 0,
        run_ns: 0,
        lost: 0,
        lost_ns: 0,
        long_waits: [0; THRESHOLDS],
        buckets: Buckets::NONE,
    };

    fn sums(&mut self) -> impl Iterator<Item = &mut u64> {
        let sums = [
            &mut self.wait_ns,
            &mut self.waits,
            &mut self.throttled_ns,
            &mut self.self_ns,
            &mut self.idle_ns,
            &mut self.run_ns,
            &mut self.lost,
            &mut self.lost_ns,
        ];
        sums.into_iter().chain(&mut self.long_waits)
    }

    /// What one CPU counted; `None`: these are no totals.
    pub(super) fn read(bytes: &[u8; TOTALS_LEN]) -> Option<Self> {
        let mut read = Self::NONE;
        for (sum, word) in read.sums().zip(bytes.chunks_exact(8)) {
            *sum = u64_at(word, 0)?;
        }
        read.buckets.add(bytes, 96)?;
        Some(read)
    }

    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.sums().zip(other.sums()) {
            *sum = sum.wrapping_add(*more);
        }
        self.buckets.below = self.buckets.below.wrapping_add(other.buckets.below);
        for (sum, more) in self.buckets.counts.iter_mut().zip(other.buckets.counts) {
            *sum = sum.wrapping_add(more);
        }
    }
}

impl MemoryTotals {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut buckets = Buckets::NONE;
        buckets.add(bytes, 16)?;
        Some(Self { ns: u64_at(bytes, 0)?, count: u64_at(bytes, 8)?, buckets })
    }

    /// Reclaim and compaction of one container.
    pub(super) fn read_both(bytes: &[u8; MEMORY_LEN]) -> Option<(Self, Self)> {
        let (reclaim, compaction) = bytes.split_at_checked(MEMORY_LEN / 2)?;
        Some((Self::read(reclaim)?, Self::read(compaction)?))
    }
}

impl Blame {
    pub(super) fn read(key: &[u8; BLAME_KEY_LEN], ns: u64) -> Option<Self> {
        let runner = runner(u32_at(key, 4)?, key.get(8..)?)?;
        Some(Self { victim: Slot(u32_at(key, 0)?), share: Share { runner, ns } })
    }

    /// Whether this slot waited, or ran.
    pub(super) fn names(&self, slot: Slot) -> bool {
        self.victim == slot || self.share.runner == Runner::Container(slot)
    }

    /// The key under which a container's time lands when there is no room for a culprit's name.
    pub(super) fn others_key(victim: Slot) -> [u8; BLAME_KEY_LEN] {
        let mut key = [0; BLAME_KEY_LEN];
        for (place, byte) in key.iter_mut().zip(victim.0.to_ne_bytes().into_iter().chain(Slot::OTHER.0.to_ne_bytes())) {
            *place = byte;
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record built the way the programs build it.
    fn bytes(kind: u32, len: usize, culprits: &[(u64, u32, &str)], filled: u32) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = out.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        for (at, value) in [(0, kind), (4, 1), (24, 7), (28, 100), (32, 101), (36, filled)] {
            put(at, &value.to_ne_bytes());
        }
        for (at, value) in [(8, 5_000), (16, 900), (40, 33), (48, 22), (56, 100), (64, 200), (72, 300), (80, 50_u64)] {
            put(at, &value.to_ne_bytes());
        }
        for (index, (ns, slot, name)) in culprits.iter().enumerate() {
            put(88 + index * 32, &ns.to_ne_bytes());
            put(96 + index * 32, &slot.to_ne_bytes());
            put(104 + index * 32, name.as_bytes());
        }
        out
    }

    fn wait_of(bytes: &[u8]) -> Wait {
        match Record::read(bytes) {
            Some(Record::Wait(wait)) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wait_is_read_with_its_culprits() {
        let culprits = [(150, 9, ""), (60, 0, "make"), (40, 0xffff_fffe, "")];
        let wait = wait_of(&bytes(1, WAIT_LEN, &culprits, 3));
        assert_eq!(wait.task, Task { slot: Slot(7), tgid: 100, tid: 101, task_started_ns: 33, process_started_ns: 22 });
        assert_eq!((wait.cpu, wait.end_ns, wait.length_ns), (1, 5_000, 900));
        assert_eq!((wait.throttled_ns, wait.self_ns, wait.idle_ns, wait.other_ns), (100, 200, 300, 50));
        assert_eq!(wait.culprits[0], Share { runner: Runner::Container(Slot(9)), ns: 150 });
        assert!(matches!(wait.culprits[1].runner, Runner::Host(comm) if comm.bytes() == b"make"));
        assert_eq!(wait.culprits[2].runner, Runner::Others);
        assert_eq!(wait.neighbor_ns(), 300);
        assert_eq!(wait_of(&bytes(1, WAIT_SHORT_LEN, &culprits[..2], 2)).culprits.len(), 2);
        assert_eq!(wait_of(&bytes(1, WAIT_SHORT_LEN, &[], 0)).culprits, []);
        let numbered = wait_of(&bytes(1, WAIT_SHORT_LEN, &culprits[..1], 4_194_303 << 8 | 1));
        assert_eq!((numbered.own_tid, numbered.culprits.len(), wait.own_tid), (4_194_303, 1, 0));
    }

    #[test]
    fn a_count_of_culprits_beyond_the_record_is_cut() {
        assert_eq!(wait_of(&bytes(1, WAIT_SHORT_LEN, &[], 8)).culprits.len(), 2);
        assert_eq!(wait_of(&bytes(1, WAIT_LEN, &[], u32::MAX)).culprits.len(), 8);
    }

    #[test]
    fn what_has_another_length_or_kind_is_nothing() {
        fn check(kind: u32, len: usize, expected: bool) {
            assert_eq!(Record::read(&bytes(kind, len, &[], 0)).is_some(), expected, "kind {kind}, {len} bytes");
        }
        check(1, WAIT_LEN, true);
        check(1, WAIT_LEN - 1, false);
        check(1, WAIT_LEN + 8, false);
        check(1, WAIT_SHORT_LEN, true);
        check(1, HEAD_LEN, false);
        check(2, HEAD_LEN, true);
        check(3, HEAD_LEN, true);
        check(2, WAIT_LEN, false);
        check(0, HEAD_LEN, false);
        check(4, HEAD_LEN, false);
        assert_eq!(Record::read(&[]), None);
        assert_eq!(Record::read(&[1, 0, 0]), None);
    }

    #[test]
    fn memory_work_is_told_apart() {
        let expected = MemoryWork {
            task: Task { slot: Slot(7), tgid: 100, tid: 101, task_started_ns: 33, process_started_ns: 22 },
            end_ns: 5_000,
            length_ns: 900,
        };
        assert_eq!(Record::read(&bytes(2, HEAD_LEN, &[], 0)), Some(Record::Reclaim(expected)));
        assert_eq!(Record::read(&bytes(3, HEAD_LEN, &[], 0)), Some(Record::Compaction(expected)));
    }

    #[test]
    fn totals_of_cpus_add_up_and_counts_wrap() {
        let mut one = [0; TOTALS_LEN];
        for (index, word) in one[..96].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&(index as u64 + 1).to_ne_bytes());
        }
        for (index, word) in one[96..484].chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&(u32::MAX - index as u32).to_ne_bytes());
        }
        let mut sum = SlotTotals::NONE;
        sum.add(&SlotTotals::read(&one).unwrap());
        let once = sum;
        sum.add(&SlotTotals::read(&one).unwrap());
        assert_eq!((sum.wait_ns, sum.waits, sum.throttled_ns, sum.self_ns), (2, 4, 6, 8));
        assert_eq!((sum.idle_ns, sum.run_ns, sum.lost, sum.lost_ns), (10, 12, 14, 16));
        assert_eq!(sum.long_waits, [18, 20, 22, 24]);
        assert_eq!(once.buckets.below, u32::MAX);
        assert_eq!(once.buckets.counts[95], u32::MAX - 96);
        let grown = sum.buckets.since(&once.buckets);
        assert_eq!((grown.below, grown.counts[0], grown.counts[95]), (u32::MAX, u32::MAX - 1, u32::MAX - 96));
    }

    #[test]
    fn blame_is_read_and_its_rest_has_a_key() {
        let key = Blame::others_key(Slot(3));
        let blame = Blame::read(&key, 5).unwrap();
        assert_eq!(blame, Blame { victim: Slot(3), share: Share { runner: Runner::Others, ns: 5 } });
        assert!(blame.names(Slot(3)) && !blame.names(Slot(4)));
    }

    #[test]
    fn waiting_tasks_stand_one_after_the_other() {
        let mut two: Vec<u8> = (0..WAITING_LEN * 2).map(|byte| byte as u8).collect();
        assert_eq!(Waiting::read_all(&two).count(), 2);
        two.pop();
        assert_eq!(Waiting::read_all(&two).count(), 1);
        let first = Waiting::read_all(&two).next().unwrap();
        assert_eq!(first.begin_ns, u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(first.task.slot, Slot(u32::from_ne_bytes([24, 25, 26, 27])));
    }

    proptest! {
        /// Whatever comes out of the ring is read or refused, and what is read is within the record.
        #[test]
        fn hostile_records_never_panic(kind in 0u32..5, len in prop_oneof![Just(HEAD_LEN), Just(WAIT_LEN), Just(WAIT_SHORT_LEN), 0usize..400], filled in any::<u32>(), noise in any::<u8>()) {
            let mut bytes = bytes(kind, len, &[], filled);
            if let Some(tail) = bytes.get_mut(88..) {
                tail.fill(noise);
            }
            if let Some(Record::Wait(wait)) = Record::read(&bytes) {
                prop_assert!(wait.culprits.len() <= CULPRITS.min(filled as usize));
                prop_assert!(wait.neighbor_ns() >= wait.other_ns);
            }
        }
    }
}
