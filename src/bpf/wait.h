/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The end of a wait: its length, its parts, its record. */
#pragma once
#include "blame.h"
#include "histogram.h"
#include "slot.h"
#include "state.h"
#include "throttle.h"

struct wait {
	u64 end;    /* CLOCK_MONOTONIC */
	u64 length; /* all of it */
	u64 here;   /* the part on this CPU */
	u64 throttled;
};

/*
 * At sched_switch the kernel has not yet closed the wait of `next`: last_queued still stands, and run_delay grew only
 * where the task was moved between CPUs meanwhile. So begin and length are known without a hook at wake-ups, and the
 * sum is the kernel's own run_delay.
 */
static __always_inline bool wait_measure(struct task_struct *task, struct task_state *state, u64 clock, struct wait *wait)
{
	u64 delay = GET(task, sched_info.run_delay);
	u64 queued = GET(task, sched_info.last_queued);
	u64 current = queued && clock > queued ? clock - queued : 0;
	if (!state->known) {
		state->known = 1;
		state->seen_delay = delay;
	}
	u64 moved = delay > state->seen_delay ? delay - state->seen_delay : 0;
	state->seen_delay = delay + current;
	wait->here = moved + current;
	wait->length = wait->here;
	wait->throttled = 0;
	return queued || wait->here;
}

/* What was settled on other CPUs joins the scratch, for the record; the map of blame has it already. */
SEPARATE int settled_join(u32 victim)
{
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!here)
		return 0;
	struct explained *found = &here->scratch;
	struct settled *moved = &here->moved;
	found->self_ns += moved->self_ns;
	found->idle_ns += moved->idle_ns;
	found->other_ns += moved->other_ns;
	for (u32 i = 0; i < CULPRITS_SHORT; i++) {
		struct culprit *one = &moved->list[i];
		u64 *name = (u64 *)one->name;
		if (one->ns)
			explain_part(victim, one->slot, one->ns, name[0], name[1]);
	}
	return 0;
}

/* A wait leaves its CPU: the scratch joins what is behind it already. */
SEPARATE int settled_keep(u64 ns, u64 throttled)
{
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!here)
		return 0;
	struct explained *found = &here->scratch;
	struct settled *moved = &here->moved;
	moved->ns += ns;
	moved->throttled_ns += throttled;
	moved->self_ns += found->self_ns;
	moved->idle_ns += found->idle_ns;
	moved->other_ns += found->other_ns;
	for (u32 i = 0; i < CULPRITS && i < found->count; i++) {
		struct culprit *one = &found->list[i];
		u64 *name = (u64 *)one->name;
		bool kept = false;
		for (u32 k = 0; k < CULPRITS_SHORT && !kept; k++) {
			struct culprit *to = &moved->list[k];
			u64 *other = (u64 *)to->name;
			if (to->ns && (to->slot != one->slot || name[0] != other[0] || name[1] != other[1]))
				continue;
			to->slot = one->slot;
			other[0] = name[0];
			other[1] = name[1];
			to->ns += one->ns;
			kept = true;
		}
		if (!kept)
			moved->other_ns += one->ns;
	}
	return 0;
}

static __always_inline void head_fill(struct record_head *head, u32 kind, struct task_struct *task, u32 slot, u64 end, u64 length)
{
	head->kind = kind;
	head->cpu = bpf_get_smp_processor_id();
	head->end_ns = end;
	head->length_ns = length;
	head->slot = slot;
	head->tgid = GET(task, tgid);
	head->tid = GET(task, pid);
	head->culprits = 0;
	head->task_started_ns = GET(task, start_boottime);
	head->process_started_ns = GET2(task, group_leader, start_boottime);
}

#define PID_NAMESPACES 32 /* MAX_PID_NS_LEVEL, include/linux/pid_namespace.h */
#define UPID_SIZE 16      /* a number and a pointer */

/* What gettid() returns to the thread. Of an ending one: 0. */
static __always_inline u32 own_tid(struct task_struct *task)
{
	struct pid *pid = GET(task, thread_pid);
	if (!pid)
		return 0;
	u32 level = BPF_CORE_READ(pid, level);
	if (level > PID_NAMESPACES)
		return 0;
	s32 number = 0;
	void *first = __builtin_preserve_access_index(&pid->numbers[0].nr);
	if (bpf_probe_read_kernel(&number, sizeof(number), first + level * UPID_SIZE))
		return 0;
	return number;
}

#define FILL_WAIT(record, places)                                                              \
	do {                                                                                   \
		head_fill(&(record)->head, RECORD_WAIT, task, slot, wait->end, wait->length); \
		(record)->head.culprits = found->count | own_tid(task) << 8;                   \
		(record)->throttled_ns = wait->throttled;                                      \
		(record)->self_ns = found->self_ns;                                            \
		(record)->idle_ns = found->idle_ns;                                            \
		(record)->other_ns = found->other_ns;                                          \
		__builtin_memcpy((record)->culprits, found->list, sizeof(struct culprit) * (places)); \
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);                                  \
	} while (0)

static __always_inline void wait_send(struct task_struct *task, u32 slot, struct wait *wait, struct explained *found, struct totals *totals)
{
	struct wait_record *record;
	if (found->count <= CULPRITS_SHORT) {
		record = bpf_ringbuf_reserve(&records, WAIT_RECORD_SHORT, 0);
		if (record) {
			FILL_WAIT(record, CULPRITS_SHORT);
			return;
		}
	} else {
		record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
		if (record) {
			FILL_WAIT(record, CULPRITS);
			return;
		}
	}
	record_lost(totals, wait->length);
}

static __always_inline void wait_count(struct totals *totals, struct wait *wait)
{
	totals->waits++;
	totals->wait_ns += wait->length;
	for (u32 i = 0; i < THRESHOLDS && wait->length >= thresholds[i]; i++)
		totals->long_waits[i]++;
	COUNT_IN(totals, wait->length);
}

/* A wait that was measured and ends at `clock`: its parts, and into the books with it. */
static __always_inline void wait_book(struct cpu_state *cpu, struct task_struct *task, struct task_state *state, u32 slot, u64 clock, struct wait wait)
{
	struct totals *totals = bpf_map_lookup_elem(&slot_totals, &slot);
	if (!totals)
		return;
	wait.end = clock + cpu->mono_offset;
	struct cfs_rq *queue = GET(task, se.cfs_rq);
	u64 part = 0;
	if (state->throttle_queue)
		part = throttle_part(state, queue, clock);
	else if (throttle_model != THROTTLE_NONE && throttle_model != THROTTLE_FLAG)
		part = throttle_overlap(cpu, queue, clock - wait.here, clock);
	wait.throttled = part < wait.here ? part : wait.here;
	u64 begin = clock - wait.here + wait.throttled;
	u64 competed = wait.here - wait.throttled;
	if (state->has_settled) {
		wait.length += state->settled.ns;
		wait.throttled += state->settled.throttled_ns;
	}
	wait_count(totals, &wait);
	totals->throttled_ns += wait.throttled;

	struct segment *ran = segment_at(cpu, cpu->head);
	if (slot == SLOT_HOST) {
		state->has_settled = 0;
		return;
	}
	if (wait.length < WALK_FLOOR_NS && !state->has_settled) {
		if (ran->slot == slot)
			totals->self_ns += competed;
		else if (ran->slot == SLOT_IDLE)
			totals->idle_ns += competed;
		else if (ran->start)
			blame_short(cpu, slot, ran, competed);
		return;
	}
	struct explained *found = &cpu->scratch;
	explain(bpf_get_smp_processor_id(), slot, begin, clock);
	totals->self_ns += found->self_ns;
	totals->idle_ns += found->idle_ns;
	blame_all(slot);
	if (state->has_settled) {
		cpu->moved = state->settled;
		settled_join(slot);
		state->has_settled = 0;
	}
	struct floors *floors = bpf_map_lookup_elem(&slot_floors, &slot);
	if (floors && wait.length >= floors->wait_ns)
		wait_send(task, slot, &wait, found, totals);
}

static __always_inline void wait_ends(struct cpu_state *cpu, struct task_struct *task, struct task_state *state, u32 slot, u64 clock)
{
	struct wait wait;
	if (wait_measure(task, state, clock, &wait))
		wait_book(cpu, task, state, slot, clock, wait);
}
