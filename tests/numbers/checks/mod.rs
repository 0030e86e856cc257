//! The checks, in the order they run.

mod commands;
mod ended;
mod node;
mod quota;
mod totals;

use crate::Told;

/// Name and body.
pub const ALL: &[(&str, fn() -> Told)] = &[
    ("check_tells_what_this_host_has", commands::check_tells_what_this_host_has),
    ("demo_finds_the_delay", commands::demo_finds_the_delay),
    ("node_counters_are_the_kernels_own", node::node_counters_are_the_kernels_own),
    ("every_wait_of_the_node_is_somebodys", node::every_wait_of_the_node_is_somebodys),
    ("pressure_of_a_container_is_its_files", node::pressure_of_a_container_is_its_files),
    ("totals_of_one_thread", totals::totals_of_one_thread),
    ("totals_of_four_threads", totals::totals_of_four_threads),
    ("short_lived_processes_are_counted", ended::short_lived_processes_are_counted),
    ("short_lived_processes_are_a_lower_bound_where_only_looked_at", ended::short_lived_processes_are_a_lower_bound_where_only_looked_at),
    ("throttling_of_one_thread", quota::throttling_of_one_thread),
    ("throttling_of_four_threads", quota::throttling_of_four_threads),
    ("an_ancestors_quota_counts", quota::an_ancestors_quota_counts),
    ("the_tightest_limit_on_the_path_up_is_told", quota::the_tightest_limit_on_the_path_up_is_told),
];
