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

/* The steps of one run. Cleared by user space before, and read after it. A variable and not a map
 * of its own: without a lookup there is no call, whose stack the chains of calls have no room for.
 */
struct weir_trace weir_trace;

/* No path has as many steps as there is room for; the mask is for the verifier. */
static __always_inline struct weir_trace_step *next_step(void)
{
	return &weir_trace.steps[weir_trace.count++ & (WEIR_TRACE_STEPS_MAX - 1)];
}

static __always_inline void note(enum weir_step step, __u64 a, __u64 b)
{
	struct weir_trace_step *next = next_step();

	next->step = step;
	next->a = a;
	next->b = b;
}

static __always_inline void note_packet(enum weir_step step, const struct packet *pkt, __u64 a)
{
	struct weir_trace_step *next = next_step();

	next->step = step;
	next->a = a;
	next->flow = pkt->flow;
}

#define TRACE(step, a, b)	   note(WEIR_STEP_##step, a, b)
#define TRACE_PACKET(step, pkt, a) note_packet(WEIR_STEP_##step, pkt, a)
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
