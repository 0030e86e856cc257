//! Metrics of the host.

use super::key;
use super::rows;

rows! { Host, HOST_METRICS:
    SYSTEM_PAGING_OPERATIONS = Counter Int "system.paging.operations" "{operation}" [key::PAGING_FAULT_TYPE, key::PAGING_DIRECTION]
        "Pages read from and written to swap."
        "/proc/vmstat pswpin, pswpout";
    SYSTEM_PAGING_FAULTS = Counter Int "system.paging.faults" "{fault}" [key::PAGING_FAULT_TYPE]
        "Page faults of all tasks of the host."
        "/proc/vmstat pgfault less pgmajfault, pgmajfault";
    NODE_CPU_WAIT_TIME = Counter Double "stallspan.node.cpu.wait.time" "s" [key::CPU_LOGICAL_NUMBER]
        "Time tasks waited on the run queue of a CPU, booked where the wait ended; includes throttling."
        "/proc/schedstat cpu line, field 8; where there is none, the eBPF source, since it was loaded";
    NODE_CPU_RUN_TIME = Counter Double "stallspan.node.cpu.run.time" "s" [key::CPU_LOGICAL_NUMBER]
        "Time tasks ran on a CPU."
        "/proc/schedstat cpu line, field 7; where there is none, the eBPF source, since it was loaded";
    NODE_CPU_TIMESLICES = Counter Int "stallspan.node.cpu.timeslices" "{timeslice}" [key::CPU_LOGICAL_NUMBER]
        "Times a task was put on a CPU."
        "/proc/schedstat cpu line, field 9; where there is none, the eBPF source, since it was loaded";
    NODE_PRESSURE_TIME = Counter Double "stallspan.node.pressure.time" "s" [key::PRESSURE_RESOURCE, key::PRESSURE_STALL_TYPE]
        "Wall-clock time during which some or all tasks of the host were stalled on a resource."
        "total= of /proc/pressure/cpu, memory, io, irq";
    NODE_MEMORY_RECLAIM_PAGES = Counter Int "stallspan.node.memory.reclaim.pages" "{page}" [key::RECLAIM_KIND, key::RECLAIM_STEP]
        "Pages that global reclaim looked at and freed; reclaim for the limit of a memory cgroup is not in it."
        "/proc/vmstat pgscan_direct, pgsteal_direct, pgscan_kswapd, pgsteal_kswapd (summed over zones where older kernels split them)";
    NODE_MEMORY_ALLOCATION_STALLS = Counter Int "stallspan.node.memory.allocation_stalls" "{stall}" []
        "Allocations that had to reclaim memory themselves."
        "/proc/vmstat allocstall, summed over zones";
    NODE_MEMORY_COMPACTION_STALLS = Counter Int "stallspan.node.memory.compaction_stalls" "{stall}" []
        "Allocations that had to compact memory themselves."
        "/proc/vmstat compact_stall";
    NODE_IRQ_TIME = Counter Double "stallspan.node.irq.time" "s" [key::IRQ_TYPE]
        "CPU time spent in interrupts; exact only where the kernel accounts interrupt time (then pressure of irq is there too), else sampled by the tick."
        "/proc/stat cpu line, irq and softirq";
    NODE_CGROUPS_DYING = Gauge Int "stallspan.node.cgroups.dying" "{cgroup}" []
        "Memory cgroups that were removed but still hold memory."
        "cgroup.stat nr_dying_descendants of the root (v2); /proc/cgroups against the directories (v1)";
    NODE_MESH_PROXIES = Gauge Int "stallspan.node.mesh.proxies" "{container}" [key::PROXY_NAME]
        "Running containers that are service mesh proxies."
        "container names of the runtime";
    SOURCE_ENABLED = Gauge Int "stallspan.source.enabled" "{source}" [key::SOURCE, key::SOURCE_REASON]
        "1 where a source of numbers works, 0 with the reason where it does not."
        "probes at start and while running";
    SOURCE_MEMORY = UpDownCounter Int "stallspan.source.memory" "By" [key::SOURCE]
        "Memory in the kernel of a source of numbers."
        "sizes of the maps of the eBPF programs";
    SOURCE_RECORDS = Counter Int "stallspan.source.records" "{record}" [key::SOURCE]
        "Single waits, reclaims and compactions that a source handed over one by one."
        "the ring buffer of the eBPF programs";
    SOURCE_LOST_RECORDS = Counter Int "stallspan.source.lost_records" "{record}" [key::SOURCE]
        "Those for which there was no room: spans of that time have a coverage below 1, the totals hold them."
        "counted by the eBPF programs";
}
