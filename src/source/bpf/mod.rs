//! The eBPF source: every single wait, its culprit, its throttled part. Programs in C stand in `src/bpf/`; here they are
//! loaded, told who is who, and read.
//!
//! * [`BpfSource::open`] loads what this kernel can do; [`BpfSource::offer`] tells what that is.
//! * A container gets a [`Slot`]: its cgroups lead to it ([`BpfSource::set_cgroup`]; cgroups below are found by the
//!   kernel), and from then on its numbers stand there. Slot 0 is the host.
//! * [`BpfSource::drain`] hands over single waits, reclaims and compactions over the floors of their slot;
//!   [`BpfSource::totals`] and [`BpfSource::memory`] what is counted of all of them; [`BpfSource::blames`] who ran
//!   meanwhile; [`BpfSource::waiting`] waits that have not ended.
//!
//! What it deliberately does not do: choose slots, keep history, wait, or know a clock. The caller drains at its own pace
//! (some ten milliseconds) and whenever it wants an answer now; nothing in the kernel ever waits for it: what finds the
//! ring full is counted in [`SlotTotals::lost`].

mod error;
mod kernel;
mod load;
mod wire;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf};

pub use error::BpfError;
pub use kernel::{Form, Hierarchy, Offer, ThrottleClock};
pub use load::BpfSettings;
pub use wire::{
    BUCKET_SCALE, BUCKETS, Blame, Buckets, CULPRITS, Comm, FIRST_BUCKET, MemoryTotals, MemoryWork, Record, Runner, Share, Slot, SlotTotals,
    THRESHOLDS, Task, Wait, Waiting,
};

use crate::model::ProcessKey;

use load::{Loaded, load, read_iterator};
use wire::{BLAME_KEY_LEN, MEMORY_LEN, TOTALS_LEN};

/// Records taken from the ring at one go, so that a storm of them does not keep the caller from its other work.
const DRAIN_MOST: usize = 1 << 16;

/// What came out of the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: usize,
    /// Records that could not be read.
    pub garbage: usize,
    /// There is more: drain again.
    pub more: bool,
}

/// The programs, and the maps they fill. Dropping it takes everything out of the kernel.
pub struct BpfSource {
    loaded: Loaded,
    records: RingBuf<MapData>,
    totals: PerCpuArray<MapData, [u8; TOTALS_LEN]>,
    memory: Array<MapData, [u8; MEMORY_LEN]>,
    losses: PerCpuArray<MapData, [u64; 2]>,
    floors: Array<MapData, [u64; 2]>,
    cgroups: HashMap<MapData, u64, u32>,
    processes: HashMap<MapData, [u32; 2], u32>,
    blames: HashMap<MapData, [u8; BLAME_KEY_LEN], u64>,
    control: Array<MapData, [u32; 2]>,
    generation: u32,
    waiting: Vec<u8>,
}

impl std::fmt::Debug for BpfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BpfSource").field("offer", &self.loaded.offer).field("slots", &self.loaded.slots).finish_non_exhaustive()
    }
}

/// Takes a map out of the object and checks its type.
macro_rules! take {
    ($loaded:expr, $kind:ty, $name:literal) => {
        $loaded
            .ebpf
            .take_map($name)
            .ok_or_else(|| BpfError::Failed {
                doing: concat!("find the map ", $name).to_owned(),
                reason: "it is not in the object".to_owned(),
            })
            .and_then(|map| <$kind>::try_from(map).map_err(|error| BpfError::of(concat!("use the map ", $name), &error)))
    };
}

impl BpfSource {
    /// Loads and attaches the programs. `btf` is the kernel's description of its types (`host::kernel_btf`).
    pub fn open(btf: &[u8], settings: &BpfSettings) -> Result<Self, BpfError> {
        let mut loaded = load(btf, settings)?;
        let mut source = Self {
            records: take!(loaded, RingBuf<_>, "records")?,
            totals: take!(loaded, PerCpuArray<_, _>, "slot_totals")?,
            memory: take!(loaded, Array<_, _>, "slot_memory")?,
            losses: take!(loaded, PerCpuArray<_, _>, "losses")?,
            floors: take!(loaded, Array<_, _>, "slot_floors")?,
            cgroups: take!(loaded, HashMap<_, _, _>, "slots")?,
            processes: take!(loaded, HashMap<_, _, _>, "processes")?,
            blames: take!(loaded, HashMap<_, _, _>, "blames")?,
            control: take!(loaded, Array<_, _>, "controls")?,
            generation: 0,
            waiting: Vec::new(),
            loaded,
        };
        for slot in 0..source.loaded.slots {
            source.set_floors(Slot(slot), None, None)?;
        }
        Ok(source)
    }

    /// What this kernel can tell.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.loaded.offer
    }

    /// Slots there are, the host's among them: a container's is at least 1 and less than this.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.loaded.slots
    }

    /// Memory of the maps in the kernel, bytes.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.loaded.map_bytes
    }

    /// CPUs that this machine may have.
    #[must_use]
    pub const fn cpus(&self) -> u32 {
        self.loaded.cpus
    }

    /// From now on, tasks in this cgroup (inode of its directory in the hierarchy chosen) and below count for `slot`.
    pub fn set_cgroup(&mut self, cgroup: u64, slot: Slot) -> Result<(), BpfError> {
        self.make_room_for_blame(slot)?;
        self.cgroups.insert(cgroup, slot.0, 0).map_err(|error| BpfError::of("name a cgroup", &error))?;
        self.changed()
    }

    /// Tasks in this cgroup count for its parent, or for the host. A cgroup that was never named is none.
    pub fn remove_cgroup(&mut self, cgroup: u64) -> Result<(), BpfError> {
        if self.cgroups.remove(&cgroup).is_ok() {
            return self.changed();
        }
        Ok(())
    }

    /// From now on, these processes count for `slot` where they are in none of the cgroups told, and so do the children they
    /// have later. For whoever has a cgroup in another hierarchy only; to be told of further ones as they are met.
    pub fn set_processes(&mut self, processes: impl Iterator<Item = ProcessKey>, slot: Slot) -> Result<(), BpfError> {
        self.make_room_for_blame(slot)?;
        for process in processes {
            self.processes.insert(process_key(process), slot.0, 0).map_err(|error| BpfError::of("name a process", &error))?;
        }
        self.changed()
    }

    /// These processes have ended, or belong to nobody any more. The tasks that are left of them are looked up at the next change.
    pub fn remove_processes(&mut self, processes: impl Iterator<Item = ProcessKey>) {
        for process in processes {
            // Not there any more is as good.
            let _gone = self.processes.remove(&process_key(process));
        }
    }

    fn make_room_for_blame(&mut self, slot: Slot) -> Result<(), BpfError> {
        let others = Blame::others_key(slot);
        if self.blames.get(&others, 0).is_err() {
            self.blames.insert(others, 0, 0).map_err(|error| BpfError::of("make room for blame", &error))?;
        }
        Ok(())
    }

    /// Tells the programs to look cgroups up anew.
    fn changed(&mut self) -> Result<(), BpfError> {
        self.generation = self.generation.wrapping_add(1);
        self.control.set(0, [self.generation, 0], 0).map_err(|error| BpfError::of("tell of a changed cgroup", &error))
    }

    /// Waits, and memory work, at least this long become records; `None`: none do.
    pub fn set_floors(&mut self, slot: Slot, wait_ns: Option<u64>, memory_ns: Option<u64>) -> Result<(), BpfError> {
        let floors = [wait_ns, memory_ns].map(|floor| floor.unwrap_or(u64::MAX));
        self.floors.set(slot.0, floors, 0).map_err(|error| BpfError::of("set floors", &error))
    }

    /// Hands over what the ring holds, oldest first.
    pub fn drain(&mut self, mut each: impl FnMut(Record)) -> Drained {
        let mut drained = Drained::default();
        while let Some(item) = self.records.next() {
            match Record::read(&item) {
                Some(record) => {
                    drained.records += 1;
                    each(record);
                }
                None => drained.garbage += 1,
            }
            if drained.records + drained.garbage >= DRAIN_MOST {
                drained.more = true;
                break;
            }
        }
        drained
    }

    /// Totals of a slot, all CPUs together.
    pub fn totals(&self, slot: Slot) -> Result<SlotTotals, BpfError> {
        let mut sum = SlotTotals::NONE;
        for one in &self.totals_by_cpu(slot)? {
            sum.add(one);
        }
        Ok(sum)
    }

    /// Totals of a slot, CPU by CPU.
    pub fn totals_by_cpu(&self, slot: Slot) -> Result<Vec<SlotTotals>, BpfError> {
        let values = self.totals.get(&slot.0, 0).map_err(|error| BpfError::of("read totals", &error))?;
        let read: Option<Vec<SlotTotals>> = values.iter().map(SlotTotals::read).collect();
        read.ok_or_else(|| BpfError::Failed { doing: "read totals".to_owned(), reason: "they have another length".to_owned() })
    }

    /// Records for which the ring had no room, of everybody, since the programs were loaded; and the waits in them, ns.
    pub fn losses(&self) -> Result<(u64, u64), BpfError> {
        let values = self.losses.get(&0, 0).map_err(|error| BpfError::of("read losses", &error))?;
        let sum = |place: usize| values.iter().filter_map(|of| of.get(place)).fold(0, |sum: u64, one| sum.wrapping_add(*one));
        Ok((sum(0), sum(1)))
    }

    /// Lengths in ns from which a wait is counted as a long one.
    #[must_use]
    pub const fn thresholds_ns(&self) -> &[u64; THRESHOLDS] {
        &self.loaded.thresholds_ns
    }

    /// Direct reclaim and direct compaction of a slot.
    pub fn memory(&self, slot: Slot) -> Result<(MemoryTotals, MemoryTotals), BpfError> {
        let bytes = self.memory.get(&slot.0, 0).map_err(|error| BpfError::of("read memory totals", &error))?;
        MemoryTotals::read_both(&bytes)
            .ok_or_else(|| BpfError::Failed { doing: "read memory totals".to_owned(), reason: "they have another length".to_owned() })
    }

    /// Who ran while whom waited, cumulative. Short waits (under 10 us) may be missing up to a millisecond a CPU.
    pub fn blames(&self, mut each: impl FnMut(Blame)) {
        for (key, ns) in self.blames.iter().flatten() {
            if let Some(blame) = Blame::read(&key, ns) {
                each(blame);
            }
        }
    }

    /// Clears a slot for its next container: totals, floors, and who blamed whom. Its cgroups must be gone from it already.
    pub fn clear_slot(&mut self, slot: Slot) -> Result<(), BpfError> {
        self.set_floors(slot, None, None)?;
        let cpus = self.totals.get(&slot.0, 0).map_err(|error| BpfError::of("read totals", &error))?.len();
        let none = PerCpuValues::try_from(vec![[0; TOTALS_LEN]; cpus]).map_err(|error| BpfError::of("clear totals", &error))?;
        self.totals.set(slot.0, none, 0).map_err(|error| BpfError::of("clear totals", &error))?;
        self.memory.set(slot.0, [0; MEMORY_LEN], 0).map_err(|error| BpfError::of("clear memory totals", &error))?;
        let concerned: Vec<_> =
            self.blames.keys().flatten().filter(|key| Blame::read(key, 0).is_some_and(|blame| blame.names(slot))).collect();
        for key in concerned {
            // Not there any more is as good.
            let _ = self.blames.remove(&key);
        }
        Ok(())
    }

    /// Tasks of containers that wait for a CPU at this moment.
    pub fn waiting(&mut self, mut each: impl FnMut(Waiting)) -> Result<(), BpfError> {
        self.waiting.clear();
        if self.loaded.offer.waiting {
            read_iterator(&mut self.loaded.ebpf, "waiting_tasks", &mut self.waiting)?;
        }
        Waiting::read_all(&self.waiting).for_each(&mut each);
        Ok(())
    }
}

/// `struct process_key` of `src/bpf/wire.h`.
fn process_key(process: ProcessKey) -> [u32; 2] {
    let lower_half = process.start_ticks & u64::from(u32::MAX);
    [process.pid, u32::try_from(lower_half).unwrap_or(0)]
}
