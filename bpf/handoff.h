/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Frames for the weir-l7 process of this node: each worker owns the far end of one veth. They are
 * redirected as they came; L7 is the packet's destination, not a hop.
 */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

/* Bounded, so that a wrong setting cannot name a slot that the map does not have. */
static __always_inline __u32 l7_worker_count(void)
{
	return weir_l7_worker_count < WEIR_L7_WORKERS_MAX ? weir_l7_worker_count
							  : WEIR_L7_WORKERS_MAX;
}

static __always_inline enum weir_verdict hand_to_worker(__u32 worker, enum weir_verdict verdict)
{
	if (bpf_redirect_map(&weir_l7_workers, worker, 0) != XDP_REDIRECT)
		return WEIR_DROP_NO_BACKEND; /* the worker has no device, or not yet */
	return verdict;
}

/* All packets of a client's connection go to one worker. No flow entry is needed: the number of
 * workers is fixed while the program is loaded. */
static __always_inline enum weir_verdict hand_over_flow(const struct packet *pkt)
{
	__u32 count = l7_worker_count();

	if (!count)
		return WEIR_DROP_NO_BACKEND;
	return hand_to_worker(weir_worker_of(hash_of(pkt), count), WEIR_REDIRECT_L7);
}

static __always_inline enum weir_verdict hand_over_icmp(void)
{
	if (!l7_worker_count())
		return WEIR_DROP_NO_BACKEND;
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

/* For one of L7's own addresses: to a worker. For anybody else: the verdict given. */
static __always_inline enum weir_verdict hand_over_local(const struct packet *pkt,
							 enum weir_verdict otherwise)
{
	__u32 count = l7_worker_count();

	if (!count || !bpf_map_lookup_elem(&weir_l7_addresses, &pkt->flow.destination))
		return otherwise;
	return hand_to_worker(worker_of_local(pkt, count), WEIR_REDIRECT_L7_LOCAL);
}
