/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * How long a queue's tasks were held back by CPU quota, own or ancestors'. The kernel keeps a clock of it for each
 * cfs_rq (kernel/sched/fair.c, tg_throttle_down and tg_unthrottle_up) that stands in `..._time` for what is over and in
 * a start for what goes on; its growth during a wait is the throttled part of the wait.
 */
#pragma once
#include "state.h"

static __always_inline u64 grown(u64 total, u64 since, u64 clock)
{
	return since && clock > since ? total + clock - since : total;
}

static __always_inline u64 throttle_total(struct cfs_rq *queue)
{
	if (throttle_model >= THROTTLE_SELF)
		return GET(queue, throttled_clock_self_time);
	if (throttle_model == THROTTLE_PELT)
		return GET(queue, throttled_clock_pelt_time);
	if (throttle_model == THROTTLE_TASK)
		return BPF_CORE_READ((struct cfs_rq___task *)queue, throttled_clock_task_time);
	return 0;
}

/* The clock as of `clock`. Never-throttled queues read 0 in all models. */
static __always_inline u64 throttle_clock(struct cfs_rq *queue, u64 clock)
{
	u64 total = throttle_total(queue);
	if (throttle_model >= THROTTLE_SELF)
		return grown(total, GET(queue, throttled_clock_self), clock);
	if (throttle_model == THROTTLE_NONE || !GET(queue, throttle_count))
		return total;
	if (throttle_model == THROTTLE_PELT)
		return grown(total, GET(queue, throttled_clock_pelt), GET2(queue, rq, clock_pelt));
	return grown(total, BPF_CORE_READ((struct cfs_rq___task *)queue, throttled_clock_task), GET2(queue, rq, clock_task));
}

/* Whether the wait that `prev` begins now can have a throttled part. */
static __always_inline bool throttle_begins(struct task_struct *prev, struct cfs_rq *queue)
{
	if (throttle_model == THROTTLE_FLAG)
		return BPF_CORE_READ((struct task_struct___throttled *)prev, throttled);
	if (throttle_model == THROTTLE_NONE || !GET(prev, on_rq))
		return false;
	if (bpf_core_field_exists(prev->se.sched_delayed) && GET(prev, se.sched_delayed))
		return false;
	return GET(queue, throttle_count) || throttle_total(queue);
}

static __always_inline void throttle_remember(struct task_state *state, struct cfs_rq *queue, u64 clock)
{
	state->throttle_queue = (u64)queue;
	state->throttle_base = throttle_clock(queue, clock);
}

/* What grew since the wait began on this queue; the memory of it is cleared. */
static __always_inline u64 throttle_part(struct task_state *state, struct cfs_rq *queue, u64 clock)
{
	u64 part = 0;
	if (state->throttle_queue == (u64)queue) {
		u64 now = throttle_clock(queue, clock);
		part = now > state->throttle_base ? now - state->throttle_base : 0;
	}
	state->throttle_queue = 0;
	return part;
}

/* A task that waits is moved to another CPU: there it waits on its group's queue of that CPU. */
static __always_inline void throttle_move(struct task_state *state, struct task_struct *task, u32 to, u64 clock)
{
	if (throttle_model < THROTTLE_SELF)
		return;
	struct cfs_rq **queues = BPF_CORE_READ(task, sched_task_group, cfs_rq);
	struct cfs_rq *queue = 0;
	if (bpf_probe_read_kernel(&queue, sizeof(queue), &queues[to & 0xffff]) || !queue)
		return;
	state->throttle_queue = (u64)queue;
	state->throttle_base = grown(BPF_CORE_READ(queue, throttled_clock_self_time), BPF_CORE_READ(queue, throttled_clock_self), clock);
}

/*
 * For a task that woke on a throttled queue, which only happens before 6.18: whoever runs first after a throttling
 * sees that the clock has grown, and by how much; the growth is taken to have ended then.
 */
static __always_inline u64 throttle_overlap(struct cpu_state *cpu, struct cfs_rq *queue, u64 begin, u64 clock)
{
	u64 total = throttle_total(queue);
	if (!total)
		return 0;
	/* Read back from the map it is a number and no pointer any more. */
	cpu->queue = (u64)queue;
	u64 number = *(volatile u64 *)&cpu->queue;
	struct throttle_seen *seen = &cpu->throttles[(number >> 8) & (THROTTLES_SEEN - 1)];
	if (seen->queue != number) {
		seen->queue = number;
		seen->total = total;
		seen->ended = 0;
		return 0;
	}
	if (seen->total != total) {
		seen->length = total - seen->total;
		seen->ended = clock;
		seen->total = total;
	}
	u64 started = seen->ended - seen->length;
	u64 from = begin > started ? begin : started;
	return seen->ended > from ? seen->ended - from : 0;
}
