//! A collection: everybody read once, and put where the metrics find it.

use std::sync::Arc;

use super::Collection;
use super::reading::LONE_BATCH;
use super::roster::{Cell, Group};
use super::sampler::Sampler;
use super::singles::complete;
use crate::containers::count_proxies;
use crate::model::{Absence, Container, ContainerKey, ContainerSnapshot, NodeCpu, NodeSnapshot, SourceName};
use crate::runtime::clock::wall_now;

impl Sampler {
    /// Reads everybody and publishes the result.
    pub(super) fn collect(&mut self) {
        self.sweep(true);
        let mut before = self.host.node_cpus();
        if before.is_empty()
            && let Some(feed) = &mut self.feed
        {
            feed.count();
            before = feed.cpus().to_vec();
        }
        self.read_everybody();
        self.read_kernel_threads(&before);
        let mut node_wide = self.host.node();
        self.observe_single_waits(&mut node_wide);
        let unexplained_ratio = self.conservation.observe(self.seen_wait_ns, &before, &node_wide.cpus);
        for cell in self.roster.cells.values_mut() {
            if let Some(dirs) = &cell.dirs {
                let stat = self.host.cgroup_stat(dirs);
                cell.observe(stat);
            }
        }
        let live: Vec<Arc<Container>> = self.node.index().live().map(Arc::clone).collect();
        let containers = live.iter().filter_map(|container| self.snapshot(container)).collect();
        let node = NodeSnapshot {
            sources: self.sources(),
            mesh_proxies: count_proxies(live.iter().map(|container| &**container)),
            unexplained_ratio,
            ..node_wide
        };
        let finished = std::mem::take(&mut self.finished);
        self.node.publish(Collection { at: wall_now(), containers, finished, node });
    }

    /// Reads every container and every process.
    pub(super) fn read_everybody(&mut self) {
        let keys: Vec<ContainerKey> = self.roster.cells.keys().copied().collect();
        for key in keys {
            self.refresh(key, true);
        }
        let lone = |pid: &u32, container| matches!(self.roster.group_of(*pid, container), Group::Lone(_));
        let processes = self.roster.processes.iter().filter(|(_, process)| !process.kernel && !process.ended);
        let pids: Vec<u32> = processes.filter(|(pid, process)| lone(pid, process.container)).map(|(pid, _)| *pid).collect();
        self.read_lone(&pids);
    }

    /// Kernel threads wait on the same run queues: without them the sums would not meet. Where there is nothing to meet
    /// they are not read.
    fn read_kernel_threads(&mut self, cpus: &[NodeCpu]) {
        if cpus.is_empty() {
            return;
        }
        let kernel = self.roster.processes.iter().filter(|(_, process)| process.kernel && !process.ended);
        let pids: Vec<u32> = kernel.map(|(pid, _)| *pid).collect();
        for batch in pids.chunks(LONE_BATCH) {
            self.look(batch);
        }
    }

    fn snapshot(&self, container: &Arc<Container>) -> Option<ContainerSnapshot> {
        self.roster.cells.get(&container.key).map(|cell| self.told(cell, container))
    }

    /// What is known of a container, as last read.
    pub(super) fn told(&self, cell: &Cell, container: &Arc<Container>) -> ContainerSnapshot {
        let mut totals = cell.totals();
        let singles = self.feed.as_ref().and_then(|feed| feed.singles(container));
        if let Some(singles) = &singles {
            complete(&mut totals, singles);
        }
        ContainerSnapshot { container: Arc::clone(container), since: cell.since, totals, cgroup: cell.stat.clone(), singles }
    }

    /// What the programs counted, of containers and, where the kernel tells nothing of its CPUs, of those.
    fn observe_single_waits(&mut self, node: &mut NodeSnapshot) {
        let Some(feed) = &mut self.feed else { return };
        feed.observe(wall_now());
        let state = feed.state();
        if node.cpus.is_empty() {
            node.cpus = feed.cpus().to_vec();
            node.cpus_since = Some(state.since);
        }
        node.events = Some(state);
    }

    fn sources(&self) -> Vec<(SourceName, Result<(), Absence>)> {
        let mut sources = self.plan.sources.clone();
        sources.extend(self.node.containerd().map(|status| (SourceName::Containerd, status)));
        sources
    }
}
