// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Every wait of every task, seen where it ends: one hook at sched_switch, one where a waiting task is moved, one where a
 * task is born, and those of memory.h. The iterators prepare the tasks that were there before and tell who waits now.
 */
#include "wait.h"
#include "memory.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The compiler would make one load of two, from an address that it computes, which the verifier refuses. */
#define ARGUMENT(variable, place) asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(variable) : "r"(ctx), "i"((place) * 8))

#define MONO_EVERY_NS 10000000ull
#define MONO_LOOKS 4
#define RUN_EVERY_NS 1000000ull

/*
 * The clock of run queues and CLOCK_MONOTONIC drift apart by parts in a million. A look may come late (the hypervisor
 * took the CPU in between), never early: the least difference is the truest, but for a drift of 488 parts in a million.
 * A time daemon may make CLOCK_MONOTONIC faster than that, by up to a tenth (adjtimex(2), `tick`): what the difference was at
 * the least in some looks is believed at once.
 */
static __always_inline void mono_learn(struct cpu_state *cpu, u64 clock)
{
	u64 passed = clock - cpu->mono_at;
	if (passed < MONO_EVERY_NS)
		return;
	u64 offset = bpf_ktime_get_ns() - clock;
	u64 most = cpu->mono_offset + (passed >> 11);
	if (!cpu->mono_at || (s64)(offset - most) < 0)
		most = offset;
	if (!cpu->mono_looks || (s64)(offset - cpu->mono_least) < 0)
		cpu->mono_least = offset;
	if (++cpu->mono_looks >= MONO_LOOKS) {
		if ((s64)(cpu->mono_least - most) > 0)
			most = cpu->mono_least;
		cpu->mono_looks = 0;
	}
	cpu->mono_offset = most;
	cpu->mono_at = clock;
}

/* The run time of whoever ran until now, in large pieces. */
static __always_inline void run_count(struct cpu_state *cpu, u32 next_slot, u64 clock)
{
	struct segment *ran = segment_at(cpu, cpu->head);
	u32 slot = ran->slot;
	if (slot == next_slot && clock - cpu->run_from < RUN_EVERY_NS)
		return;
	u64 from = cpu->run_from;
	cpu->run_from = clock;
	if (!ran->start || !from || slot == SLOT_IDLE)
		return;
	struct totals *totals = bpf_map_lookup_elem(&slot_totals, &slot);
	if (totals)
		totals->run_ns += clock - from;
}

/*
 * Not every switch is seen: there are kernels and moments in which the tracepoint stays silent when some tasks leave
 * their CPU. Then `prev`, who leaves now, is not whom we saw come last. What it waited before it came stands in its
 * run_delay, and when it came in last_arrival: told late, but as of then.
 */
static __noinline int arrival_unseen(struct cpu_state *cpu, struct task_struct *prev, u64 clock)
{
	u64 came = GET(prev, sched_info.last_arrival);
	struct segment *ran = segment_at(cpu, cpu->head);
	struct task_state *state = state_of(prev);
	if (!state || !ran->start || came < ran->start || came < cpu->run_from || came > clock)
		return 0;
	u32 slot = slot_of(prev, state);
	u64 delay = GET(prev, sched_info.run_delay);
	u64 waited = delay > state->seen_delay ? delay - state->seen_delay : 0;
	if (state->known && (waited || state->has_settled)) {
		struct wait wait = { .here = waited, .length = waited };
		wait_book(cpu, prev, state, slot, came, wait);
	}
	state->known = 1;
	state->seen_delay = delay;
	run_count(cpu, slot, came);
	segment_begin(cpu, prev, slot, came);
	return 0;
}

SEC(TRACEPOINT("sched_switch"))
int on_switch(u64 *ctx)
{
	struct task_struct *prev, *next;
	if (prev_argument == 1) {
		ARGUMENT(prev, 1);
		ARGUMENT(next, 2);
	} else {
		ARGUMENT(prev, 2);
		ARGUMENT(next, 3);
	}
	struct cpu_state *cpu = cpu_state(bpf_get_smp_processor_id());
	if (!cpu)
		return 0;
	struct cfs_rq *queue = GET(prev, se.cfs_rq);
	u64 clock = GET2(queue, rq, clock);
	mono_learn(cpu, clock);
	u32 left = GET(prev, pid);
	if (left && left != segment_at(cpu, cpu->head)->pid)
		arrival_unseen(cpu, prev, clock);
	if (throttle_begins(prev, queue)) {
		struct task_state *state = state_of(prev);
		if (state)
			throttle_remember(state, queue, clock);
	}
	u32 slot = SLOT_IDLE;
	if (GET(next, pid)) {
		slot = SLOT_HOST;
		struct task_state *state = state_of(next);
		if (state) {
			slot = slot_of(next, state);
			wait_ends(cpu, next, state, slot, clock);
		}
	}
	run_count(cpu, slot, clock);
	segment_begin(cpu, next, slot, clock);
	return 0;
}

/* The task still stands on its old CPU here, and the old run queue is locked: its segments stand still. */
SEC(TRACEPOINT("sched_migrate_task"))
int on_migrate(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	u32 to = ctx[1];
	if (GET(task, on_rq) != TASK_ON_RQ_MIGRATING)
		return 0;
	struct task_state *state = state_of(task);
	if (!state || !state->known)
		return 0;
	u64 delay = GET(task, sched_info.run_delay);
	if (delay <= state->seen_delay)
		return 0;
	u64 ns = delay - state->seen_delay;
	state->seen_delay = delay;
	struct cfs_rq *queue = GET(task, se.cfs_rq);
	u64 clock = GET2(queue, rq, clock);
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!here)
		return 0;
	u64 part = 0;
	if (state->throttle_queue) {
		part = throttle_part(state, queue, clock);
		part = part < ns ? part : ns;
		throttle_move(state, task, to, clock);
	}
	u32 slot = slot_of(task, state);
	struct explained *found = &here->scratch;
	explain_clear(found);
	if (slot != SLOT_HOST) {
		explain(GET2(queue, rq, cpu), slot, clock - ns + part, clock);
		blame_all(slot);
		struct totals *totals = bpf_map_lookup_elem(&slot_totals, &slot);
		if (totals) {
			totals->self_ns += found->self_ns;
			totals->idle_ns += found->idle_ns;
		}
	}
	if (state->has_settled)
		here->moved = state->settled;
	else
		__builtin_memset(&here->moved, 0, sizeof(here->moved));
	settled_keep(ns, part);
	state->settled = here->moved;
	state->has_settled = 1;
	return 0;
}

SEC(TRACEPOINT("sched_process_fork"))
int on_fork(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0], *child = (struct task_struct *)ctx[1];
	struct task_state *state = renew_state(child), *before = state_of(parent);
	/* Where it belongs is where its parent does, until it moves: user space may not know it for a while. */
	if (state && before && before->css == GET(child, cgroups)) {
		state->css = before->css;
		state->slot = before->slot;
		state->generation = before->generation;
	}
	return 0;
}

/* Tasks that were there before the programs. */
SEC("iter/task")
int prepare_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	if (task)
		make_state(task);
	return 0;
}

/* Tasks of containers that wait now. */
SEC("iter/task")
int waiting_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	if (!task)
		return 0;
	u64 now = bpf_ktime_get_ns();
	u64 queued = *(volatile u64 *)&task->sched_info.last_queued;
	if (!queued)
		return 0;
	struct task_state *state = state_of(task);
	if (!state || !state->known)
		return 0;
	struct waiting_record record = { .now_ns = now, .slot = slot_of(task, state), .tgid = task->tgid, .tid = task->pid };
	if (record.slot == SLOT_HOST)
		return 0;
	struct cfs_rq *queue = GET(task, se.cfs_rq);
	struct cpu_state *cpu = cpu_state(GET2(queue, rq, cpu));
	if (!cpu)
		return 0;
	u64 delay = GET(task, sched_info.run_delay);
	u64 before = delay > state->seen_delay ? delay - state->seen_delay : 0;
	if (state->has_settled) {
		before += state->settled.ns;
		record.throttled_ns = state->settled.throttled_ns;
	}
	record.task_started_ns = task->start_boottime;
	record.process_started_ns = task->group_leader->start_boottime;
	record.begin_ns = queued + cpu->mono_offset - before;
	if (state->throttle_queue == (u64)queue) {
		u64 held = throttle_clock(queue, now - cpu->mono_offset);
		if (held > state->throttle_base)
			record.throttled_ns += held - state->throttle_base;
	}
	/* Nothing is locked here: a wait that ended meanwhile is told by its record. */
	if (*(volatile u64 *)&task->sched_info.last_queued != queued)
		return 0;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
