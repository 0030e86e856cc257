//! Room `ladder`: probed facts and configuration -> which source supplies what, field by field. Pure.
//!
//! Every field is taken from the best source that works; one that none supplies carries the reason. Nothing here is
//! fatal: what an explicit `sources.method` asks for and the host cannot give is told, and the rungs below are used.
//! Deliberately not here: asking the host (`host`), and what a number means once read (`source`, `diagnose`).

mod checks;

use crate::config::meaning::{Method, Sources, TaskDelayacct};
use crate::model::{Absence, Capability, CgroupLayout, DelayKind, Evidence, Facts, SourceName, TaskstatsFacts};

pub use checks::{CheckItem, CheckStatus, THIS_BINARY, checks};

/// The struct version with which each delay came (include/uapi/linux/taskstats.h), in the order of [`DelayKind::ALL`].
const SINCE_VERSION: [u16; 8] = [0, 0, 0, 0, 11, 9, 13, 14];

/// Which source supplies what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Delays, in the order of [`DelayKind::ALL`].
    pub delays: [Result<Evidence, Absence>; 8],
    /// Time on a CPU.
    pub run_time: Result<Evidence, Absence>,
    /// Throttled time, periods, limits.
    pub throttling: Result<Evidence, Absence>,
    /// Memory use, faults, events, reclaim.
    pub memory: Result<Evidence, Absence>,
    /// Pressure of containers.
    pub psi: Result<(), Absence>,
    /// Pressure of the node.
    pub node_psi: Result<(), Absence>,
    /// `/proc/schedstat`
    pub node_cpu: Result<(), Absence>,
    /// Every source but the container runtime: on, or why not.
    pub sources: Vec<(SourceName, Result<(), Absence>)>,
    /// An explicit `sources.method` that this host cannot give.
    pub method_missing: Option<(Method, Absence)>,
    /// `kernel.task_delayacct` is to be switched on while running.
    pub switch_delayacct_on: bool,
}

impl Plan {
    /// Who supplies this delay.
    pub fn delay(&self, kind: DelayKind) -> Result<Evidence, Absence> {
        self.delays.get(kind as usize).copied().unwrap_or(Err(Absence::Failed))
    }

    /// Whether a source is on.
    #[must_use]
    pub fn uses(&self, name: SourceName) -> bool {
        self.source(name).is_ok()
    }

    /// A source: on, or why not.
    pub fn source(&self, name: SourceName) -> Result<(), Absence> {
        self.sources.iter().find(|(known, _)| *known == name).map_or(Err(Absence::Disabled), |(_, state)| *state)
    }

    /// The best evidence of all fields.
    #[must_use]
    pub fn best(&self) -> Option<Evidence> {
        let fields = self.delays.iter().chain([&self.run_time, &self.throttling, &self.memory]);
        fields.filter_map(|field| field.ok()).min()
    }
}

/// Decides from facts and configuration alone.
#[must_use]
pub fn plan(facts: &Facts, sources: &Sources) -> Plan {
    let bpf = bpf(facts, sources.method);
    let taskstats = taskstats(facts, sources.method);
    let schedstat = facts.schedstat;
    let switch_delayacct_on = switches_on(facts, sources);
    let read = first([taskstats.map(|_| Evidence::Taskstats), schedstat.map(|()| Evidence::Schedstat)]);
    let cpu = bpf.map(|()| Evidence::Bpf).or(read);
    let cgroup = |controller: &str| controller_state(facts, controller).map(|()| Evidence::Cgroup);
    let cpu_time = if facts.cgroups.layout == CgroupLayout::Missing { Err(Absence::Absent) } else { Ok(Evidence::Cgroup) };

    let mut delays = [Err(Absence::NotSupported); 8];
    for ((kind, since), slot) in DelayKind::ALL.into_iter().zip(SINCE_VERSION).zip(&mut delays) {
        let counted = || accounted(facts, taskstats, kind, since, switch_delayacct_on);
        *slot = match kind {
            DelayKind::Cpu => cpu,
            // Seen by the programs for every task, counted or not.
            DelayKind::Reclaim | DelayKind::Compaction => counted().or_else(|reason| bpf.map(|()| Evidence::Bpf).map_err(|_| reason)),
            _ => counted(),
        };
    }
    Plan {
        delays,
        run_time: first([cpu, cpu_time]),
        throttling: cgroup("cpu"),
        memory: cgroup("memory"),
        psi: facts.psi_cgroup,
        node_psi: facts.psi_node,
        node_cpu: facts.proc_schedstat.map(drop),
        sources: vec![
            (SourceName::Bpf, bpf),
            (SourceName::Taskstats, taskstats.map(drop)),
            (SourceName::TaskstatsExits, exits(facts, taskstats)),
            (SourceName::Schedstat, schedstat),
            (SourceName::Cgroup, cpu_time.map(drop)),
            (SourceName::Psi, first([facts.psi_cgroup, facts.psi_node])),
            (SourceName::Node, facts.procfs),
        ],
        method_missing: match sources.method {
            Method::Auto => None,
            Method::Bpf => bpf.err(),
            Method::Taskstats => taskstats.err(),
            Method::Schedstat => schedstat.err(),
        }
        .map(|absence| (sources.method, absence)),
        switch_delayacct_on,
    }
}

/// The first that works, else the first one's reason.
fn first<T: Copy>(sources: [Result<T, Absence>; 2]) -> Result<T, Absence> {
    let [best, next] = sources;
    best.or_else(|reason| next.map_err(|below| if reason == Absence::Disabled { below } else { reason }))
}

/// The eBPF rung: a method that does not begin with it loads no program at all.
const fn bpf(facts: &Facts, method: Method) -> Result<(), Absence> {
    match method {
        Method::Auto | Method::Bpf => facts.bpf,
        Method::Taskstats | Method::Schedstat => Err(Absence::Disabled),
    }
}

/// The exit listener: where taskstats answers it is tried.
fn exits(facts: &Facts, taskstats: Result<TaskstatsFacts, Absence>) -> Result<(), Absence> {
    taskstats.and(facts.exits)
}

fn taskstats(facts: &Facts, method: Method) -> Result<TaskstatsFacts, Absence> {
    if method == Method::Schedstat {
        return Err(Absence::Disabled);
    }
    // A kernel that answers with zeros throughout (`nodelayacct` before 5.14) has it off.
    facts.taskstats.and_then(|found| if found.counting { Ok(found) } else { Err(Absence::NotSupported) })
}

fn switches_on(facts: &Facts, sources: &Sources) -> bool {
    sources.task_delayacct == TaskDelayacct::On && facts.task_delayacct == Some(false)
        && facts.task_delayacct_writable
        // Opening it is allowed to root, writing to whoever holds this (`sysctl_delayacct`, kernel/delayacct.c).
        && facts.capabilities.has(Capability::SysAdmin)
}

/// A delay that only delay accounting knows.
fn accounted(
    facts: &Facts,
    taskstats: Result<TaskstatsFacts, Absence>,
    kind: DelayKind,
    since: u16,
    switched_on: bool,
) -> Result<Evidence, Absence> {
    let found = taskstats?;
    let counting = facts.task_delayacct.unwrap_or(true) || switched_on;
    let irq_missing = kind == DelayKind::Irq && facts.irq_time != Some(true);
    if !counting || irq_missing || found.version < since {
        return Err(Absence::NotSupported);
    }
    Ok(Evidence::Taskstats)
}

fn controller_state(facts: &Facts, controller: &str) -> Result<(), Absence> {
    if facts.cgroups.layout == CgroupLayout::Missing {
        return Err(Absence::Absent);
    }
    if facts.cgroups.has(controller) { Ok(()) } else { Err(Absence::NotSupported) }
}

#[cfg(test)]
#[path = "ladder/tests.rs"]
mod tests;
