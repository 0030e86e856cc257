/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the kernel side and the Rust side share: the only definition of each record and map value. */
#pragma once

#define SEGMENTS 64          /* run segments remembered a CPU; a power of two */
#define SLOTS_MAX 4096       /* containers counted at once */
#define HISTOGRAM_BUCKETS 64 /* four a power of two would be finer; log2 by halves: see bucket() */
#define THRESHOLDS 4

/* Totals of one container on one CPU. */
struct totals {
	u64 wait_ns;
	u64 waits;
	u64 throttled_ns;
	u64 run_ns;
	u64 long_waits[THRESHOLDS];
	u64 histogram[HISTOGRAM_BUCKETS];
};

/* One finished wait. */
struct wait_record {
	u64 end_ns;          /* CLOCK_MONOTONIC */
	u64 length_ns;
	u64 throttled_ns;
	u64 culprit_ns;      /* of length_ns: while the culprit ran */
	u32 slot;
	u32 culprit_slot;
	u32 tgid;
	u32 tid;
	u32 culprit_tgid;
	u32 cpu;
};
