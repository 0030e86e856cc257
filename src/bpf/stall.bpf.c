// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct task_state {
	u64 seen_delay;      /* sched_info.run_delay accounted for so far */
	struct css_set *css; /* cgroups `slot` was looked up for; compared, never followed */
	u32 slot;
	u32 generation;
};

struct segment {
	u64 end_ns;
	u32 slot;
	u32 tgid;
};

struct cpu_state {
	u64 head;
	struct segment segments[SEGMENTS];
};

struct blame_key {
	u32 victim_slot;
	u32 culprit_slot;
	u32 culprit_tgid;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS_MAX * 4);
	__type(key, u64);
	__type(value, u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS_MAX);
	__type(key, u32);
	__type(value, struct totals);
} container_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} waits SEC(".maps");

volatile const u32 cpu_hierarchy = 0; /* index of the v1 cpu controller in css_set.subsys; */
volatile const u32 use_v1 = 1;
u32 generation = 1;
u64 lost = 0;

static __always_inline u32 slot_of(struct task_struct *task, struct task_state *state)
{
	struct css_set *css = task->cgroups;
	if (state->css == css && state->generation == generation)
		return state->slot;
	u64 id;
	if (use_v1)
		id = BPF_CORE_READ(css, subsys[1], cgroup, kn, id);
	else
		id = BPF_CORE_READ(css, dfl_cgrp, kn, id);
	u32 *slot = bpf_map_lookup_elem(&slots, &id);
	state->slot = slot ? *slot : 0;
	state->css = css;
	state->generation = generation;
	return state->slot;
}

static __always_inline u32 bucket(u64 ns)
{
	u32 log = 0;
	u64 v = ns;
	if (v >> 32) { v >>= 32; log += 32; }
	if (v >> 16) { v >>= 16; log += 16; }
	if (v >> 8) { v >>= 8; log += 8; }
	if (v >> 4) { v >>= 4; log += 4; }
	if (v >> 2) { v >>= 2; log += 2; }
	if (v >> 1) { log += 1; }
	return log & (HISTOGRAM_BUCKETS - 1);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u64 now = bpf_ktime_get_ns();
	u32 zero = 0;
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &zero);
	if (!cpu)
		return 0;

	/* who ran until now */
	u32 prev_slot = 0;
	if (prev->pid) {
		struct task_state *state = bpf_task_storage_get(&tasks, prev, 0, 0);
		if (state)
			prev_slot = slot_of(prev, state);
	}
	u64 head = cpu->head;
	struct segment *segment = &cpu->segments[head & (SEGMENTS - 1)];
	segment->end_ns = now;
	segment->slot = prev_slot;
	segment->tgid = prev->tgid;
	cpu->head = head + 1;

	if (!next->pid)
		return 0;
	struct task_state *state = bpf_task_storage_get(&tasks, next, 0, 0);
	u64 queued = next->sched_info.last_queued;
	u64 delay = next->sched_info.run_delay;
	u64 clock = next->se.cfs_rq->rq->clock;
	u64 current_wait = queued && clock > queued ? clock - queued : 0;
	if (!state) {
		struct task_state fresh = {};
		state = bpf_task_storage_get(&tasks, next, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!state)
			return 0;
		state->seen_delay = delay;
	}
	u64 length = delay + current_wait - state->seen_delay;
	state->seen_delay = delay + current_wait;
	u32 slot = slot_of(next, state);
	struct totals *totals = bpf_map_lookup_elem(&container_totals, &slot);
	if (!totals)
		return 0;
	totals->wait_ns += length;
	totals->waits++;
	totals->histogram[bucket(length)]++;
	if (length < 20000)
		return 0;
	/* walk back */
	u64 begin = now - length, culprit_ns = 0, until = now;
	u32 culprit_slot = 0, culprit_tgid = 0;
	for (int i = 0; i < SEGMENTS - 1; i++) {
		struct segment *s = &cpu->segments[(head - i) & (SEGMENTS - 1)];
		struct segment *before = &cpu->segments[(head - i - 1) & (SEGMENTS - 1)];
		u64 from = before->end_ns > begin ? before->end_ns : begin;
		if (s->end_ns <= begin)
			break;
		u64 part = s->end_ns - from;
		if (part > culprit_ns) {
			culprit_ns = part;
			culprit_slot = s->slot;
			culprit_tgid = s->tgid;
		}
	}
	struct wait_record *record = bpf_ringbuf_reserve(&waits, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	record->end_ns = now;
	record->length_ns = length;
	record->throttled_ns = 0;
	record->culprit_ns = culprit_ns;
	record->slot = slot;
	record->culprit_slot = culprit_slot;
	record->tgid = next->tgid;
	record->tid = next->pid;
	record->culprit_tgid = culprit_tgid;
	record->cpu = bpf_get_smp_processor_id();
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}
