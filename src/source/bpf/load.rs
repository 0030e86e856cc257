//! Puts the programs into the kernel. Everything hangs on file descriptors of this process: no pins, so nothing stays
//! behind however the process ends.

use aya::programs::{Iter, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};

use super::error::BpfError;
use super::kernel::{Constants, Form, Hierarchy, Offer, offer};
use super::wire::{MEMORY_LEN, THRESHOLDS, TOTALS_LEN};
use crate::parse::btf::KernelTypes;

/// Compiled by `make bpf` from `src/bpf/stall.bpf.c`; the loader relocates them to the kernel's own types.
static TYPED: &[u8] = aya::include_bytes_aligned!("../../bpf/stall.bpf.o");
static RAW: &[u8] = aya::include_bytes_aligned!("../../bpf/stall-raw.bpf.o");

/// Bytes for the totals of all slots and CPUs; decides how many containers have a slot.
const TOTALS_BYTES: usize = 16 << 20;
/// Fewer than a full node's containers would not be worth having; more are never on one node.
const SLOTS: std::ops::RangeInclusive<u32> = 256..=2048;
/// Cgroups that lead to slots.
const CGROUPS: u32 = 8192;
/// Processes that do.
pub(super) const PROCESSES: u32 = 4096;
/// Tasks remembered in the raw form, and what one of them takes in a table that forgets the oldest.
const TASKS: u32 = 32768;
const TASK_BYTES: u32 = 256;
/// A signal ends the verifier's work (`signal_pending` in `do_check`, kernel/bpf/verifier.c): so often a program is tried.
const LOADS: usize = 5;
/// Pairs of victim and culprit.
const BLAMES: u32 = 16384;
/// `sizeof(struct cpu_state)`, a little rounded up.
const CPU_BYTES: u32 = 65 << 10;
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
    /// Length of the clock tick in which `/proc/PID/stat` tells start times, ns.
    pub tick_ns: u64,
    /// The form to load; `None`: what the kernel takes.
    pub form: Option<Form>,
}

impl Default for BpfSettings {
    fn default() -> Self {
        Self {
            hierarchy: Hierarchy::Unified,
            thresholds_ns: [1_000_000, 10_000_000, 50_000_000, 100_000_000],
            ring_bytes: 4 << 20,
            tick_ns: 10_000_000,
            form: None,
        }
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
fn map_bytes(form: Form, cpus: u32, slots: u32, settings: &BpfSettings) -> u64 {
    let [cpus, slots, ring] = [cpus, slots, settings.ring_bytes].map(u64::from);
    let per_slot = TOTALS_LEN as u64 * cpus + MEMORY_LEN as u64 + 16;
    let tasks = if form == Form::Raw { u64::from(TASKS) * u64::from(TASK_BYTES) } else { 0 };
    slots * per_slot + cpus * u64::from(CPU_BYTES) + u64::from(HASH_ENTRY_BYTES) * u64::from(CGROUPS + PROCESSES + BLAMES) + tasks + ring
}

/// Loads and attaches everything that this kernel can do, in the form that it takes.
pub(super) fn load(btf: &[u8], settings: &BpfSettings) -> Result<Loaded, BpfError> {
    let types = KernelTypes::read(btf).map_err(|problem| BpfError::Types(problem.to_string()))?;
    let (mut offer, constants) = offer(&types, &settings.hierarchy).map_err(BpfError::Kernel)?;
    drop(types);
    let btf = Btf::parse(btf, Endianness::default()).map_err(|error| BpfError::Types(error.to_string()))?;
    offer.form = settings.form.unwrap_or(offer.form);
    match load_as(&btf, settings, constants, offer.clone()) {
        // A kernel whose types promise the form, and that refuses it all the same.
        Err(error @ (BpfError::Verifier { .. } | BpfError::Failed { .. })) if offer.form == Form::Typed && settings.form.is_none() => {
            tracing::warn!(%error, "the eBPF programs are loaded in their form for older kernels");
            load_as(&btf, settings, constants, Offer { form: Form::Raw, ..offer }).map_err(|_| error)
        }
        outcome => outcome,
    }
}

fn load_as(btf: &Btf, settings: &BpfSettings, constants: Constants, offer: Offer) -> Result<Loaded, BpfError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| BpfError::of("count the CPUs", &error))?;
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let slots = slots_for(cpus);
    let mut ebpf = create(btf, settings, constants, offer.form, [cpus, slots])?;
    attach(&mut ebpf, btf, &offer)?;
    let map_bytes = map_bytes(offer.form, cpus, slots, settings);
    Ok(Loaded { ebpf, offer, slots, cpus, map_bytes, thresholds_ns: settings.thresholds_ns })
}

fn create(btf: &Btf, settings: &BpfSettings, constants: Constants, form: Form, [cpus, slots]: [u32; 2]) -> Result<Ebpf, BpfError> {
    let mut loader = EbpfLoader::new();
    loader
        // The loader does not know task storage; the kernel does, and only the programs use that map.
        .allow_unsupported_maps()
        .btf(Some(btf))
        .override_global("prev_argument", &constants.prev_argument, true)
        .override_global("hierarchy", &constants.hierarchy, true)
        .override_global("throttle_model", &constants.throttle_model, true)
        .override_global("slots_max", &slots, true)
        .override_global("tick_ns", &settings.tick_ns, true)
        .override_global("thresholds", &settings.thresholds_ns, true)
        .map_max_entries("cpus", cpus)
        .map_max_entries("records", settings.ring_bytes)
        .map_max_entries("slots", CGROUPS)
        .map_max_entries("processes", PROCESSES)
        .map_max_entries("blames", BLAMES);
    for map in ["slot_floors", "slot_totals", "slot_memory"] {
        loader.map_max_entries(map, slots);
    }
    let object = match form {
        Form::Typed => TYPED,
        Form::Raw => RAW,
    };
    loader.load(object).map_err(|error| BpfError::of("create the maps", &error))
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
    let refused = |error| BpfError::program(program, &error);
    match found {
        Program::BtfTracePoint(typed) => {
            undisturbed(|| typed.load(event, btf)).map_err(refused)?;
            typed.attach().map_err(refused)?;
        }
        Program::RawTracePoint(raw) => {
            undisturbed(|| raw.load()).map_err(refused)?;
            raw.attach(event).map_err(refused)?;
        }
        _ => return Err(missing(program)),
    }
    Ok(())
}

fn iterator(ebpf: &mut Ebpf, btf: &Btf, program: &'static str) -> Result<(), BpfError> {
    let found = iterator_program(ebpf, program)?;
    undisturbed(|| found.load("task", btf)).map_err(|error| BpfError::program(program, &error))
}

/// Loads a program; once more where a signal came in between.
fn undisturbed(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let again = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.kind() == std::io::ErrorKind::WouldBlock,
        _ => false,
    };
    repeat(load, again)
}

fn repeat<E>(mut load: impl FnMut() -> Result<(), E>, again: impl Fn(&E) -> bool) -> Result<(), E> {
    let mut outcome = load();
    for _ in 1..LOADS {
        if !outcome.as_ref().is_err_and(&again) {
            break;
        }
        outcome = load();
    }
    outcome
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
    fn a_load_that_a_signal_ended_is_tried_again_but_not_for_ever() {
        #[track_caller]
        fn check(error: &str, failures: usize, loads: usize) {
            let mut tried = 0;
            let load = || {
                tried += 1;
                if tried <= failures { Err(error) } else { Ok(()) }
            };
            let outcome = repeat(load, |error| *error == "signal");
            assert_eq!((outcome.is_ok(), tried), (failures < loads, loads), "{error}");
        }
        check("signal", 0, 1);
        check("signal", 3, 4);
        check("signal", 9, LOADS);
        check("refused", 9, 1);
    }

    #[test]
    fn slots_and_maps_stay_within_bounds_on_any_number_of_cpus() {
        fn check(cpus: u32, slots: u32, mib_most: u64) {
            assert_eq!(slots_for(cpus), slots, "{cpus} CPUs");
            let bytes = map_bytes(Form::Typed, cpus, slots, &BpfSettings::default());
            assert!(bytes <= mib_most << 20, "{cpus} CPUs: {bytes}");
            assert_eq!(map_bytes(Form::Raw, cpus, slots, &BpfSettings::default()), bytes + (8 << 20));
        }
        check(0, 2048, 12);
        check(2, 2048, 12);
        check(16, 2048, 26);
        check(64, 537, 29);
        check(128, 268, 33);
        check(256, 256, 55);
    }
}
