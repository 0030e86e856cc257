/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the programs and the Rust side share: the only definition of each record and map value. The Rust side
 * (src/source/bpf/wire.rs) reads these by the offsets written here and asserts the sizes.
 */
#pragma once

#define SLOT_HOST 0u /* whatever is in no container that user space named */
#define SLOT_IDLE 0xfffffffdu
#define SLOT_OTHER 0xfffffffeu /* culprits for whom there was no room */
#define SLOTS_DEFAULT 1024     /* the loader sets what the memory budget allows */
#define TASKS_DEFAULT 32768    /* tasks remembered where the kernel keeps nothing beside them */
#define CGROUPS_DEFAULT 8192   /* cgroups that lead to slots */
#define PROCESSES_DEFAULT 4096 /* processes that do */

/*
 * Buckets of OTLP's base-2 exponential histogram of seconds, scale 2: bucket i holds (2^(i/4), 2^((i+1)/4)], and
 * buckets[0] is i = 4 * BUCKET_EXPONENT. Shorter waits are in `below`, longer ones in the last bucket.
 */
#define BUCKET_SCALE 2
#define BUCKET_EXPONENT (-20)
#define BUCKETS 96
#define THRESHOLDS 4

/* Totals of one container on one CPU; cumulative, the u32 ones wrap. */
struct totals {
	u64 wait_ns;      /* 0 */
	u64 waits;        /* 8 */
	u64 throttled_ns; /* 16: of wait_ns, under a CPU quota */
	u64 self_ns;      /* 24: of wait_ns, while the container's own tasks ran */
	u64 idle_ns;      /* 32: of wait_ns, while the CPU was idle */
	u64 run_ns;       /* 40 */
	u64 lost;         /* 48: records for which the ring had no room */
	u64 lost_ns;      /* 56: wait in those */
	u64 long_waits[THRESHOLDS]; /* 64 */
	u32 below;        /* 96 */
	u32 buckets[BUCKETS]; /* 100 */
	u32 pad;          /* 484 */
};

/* Records lost, of everybody, on one CPU. */
struct losses {
	u64 records; /* 0 */
	u64 ns;      /* 8 */
};

/* One kind of memory work of one container, all CPUs. */
struct memory_kind {
	u64 ns;               /* 0 */
	u64 count;            /* 8 */
	u32 below;            /* 16 */
	u32 buckets[BUCKETS]; /* 20 */
	u32 pad;              /* 404 */
};

struct memory_totals {
	struct memory_kind reclaim;    /* 0 */
	struct memory_kind compaction; /* 408 */
};

/* Single waits at least this long become records; all ones: none does. */
struct floors {
	u64 wait_ns;
	u64 memory_ns;
};

/* Who ran meanwhile. `name` is the process's comm for SLOT_HOST, else zero. */
struct culprit {
	u64 ns;        /* 0 */
	u32 slot;      /* 8 */
	u32 pad;       /* 12 */
	char name[16]; /* 16 */
};

#define CULPRITS 8
#define CULPRITS_SHORT 2

#define RECORD_WAIT 1
#define RECORD_RECLAIM 2
#define RECORD_COMPACTION 3

/* What every record begins with. */
struct record_head {
	u32 kind;      /* 0 */
	u32 cpu;       /* 4 */
	u64 end_ns;    /* 8: CLOCK_MONOTONIC */
	u64 length_ns; /* 16 */
	u32 slot;      /* 24 */
	u32 tgid;      /* 28 */
	u32 tid;       /* 32 */
	u32 culprits;  /* 36: how many of the culprits are filled; << 8 the thread's number in its own pid namespace, 0: unknown */
	u64 task_started_ns;    /* 40: CLOCK_BOOTTIME, as /proc/PID/stat has it in ticks */
	u64 process_started_ns; /* 48 */
};

/* One finished wait; sent with CULPRITS_SHORT culprits where two are enough. */
struct wait_record {
	struct record_head head;
	u64 throttled_ns; /* 56 */
	u64 self_ns;      /* 64 */
	u64 idle_ns;      /* 72 */
	u64 other_ns;     /* 80: culprits for whom there was no room */
	struct culprit culprits[CULPRITS]; /* 88 */
};
#define WAIT_RECORD_SHORT (88 + CULPRITS_SHORT * 32)

/* One task that waits now, as the iterator writes it. */
struct waiting_record {
	u64 begin_ns;     /* 0: CLOCK_MONOTONIC */
	u64 now_ns;       /* 8: CLOCK_MONOTONIC when it was looked at */
	u64 throttled_ns; /* 16: so far */
	u32 slot;         /* 24 */
	u32 tgid;         /* 28 */
	u32 tid;          /* 32 */
	u32 pad;          /* 36 */
	u64 task_started_ns;    /* 40 */
	u64 process_started_ns; /* 48 */
};

/* One process: its number, and when it began in clock ticks since boot, as `/proc/PID/stat` has it. */
struct process_key {
	u32 tgid;    /* 0 */
	u32 started; /* 4: the lower half */
};

/* Time that `victim` waited while `culprit` ran. */
struct blame_key {
	u32 victim;    /* 0 */
	u32 culprit;   /* 4 */
	char name[16]; /* 8 */
};
#define BLAME_DEFAULT 16384

struct control {
	u32 generation; /* counted up whenever `slots` has changed: cached slots are looked up anew */
	u32 pad;
};
