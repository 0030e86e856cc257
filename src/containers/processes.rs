//! Which process lives where, and what it is called inside its own pid namespace. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{ContainerKey, Mono, ProcessKey};

/// Most living processes known at once; of further ones only the container can be told.
pub const MAX_PROCESSES: usize = 32_768;
/// Most exited processes kept for late spans.
pub const MAX_DEAD_PROCESSES: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Entry {
    container: Option<ContainerKey>,
    /// Innermost NSpid: what `getpid()` says in the process itself.
    own_pid: u32,
    died: Option<Mono>,
}

/// Processes by host pid and by (container, own pid).
#[derive(Debug, Default)]
pub(super) struct Processes {
    entries: BTreeMap<ProcessKey, Entry>,
    by_own_pid: BTreeSet<(ContainerKey, u32, ProcessKey)>,
    dead: VecDeque<(Mono, ProcessKey)>,
}

const FIRST: ProcessKey = ProcessKey { pid: 0, start_ticks: 0 };
const LAST: ProcessKey = ProcessKey { pid: u32::MAX, start_ticks: u64::MAX };

impl Processes {
    /// Notes a living process; `false` where there is no room for it.
    pub(super) fn seen(&mut self, process: ProcessKey, container: Option<ContainerKey>, ns_pids: &[u32]) -> bool {
        let own_pid = ns_pids.last().copied().unwrap_or(process.pid);
        let has_room = self.has_room();
        match self.entries.get_mut(&process) {
            // An exited process stays where it was: a late word from a slow scan does not bring it back.
            Some(Entry { died: Some(_), .. }) => return true,
            Some(entry) if entry.container == container && entry.own_pid == own_pid => return true,
            Some(entry) => {
                if let Some(old) = entry.container {
                    self.by_own_pid.remove(&(old, entry.own_pid, process));
                }
                *entry = Entry { container, own_pid, died: None };
            }
            None if !has_room => return false,
            None => {
                self.entries.insert(process, Entry { container, own_pid, died: None });
            }
        }
        if let Some(container) = container {
            self.by_own_pid.insert((container, own_pid, process));
        }
        true
    }

    /// Notes an exit; answers the container it lived in.
    pub(super) fn gone(&mut self, process: ProcessKey, now: Mono) -> Option<ContainerKey> {
        let entry = self.entries.get_mut(&process).filter(|entry| entry.died.is_none())?;
        entry.died = Some(now);
        let container = entry.container;
        self.dead.push_back((now, process));
        while self.dead.len() > MAX_DEAD_PROCESSES {
            self.forget_oldest_dead();
        }
        container
    }

    /// Forgets processes that exited before `horizon`.
    pub(super) fn sweep(&mut self, horizon: Mono) {
        while self.dead.front().is_some_and(|(died, _)| *died < horizon) {
            self.forget_oldest_dead();
        }
    }

    fn forget_oldest_dead(&mut self) {
        let Some((_, process)) = self.dead.pop_front() else { return };
        if let Some(Entry { container: Some(container), own_pid, .. }) = self.entries.remove(&process) {
            self.by_own_pid.remove(&(container, own_pid, process));
        }
    }

    /// Takes every process out of a container that is being forgotten.
    pub(super) fn evict(&mut self, container: ContainerKey) {
        let range = (container, 0, FIRST)..=(container, u32::MAX, LAST);
        let members: Vec<_> = self.by_own_pid.range(range).copied().collect();
        for member in members {
            self.by_own_pid.remove(&member);
            if let Some(entry) = self.entries.get_mut(&member.2) {
                entry.container = None;
            }
        }
    }

    /// Living processes of a container.
    pub(super) fn of(&self, container: ContainerKey) -> impl Iterator<Item = ProcessKey> + '_ {
        self.by_own_pid
            .range((container, 0, FIRST)..=(container, u32::MAX, LAST))
            .map(|(_, _, process)| *process)
            .filter(|process| self.is_living(*process))
    }

    /// The process that calls itself `own_pid` inside `container`: a living one before a dead one, the newest first.
    pub(super) fn by_own_pid(&self, container: ContainerKey, own_pid: u32) -> Option<ProcessKey> {
        let range = (container, own_pid, FIRST)..=(container, own_pid, LAST);
        self.by_own_pid.range(range).map(|(_, _, process)| *process).max_by_key(|process| (self.is_living(*process), process.start_ticks))
    }

    /// The process of this host pid: the living one, else the one that had the pid last.
    pub(super) fn by_host_pid(&self, pid: u32) -> Option<ProcessKey> {
        let range = ProcessKey { pid, start_ticks: 0 }..=ProcessKey { pid, start_ticks: u64::MAX };
        self.entries.range(range).map(|(process, _)| *process).max_by_key(|process| (self.is_living(*process), process.start_ticks))
    }

    /// Whether this very process was seen, living or dead.
    pub(super) fn knows(&self, process: ProcessKey) -> bool {
        self.entries.contains_key(&process)
    }

    /// Where a process lives or lived.
    pub(super) fn container_of(&self, process: ProcessKey) -> Option<ContainerKey> {
        self.entries.get(&process)?.container
    }

    /// Whether this very process is known to have exited.
    pub(super) fn is_dead(&self, process: ProcessKey) -> bool {
        self.entries.get(&process).is_some_and(|entry| entry.died.is_some())
    }

    /// Whether another living process would be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.living() < MAX_PROCESSES
    }

    fn is_living(&self, process: ProcessKey) -> bool {
        self.entries.get(&process).is_some_and(|entry| entry.died.is_none())
    }

    /// Living processes known.
    pub(super) fn living(&self) -> usize {
        self.entries.len().saturating_sub(self.dead.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ContainerKey = ContainerKey(1);
    const B: ContainerKey = ContainerKey(2);

    fn process(pid: u32, start_ticks: u64) -> ProcessKey {
        ProcessKey { pid, start_ticks }
    }

    #[test]
    fn a_pid_of_the_own_namespace_is_found_only_in_its_container() {
        let mut table = Processes::default();
        table.seen(process(500, 1), Some(A), &[500, 1]);
        table.seen(process(600, 2), Some(B), &[600, 1]);
        table.seen(process(700, 3), Some(B), &[700, 8, 2]);
        for (container, own_pid, expected) in
            [(A, 1, Some(500)), (B, 1, Some(600)), (B, 2, Some(700)), (B, 8, None), (A, 500, None), (ContainerKey(3), 1, None)]
        {
            assert_eq!(table.by_own_pid(container, own_pid).map(|p| p.pid), expected, "{container:?} {own_pid}");
        }
    }

    #[test]
    fn a_moved_process_is_found_in_its_new_container_only() {
        let mut table = Processes::default();
        table.seen(process(500, 1), Some(A), &[500, 1]);
        table.seen(process(500, 1), Some(B), &[500, 1]);
        assert_eq!(table.by_own_pid(A, 1), None);
        assert_eq!(table.by_own_pid(B, 1), Some(process(500, 1)));
        assert_eq!(table.of(A).count(), 0);
    }

    #[test]
    fn a_reused_pid_answers_with_the_living_process() {
        let mut table = Processes::default();
        table.seen(process(500, 1), Some(A), &[500, 7]);
        table.gone(process(500, 1), Mono(10));
        assert_eq!(table.by_host_pid(500), Some(process(500, 1)), "the dead stay known");
        table.seen(process(500, 9), Some(A), &[500, 7]);
        assert_eq!(table.by_host_pid(500), Some(process(500, 9)));
        assert_eq!(table.by_own_pid(A, 7), Some(process(500, 9)));
        assert_eq!(table.of(A).collect::<Vec<_>>(), vec![process(500, 9)]);
        table.sweep(Mono(11));
        assert_eq!((table.entries.len(), table.by_own_pid.len(), table.living()), (1, 1, 1));
    }

    #[test]
    fn tables_stay_within_their_bounds() {
        let mut table = Processes::default();
        for pid in 0..u32::try_from(MAX_PROCESSES).unwrap() + 5 {
            table.seen(process(pid, 1), Some(A), &[pid]);
        }
        assert_eq!(table.living(), MAX_PROCESSES);
        for pid in 0..20_000 {
            table.gone(process(pid, 1), Mono(u64::from(pid)));
        }
        assert_eq!(table.dead.len(), MAX_DEAD_PROCESSES);
        assert_eq!(table.living(), MAX_PROCESSES - 20_000);
        assert_eq!(table.entries.len(), table.by_own_pid.len());
    }

    #[test]
    fn an_evicted_container_leaves_its_processes_as_host_processes() {
        let mut table = Processes::default();
        table.seen(process(500, 1), Some(A), &[500, 1]);
        table.evict(A);
        assert_eq!(table.container_of(process(500, 1)), None);
        assert_eq!(table.by_host_pid(500), Some(process(500, 1)));
        assert!(table.by_own_pid.is_empty());
    }
}
