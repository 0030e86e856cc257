//! A container's snapshot, number by number.

use super::sheet::{Point, Sheet};
use crate::model::{CgroupStat, ContainerSnapshot, DelayKind, Mono, SingleWaits, Totals, Wall, seconds};
use crate::otlp::metric_names as names;
use crate::otlp::metric_names::{Metric, key};

/// Writes everything that is known.
pub(super) fn fill(sheet: &mut Sheet<'_>, snapshot: &ContainerSnapshot, at: Mono) {
    // The kernel's own counters began with the cgroup, ours when the agent first saw the container.
    let life = snapshot.container.started.unwrap_or(snapshot.since);
    cpu(sheet, &snapshot.cgroup, life, at);
    memory(sheet, &snapshot.cgroup, life);
    uptime(sheet, snapshot);
    delays(sheet, &snapshot.totals, snapshot.since);
    quota(sheet, &snapshot.cgroup, life);
    pressure(sheet, &names::CONTAINER_PRESSURE_TIME, life, &snapshot.cgroup.pressure_ns);
    if let Some(singles) = &snapshot.singles {
        single_waits(sheet, singles);
    }
    reclaim(sheet, &names::CONTAINER_MEMORY_RECLAIM_PAGES, life, snapshot.cgroup.reclaim_pages);
    for (number, (page, value)) in key::MEMORY_PAGE.values.iter().zip(snapshot.cgroup.refaults).enumerate() {
        sheet.counter(&names::CONTAINER_MEMORY_REFAULTS, Point::of(number, &[(key::MEMORY_PAGE.key, page)]), life, value);
    }
    for (number, (event, value)) in key::MEMORY_EVENT.values.iter().zip(snapshot.cgroup.memory_events).enumerate() {
        sheet.counter(&names::CONTAINER_MEMORY_EVENTS, Point::of(number, &[(key::MEMORY_EVENT.key, event)]), life, value);
    }
}

/// Pressure of a container or of the host: `[cpu, memory, io, irq]`, each `[some, full]`.
pub(super) fn pressure(sheet: &mut Sheet<'_>, metric: &'static Metric, start: Wall, totals: &[[Option<u64>; 2]; 4]) {
    for (row, (resource, totals)) in key::PRESSURE_RESOURCE.values.iter().zip(totals).enumerate() {
        for (column, (stall_type, total)) in key::PRESSURE_STALL_TYPE.values.iter().zip(totals).enumerate() {
            let attributes = [(key::PRESSURE_RESOURCE.key, *resource), (key::PRESSURE_STALL_TYPE.key, *stall_type)];
            sheet.counter(metric, Point::of(2 * row + column, &attributes), start, *total);
        }
    }
}

/// Pages scanned and reclaimed: direct scanned, direct reclaimed, kswapd scanned, kswapd reclaimed.
pub(super) fn reclaim(sheet: &mut Sheet<'_>, metric: &'static Metric, start: Wall, pages: [Option<u64>; 4]) {
    let kinds = key::RECLAIM_KIND.values.iter().flat_map(|kind| key::RECLAIM_STEP.values.iter().map(move |step| (*kind, *step)));
    for (number, ((kind, step), pages)) in kinds.zip(pages).enumerate() {
        let attributes = [(key::RECLAIM_KIND.key, kind), (key::RECLAIM_STEP.key, step)];
        sheet.counter(metric, Point::of(number, &attributes), start, pages);
    }
}

/// Minor and major faults of a container or of the host.
pub(super) fn faults(sheet: &mut Sheet<'_>, metric: &'static Metric, start: Wall, faults: [Option<u64>; 2]) {
    for (number, (word, faults)) in key::PAGING_FAULT_TYPE.values.iter().zip(faults).enumerate() {
        sheet.counter(metric, Point::of(number, &[(key::PAGING_FAULT_TYPE.key, word)]), start, faults);
    }
}

fn cpu(sheet: &mut Sheet<'_>, cgroup: &CgroupStat, life: Wall, at: Mono) {
    // Either every point carries the mode or none does: a sum over the points must mean something.
    let modes = [cgroup.cpu_user_ns, cgroup.cpu_system_ns];
    if modes.iter().all(Option::is_some) {
        for (number, (mode, ns)) in key::CPU_MODE.values.iter().zip(modes).enumerate() {
            sheet.counter(&names::CONTAINER_CPU_TIME, Point::of(1 + number, &[(key::CPU_MODE.key, mode)]), life, ns);
        }
    } else {
        sheet.counter(&names::CONTAINER_CPU_TIME, Point::default(), life, cgroup.cpu_usage_ns);
    }
    let usage = cpu_usage(sheet, cgroup.cpu_usage_ns, at);
    sheet.gauge(&names::CONTAINER_CPU_USAGE, Point::default(), usage);
}

/// CPUs used since the collection before; absent in a container's first one.
fn cpu_usage(sheet: &mut Sheet<'_>, used_ns: Option<u64>, at: Mono) -> Option<f64> {
    let before = std::mem::replace(&mut sheet.memory().cpu, used_ns.map(|used| (at, used)));
    let ((then, used_then), used) = (before?, used_ns?);
    let elapsed = at.since(then);
    let grown = used.checked_sub(used_then)?;
    (elapsed > 0).then(|| seconds(grown) / seconds(elapsed))
}

fn memory(sheet: &mut Sheet<'_>, cgroup: &CgroupStat, life: Wall) {
    sheet.level(&names::CONTAINER_MEMORY_USAGE, Point::default(), life, cgroup.memory_usage);
    sheet.level(&names::CONTAINER_MEMORY_WORKING_SET, Point::default(), life, cgroup.memory_working_set);
    faults(sheet, &names::CONTAINER_PAGING_FAULTS, life, [cgroup.faults_minor, cgroup.faults_major]);
}

fn uptime(sheet: &mut Sheet<'_>, snapshot: &ContainerSnapshot) {
    let uptime = snapshot.container.started.map(|started| seconds(sheet.now().since(started)));
    sheet.gauge(&names::CONTAINER_UPTIME, Point::default(), uptime);
}

fn delays(sheet: &mut Sheet<'_>, totals: &Totals, since: Wall) {
    for (metric, values) in [(&names::CONTAINER_DELAY_TIME, &totals.delay_ns), (&names::CONTAINER_DELAYS, &totals.delay_count)] {
        for kind in DelayKind::ALL {
            let point = Point::of(kind as usize, &[(key::DELAY_TYPE.key, kind.word())]);
            sheet.counter(metric, point, since, values.get(kind));
        }
    }
    sheet.counter(&names::CONTAINER_CPU_RUN_TIME, Point::default(), since, totals.run_ns);
}

fn single_waits(sheet: &mut Sheet<'_>, singles: &SingleWaits) {
    sheet.durations(&names::CONTAINER_CPU_WAIT_DURATION, singles.since, Some(&singles.cpu));
    sheet.durations(&names::CONTAINER_RECLAIM_DURATION, singles.since, singles.reclaim.as_ref());
    sheet.durations(&names::CONTAINER_COMPACTION_DURATION, singles.since, singles.compaction.as_ref());
    for (number, (threshold_ns, count)) in singles.long_waits.iter().enumerate() {
        let point = Point::of_seconds(number, key::THRESHOLD.key, *threshold_ns);
        sheet.counter(&names::CONTAINER_LONG_WAITS, point, singles.since, Some(*count));
    }
    for (number, blamed) in singles.blamed.iter().enumerate() {
        let attributes = [(key::CULPRIT_NAME.key, blamed.name.as_str()), (key::CULPRIT_TYPE.key, blamed.kind.word())];
        sheet.grown(&names::CONTAINER_CPU_WAIT_BLAMED_TIME, Point::of(number, &attributes), blamed.since, blamed.ns);
    }
}

fn quota(sheet: &mut Sheet<'_>, cgroup: &CgroupStat, life: Wall) {
    // `throttled_usec` counts the cgroup's own quota, `cpu.stat.local` that of its ancestors too (a pod's limit throttles its
    // containers). Both only grow, so their larger one does.
    let throttled = cgroup.throttled_ns.max(cgroup.throttled_local_ns);
    sheet.counter(&names::CONTAINER_CPU_THROTTLED_TIME, Point::default(), life, throttled);
    sheet.counter(&names::CONTAINER_CPU_PERIODS, Point::default(), life, cgroup.periods);
    sheet.counter(&names::CONTAINER_CPU_THROTTLED_PERIODS, Point::default(), life, cgroup.throttled_periods);
    sheet.gauge(&names::CONTAINER_CPU_LIMIT, Point::default(), cgroup.cpu_limit);
    sheet.gauge(&names::CONTAINER_CPU_ALLOWED, Point::default(), cgroup.cpus.map(f64::from));
    sheet.gauge(&names::CONTAINER_CPU_WEIGHT, Point::default(), cgroup.cpu_weight);
    // A burst is a property of a quota: without one it says nothing.
    let burst = cgroup.cpu_burst_ns.filter(|_| cgroup.cpu_limit.is_some());
    sheet.gauge(&names::CONTAINER_CPU_BURST, Point::default(), burst.map(seconds));
}
