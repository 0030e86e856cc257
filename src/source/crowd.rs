//! How many tasks contend for how many CPUs inside a container: what a verdict without single waits needs to know.

use super::roster::Group;
use super::sampler::Sampler;
use crate::model::{ContainerKey, Mono};

/// What is known of a container's crowd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Most tasks that were alive at once since the container is being read.
    pub tasks: u32,
    /// CPUs that its processes may run on; `None` where that could not be seen.
    pub allowed: Option<u32>,
    /// When that was looked at.
    pub(super) looked_at: Mono,
}

/// Affinities seldom change.
const LOOK_EVERY_NS: u64 = 5_000_000_000;
/// Of more processes it is not asked.
const MOST_ASKED: usize = 32;

impl Sampler {
    /// Notes the crowd of a container that sends spans.
    pub(super) fn note_crowd(&mut self, key: ContainerKey, at: Mono) {
        if !self.roster.active.contains_key(&Group::Container(key)) {
            return;
        }
        let Some(cell) = self.roster.cells.get(&key) else { return };
        let before = self.node.crowd(key).unwrap_or_default();
        let mut crowd = Crowd { tasks: before.tasks.max(cell.tasks), ..before };
        if before.looked_at == Mono(0) || at.since(before.looked_at) >= LOOK_EVERY_NS {
            crowd.allowed = self.allowed(&cell.members);
            crowd.looked_at = at;
        }
        if crowd != before {
            self.node.set_crowd(key, crowd);
        }
    }

    /// CPUs that at least one of these processes may run on.
    fn allowed(&self, pids: &[u32]) -> Option<u32> {
        if pids.len() > MOST_ASKED {
            return None;
        }
        let mut all: Vec<u32> = Vec::new();
        for mask in pids.iter().filter_map(|pid| self.host.allowed_cpus(*pid).ok()) {
            all.resize(all.len().max(mask.len()), 0);
            all.iter_mut().zip(mask).for_each(|(all, one)| *all |= one);
        }
        // The kernel prints its whole mask width: CPUs there are not count for nothing.
        let count: u32 = all.iter().map(|word| word.count_ones()).sum();
        Some(count.min(self.cpus.unwrap_or(count))).filter(|count| *count > 0)
    }
}
