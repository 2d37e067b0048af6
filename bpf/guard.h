/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Protection of a VIP: lists of sources and rates. Packets of a VIP that has neither do not come
 * here. SYN cookies are L7's: under direct server return a balancer does not see the SYN-ACK.
 */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/rate.h"
#include "bpf/trace.h"

/* What a list says of the packet's source; a list that is not there allows. */
static __always_inline int is_denied(__u32 list_id, const struct packet *pkt)
{
	struct weir_prefix_key key = {.prefix_length = 128, .address = pkt->flow.source};
	const __u32 *answer;
	void *list;

	list = bpf_map_lookup_elem(&weir_lists, &list_id);
	if (!list)
		return 0;
	answer = bpf_map_lookup_elem(list, &key);
	TRACE(LIST, list_id, answer && *answer == WEIR_LIST_DENY);
	return answer && *answer == WEIR_LIST_DENY;
}

/*
 * Whether the flow's entry was stamped in this second. Then the lists have let one of its packets
 * pass within it, because what they deny comes to no entry: a flow that goes on asks them once a
 * second, and a list that changes is obeyed as soon. Asked of every packet, 100,000 prefixes cost
 * as much as all the rest.
 */
static __always_inline int was_let_pass(const struct flow_place *place)
{
	return place->entry && !age_of(place->entry, place->now_s);
}

static __always_inline enum weir_verdict
check_lists(const struct packet *pkt, const struct weir_vip *vip, const struct flow_place *place)
{
	if (!(vip->flags & (WEIR_VIP_BLOCK_LIST | WEIR_VIP_SOURCE_LIST)))
		return WEIR_CONTINUE;
	if (was_let_pass(place)) {
		TRACE(LISTS_ASKED, 0, 0);
		return WEIR_CONTINUE;
	}
	if (vip->flags & WEIR_VIP_BLOCK_LIST && is_denied(0, pkt))
		return WEIR_DROP_BLOCKED;
	if (vip->flags & WEIR_VIP_SOURCE_LIST && is_denied(vip->id, pkt))
		return WEIR_DROP_SOURCE;
	return WEIR_CONTINUE;
}

/* Whether the node's list denies the source, for packets to a VIP's address that are no service's.
 */
__noinline int weir_is_blocked(const struct packet *pkt)
{
	return pkt ? is_denied(0, pkt) : 0; /* it never is NULL; only the verifier asks */
}

/* Returns enum weir_verdict. */
__noinline int weir_guard(const struct packet *pkt, const struct weir_vip *vip,
			  const struct flow_place *place)
{
	enum weir_verdict verdict;

	if (!pkt || !vip || !place)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	verdict = check_lists(pkt, vip, place);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	if (vip->flags & WEIR_VIP_LIMITS)
		return check_packet_rates(pkt, vip);
	return WEIR_CONTINUE;
}
