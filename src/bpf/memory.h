/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Direct reclaim and direct compaction: the same task begins and ends them, waits for a CPU in between included, as in
 * delay accounting (mm/vmscan.c, mm/compaction.c).
 */
#pragma once
#include "wait.h"

static __always_inline void memory_count(struct memory_kind *kind, u64 ns)
{
	__sync_fetch_and_add(&kind->ns, ns);
	__sync_fetch_and_add(&kind->count, 1);
	s32 bucket = bucket_of(ns);
	if (bucket < 0)
		__sync_fetch_and_add(&kind->below, 1);
	else if (bucket < BUCKETS)
		__sync_fetch_and_add(&kind->buckets[bucket], 1);
}

static __always_inline void memory_ends(struct task_struct *task, struct task_state *state, u32 what, u64 since)
{
	u64 now = bpf_ktime_get_ns();
	if (!since || now < since)
		return;
	u64 ns = now - since;
	u32 slot = slot_of(task, state);
	struct memory_totals *totals = bpf_map_lookup_elem(&slot_memory, &slot);
	struct floors *floors = bpf_map_lookup_elem(&slot_floors, &slot);
	if (!totals || !floors)
		return;
	memory_count(what == RECORD_RECLAIM ? &totals->reclaim : &totals->compaction, ns);
	if (slot == SLOT_HOST || ns < floors->memory_ns)
		return;
	struct record_head *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (record) {
		head_fill(record, what, task, slot, now, ns);
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
		return;
	}
	struct totals *lost = bpf_map_lookup_elem(&slot_totals, &slot);
	if (lost)
		record_lost(lost, ns);
}

static __always_inline int reclaim_begins(void)
{
	struct task_state *state = state_of(current_task());
	if (state)
		state->reclaim_since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int reclaim_ends(void)
{
	struct task_struct *task = current_task();
	struct task_state *state = state_of(task);
	if (state) {
		memory_ends(task, state, RECORD_RECLAIM, state->reclaim_since);
		state->reclaim_since = 0;
	}
	return 0;
}

SEC(TRACEPOINT("mm_vmscan_direct_reclaim_begin"))
int on_reclaim_begin(u64 *ctx) { return reclaim_begins(); }

SEC(TRACEPOINT("mm_vmscan_direct_reclaim_end"))
int on_reclaim_end(u64 *ctx) { return reclaim_ends(); }

SEC(TRACEPOINT("mm_vmscan_memcg_reclaim_begin"))
int on_memcg_reclaim_begin(u64 *ctx) { return reclaim_begins(); }

SEC(TRACEPOINT("mm_vmscan_memcg_reclaim_end"))
int on_memcg_reclaim_end(u64 *ctx) { return reclaim_ends(); }

SEC(TRACEPOINT("mm_vmscan_node_reclaim_begin"))
int on_node_reclaim_begin(u64 *ctx) { return reclaim_begins(); }

SEC(TRACEPOINT("mm_vmscan_node_reclaim_end"))
int on_node_reclaim_end(u64 *ctx) { return reclaim_ends(); }

/* kcompactd fires these too: it is a host task, so no container is charged for it. */
SEC(TRACEPOINT("mm_compaction_begin"))
int on_compaction_begin(u64 *ctx)
{
	struct task_state *state = state_of(current_task());
	if (state)
		state->compaction_since = bpf_ktime_get_ns();
	return 0;
}

SEC(TRACEPOINT("mm_compaction_end"))
int on_compaction_end(u64 *ctx)
{
	struct task_struct *task = current_task();
	struct task_state *state = state_of(task);
	if (state) {
		memory_ends(task, state, RECORD_COMPACTION, state->compaction_since);
		state->compaction_since = 0;
	}
	return 0;
}
