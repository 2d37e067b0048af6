/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Rates: of a VIP, of each of its sources, and of the balancer's own answers. A bucket is one word
 * (abi.h), so that a source's two and their tag take 16 bytes, and one cache line four sources.
 *
 * A bucket that is full says nothing: a source whose buckets are full may give way to another at no
 * loss. In a set, the newcomer takes the place of the source that is nearest to that, so a flood
 * from ever new addresses does not give a source back what it has used up.
 */

#include "bpf/hash.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/trace.h"

static __always_inline __u64 rate_time_now(void)
{
	return bpf_jiffies64() * weir_tick_parts & WEIR_RATE_TIME;
}

/* How much of the bucket is used up, in parts of a second's worth. */
static __always_inline __u64 used_of(__u64 bucket, __u64 now)
{
	__u64 ahead = (bucket - now) & WEIR_RATE_TIME;

	return ahead < WEIR_RATE_AHEAD ? ahead : 0;
}

/* Takes one event out of a bucket; 0: it has none left. CPUs share buckets, and the taking is
 * atomic: several may each take the last one, whose sum the bucket then has to make up for. */
static __always_inline int take_token(__u64 *bucket, __u32 rate_per_s)
{
	__u64 now = rate_time_now(), seen = *bucket, used = used_of(seen, now), begun;
	__u32 cost;

	if (!rate_per_s)
		return 0;
	cost = WEIR_RATE_SECOND / rate_per_s;
	TRACE(RATE, rate_per_s, used + cost <= WEIR_RATE_SECOND);
	if (used + cost > WEIR_RATE_SECOND)
		return 0;
	if (!used) {
		begun = (seen & ~WEIR_RATE_TIME) | ((now + cost) & WEIR_RATE_TIME);
		if (__sync_val_compare_and_swap(bucket, seen, begun) == seen)
			return 1;
	}
	__sync_fetch_and_add(bucket, cost);
	return 1;
}

/* The tag, 32 bits of the source's hash: the upper half stands in the first bucket. */
static __always_inline int is_source(const struct weir_buckets *buckets, __u32 tag)
{
	return (buckets->packets >> WEIR_RATE_TAG_SHIFT << 16 |
		buckets->new_flows >> WEIR_RATE_TAG_SHIFT) == tag;
}

static __always_inline struct weir_buckets *replace_source(struct weir_source_set *set, __u32 tag)
{
	__u64 now = rate_time_now(), least = ~0ULL;
	struct weir_buckets *victim = set->ways;

	for (int way = 0; way < WEIR_SOURCE_WAYS; way++) {
		__u64 used = used_of(set->ways[way].packets, now) +
			     used_of(set->ways[way].new_flows, now);

		if (used < least) {
			least = used;
			victim = &set->ways[way];
		}
	}
	victim->packets = (__u64)(tag >> 16) << WEIR_RATE_TAG_SHIFT | now;
	victim->new_flows = (__u64)(tag & 0xffff) << WEIR_RATE_TAG_SHIFT | now;
	return victim;
}

/* The buckets of a packet's source; NULL where its VIP has none. */
static __always_inline struct weir_buckets *buckets_of_source(const struct packet *pkt)
{
	__u64 hash = weir_source_hash(&pkt->flow.source, weir_flow_keys);
	/* Linux 6.1 takes a key from the stack only, once the packet came by pointer. */
	__u32 vip_id = pkt->vip_id, index = hash % WEIR_SOURCE_SETS, tag = hash >> 32;
	struct weir_source_set *set;
	void *sources;

	sources = bpf_map_lookup_elem(&weir_source_limits, &vip_id);
	if (!sources)
		return NULL;
	set = bpf_map_lookup_elem(sources, &index);
	if (!set)
		return NULL;
	for (int way = 0; way < WEIR_SOURCE_WAYS; way++)
		if (is_source(&set->ways[way], tag))
			return &set->ways[way];
	return replace_source(set, tag);
}

static __always_inline struct weir_buckets *buckets_of_vip(const struct packet *pkt)
{
	__u32 vip_id = pkt->vip_id;

	return bpf_map_lookup_elem(&weir_vip_limits, &vip_id);
}

/* Which of its two rates a packet is held against. */
enum rate { RATE_PACKETS, RATE_NEW_FLOWS };

/* Where there are no buckets, nobody is held. */
static __always_inline int is_within(struct weir_buckets *buckets, enum rate which,
				     __u32 rate_per_s)
{
	if (!buckets)
		return 1;
	return take_token(which == RATE_PACKETS ? &buckets->packets : &buckets->new_flows,
			  rate_per_s);
}

/* The source's rate before the VIP's: what one source sends too much of must not use up what is
 * everybody's. */
static __always_inline int check_rates(const struct packet *pkt, enum rate which, __u32 of_source,
				       __u32 of_vip)
{
	if (of_source && !is_within(buckets_of_source(pkt), which, of_source))
		return WEIR_DROP_SOURCE_RATE;
	if (of_vip && !is_within(buckets_of_vip(pkt), which, of_vip))
		return WEIR_DROP_VIP_RATE;
	return WEIR_CONTINUE;
}

static __always_inline int check_packet_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	return check_rates(pkt, RATE_PACKETS, vip->limits.packets_per_source, vip->limits.packets);
}

/* For a packet that begins a flow. Returns enum weir_verdict. */
__noinline int weir_check_flow_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	if (!pkt || !vip)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	return check_rates(pkt, RATE_NEW_FLOWS, vip->limits.new_flows_per_source,
			   vip->limits.new_flows);
}

/* The same, of a VIP that may have no limits. */
static __always_inline int check_flow_rates(const struct packet *pkt, const struct weir_vip *vip)
{
	return vip->flags & WEIR_VIP_LIMITS ? weir_check_flow_rates(pkt, vip) : WEIR_CONTINUE;
}
