/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Trace points: what is decided, said at the place where it is decided (trace.def has the
 * sentences). lb_trace.bpf.c compiles the balancer with them, for test-runs on behalf of
 * `weir trace`; in the balancer itself they are nothing at all.
 *
 * Hence the one conditional of this folder. A setting in .rodata would do without it, but the
 * verifier removes only what such a setting guards, not the reading of it: three instructions at
 * each of thirty places on the path of every packet.
 */

#include "bpf/maps.h"
#include "bpf/parse.h"

#ifndef WEIR_IS_TRACING
#define WEIR_IS_TRACING 0
#endif

#if WEIR_IS_TRACING

/* The steps of one run. Cleared by user space before, and read after it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_trace);
} weir_trace SEC(".maps");

static __always_inline struct weir_trace_step *next_step(void)
{
	__u32 key = 0, count;
	struct weir_trace *trace = bpf_map_lookup_elem(&weir_trace, &key);

	if (!trace)
		return NULL; /* an array has every element; only the verifier asks */
	count = trace->count++;
	if (count >= WEIR_TRACE_STEPS_MAX)
		return NULL;
	/* The verifier has to see the bound where it is used; the compiler would take it away. */
	asm volatile("" : "+r"(count));
	return &trace->steps[count & (WEIR_TRACE_STEPS_MAX - 1)];
}

__noinline int weir_note(__u32 step, __u64 a, __u64 b)
{
	struct weir_trace_step *next = next_step();

	if (!next)
		return 0;
	next->step = step;
	next->a = a;
	next->b = b;
	return 0;
}

__noinline int weir_note_packet(const struct packet *pkt, __u32 step, __u64 a)
{
	struct weir_trace_step *next = next_step();

	if (!next || !pkt)
		return 0;
	next->step = step;
	next->a = a;
	next->flow = pkt->flow;
	return 0;
}

#define TRACE(step, a, b)	   ((void)weir_note(WEIR_STEP_##step, a, b))
#define TRACE_PACKET(step, pkt, a) ((void)weir_note_packet(pkt, WEIR_STEP_##step, a))
#define TRACE_IF(condition, step, a, b)                                                            \
	do {                                                                                       \
		if (condition)                                                                     \
			TRACE(step, a, b);                                                         \
	} while (0)

#define TRACE_PACKET_IF(condition, step, pkt, a)                                                   \
	do {                                                                                       \
		if (condition)                                                                     \
			TRACE_PACKET(step, pkt, a);                                                \
	} while (0)

#else

#define TRACE(step, a, b)			 ((void)0)
#define TRACE_PACKET_IF(condition, step, pkt, a) ((void)0)
#define TRACE_PACKET(step, pkt, a)		 ((void)0)
#define TRACE_IF(condition, step, a, b)		 ((void)0)

#endif
