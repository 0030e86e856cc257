//! Puts the programs into the kernel. Everything hangs on file descriptors of this process: no pins, so nothing stays
//! behind however the process ends.

use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};

use super::error::BpfError;
use super::kernel::{Constants, Hierarchy, Offer, offer};
use super::wire::{MEMORY_LEN, THRESHOLDS, TOTALS_LEN};
use crate::parse::btf::KernelTypes;

/// Compiled by `make bpf` from `src/bpf/stall.bpf.c`; the loader relocates it to the kernel's own types.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/stall.bpf.o");

/// Bytes for the totals of all slots and CPUs; decides how many containers have a slot.
const TOTALS_BYTES: usize = 16 << 20;
/// Fewer than a full node's containers would not be worth having; more are never on one node.
const SLOTS: std::ops::RangeInclusive<u32> = 256..=2048;
/// Cgroups that lead to slots.
const CGROUPS: u32 = 8192;
/// Pairs of victim and culprit.
const BLAMES: u32 = 16384;
/// `sizeof(struct cpu_state)`, a little rounded up.
const CPU_BYTES: u32 = 9 << 10;
/// One entry of a preallocated hash map, with what the kernel puts beside it.
const HASH_ENTRY_BYTES: u32 = 96;

/// What the caller decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfSettings {
    /// Which hierarchy names the containers.
    pub hierarchy: Hierarchy,
    /// Lengths in ns from which a wait is counted as a long one, ascending.
    pub thresholds_ns: [u64; THRESHOLDS],
    /// Bytes of the ring; a power of two and at least a page.
    pub ring_bytes: u32,
}

impl Default for BpfSettings {
    fn default() -> Self {
        Self { hierarchy: Hierarchy::Unified, thresholds_ns: [1_000_000, 10_000_000, 50_000_000, 100_000_000], ring_bytes: 4 << 20 }
    }
}

/// Programs in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) offer: Offer,
    pub(super) slots: u32,
    pub(super) cpus: u32,
    pub(super) map_bytes: u64,
    pub(super) thresholds_ns: [u64; THRESHOLDS],
}

/// Slots that the budget allows on this many CPUs.
fn slots_for(cpus: u32) -> u32 {
    let each = TOTALS_BYTES / (TOTALS_LEN * usize::try_from(cpus.max(1)).unwrap_or(usize::MAX));
    u32::try_from(each).unwrap_or(u32::MAX).clamp(*SLOTS.start(), *SLOTS.end())
}

/// Bytes of all maps.
fn map_bytes(cpus: u32, slots: u32, settings: &BpfSettings) -> u64 {
    let [cpus, slots, ring] = [cpus, slots, settings.ring_bytes].map(u64::from);
    let per_slot = TOTALS_LEN as u64 * cpus + MEMORY_LEN as u64 + 16;
    slots * per_slot + cpus * u64::from(CPU_BYTES) + u64::from(HASH_ENTRY_BYTES) * u64::from(CGROUPS + BLAMES) + ring
}

/// Loads and attaches everything that this kernel can do.
pub(super) fn load(btf: &[u8], settings: &BpfSettings) -> Result<Loaded, BpfError> {
    let types = KernelTypes::read(btf).map_err(|problem| BpfError::Types(problem.to_string()))?;
    let (offer, constants) = offer(&types, &settings.hierarchy).map_err(BpfError::Kernel)?;
    drop(types);
    let btf = Btf::parse(btf, Endianness::default()).map_err(|error| BpfError::Types(error.to_string()))?;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| BpfError::of("count the CPUs", &error))?;
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let slots = slots_for(cpus);
    let mut ebpf = create(&btf, settings, constants, cpus, slots)?;
    attach(&mut ebpf, &btf, &offer)?;
    Ok(Loaded { ebpf, offer, slots, cpus, map_bytes: map_bytes(cpus, slots, settings), thresholds_ns: settings.thresholds_ns })
}

fn create(btf: &Btf, settings: &BpfSettings, constants: Constants, cpus: u32, slots: u32) -> Result<Ebpf, BpfError> {
    let mut loader = EbpfLoader::new();
    loader
        // The loader does not know task storage; the kernel does, and only the programs use that map.
        .allow_unsupported_maps()
        .btf(Some(btf))
        .override_global("prev_argument", &constants.prev_argument, true)
        .override_global("hierarchy", &constants.hierarchy, true)
        .override_global("throttle_model", &constants.throttle_model, true)
        .override_global("slots_max", &slots, true)
        .override_global("thresholds", &settings.thresholds_ns, true)
        .map_max_entries("cpus", cpus)
        .map_max_entries("records", settings.ring_bytes)
        .map_max_entries("slots", CGROUPS)
        .map_max_entries("blames", BLAMES);
    for map in ["slot_floors", "slot_totals", "slot_memory"] {
        loader.map_max_entries(map, slots);
    }
    loader.load(OBJECT).map_err(|error| BpfError::of("create the maps", &error))
}

/// The order matters: tasks are born prepared before those alive are prepared, and both before waits are looked at.
fn attach(ebpf: &mut Ebpf, btf: &Btf, offer: &Offer) -> Result<(), BpfError> {
    tracepoint(ebpf, btf, "on_fork", "sched_process_fork")?;
    iterator(ebpf, btf, "prepare_tasks")?;
    read_iterator(ebpf, "prepare_tasks", &mut Vec::new())?;
    if offer.waiting {
        iterator(ebpf, btf, "waiting_tasks")?;
    }
    if offer.moves {
        tracepoint(ebpf, btf, "on_migrate", "sched_migrate_task")?;
    }
    let memory = [
        (offer.reclaim, "on_reclaim_begin", "mm_vmscan_direct_reclaim_begin"),
        (offer.reclaim, "on_reclaim_end", "mm_vmscan_direct_reclaim_end"),
        (offer.memcg_reclaim, "on_memcg_reclaim_begin", "mm_vmscan_memcg_reclaim_begin"),
        (offer.memcg_reclaim, "on_memcg_reclaim_end", "mm_vmscan_memcg_reclaim_end"),
        (offer.node_reclaim, "on_node_reclaim_begin", "mm_vmscan_node_reclaim_begin"),
        (offer.node_reclaim, "on_node_reclaim_end", "mm_vmscan_node_reclaim_end"),
        (offer.compaction, "on_compaction_begin", "mm_compaction_begin"),
        (offer.compaction, "on_compaction_end", "mm_compaction_end"),
    ];
    for (_, program, event) in memory.into_iter().filter(|(offered, ..)| *offered) {
        tracepoint(ebpf, btf, program, event)?;
    }
    tracepoint(ebpf, btf, "on_switch", "sched_switch")
}

fn missing(program: &str) -> BpfError {
    BpfError::Failed { doing: format!("find the program {program}"), reason: "it is not in the object".to_owned() }
}

fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, program: &'static str, event: &str) -> Result<(), BpfError> {
    let found = ebpf.program_mut(program).ok_or_else(|| missing(program))?;
    let found: &mut BtfTracePoint = found.try_into().map_err(|error| BpfError::program(program, &error))?;
    found.load(event, btf).map_err(|error| BpfError::program(program, &error))?;
    found.attach().map_err(|error| BpfError::program(program, &error))?;
    Ok(())
}

fn iterator(ebpf: &mut Ebpf, btf: &Btf, program: &'static str) -> Result<(), BpfError> {
    iterator_program(ebpf, program)?.load("task", btf).map_err(|error| BpfError::program(program, &error))
}

fn iterator_program<'a>(ebpf: &'a mut Ebpf, program: &'static str) -> Result<&'a mut Iter, BpfError> {
    let found = ebpf.program_mut(program).ok_or_else(|| missing(program))?;
    found.try_into().map_err(|error| BpfError::program(program, &error))
}

/// Runs an iterator over all tasks once; what it writes goes into `into`.
pub(super) fn read_iterator(ebpf: &mut Ebpf, program: &'static str, into: &mut Vec<u8>) -> Result<(), BpfError> {
    let found = iterator_program(ebpf, program)?;
    let link = found.attach().map_err(|error| BpfError::program(program, &error))?;
    let link = found.take_link(link).map_err(|error| BpfError::program(program, &error))?;
    let mut file = link.into_file().map_err(|error| BpfError::of(format!("run the program {program}"), &error))?;
    std::io::Read::read_to_end(&mut file, into).map_err(|error| BpfError::of(format!("read from the program {program}"), &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_maps_stay_within_bounds_on_any_number_of_cpus() {
        fn check(cpus: u32, slots: u32, mib_most: u64) {
            assert_eq!(slots_for(cpus), slots, "{cpus} CPUs");
            let bytes = map_bytes(cpus, slots, &BpfSettings::default());
            assert!(bytes <= mib_most << 20, "{cpus} CPUs: {bytes}");
        }
        check(0, 2048, 12);
        check(2, 2048, 12);
        check(16, 2048, 25);
        check(64, 537, 25);
        check(128, 268, 25);
        check(256, 256, 40);
    }
}
