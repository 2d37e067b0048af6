/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The flow table: which backend a connection was given, so that changes of the Maglev table do not
 * move it. Losing an entry costs nothing unless the table has changed twice (select.h).
 *
 * A set-associative cache of our own, of one word per flow (abi.h): a lookup reads one cache line.
 * The kernel's LRU map was measured beside it; README.md has the numbers.
 *
 *               first packet              next packet               FIN, RST
 *     (none) ──────────────────► NEW ──────────────────► ESTABLISHED ────────► CLOSING
 *                                 ▲                                              │
 *                                 └──────────────────── SYN ────────────────────┘
 *
 * NEW          one packet, which anybody can send from any address. A flood consists of these, and
 *              they only make room for each other: a newcomer takes the place of a NEW entry, of a
 *              CLOSING one, or of one that was idle for long, and otherwise none. So a flood of one
 *              VIP moves out no flow that is alive, be it of that VIP or of another.
 * ESTABLISHED  the client has sent more.
 * CLOSING      the client is done; what it still acknowledges finds the entry.
 *
 * A SYN reads the table like any other packet. Selecting anew for every SYN, the usual choice,
 * lets a retransmitted or forged SYN move a live connection after a change of backends. Only where
 * the backend is draining, and the flow is not alive, a SYN is taken for a new connection.
 *
 * An entry is written when its second or its state changes, not with every packet, so that sets
 * stay shared between the caches of several CPUs. Two CPUs that write to one set at once lose one
 * of the two entries: as good as evicted.
 */

#include "bpf/hash.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

#define FLOW_ALIVE_S	60 /* idle for longer, a SYN may mean a new connection */
#define FLOW_STATE_MASK 3

/* Where in the table a flow is, or would be. */
struct flow_place {
	__u64 hash;
	__u64 tag;
	__u64 entry; /* 0: the flow is not in the set */
	__u64 way;   /* of the entry; its own, where it has none */
	__u32 set;
	__u32 now_s;
};

static __always_inline __u32 seconds_now(void)
{
	return (bpf_jiffies64() >> weir_second_shift) & WEIR_FLOW_STAMP_MASK;
}

/* 0 of a free entry, which a flow whose tag is 0 meets. */
static __always_inline __u32 backend_of(__u64 entry)
{
	return entry >> WEIR_FLOW_BACKEND_SHIFT & WEIR_FLOW_BACKEND_MASK;
}

static __always_inline enum weir_flow_state state_of(__u64 entry)
{
	return entry >> WEIR_FLOW_STATE_SHIFT & FLOW_STATE_MASK;
}

/* Seconds since the entry was stamped; the stamp comes round after three days. */
static __always_inline __u32 age_of(__u64 entry, __u32 now_s)
{
	return (now_s - (__u32)entry) & WEIR_FLOW_STAMP_MASK;
}

static __always_inline __u64 flow_entry(__u64 tag, __u32 backend_id, enum weir_flow_state state,
					__u32 now_s)
{
	return tag << WEIR_FLOW_TAG_SHIFT | (__u64)backend_id << WEIR_FLOW_BACKEND_SHIFT |
	       (__u64)state << WEIR_FLOW_STATE_SHIFT | now_s;
}

/* One more in a per-CPU array of numbers. */
static __always_inline void count_event(void *counters, __u32 event)
{
	__u64 *count = bpf_map_lookup_elem(counters, &event);

	if (count)
		*count += 1;
}

static __always_inline void count_flow_event(enum weir_flow_event event)
{
	count_event(&weir_flow_counters, event);
}

/* The entry as a trace point gives it: its state, and above that the seconds of idleness. */
static __always_inline __u64 trace_entry(const struct flow_place *place)
{
	return state_of(place->entry) | age_of(place->entry, place->now_s) << 8;
}

static __always_inline struct weir_flow_set *set_of(const struct flow_place *place)
{
	__u32 set = place->set; /* Linux 6.1 takes no key that came by pointer */

	return bpf_map_lookup_elem(&weir_flows, &set);
}

/* Looks a flow up: in its own way, where nearly all stand that the table has room for, then in the
 * rest of the set. */
static __always_inline void read_set(struct flow_place *place)
{
	const struct weir_flow_set *set = set_of(place);
	__u64 entry;

	if (!set)
		return; /* the mask is larger than the table */
	entry = set->entries[place->way & (WEIR_FLOW_WAYS - 1)];
	if (entry >> WEIR_FLOW_TAG_SHIFT == place->tag) {
		place->entry = entry;
		return;
	}
	for (int way = 0; way < WEIR_FLOW_WAYS; way++) {
		entry = set->entries[way];
		if (entry >> WEIR_FLOW_TAG_SHIFT == place->tag) {
			place->entry = entry;
			place->way = way;
			return;
		}
	}
}

/* Without a flow table every flow is new, and no place keeps it. */
static __always_inline struct flow_place find_flow(const struct weir_flow_key *flow)
{
	struct flow_place place = {.hash = weir_table_hash(flow, weir_flow_keys)};

	place.tag = place.hash >> WEIR_FLOW_TAG_SHIFT;
	place.way = place.hash >> WEIR_FLOW_WAY_SHIFT & (WEIR_FLOW_WAYS - 1);
	place.set = place.hash & weir_flow_set_mask;
	place.now_s = seconds_now();
	if (!weir_is_stateless)
		read_set(&place);
	return place;
}

static __always_inline void write_entry(const struct flow_place *place, __u32 way, __u64 entry)
{
	struct weir_flow_set *set = set_of(place);

	if (set)
		set->entries[way & (WEIR_FLOW_WAYS - 1)] = entry;
}

/* What the next packet makes of an entry's state. */
static __always_inline enum weir_flow_state next_state(enum weir_flow_state state,
						       const struct packet *pkt)
{
	if (pkt->tcp_flags & (TCP_FIN | TCP_RST))
		return WEIR_FLOW_CLOSING;
	if (is_syn(pkt))
		return state == WEIR_FLOW_ESTABLISHED ? state : WEIR_FLOW_NEW;
	return state == WEIR_FLOW_NEW ? WEIR_FLOW_ESTABLISHED : state;
}

static __always_inline void refresh_flow(const struct flow_place *place, enum weir_flow_state state)
{
	__u64 entry = flow_entry(place->tag, backend_of(place->entry), state, place->now_s);

	if (entry != place->entry)
		write_entry(place, place->way, entry);
}

/* How readily an entry gives way to a new one: the highest goes, 0 stays. Within a rank the one
 * that was idle for longest. */
static __always_inline __u32 readiness_of(__u64 entry, __u32 now_s)
{
	__u32 age = age_of(entry, now_s);
	__u32 rank;

	switch (state_of(entry)) {
	case WEIR_FLOW_NEW:
		rank = 3;
		break;
	case WEIR_FLOW_CLOSING:
		rank = age >= WEIR_FLOW_CLOSED_S ? 4 : 2;
		break;
	default:
		rank = age >= WEIR_FLOW_LONG_IDLE_S ? 1 : 0;
		break;
	}
	return rank ? rank << 18 | age : 0;
}

/* Whether somebody may come back for an entry: of one packet, or of a flow that has ended, nobody.
 */
static __always_inline int is_missed(__u64 entry)
{
	return state_of(entry) == WEIR_FLOW_ESTABLISHED || state_of(entry) == WEIR_FLOW_CLIENT;
}

/* Gives a flow its entry: in the place of the one it has, or of one that gives way. A failure is
 * none of the packet's: the table finds the same backend for the next one. */
__noinline int weir_keep_flow(const struct flow_place *place, __u32 backend_id, __u32 state)
{
	__u32 best = 0, victim;
	struct weir_flow_set *set;
	__u64 evicted;

	if (!place)
		return -1; /* it never is; only the verifier asks */
	if (weir_is_stateless)
		return 0;
	set = set_of(place);
	if (!set)
		return -1; /* the mask is larger than the table */
	victim = place->way & (WEIR_FLOW_WAYS - 1);
	if (place->entry || !set->entries[victim]) {
		if (!place->entry)
			count_flow_event(WEIR_FLOW_ADDED);
		set->entries[victim] = flow_entry(place->tag, backend_id, state, place->now_s);
		return 0;
	}
	for (int way = 0; way < WEIR_FLOW_WAYS; way++) {
		__u64 entry = set->entries[way];
		__u32 readiness = entry ? readiness_of(entry, place->now_s) : 0xffffffff;

		if (readiness > best) {
			best = readiness;
			victim = way;
		}
	}
	if (!best) {
		count_flow_event(WEIR_FLOW_NOT_ADDED);
		return 0;
	}
	evicted = set->entries[victim & (WEIR_FLOW_WAYS - 1)];
	set->entries[victim & (WEIR_FLOW_WAYS - 1)] =
		flow_entry(place->tag, backend_id, state, place->now_s);
	count_flow_event(WEIR_FLOW_ADDED);
	if (evicted)
		count_flow_event(is_missed(evicted) ? WEIR_FLOW_EVICTED_ESTABLISHED
						    : WEIR_FLOW_EVICTED_NEW);
	return 0;
}
