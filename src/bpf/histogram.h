/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The bucket of a duration in OTLP's exponential histogram of seconds. */
#pragma once
#include "state.h"

/*
 * 2^58 / 10^9, rounded down: nanoseconds times this are seconds in 58 binary places, and full powers of two end up just
 * below themselves, in the bucket that they are the upper bound of.
 */
#define SECONDS_FACTOR 288230376ull
#define SECONDS_PLACES 58
#define FIRST_PLACE (SECONDS_PLACES + BUCKET_EXPONENT)
#define NS_MOST (1ull << 34)

/* Returns -1 for what is below the first bucket. */
SEPARATE s32 bucket_of(u64 ns)
{
	if (ns >= NS_MOST)
		return BUCKETS - 1;
	u64 value = ns * SECONDS_FACTOR;
	u32 rest = value >> FIRST_PLACE;
	if (rest == 0)
		return -1;
	u32 exponent = 0;
	if (rest >> 16) { rest >>= 16; exponent += 16; }
	if (rest >> 8) { rest >>= 8; exponent += 8; }
	if (rest >> 4) { rest >>= 4; exponent += 4; }
	if (rest >> 2) { rest >>= 2; exponent += 2; }
	if (rest >> 1) exponent += 1;
	/* 2^(1/4), 2^(2/4), 2^(3/4) less 1 in 16 binary places, against the places after the leading one. */
	u32 places = (value >> (exponent + FIRST_PLACE - 16)) & 0xffff;
	u32 bucket = exponent * 4 + (places >= 12400) + (places >= 27146) + (places >= 44683);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

#define COUNT_IN(histogram, ns)                                        \
	do {                                                           \
		s32 bucket_ = bucket_of(ns);                           \
		if (bucket_ < 0)                                       \
			(histogram)->below++;                          \
		else if (bucket_ < BUCKETS)                            \
			(histogram)->buckets[bucket_]++;               \
	} while (0)
