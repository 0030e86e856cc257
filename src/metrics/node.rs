//! The host's snapshot, number by number.

use super::container::{faults, pressure, reclaim};
use super::sheet::{Point, Sheet};
use crate::model::{NodeCpu, NodeSnapshot, SourceName, Wall};
use crate::otlp::metric_names as names;
use crate::otlp::metric_names::{Metric, key};

/// `CONFIG_NR_CPUS` ends here on every architecture: more lines than this are not CPUs.
const MAX_CPUS: usize = 8_192;

/// Names of mesh proxies told apart: there are a handful of meshes.
const MAX_PROXY_NAMES: usize = 64;

/// Writes everything that is known.
pub(super) fn fill(sheet: &mut Sheet<'_>, node: &NodeSnapshot) {
    // Every counter of the host began at boot; 0 is OTLP's word for a start that is not known.
    let boot = node.boot.unwrap_or_default();
    let cpus_since = node.cpus_since.unwrap_or(boot);
    paging(sheet, node, boot);
    cpus(sheet, &names::NODE_CPU_WAIT_TIME, node, cpus_since, |cpu| cpu.wait_ns);
    cpus(sheet, &names::NODE_CPU_RUN_TIME, node, cpus_since, |cpu| cpu.run_ns);
    cpus(sheet, &names::NODE_CPU_TIMESLICES, node, cpus_since, |cpu| cpu.timeslices);
    pressure(sheet, &names::NODE_PRESSURE_TIME, boot, &node.pressure_ns);
    reclaim(sheet, &names::NODE_MEMORY_RECLAIM_PAGES, boot, node.reclaim_pages);
    sheet.counter(&names::NODE_MEMORY_ALLOCATION_STALLS, Point::default(), boot, node.allocation_stalls);
    sheet.counter(&names::NODE_MEMORY_COMPACTION_STALLS, Point::default(), boot, node.compaction_stalls);
    for (number, (word, ns)) in key::IRQ_TYPE.values.iter().zip(node.irq_ns).enumerate() {
        sheet.counter(&names::NODE_IRQ_TIME, Point::of(number, &[(key::IRQ_TYPE.key, word)]), boot, ns);
    }
    sheet.level(&names::NODE_CGROUPS_DYING, Point::default(), boot, node.cgroups_dying);
    for (number, (name, count)) in node.mesh_proxies.iter().take(MAX_PROXY_NAMES).enumerate() {
        sheet.level(&names::NODE_MESH_PROXIES, Point::of(number, &[(key::PROXY_NAME.key, name)]), boot, Some(*count));
    }
    sources(sheet, node, boot);
    if let Some(events) = &node.events {
        let point = || Point::of(0, &[(key::SOURCE.key, SourceName::Bpf.word())]);
        sheet.level(&names::SOURCE_MEMORY, point(), events.since, Some(events.map_bytes));
        sheet.counter(&names::SOURCE_RECORDS, point(), events.since, Some(events.records));
        sheet.counter(&names::SOURCE_LOST_RECORDS, point(), events.since, Some(events.lost));
    }
}

fn paging(sheet: &mut Sheet<'_>, node: &NodeSnapshot, boot: Wall) {
    // A page that comes from or goes to swap is the work of a major fault, as the Collector's host metrics have it.
    for (number, (direction, pages)) in key::PAGING_DIRECTION.values.iter().zip(node.swap_pages).enumerate() {
        let attributes = [(key::PAGING_FAULT_TYPE.key, "major"), (key::PAGING_DIRECTION.key, *direction)];
        sheet.counter(&names::SYSTEM_PAGING_OPERATIONS, Point::of(number, &attributes), boot, pages);
    }
    faults(sheet, &names::SYSTEM_PAGING_FAULTS, boot, node.faults);
}

fn cpus(sheet: &mut Sheet<'_>, metric: &'static Metric, node: &NodeSnapshot, boot: Wall, value: impl Fn(&NodeCpu) -> u64) {
    for cpu in node.cpus.iter().take(MAX_CPUS) {
        sheet.counter(metric, Point::of_cpu(key::CPU_LOGICAL_NUMBER.key, cpu.cpu), boot, Some(value(cpu)));
    }
}

fn sources(sheet: &mut Sheet<'_>, node: &NodeSnapshot, boot: Wall) {
    for (number, (source, state)) in node.sources.iter().take(SourceName::ALL.len()).enumerate() {
        let mut attributes = vec![(key::SOURCE.key, source.word())];
        attributes.extend(state.err().map(|absence| (key::SOURCE_REASON.key, absence.word())));
        sheet.level(&names::SOURCE_ENABLED, Point::of(number, &attributes), boot, Some(u64::from(state.is_ok())));
    }
}
