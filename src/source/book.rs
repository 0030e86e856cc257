//! What the programs count of everybody, read at collections: per container, and per CPU of the node.

use std::collections::{BTreeMap, HashMap};

use super::bpf::{BpfSource, Runner, Slot, SlotTotals};
use super::ledger::Culprit;
use super::singles::Counted;
use crate::model::{ContainerKey, NodeCpu, SingleWaits, Wall};

/// Sums over time, of programs whose slots change hands.
#[derive(Default)]
pub(super) struct Book {
    counted: HashMap<ContainerKey, Counted>,
    /// Who ran while whom waited, as last seen.
    blames: HashMap<(Slot, Runner), u64>,
    /// Each slot on each CPU, as last seen.
    slots: HashMap<Slot, Vec<SlotTotals>>,
    cpus: Vec<NodeCpu>,
    at: Wall,
}

impl Book {
    /// From now on, this slot is this container's.
    pub(super) fn open(&mut self, source: &BpfSource, key: ContainerKey, slot: Slot, now: Wall) {
        if let (Some(totals), Ok(memory)) = (self.look(source, slot), source.memory(slot)) {
            self.counted.insert(key, Counted::from(now, totals, memory));
        }
    }

    /// Reads everybody's counts.
    pub(super) fn count(&mut self, source: &BpfSource, slots: &HashMap<Slot, ContainerKey>) {
        self.look(source, Slot::HOST);
        for (slot, key) in slots {
            if let (Some(totals), Ok(memory)) = (self.look(source, *slot), source.memory(*slot))
                && let Some(counted) = self.counted.get_mut(key)
            {
                counted.observe(totals, memory);
            }
        }
    }

    /// All CPUs' totals of a slot; what grew on each is the node's too.
    fn look(&mut self, source: &BpfSource, slot: Slot) -> Option<SlotTotals> {
        let fresh = source.totals_by_cpu(slot).ok()?;
        let seen = self.slots.entry(slot).or_default();
        let mut sum = SlotTotals::NONE;
        for (cpu, now) in fresh.iter().enumerate() {
            let before = seen.get(cpu).unwrap_or(&SlotTotals::NONE);
            if self.cpus.len() <= cpu {
                self.cpus.push(NodeCpu { cpu: u32::try_from(cpu).unwrap_or(u32::MAX), wait_ns: 0, run_ns: 0, timeslices: 0 });
            }
            if let Some(node) = self.cpus.get_mut(cpu) {
                node.wait_ns = node.wait_ns.saturating_add(now.wait_ns.saturating_sub(before.wait_ns));
                node.run_ns = node.run_ns.saturating_add(now.run_ns.saturating_sub(before.run_ns));
                node.timeslices = node.timeslices.saturating_add(now.waits.saturating_sub(before.waits));
            }
            sum.add(now);
        }
        *seen = fresh;
        Some(sum)
    }

    /// Reads who ran while they waited. `slots` tells whose a slot is, `name` what people call whoever ran.
    pub(super) fn blame(&mut self, source: &BpfSource, now: Wall, slots: &HashMap<Slot, ContainerKey>, name: impl Fn(Runner) -> Culprit) {
        let mut grown: HashMap<ContainerKey, BTreeMap<Culprit, u64>> = HashMap::new();
        let mut seen = HashMap::with_capacity(self.blames.len());
        source.blames(|blame| {
            let Some(victim) = slots.get(&blame.victim) else { return };
            let pair = (blame.victim, blame.share.runner);
            let ns = blame.share.ns.saturating_sub(self.blames.get(&pair).copied().unwrap_or(0));
            seen.insert(pair, blame.share.ns);
            if ns > 0 {
                *grown.entry(*victim).or_default().entry(name(blame.share.runner)).or_default() += ns;
            }
        });
        self.blames = seen;
        for (key, counted) in &mut self.counted {
            counted.blame(self.at, grown.remove(key).unwrap_or_default());
        }
        self.at = now;
    }

    /// The container's numbers as last read.
    pub(super) fn of(&self, key: ContainerKey) -> Option<&Counted> {
        self.counted.get(&key)
    }

    /// The slot was cleared: it is nobody's.
    pub(super) fn close(&mut self, key: Option<ContainerKey>, slot: Slot) {
        if let Some(key) = key {
            self.counted.remove(&key);
        }
        self.slots.remove(&slot);
        self.blames.retain(|(victim, runner), _| *victim != slot && *runner != Runner::Container(slot));
    }

    /// Waits, run time and slices of each CPU since the programs were loaded, as last read.
    pub(super) fn cpus(&self) -> &[NodeCpu] {
        &self.cpus
    }
}

/// What a container is told to have waited.
pub(super) fn told(counted: &Counted, own: &str, source: &BpfSource) -> SingleWaits {
    counted.told(own, source.offer(), source.thresholds_ns())
}
