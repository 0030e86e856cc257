/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The few kernel types the programs read, cut down to the members they use. The loader moves every access to
 * the running kernel's own offsets (CO-RE), so order and size here mean nothing; names do. A name with `___` is
 * another shape of the same kernel type.
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
#define true 1
#define false 0

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_F_NO_PREALLOC = 1,
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
};

/* kernel/sched/sched.h */
#define TASK_ON_RQ_MIGRATING 2

#define CORE __attribute__((preserve_access_index))

struct kernfs_node {
	u64 id;
} CORE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} CORE;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} CORE;

struct css_set {
	struct cgroup_subsys_state *subsys[16]; /* one a controller; which stands where is the build's choice */
	struct cgroup *dfl_cgrp;
} CORE;

struct sched_info {
	u64 run_delay;
	u64 last_arrival;
	u64 last_queued;
} CORE;

struct rq {
	u64 clock;
	u64 clock_task;
	u64 clock_pelt;
	s32 cpu;
} CORE;

struct cfs_rq {
	struct rq *rq;
	s32 throttle_count;
	u64 throttled_clock_self;      /* 6.6+ */
	u64 throttled_clock_self_time; /* 6.6+ */
	u64 throttled_clock_pelt;      /* 6.0+ */
	u64 throttled_clock_pelt_time; /* 6.0+ */
} CORE;

/* Before 6.0 the clock of the group's throttling was the task clock. */
struct cfs_rq___task {
	u64 throttled_clock_task;
	u64 throttled_clock_task_time;
} CORE;

struct sched_entity {
	struct cfs_rq *cfs_rq;
	u8 sched_delayed; /* 6.12+: still queued, but asleep */
} CORE;

struct task_group {
	struct cfs_rq **cfs_rq;
} CORE;

struct upid {
	s32 nr;
} CORE;

struct pid {
	u32 level;
	struct upid numbers[1]; /* one a pid namespace, the innermost last: level + 1 in all */
} CORE;

struct task_struct {
	s32 on_rq;
	s32 pid;
	s32 tgid;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_group *sched_task_group;
	struct task_struct *group_leader;
	struct css_set *cgroups;
	struct pid *thread_pid;
	u64 start_boottime;
	char comm[16];
} CORE;

/* 6.18+: a task is taken off its queue by itself, on its way back to user mode. */
struct task_struct___throttled {
	bool throttled;
} CORE;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;
