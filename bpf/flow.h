/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The flow table: which backend a connection was given, so that a change of the Maglev table does
 * not move it. Losing an entry costs nothing as long as the table stands.
 *
 * A SYN reads the table like any other packet. Selecting anew for every SYN, the usual choice,
 * lets a retransmitted or forged SYN move a live connection after a change of backends. The
 * price: a client that reuses its port within the life of the entry comes back to the old backend
 * even where the table would choose another. That backend is still in use, so it answers; one
 * that is taken out of use loses its entries at once, because they are void without it.
 */

#include "bpf/hash.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

static __always_inline __u64 hash_of(const struct packet *pkt)
{
	return weir_flow_hash(&pkt->flow, weir_hash_seed[0], weir_hash_seed[1]);
}

/* The backend of a known flow; 0 where there is no entry or the entry is another VIP's. */
static __always_inline __u32 find_flow(const struct packet *pkt)
{
	const struct weir_flow *flow = bpf_map_lookup_elem(&weir_flows, &pkt->flow);

	return flow && flow->vip_id == pkt->vip_id ? flow->backend_id : 0;
}

/* Written when a flow gets its backend, never to refresh it: rewriting an entry costs two to five
 * times a lookup. A flow that ends, or was never here, makes no entry. A failed write is no
 * failure of the packet: the table finds the same backend for the next one. */
static __always_inline void remember_flow(struct packet *pkt, __u32 backend_id)
{
	struct weir_flow flow = {.backend_id = backend_id, .vip_id = pkt->vip_id};

	if (pkt->tcp_flags & (TCP_FIN | TCP_RST))
		return;
	pkt->is_new_flow = 1;
	bpf_map_update_elem(&weir_flows, &pkt->flow, &flow, BPF_ANY);
}
