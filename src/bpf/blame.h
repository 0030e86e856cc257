/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Who ran while somebody waited. */
#pragma once
#include "state.h"

/* Waits shorter than this are blamed on the task that ran last, without a look at the segments. */
#define WALK_FLOOR_NS 10000
/* A short blame goes into the map at the latest when it is this long. */
#define SHORT_BLAME_NS 1000000

static __always_inline struct segment *segment_at(struct cpu_state *cpu, u64 index)
{
	return &cpu->segments[index & (SEGMENTS - 1)];
}

/* From `clock` on, this task runs here. A segment grows while tasks of one container, or of one host process, follow each other. */
static __always_inline void segment_begin(struct cpu_state *cpu, struct task_struct *task, u32 slot, u64 clock)
{
	u64 name[2] = {};
	if (slot == SLOT_HOST) {
		struct task_struct *leader = GET(task, group_leader);
#ifdef RAW
		bpf_core_read(name, sizeof(name), &leader->comm);
#else
		name[0] = *(u64 *)&leader->comm[0];
		name[1] = *(u64 *)&leader->comm[8];
#endif
	}
	struct segment *last = segment_at(cpu, cpu->head);
	if (last->start && last->slot == slot && last->name[0] == name[0] && last->name[1] == name[1]) {
		last->pid = GET(task, pid);
		return;
	}
	struct segment *next = segment_at(cpu, ++cpu->head);
	next->start = clock;
	next->slot = slot;
	next->pid = GET(task, pid);
	next->name[0] = name[0];
	next->name[1] = name[1];
}

static __always_inline void blame_add(u32 victim, u32 slot, const u64 *name, u64 ns)
{
	struct blame_key key = { .victim = victim, .culprit = slot };
	((u64 *)key.name)[0] = name[0];
	((u64 *)key.name)[1] = name[1];
	u64 *sum = bpf_map_lookup_elem(&blames, &key);
	if (sum) {
		__sync_fetch_and_add(sum, ns);
		return;
	}
	if (!bpf_map_update_elem(&blames, &key, &ns, BPF_NOEXIST))
		return;
	/* No room, or another CPU was first. */
	sum = bpf_map_lookup_elem(&blames, &key);
	if (!sum) {
		struct blame_key other = { .victim = victim, .culprit = SLOT_OTHER };
		sum = bpf_map_lookup_elem(&blames, &other);
		if (!sum)
			return;
	}
	__sync_fetch_and_add(sum, ns);
}

static __always_inline void blame_short(struct cpu_state *cpu, u32 victim, struct segment *who, u64 ns)
{
	struct short_blame *kept = &cpu->short_blames[(victim ^ who->slot) & (SHORT_BLAMES - 1)];
	u64 *name = (u64 *)kept->key.name;
	bool same = kept->key.victim == victim && kept->key.culprit == who->slot && name[0] == who->name[0] && name[1] == who->name[1];
	if (!same || kept->ns > SHORT_BLAME_NS) {
		if (kept->ns)
			blame_add(kept->key.victim, kept->key.culprit, name, kept->ns);
		kept->ns = 0;
		kept->key.victim = victim;
		kept->key.culprit = who->slot;
		name[0] = who->name[0];
		name[1] = who->name[1];
	}
	kept->ns += ns;
}

/* Adds somebody's time to the scratch of this CPU. */
SEPARATE int explain_part(u32 victim, u32 slot, u64 ns, u64 name_begin, u64 name_end)
{
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!here)
		return 0;
	struct explained *to = &here->scratch;
	if (slot == victim) {
		to->self_ns += ns;
		return 0;
	}
	if (slot == SLOT_IDLE) {
		to->idle_ns += ns;
		return 0;
	}
	for (u32 i = 0; i < CULPRITS; i++) {
		struct culprit *one = &to->list[i];
		u64 *name = (u64 *)one->name;
		if (i >= to->count) {
			one->slot = slot;
			name[0] = name_begin;
			name[1] = name_end;
			one->ns = ns;
			to->count = i + 1;
			return 0;
		}
		if (one->slot == slot && name[0] == name_begin && name[1] == name_end) {
			one->ns += ns;
			return 0;
		}
	}
	to->other_ns += ns;
	return 0;
}

static __always_inline void explain_clear(struct explained *to)
{
	to->self_ns = 0;
	to->idle_ns = 0;
	to->other_ns = 0;
	to->count = 0;
}

/*
 * Adds up in the scratch of this CPU who ran on CPU `from` between two instants, newest first. What the segments no
 * longer hold stays unexplained.
 */
SEPARATE int explain(u32 from, u32 victim, u64 begin, u64 end)
{
	struct cpu_state *cpu = cpu_state(from);
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!cpu || !here)
		return 0;
	explain_clear(&here->scratch);
	u64 until = end;
	u64 head = cpu->head;
	for (u32 back = 0; back < SEGMENTS && until > begin; back++) {
		struct segment *who = segment_at(cpu, head - back);
		u64 start = who->start;
		if (!start)
			break;
		u64 at = start > begin ? start : begin;
		if (until > at) {
			explain_part(victim, who->slot, until - at, who->name[0], who->name[1]);
			until = at;
		}
	}
	return 0;
}

/* The neighbors found go into the map. */
SEPARATE int blame_all(u32 victim)
{
	struct cpu_state *here = cpu_state(bpf_get_smp_processor_id());
	if (!here)
		return 0;
	struct explained *found = &here->scratch;
	const u64 none[2] = {};
	for (u32 i = 0; i < CULPRITS && i < found->count; i++)
		blame_add(victim, found->list[i].slot, (u64 *)found->list[i].name, found->list[i].ns);
	if (found->other_ns)
		blame_add(victim, SLOT_OTHER, none, found->other_ns);
	return 0;
}
