/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Frames for the weir-l7 process of this node: each worker owns the far end of one veth. They are
 * redirected as they came; L7 is the packet's destination, not a hop.
 */

#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/select.h"

/* Bounded, so that a wrong setting cannot name a slot that the map does not have. */
static __always_inline __u32 l7_worker_count(void)
{
	return weir_l7_worker_count < WEIR_L7_WORKERS_MAX ? weir_l7_worker_count
							  : WEIR_L7_WORKERS_MAX;
}

static __always_inline enum weir_verdict hand_to_worker(__u32 worker, enum weir_verdict verdict)
{
	TRACE(WORKER, worker, 0);
	if (bpf_redirect_map(&weir_l7_workers, worker, 0) != XDP_REDIRECT)
		return WEIR_DROP_NO_BACKEND; /* the worker has no device, or not yet */
	return verdict;
}

/* All packets of a client's connection go to one worker, and the errors about it too. No flow entry
 * is needed: the number of workers is fixed while the program is loaded. */
static __always_inline enum weir_verdict
hand_over_flow(const struct packet *pkt, const struct weir_vip *vip, const struct flow_place *place)
{
	__u32 count = l7_worker_count();
	int verdict;

	if (!count)
		return WEIR_DROP_NO_BACKEND;
	if (tag_bytes_of(pkt))
		return WEIR_PASS_VIP_TAGGED; /* weir-l7 has no VLANs, and its answer would go
						untagged */
	if (is_syn(pkt)) {
		verdict = check_flow_rates(pkt, vip);
		if (verdict != WEIR_CONTINUE)
			return verdict;
	}
	return hand_to_worker(weir_worker_of(place->hash, count), WEIR_REDIRECT_L7);
}

/* L7 answers echo for its VIPs; which worker does it does not matter. */
static __always_inline enum weir_verdict hand_over_icmp(const struct packet *pkt)
{
	if (!l7_worker_count())
		return WEIR_DROP_NO_BACKEND;
	if (tag_bytes_of(pkt))
		return WEIR_PASS_VIP_TAGGED;
	return hand_to_worker(0, WEIR_REDIRECT_L7);
}

/* Replies to L7's own connections come back to the worker that opened them, which chose its
 * source port for that. Everything else that concerns the address is worker 0's. */
static __always_inline __u32 worker_of_local(const struct packet *pkt, __u32 count)
{
	if (pkt->flow.protocol != IPPROTO_TCP)
		return 0;
	return bpf_ntohs(pkt->flow.destination_port_be) % count;
}

/* For one of L7's own addresses. `otherwise` where there is no L7. */
static __always_inline enum weir_verdict hand_over_local(const struct packet *pkt,
							 enum weir_verdict otherwise)
{
	__u32 count = l7_worker_count();

	if (!count)
		return otherwise;
	return hand_to_worker(worker_of_local(pkt, count), WEIR_REDIRECT_L7_LOCAL);
}
