/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs remember: per task, per CPU, per container. */
#pragma once
#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Chosen by the loader from the kernel's BTF; constants to the verifier, which drops what they rule out. */
const volatile u32 prev_argument = 1; /* place of `prev` among the arguments of sched_switch */
const volatile u32 hierarchy = 0;     /* 0: the unified one; else 1 + index of a v1 controller in css_set.subsys */
const volatile u32 cpus_possible = 1;
const volatile u32 slots_max = SLOTS_DEFAULT;
const volatile u64 tick_ns = 10000000; /* in which user space knows start times */
/* Ascending. */
const volatile u64 thresholds[THRESHOLDS] = { 1000000, 10000000, 50000000, 100000000 };

#define THROTTLE_NONE 0 /* the kernel keeps no clock of it */
#define THROTTLE_TASK 1 /* before 6.0: on the task clock */
#define THROTTLE_PELT 2 /* 6.0 to 6.5: on a clock scaled by capacity and frequency: approximate */
#define THROTTLE_SELF 3 /* 6.6+ */
#define THROTTLE_FLAG 4 /* 6.18+: as before, and each task knows whether it is throttled */
const volatile u32 throttle_model = THROTTLE_NONE;

/*
 * Run segments remembered a CPU; a power of two. Where tasks follow each other every 0.1 ms, they reach back 0.2 s: what a
 * longer wait has before that stays unexplained.
 */
#define SEGMENTS 2048

/* Time during which somebody ran on a CPU: until the next segment's start, or until now. */
struct segment {
	u64 start; /* clock of the run queue, as all times in this file; 0: never written */
	u32 slot;
	u32 pid;   /* of the task that ran last; not part of who it is */
	u64 name[2];
};

/* Who ran during a wait. */
struct explained {
	u64 self_ns;
	u64 idle_ns;
	u64 other_ns;
	u32 count;
	u32 pad;
	struct culprit list[CULPRITS];
};

/* What a wait that moved between CPUs has behind it. */
struct settled {
	u64 ns;
	u64 throttled_ns;
	u64 self_ns;
	u64 idle_ns;
	u64 other_ns;
	struct culprit list[CULPRITS_SHORT];
};

struct task_state {
	u64 seen_delay; /* sched_info.run_delay up to the present wait */
	struct css_set *css; /* what `slot` was looked up for; compared, never followed */
	u32 slot;
	u32 generation;
	u32 known;    /* seen_delay holds */
	u32 has_settled;
	u64 throttle_queue; /* cfs_rq on which the present wait began, where throttling may play a part; compared only */
	u64 throttle_base;  /* its throttle clock then */
	u64 reclaim_since;    /* CLOCK_MONOTONIC; 0: not in it */
	u64 compaction_since;
	struct settled settled;
};

/* Short waits are blamed here first: one map update for many. */
struct short_blame {
	struct blame_key key;
	u64 ns;
};
#define SHORT_BLAMES 4

/* Before 6.18: when a queue of this CPU was last found to have been throttled, and for how long. */
struct throttle_seen {
	u64 queue;
	u64 total;
	u64 ended;
	u64 length;
};
#define THROTTLES_SEEN 8

struct cpu_state {
	u64 head; /* segments[head % SEGMENTS] is who runs now */
	u64 mono_offset; /* CLOCK_MONOTONIC - clock of the run queue */
	u64 mono_at;
	u64 mono_least; /* of the looks that are counted now */
	u64 mono_looks;
	u64 run_from; /* run time up to here is in the totals */
	struct short_blame short_blames[SHORT_BLAMES];
	u64 queue;
	struct throttle_seen throttles[THROTTLES_SEEN];
	struct explained scratch; /* of the wait that this CPU looks at now */
	struct settled moved;     /* what that wait has behind it on other CPUs */
	struct segment segments[SEGMENTS]; /* last: an instruction's offset has 16 bits */
};

/*
 * Compiled twice. RAW: for kernels before 5.12, which keep nothing beside a task for tracing programs, and for those that
 * refuse tracepoints with types.
 */
#ifdef RAW
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TASKS_DEFAULT);
	__type(key, u32);
	__type(value, struct task_state);
} tasks SEC(".maps");
#else
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");
#endif

/* id of a cgroup -> slot, filled by user space; cgroups below are found through their parents. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CGROUPS_DEFAULT);
	__type(key, u64);
	__type(value, u32);
} slots SEC(".maps");

/* Processes outside of all these cgroups -> slot: a service whose cgroup stands in another hierarchy. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_DEFAULT);
	__type(key, struct process_key);
	__type(value, u32);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_DEFAULT);
	__type(key, u32);
	__type(value, struct floors);
} slot_floors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS_DEFAULT);
	__type(key, u32);
	__type(value, struct totals);
} slot_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_DEFAULT);
	__type(key, u32);
	__type(value, struct memory_totals);
} slot_memory SEC(".maps");

/* By number of the CPU and not per-CPU: a wait that leaves a CPU is settled by whichever CPU moves it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLAME_DEFAULT);
	__type(key, struct blame_key);
	__type(value, u64);
} blames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} controls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct losses);
} losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} records SEC(".maps");

#ifdef RAW
/* Raw tracepoints pass numbers: whatever they point to is copied. */
#define TRACEPOINT(name) "raw_tp/" name
#define GET(pointer, member) BPF_CORE_READ(pointer, member)
#define GET2(pointer, first, second) BPF_CORE_READ(pointer, first, second)
#else
#define TRACEPOINT(name) "tp_btf/" name
#define GET(pointer, member) ((pointer)->member)
#define GET2(pointer, first, second) ((pointer)->first->second)
#endif

static __always_inline struct task_struct *current_task(void)
{
#ifdef RAW
	return (struct task_struct *)bpf_get_current_task();
#else
	return bpf_get_current_task_btf();
#endif
}

static __always_inline struct task_state *state_of(struct task_struct *task)
{
#ifdef RAW
	u32 pid = GET(task, pid);
	return bpf_map_lookup_elem(&tasks, &pid);
#else
	return bpf_task_storage_get(&tasks, task, 0, 0);
#endif
}

/* Only where no run queue is locked: before 6.4 the kernel allocates with a flag that may wake a thread. */
static __always_inline struct task_state *make_state(struct task_struct *task)
{
#ifdef RAW
	u32 pid = GET(task, pid);
	struct task_state none = {};
	bpf_map_update_elem(&tasks, &pid, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tasks, &pid);
#else
	return bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
#endif
}

/* A task is born. One that had its number before may have left something behind. */
static __always_inline struct task_state *renew_state(struct task_struct *task)
{
#ifdef RAW
	u32 pid = GET(task, pid);
	struct task_state none = {};
	bpf_map_update_elem(&tasks, &pid, &none, BPF_ANY);
	return bpf_map_lookup_elem(&tasks, &pid);
#else
	return make_state(task);
#endif
}

static __always_inline struct cpu_state *cpu_state(u32 cpu)
{
	return bpf_map_lookup_elem(&cpus, &cpu);
}

/* The ring has no room for a record. Memory work may be interrupted by a switch that loses one too: hence atomic. */
static __always_inline void record_lost(struct totals *totals, u64 ns)
{
	u32 zero = 0;
	struct losses *all = bpf_map_lookup_elem(&losses, &zero);
	__sync_fetch_and_add(&totals->lost, 1);
	__sync_fetch_and_add(&totals->lost_ns, ns);
	if (all) {
		__sync_fetch_and_add(&all->records, 1);
		__sync_fetch_and_add(&all->ns, ns);
	}
}

/*
 * A function of its own to the verifier too, which looks at it once and not once for each way that leads to it. Takes
 * numbers only: pointers to map values may be passed since 5.13, to kernel types much later.
 */
#define SEPARATE __attribute__((noinline))
