//! What the programs can tell on this kernel, decided from its own types. Pure.

use crate::parse::btf::{Argument, KernelTypes};

/// How the throttled part of a wait is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleClock {
    /// No clock of it: the part is unknown.
    Absent,
    /// Before 6.0: on the clock of tasks, which leaves interrupts out where they are accounted.
    Task,
    /// 6.0 to 6.5: on a clock scaled by the CPU's capacity and frequency. Approximate.
    Scaled,
    /// 6.6 to 6.17: exact for tasks that were running; what woke up on a throttled queue is told by the queue's next task.
    Queue,
    /// 6.18 and later: exact for each task.
    Exact,
}

impl ThrottleClock {
    /// The number in `state.h`.
    const fn number(self) -> u32 {
        match self {
            Self::Absent => 0,
            Self::Task => 1,
            Self::Scaled => 2,
            Self::Queue => 3,
            Self::Exact => 4,
        }
    }
}

/// Which hierarchy names the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2.
    Unified,
    /// A version 1 hierarchy, by one of its controllers (`cpu`, `memory`, …).
    Controller(String),
}

/// In which form the programs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// At tracepoints with types; what is remembered of a task is kept beside it and goes with it.
    Typed,
    /// At raw tracepoints; what is remembered of tasks is kept in a table by number, of bounded size. For kernels before
    /// 5.12, and those that refuse the other form.
    Raw,
}

/// What this kernel offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The form that it takes.
    pub form: Form,
    /// The throttled part of waits.
    pub throttle: ThrottleClock,
    /// Waits that move between CPUs are explained on both.
    pub moves: bool,
    /// Direct reclaim, global.
    pub reclaim: bool,
    /// Direct reclaim for a memory cgroup's limit.
    pub memcg_reclaim: bool,
    /// Direct reclaim of one NUMA node.
    pub node_reclaim: bool,
    /// Direct compaction.
    pub compaction: bool,
    /// Waits that have not ended yet.
    pub waiting: bool,
}

/// Constants that the programs are loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    /// Place of `prev` among the arguments of `sched_switch`.
    pub prev_argument: u32,
    /// 0: unified; else 1 + index of the controller.
    pub hierarchy: u32,
    /// Number of the throttle model.
    pub throttle_model: u32,
}

/// What the programs cannot do without.
const NEEDED: [(&str, &str); 10] = [
    ("task_struct", "se"),
    ("task_struct", "on_rq"),
    ("task_struct", "cgroups"),
    ("sched_info", "last_arrival"),
    ("sched_info", "last_queued"),
    ("sched_info", "run_delay"),
    ("sched_entity", "cfs_rq"),
    ("cfs_rq", "rq"),
    ("rq", "clock"),
    ("cgroup", "kn"),
];

/// Decides what can be loaded; `Err` names what the kernel lacks.
pub fn offer(types: &KernelTypes<'_>, hierarchy: &Hierarchy) -> Result<(Offer, Constants), String> {
    if let Some((structure, member)) = NEEDED.iter().find(|(structure, member)| !types.has_member(structure, member)) {
        return Err(format!("its struct {structure} has no member {member}"));
    }
    let arguments = types.tracepoint("sched_switch").ok_or("it has no tracepoint sched_switch")?;
    let prev_argument = prev(&arguments).ok_or("its sched_switch passes other arguments than two tasks")?;
    let hierarchy = match hierarchy {
        Hierarchy::Unified => 0,
        Hierarchy::Controller(name) => {
            let index = types.enumerator("cgroup_subsys_id", &format!("{}_cgrp_id", subsystem(name)));
            1 + index.filter(|index| *index < 16).ok_or_else(|| format!("it has no cgroup controller {name}"))?
        }
    };
    let throttle = throttle(types);
    let has = |name: &str| types.tracepoint(name).is_some();
    let pair = |name: &str| has(&format!("{name}_begin")) && has(&format!("{name}_end"));
    // Since 5.12 (a10787e6d58c) tracing programs may keep something beside a task.
    let form = if types.has_member("task_struct", "bpf_storage") { Form::Typed } else { Form::Raw };
    let offer = Offer {
        form,
        throttle,
        moves: has("sched_migrate_task") && types.has_member("rq", "cpu"),
        reclaim: pair("mm_vmscan_direct_reclaim"),
        memcg_reclaim: pair("mm_vmscan_memcg_reclaim"),
        node_reclaim: pair("mm_vmscan_node_reclaim"),
        compaction: pair("mm_compaction"),
        waiting: types.has_member("bpf_iter__task", "task") && types.has_member("rq", "cpu"),
    };
    Ok((offer, Constants { prev_argument, hierarchy, throttle_model: throttle.number() }))
}

/// The name that the kernel gives a controller inside.
fn subsystem(controller: &str) -> &str {
    if controller == "blkio" { "io" } else { controller }
}

/// The first of the two tasks that stand beside each other.
fn prev(arguments: &[Argument<'_>]) -> Option<u32> {
    let task = Argument::Struct("task_struct");
    let at = arguments.windows(2).position(|pair| pair == [task, task])?;
    u32::try_from(at).ok().filter(|at| matches!(at, 1 | 2))
}

fn throttle(types: &KernelTypes<'_>) -> ThrottleClock {
    let queue = |member| types.has_member("cfs_rq", member);
    if queue("throttled_clock_self_time") && queue("throttled_clock_self") {
        if types.has_member("task_struct", "throttled") { ThrottleClock::Exact } else { ThrottleClock::Queue }
    } else if queue("throttled_clock_pelt_time") && queue("throttled_clock_pelt") && types.has_member("rq", "clock_pelt") {
        ThrottleClock::Scaled
    } else if queue("throttled_clock_task_time") && queue("throttled_clock_task") {
        ThrottleClock::Task
    } else {
        ThrottleClock::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_arguments_is_found() {
        fn check(arguments: &[Argument<'_>], expected: Option<u32>) {
            assert_eq!(prev(arguments), expected, "{arguments:?}");
        }
        let (task, other) = (Argument::Struct("task_struct"), Argument::Other);
        check(&[other, task, task], Some(1)); // up to 5.17
        check(&[other, task, task, other], Some(1)); // 5.18 and later
        check(&[other, other, task, task], Some(2)); // 5.18-rc1 to -rc6, and who took it from there
        check(&[other, task, other, task], None);
        check(&[task, task], None);
        check(&[other, task], None);
        check(&[other, Argument::Struct("rq"), Argument::Struct("rq")], None);
        check(&[], None);
    }

    #[test]
    fn the_kernel_that_runs_is_fit_or_says_why() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let types = KernelTypes::read(&bytes).unwrap();
        let (_, constants) = offer(&types, &Hierarchy::Unified).unwrap();
        assert_eq!(constants.hierarchy, 0);
        let (_, constants) = offer(&types, &Hierarchy::Controller("memory".to_owned())).unwrap();
        assert_eq!(constants.hierarchy.checked_sub(1), types.enumerator("cgroup_subsys_id", "memory_cgrp_id"));
        assert!(offer(&types, &Hierarchy::Controller("nonsense".to_owned())).unwrap_err().contains("nonsense"));
    }
}
