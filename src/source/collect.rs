//! A collection: everybody read once, and put where the metrics find it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Collection;
use super::reading::LONE_BATCH;
use super::roster::Group;
use super::sampler::Sampler;
use crate::model::{Absence, Container, ContainerKey, ContainerSnapshot, NodeCpu, NodeSnapshot, SourceName};
use crate::runtime::clock::wall_now;

/// Containers counted as mesh proxies, by container name.
const MESH_PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

impl Sampler {
    /// Reads everybody and publishes the result.
    pub(super) fn collect(&mut self) {
        self.sweep(true);
        let before = self.host.node_cpus();
        self.read_everybody();
        self.read_kernel_threads(&before);
        let node_wide = self.host.node();
        let unexplained_ratio = self.conservation.observe(self.seen_wait_ns, &before, &node_wide.cpus);
        for cell in self.roster.cells.values_mut() {
            if let Some(dirs) = &cell.dirs {
                let stat = self.host.cgroup_stat(dirs);
                cell.observe(stat);
            }
        }
        let live: Vec<Arc<Container>> = self.node.index().live().map(Arc::clone).collect();
        let containers = live.iter().filter_map(|container| self.snapshot(container)).collect();
        let node = NodeSnapshot { sources: self.sources(), mesh_proxies: mesh_proxies(&live), unexplained_ratio, ..node_wide };
        let finished = std::mem::take(&mut self.finished);
        self.node.publish(Collection { at: wall_now(), containers, finished, node });
    }

    /// Reads every container and every process.
    pub(super) fn read_everybody(&mut self) {
        let keys: Vec<ContainerKey> = self.roster.cells.keys().copied().collect();
        for key in keys {
            self.read_group(Group::Container(key), true);
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
        let cell = self.roster.cells.get(&container.key)?;
        let totals = cell.totals();
        Some(ContainerSnapshot { container: Arc::clone(container), since: cell.since, totals, cgroup: cell.stat.clone() })
    }

    fn sources(&self) -> Vec<(SourceName, Result<(), Absence>)> {
        let mut sources = self.plan.sources.clone();
        sources.extend(self.node.containerd().map(|status| (SourceName::Containerd, status)));
        sources
    }
}

fn mesh_proxies(live: &[Arc<Container>]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for container in live {
        let name = container.k8s_container_name.as_deref().or(container.name.as_deref());
        if let Some(name) = name.filter(|name| MESH_PROXIES.contains(name)) {
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
        }
    }
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
