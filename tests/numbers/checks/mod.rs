//! The checks, in the order they run.

mod commands;
mod ended;
mod node;
mod places;
mod quota;
mod singles;
mod spans;
mod switch;
mod totals;

pub use places::{CONFINED, confined};

use std::path::Path;

/// A check; it fails by a panic.
pub struct Check {
    pub name: &'static str,
    pub needs: Need,
    pub run: fn(),
}

/// What a host must have to show a thing at all.
#[derive(Clone, Copy)]
pub enum Need {
    Nothing,
    /// `CONFIG_SCHEDSTATS`.
    ProcSchedstat,
    /// `CONFIG_PSI`, and cgroups of version 2 to hold containers.
    CgroupPressure,
    /// A kernel that describes its types and takes programs.
    Bpf,
    /// The same, and a clock that is the checks' to change.
    BpfAndClock,
}

impl Need {
    /// Why this host cannot show it; `None` where it can.
    pub fn missing(self) -> Option<&'static str> {
        let (there, why) = match self {
            Self::Nothing => (true, ""),
            Self::ProcSchedstat => (Path::new("/proc/schedstat").exists(), "this kernel has no /proc/schedstat (CONFIG_SCHEDSTATS)"),
            Self::Bpf => (singles::programs_can_be_loaded(), "the eBPF programs cannot be loaded here"),
            Self::BpfAndClock => (
                std::env::var_os("STALLSPAN_OWN_CLOCK").is_some() && singles::programs_can_be_loaded(),
                "the clock of this host is not to be changed, or the eBPF programs cannot be loaded here",
            ),
            Self::CgroupPressure => (crate::groups::Group::new("docker").pressure("cpu").is_some(), "cgroups here have no pressure files"),
        };
        (!there).then_some(why)
    }
}

const fn check(name: &'static str, run: fn()) -> Check {
    Check { name, needs: Need::Nothing, run }
}

const fn needing(needs: Need, name: &'static str, run: fn()) -> Check {
    Check { name, needs, run }
}

/// All of them.
pub const ALL: &[Check] = &[
    check("check_tells_what_this_host_has", commands::check_tells_what_this_host_has),
    check("demo_finds_the_delay", commands::demo_finds_the_delay),
    check("commands_without_root", places::without_root),
    check("commands_in_a_user_namespace", places::in_a_user_namespace),
    check("commands_in_a_pid_namespace", places::in_a_pid_namespace),
    check("commands_without_cgroups", places::without_cgroups),
    check("commands_with_a_read_only_sysctl", places::with_a_read_only_sysctl),
    check("commands_without_the_hosts_network", places::without_the_hosts_network),
    check("commands_without_proc", places::without_proc),
    check("node_counters_are_the_kernels_own", node::node_counters_are_the_kernels_own),
    needing(Need::ProcSchedstat, "every_wait_of_the_node_is_somebodys", node::every_wait_of_the_node_is_somebodys),
    needing(Need::CgroupPressure, "pressure_of_a_container_is_its_files", node::pressure_of_a_container_is_its_files),
    check("totals_of_one_thread", totals::totals_of_one_thread),
    check("totals_of_four_threads", totals::totals_of_four_threads),
    check("short_lived_processes_are_counted", ended::short_lived_processes_are_counted),
    check(
        "short_lived_processes_are_a_lower_bound_where_only_looked_at",
        ended::short_lived_processes_are_a_lower_bound_where_only_looked_at,
    ),
    check("throttling_of_one_thread", quota::throttling_of_one_thread),
    check("throttling_of_four_threads", quota::throttling_of_four_threads),
    check("an_ancestors_quota_counts", quota::an_ancestors_quota_counts),
    check("the_tightest_limit_on_the_path_up_is_told", quota::the_tightest_limit_on_the_path_up_is_told),
    check("spans_by_taskstats_of_one_thread", spans::taskstats_of_one_thread),
    check("spans_by_taskstats_of_four_threads", spans::taskstats_of_four_threads),
    check("spans_by_schedstat_of_one_thread", spans::schedstat_of_one_thread),
    check("spans_by_schedstat_of_four_threads", spans::schedstat_of_four_threads),
    check("an_idle_container_beside_a_busy_neighbor_does_not_stall", spans::an_idle_container_beside_a_busy_neighbor),
    needing(Need::Bpf, "single_waits_of_one_thread", singles::of_one_thread),
    needing(Need::Bpf, "single_waits_of_four_threads", singles::of_four_threads),
    needing(Need::Bpf, "single_waits_of_two_threads_each_its_own", singles::of_two_threads_each_its_own),
    needing(Need::Bpf, "an_idle_container_has_no_single_wait", singles::an_idle_container_has_none),
    needing(Need::BpfAndClock, "single_waits_after_the_clock_was_slewed", singles::after_the_clock_was_slewed),
    check("delay_accounting_on_off_and_on_again", switch::delay_accounting_on_off_and_on_again),
];
