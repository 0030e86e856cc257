//! Services of the host that have no cgroup where the programs look: on v1, systemd keeps them in a hierarchy of its own
//! (`name=systemd`, or the unified one beside it). Their processes are named one by one, so that a culprit among them bears the
//! service's name. Their own waits are not told from this: somebody may be missing.

use std::collections::{BTreeSet, HashMap};

use super::bpf::{BpfSource, Slot};
use super::roster::Roster;
use crate::model::{ContainerKey, ProcessKey};

/// Processes named at once, of all services.
const MOST: usize = 4_096;

/// One service.
#[derive(Debug)]
struct Unit {
    slot: Slot,
    processes: BTreeSet<ProcessKey>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Units {
    by_key: HashMap<ContainerKey, Unit>,
}

impl Units {
    /// The slot of a service that was told.
    pub(super) fn slot(&self, key: ContainerKey) -> Option<Slot> {
        self.by_key.get(&key).map(|unit| unit.slot)
    }

    /// Tells the programs who belongs to a service now.
    pub(super) fn tell(&mut self, source: &mut BpfSource, key: ContainerKey, slot: Slot, members: impl Iterator<Item = ProcessKey>) {
        let others: usize = self.by_key.iter().filter(|(other, _)| **other != key).map(|(_, unit)| unit.processes.len()).sum();
        let unit = self.by_key.entry(key).or_insert_with(|| Unit { slot, processes: BTreeSet::new() });
        let now: BTreeSet<ProcessKey> = members.take(MOST.saturating_sub(others)).collect();
        source.remove_processes(unit.processes.difference(&now).copied());
        let mut news = now.difference(&unit.processes).copied().peekable();
        if news.peek().is_some()
            && let Err(error) = source.set_processes(news, slot)
        {
            tracing::debug!(%error, "processes of a service are named by themselves");
        }
        unit.processes = now;
    }

    /// Lets go of a service; its slot.
    pub(super) fn leave(&mut self, source: &mut BpfSource, key: ContainerKey) -> Option<Slot> {
        let unit = self.by_key.remove(&key)?;
        source.remove_processes(unit.processes.into_iter());
        Some(unit.slot)
    }

    /// Lets go of those that ended; their slots.
    pub(super) fn sweep(&mut self, source: &mut BpfSource, roster: &Roster) -> Vec<Slot> {
        let ended: Vec<ContainerKey> = self.by_key.keys().filter(|key| !roster.cells.contains_key(key)).copied().collect();
        ended.into_iter().filter_map(|key| self.leave(source, key)).collect()
    }
}
