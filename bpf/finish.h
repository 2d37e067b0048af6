/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The single exit: the only code that counts, and the only one that knows XDP_*. */

#include "bpf/maps.h"
#include "bpf/monitor.h"
#include "bpf/parse.h"
#include "bpf/trace.h"

static __always_inline void count_service(void *map, __u32 id, const struct packet *pkt)
{
	struct weir_service_counter *counter = bpf_map_lookup_elem(map, &id);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += pkt->frame_bytes;
	counter->new_flows += pkt->is_new_flow;
}

static __always_inline int action_of(enum weir_verdict verdict)
{
	switch (verdict) {
#define WEIR_VERDICT(symbol, action, label, sentence)                                              \
	case WEIR_##symbol:                                                                        \
		return XDP_##action;
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
	case WEIR_CONTINUE:
	case WEIR_VERDICT_COUNT:
		break; /* no step returns these at the end */
	}
	return XDP_ABORTED;
}

static __always_inline int is_answer(enum weir_verdict verdict)
{
	return verdict >= WEIR_TX_ECHO_REPLY && verdict <= WEIR_TX_REFUSED; /* in verdicts.def */
}

/* What a backend says to a client is the verdict's alone: VIPs and backends count what is sent to
 * them, in all modes, and in most of them replies do not come by here. */
static __always_inline int is_reply(enum weir_verdict verdict)
{
	return verdict == WEIR_TX_NAT_REPLY || verdict == WEIR_REDIRECT_NAT_REPLY;
}

static __always_inline void count_services(const struct packet *pkt, int action,
					   enum weir_verdict verdict)
{
	if (pkt->vip_id)
		count_service(&weir_vip_counters, pkt->vip_id, pkt);
	/* A backend's counter holds what was sent to it; what was dropped, or answered, is not. */
	if (pkt->backend_id && action != XDP_DROP && !is_answer(verdict))
		count_service(&weir_backend_counters, pkt->backend_id, pkt);
}

static __always_inline int finish(struct xdp_md *ctx, const struct packet *pkt, __u32 verdict)
{
	struct weir_counter *counter = bpf_map_lookup_elem(&weir_counters, &verdict);
	int action = action_of(verdict);

	TRACE(VERDICT, verdict, 0);
	if (counter) {
		counter->packets++;
		counter->bytes += pkt->frame_bytes;
	}
	if (!is_reply(verdict))
		count_services(pkt, action, verdict);
	observe(ctx, pkt, verdict);
	return action;
}
