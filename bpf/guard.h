/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Protection of a VIP: lists of sources and rates. Packets of a VIP that has neither do not come
 * here. SYN cookies are L7's: under direct server return a balancer does not see the SYN-ACK.
 */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
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

/* Takes one event's tokens out of a bucket that holds one second's worth of a rate. CPUs share
 * buckets: the taking is atomic, and of two that fill at once the later one may give back what the
 * earlier one took, once a tick. Several may each take the last one: what is left can be negative.
 */
static __always_inline int take_token(struct weir_bucket *bucket, __u32 rate_per_s)
{
	__u64 now = bpf_jiffies64();
	__s64 full = (__s64)rate_per_s * weir_ticks_per_s;
	__u64 elapsed = now - bucket->tick;
	__s64 tokens;

	if (elapsed) {
		tokens = (__s64)bucket->tokens + (__s64)(elapsed * rate_per_s);
		if (elapsed >= weir_ticks_per_s || tokens > full)
			tokens = full;
		bucket->tick = now;
		bucket->tokens = tokens;
	}
	TRACE(RATE, rate_per_s, (__s64)bucket->tokens >= (__s64)weir_ticks_per_s);
	if ((__s64)bucket->tokens < (__s64)weir_ticks_per_s)
		return 0;
	__sync_fetch_and_add(&bucket->tokens, -(__s64)weir_ticks_per_s);
	return 1;
}

/* The buckets of a packet's source, new ones where it has none; NULL where there is no room. A new
 * source's buckets start at tick 0 and so are filled at once. */
static __always_inline struct weir_buckets *buckets_of_source(const struct packet *pkt)
{
	struct weir_buckets *buckets, fresh = {};
	/* Linux 6.1 takes a key from the stack only, once the packet came by pointer. */
	struct weir_address source = pkt->flow.source;
	__u32 vip_id = pkt->vip_id;
	void *sources;

	sources = bpf_map_lookup_elem(&weir_source_limits, &vip_id);
	if (!sources)
		return NULL;
	buckets = bpf_map_lookup_elem(sources, &source);
	if (buckets)
		return buckets;
	bpf_map_update_elem(sources, &source, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(sources, &source);
}

static __always_inline struct weir_buckets *buckets_of_vip(const struct packet *pkt)
{
	__u32 vip_id = pkt->vip_id;

	return bpf_map_lookup_elem(&weir_vip_limits, &vip_id);
}

/* The source's rate before the VIP's: what one source sends too much of must not use up what is
 * everybody's. */
static __always_inline int check_packet_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	struct weir_buckets *buckets;

	if (vip->limits.packets_per_source) {
		buckets = buckets_of_source(pkt);
		if (buckets && !take_token(&buckets->packets, vip->limits.packets_per_source))
			return WEIR_DROP_SOURCE_RATE;
	}
	if (vip->limits.packets) {
		buckets = buckets_of_vip(pkt);
		if (buckets && !take_token(&buckets->packets, vip->limits.packets))
			return WEIR_DROP_VIP_RATE;
	}
	return WEIR_CONTINUE;
}

/* For a packet that begins a flow. Returns enum weir_verdict. */
__noinline int weir_check_flow_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	struct weir_buckets *buckets;

	if (!pkt || !vip)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	if (vip->limits.new_flows_per_source) {
		buckets = buckets_of_source(pkt);
		if (buckets && !take_token(&buckets->new_flows, vip->limits.new_flows_per_source))
			return WEIR_DROP_SOURCE_RATE;
	}
	if (vip->limits.new_flows) {
		buckets = buckets_of_vip(pkt);
		if (buckets && !take_token(&buckets->new_flows, vip->limits.new_flows))
			return WEIR_DROP_VIP_RATE;
	}
	return WEIR_CONTINUE;
}

/* The same, of a VIP that may have no limits. */
static __always_inline int check_flow_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	return vip->flags & WEIR_VIP_LIMITS ? weir_check_flow_rates(pkt, vip) : WEIR_CONTINUE;
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
