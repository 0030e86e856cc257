//! Metrics of a container.

use super::key;
use super::rows;

rows! { Container, CONTAINER_METRICS:
    CONTAINER_CPU_TIME = Counter Double "container.cpu.time" "s" [key::CPU_MODE]
        "CPU time the container used; without a mode where the kernel tells only the sum."
        "cpu.stat usage_usec, user_usec, system_usec (v2); cpuacct.usage, cpuacct.stat (v1)";
    CONTAINER_CPU_USAGE = Gauge Double "container.cpu.usage" "{cpu}" []
        "CPUs the container used on average since the previous collection."
        "growth of the total CPU time between two collections";
    CONTAINER_MEMORY_USAGE = UpDownCounter Int "container.memory.usage" "By" []
        "Memory charged to the container, page cache included."
        "memory.current (v2); memory.usage_in_bytes (v1)";
    CONTAINER_MEMORY_WORKING_SET = UpDownCounter Int "container.memory.working_set" "By" []
        "Memory the container uses less the file pages that were not touched lately."
        "memory usage less inactive_file of memory.stat (v2) or total_inactive_file (v1), as the kubelet computes it";
    CONTAINER_PAGING_FAULTS = Counter Int "container.paging.faults" "{fault}" [key::PAGING_FAULT_TYPE]
        "Page faults of the container's tasks."
        "memory.stat pgfault less pgmajfault, pgmajfault";
    CONTAINER_UPTIME = Gauge Double "container.uptime" "s" []
        "Time since the container's first process started."
        "start time from the container runtime or /proc/PID/stat field 22";
    CONTAINER_DELAY_TIME = Counter Double "stallspan.container.delay.time" "s" [key::DELAY_TYPE]
        "Time the container's tasks waited, summed over tasks; the types overlap, never add them up."
        "delay accounting of every task, exited ones included (taskstats; cpu also from /proc/PID/task/TID/schedstat)";
    CONTAINER_DELAYS = Counter Int "stallspan.container.delays" "{delay}" [key::DELAY_TYPE]
        "Waits of the container's tasks that ended."
        "the counts beside the delays (taskstats; cpu also from schedstat field 3)";
    CONTAINER_CPU_RUN_TIME = Counter Double "stallspan.container.cpu.run.time" "s" []
        "Time the container's tasks were on a CPU, as the scheduler counts it."
        "se.sum_exec_runtime: taskstats cpu_run_virtual_total, schedstat field 1; the cgroup's CPU time where that is more (an ending thread is told without its last tick)";
    CONTAINER_CPU_THROTTLED_TIME = Counter Double "stallspan.container.cpu.throttled.time" "s" []
        "Time a CPU quota, the container's own or that of a cgroup above it, held the container back, summed over CPUs."
        "cpu.stat throttled_usec, cpu.stat.local throttled_usec where larger (v2); throttled_time (v1)";
    CONTAINER_CPU_PERIODS = Counter Int "stallspan.container.cpu.periods" "{period}" []
        "Quota periods in which the container ran."
        "cpu.stat nr_periods";
    CONTAINER_CPU_THROTTLED_PERIODS = Counter Int "stallspan.container.cpu.throttled_periods" "{period}" []
        "Quota periods in which the container used up its quota."
        "cpu.stat nr_throttled";
    CONTAINER_CPU_LIMIT = Gauge Double "stallspan.container.cpu.limit" "{cpu}" []
        "Tightest CPU quota on the container's cgroup path; absent when unlimited."
        "cpu.max (v2); cpu.cfs_quota_us / cpu.cfs_period_us (v1)";
    CONTAINER_CPU_BURST = Gauge Double "stallspan.container.cpu.burst" "s" []
        "CPU time the container may save up in quiet periods and use on top of its quota."
        "cpu.max.burst (v2); cpu.cfs_burst_us (v1)";
    CONTAINER_CPU_ALLOWED = Gauge Double "stallspan.container.cpu.allowed" "{cpu}" []
        "CPUs the container may run on."
        "cpuset.cpus.effective (v2); cpuset.effective_cpus (v1)";
    CONTAINER_CPU_WEIGHT = Gauge Double "stallspan.container.cpu.weight" "1" []
        "The container's share among its siblings where CPUs are short; 100 is what a cgroup has by default."
        "cpu.weight (v2); cpu.shares x 100 / 1024 (v1)";
    CONTAINER_PRESSURE_TIME = Counter Double "stallspan.container.pressure.time" "s" [key::PRESSURE_RESOURCE, key::PRESSURE_STALL_TYPE]
        "Wall-clock time during which some or all of the container's tasks were stalled on a resource."
        "total= of cpu.pressure, memory.pressure, io.pressure, irq.pressure";
    CONTAINER_CPU_WAIT_DURATION = ExponentialHistogram Double "stallspan.container.cpu.wait.duration" "s" []
        "Lengths of the single waits for a CPU that ended."
        "BPF source";
    CONTAINER_RECLAIM_DURATION = ExponentialHistogram Double "stallspan.container.reclaim.duration" "s" []
        "Lengths of the single direct reclaims, global and of the memory limit."
        "BPF source";
    CONTAINER_COMPACTION_DURATION = ExponentialHistogram Double "stallspan.container.compaction.duration" "s" []
        "Lengths of the single direct compactions."
        "BPF source";
    CONTAINER_LONG_WAITS = Counter Int "stallspan.container.long_waits" "{wait}" [key::THRESHOLD]
        "Single waits for a CPU at least as long as the threshold (in seconds)."
        "BPF source";
    CONTAINER_CPU_WAIT_BLAMED_TIME = Counter Double "stallspan.container.cpu.wait.blamed.time" "s" [key::CULPRIT_NAME, key::CULPRIT_TYPE]
        "Time the container's tasks waited for a CPU, by who ran there meanwhile."
        "BPF source";
    CONTAINER_MEMORY_RECLAIM_PAGES = Counter Int "stallspan.container.memory.reclaim.pages" "{page}" [key::RECLAIM_KIND, key::RECLAIM_STEP]
        "Pages of the container that reclaim looked at and freed."
        "memory.stat pgscan_direct, pgsteal_direct, pgscan_kswapd, pgsteal_kswapd (v2, 6.0 and newer)";
    CONTAINER_MEMORY_REFAULTS = Counter Int "stallspan.container.memory.refaults" "{page}" [key::MEMORY_PAGE]
        "Pages of the container that were read again soon after they had been evicted."
        "memory.stat workingset_refault_anon, workingset_refault_file (5.9 and newer)";
    CONTAINER_MEMORY_EVENTS = Counter Int "stallspan.container.memory.events" "{event}" [key::MEMORY_EVENT]
        "Times the container's memory ran into a boundary, or a task of it was killed for it."
        "memory.events (v2); memory.failcnt as max, memory.oom_control oom_kill (v1)";
}
