/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Which container a task belongs to. */
#pragma once
#include "state.h"

#define CGROUP_DEPTH 8 /* parents asked until one leads to a slot */

SEPARATE u32 find_slot(u64 of)
{
	struct css_set *css = (struct css_set *)of;
	struct cgroup *cgroup;
	if (hierarchy == 0)
		cgroup = BPF_CORE_READ(css, dfl_cgrp);
	else
		cgroup = BPF_CORE_READ(css, subsys[(hierarchy - 1) & 15], cgroup);
	for (int depth = 0; depth < CGROUP_DEPTH && cgroup; depth++) {
		u64 id = BPF_CORE_READ(cgroup, kn, id);
		u32 *slot = bpf_map_lookup_elem(&slots, &id);
		if (slot)
			return *slot < slots_max ? *slot : SLOT_HOST;
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	return SLOT_HOST;
}

SEPARATE u32 find_process(u32 tgid, u64 started_ns)
{
	struct process_key key = { .tgid = tgid, .started = started_ns / tick_ns };
	u32 *slot = bpf_map_lookup_elem(&processes, &key);
	return slot && *slot < slots_max ? *slot : SLOT_HOST;
}

static __always_inline u32 slot_of(struct task_struct *task, struct task_state *state)
{
	u32 zero = 0;
	struct control *control = bpf_map_lookup_elem(&controls, &zero);
	u32 generation = control ? control->generation : 0;
	struct css_set *css = GET(task, cgroups);
	if (state->css != css || state->generation != generation) {
		state->css = css;
		/* Read back from the map it is a number and no pointer any more. */
		state->slot = find_slot(*(volatile u64 *)&state->css);
		if (state->slot == SLOT_HOST)
			state->slot = find_process(GET(task, tgid), GET2(task, group_leader, start_boottime));
		state->generation = generation;
	}
	return state->slot;
}
