/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The few kernel types the programs read, cut down to the members they use. The loader moves every access to
 * the running kernel's own offsets (CO-RE), so order and size here mean nothing; names do.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;

enum bpf_map_type_used {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
#define BPF_F_NO_PREALLOC 1
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1
#define BPF_RB_NO_WAKEUP 1

#define STALLSPAN_CORE __attribute__((preserve_access_index))

struct kernfs_node {
	u64 id;
} STALLSPAN_CORE;

struct cgroup {
	struct kernfs_node *kn;
} STALLSPAN_CORE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
} STALLSPAN_CORE;

struct css_set {
	struct cgroup_subsys_state *subsys[4]; /* longer in the kernel: one a controller */
	struct cgroup *dfl_cgrp;
} STALLSPAN_CORE;

enum cgroup_subsys_id {
	cpu_cgrp_id___stallspan = 0,
};

struct sched_info {
	unsigned long pcount;
	u64 run_delay;
	u64 last_queued;
} STALLSPAN_CORE;

struct rq {
	u64 clock;
	u64 clock_task;
} STALLSPAN_CORE;

struct cfs_rq {
	struct rq *rq;
	u64 throttled_clock_self;
	u64 throttled_clock_self_time;
} STALLSPAN_CORE;

struct sched_entity {
	struct cfs_rq *cfs_rq;
	unsigned char sched_delayed;
} STALLSPAN_CORE;

struct task_struct {
	int on_rq;
	unsigned int flags;
	unsigned int __state;
	s32 pid;
	s32 tgid;
	struct sched_entity se;
	struct sched_info sched_info;
	struct css_set *cgroups;
	char comm[16];
} STALLSPAN_CORE;
