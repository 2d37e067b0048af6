/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The NAT table: one record a flow, and two entries of an index that lead to it, by the packets as
 * they arrive from either side. Unlike a flow of the other modes, one that is lost is broken: no
 * other balancer knows its translation, and so a living one never gives way.
 *
 *        client's packet            reply               client's next
 *  FREE ────────────────► NEW ──────────────► REPLIED ───────────────► ESTABLISHED
 *    ▲    (CLAIMED while   │   (UDP flows stay   │         (TCP)            │
 *    │     written)        │     in REPLIED)     │                          │
 *    │                     └─── FIN from both sides, or RST before (TCP) ───┘
 *    │                                      │
 *    └── backend or VIP gone, SYN ◄── CLOSING
 *
 * FREE         holds no flow; generation as its last flow had it.
 * CLAIMED      one CPU writes it and its entries; nobody reads it.
 * NEW          anybody can send such a packet. Gives way to a newcomer, the oldest first, so that a
 *              flood moves out the flood. No table of their own: in the whole table a handshake has
 *              more time before its turn comes than in a small one.
 * REPLIED      TCP: SYN-ACK seen; gives way where nothing NEW does. UDP: gives way once idle.
 * ESTABLISHED  the client has acknowledged the SYN-ACK, which takes having seen it. Never gives way
 *              before its time is up. A side that has sent FIN is noted beside; so is a RST, after
 *              which the flow has to show that it lives.
 * CLOSING      first to give way.
 *
 * An entry names record and generation, and the record is held against the packet: an entry without
 * its record, or with the wrong one, is no flow. It is removed where it is met. Nothing parts a
 * pair but a fault; should it happen, the client's next packet gives back the client's half where
 * the port was kept, and while the backend has not answered, begins anew where its half is missing.
 */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/nat_state.h"
#include "bpf/parse.h"
#include "bpf/select.h"

#define NAT_CANDIDATES	  16 /* records that are tried; half full, all are taken once in 65,536 */
#define NAT_PORT_ATTEMPTS 9  /* the client's own port and eight of the range */

#define NAT_UDP_IDLE_S 30 /* seconds after which a UDP flow may give way */

/* A flow as the index names it: generation << 32 | WEIR_NAT_REPLY | index of the record; 0: none,
 * because generations begin at 1. One number, so that global functions can return it. */
typedef __u64 nat_handle;

static __always_inline void count_nat_event(enum weir_nat_event event)
{
	count_event(&weir_nat_counters, event);
}

static __always_inline __u64 owner_of(const struct weir_nat_flow *record)
{
	return *(const volatile __u64 *)&record->owner;
}

static __always_inline __u32 generation_of(__u64 owner)
{
	return owner >> WEIR_NAT_GENERATION_SHIFT;
}

/* Whether the owner was `before`, and is `after` now. */
static __always_inline int change_owner(struct weir_nat_flow *record, __u64 before, __u64 after)
{
	return __sync_val_compare_and_swap(&record->owner, before, after) == before;
}

static __always_inline __u64 owner_in_state(__u32 generation, enum weir_nat_state state)
{
	return (__u64)generation << WEIR_NAT_GENERATION_SHIFT | state;
}

static __always_inline struct weir_flow_key key_of_client(const struct weir_nat_flow *record)
{
	struct weir_flow_key key = {
		.source = record->client,
		.destination = record->vip,
		.source_port_be = record->client_port_be,
		.destination_port_be = record->vip_port_be,
	};

	key.protocol_be = protocol_word(record->protocol);
	return key;
}

static __always_inline struct weir_flow_key key_of_reply(const struct weir_nat_flow *record)
{
	struct weir_flow_key key = {
		.source = record->backend,
		.destination = record->source,
		.source_port_be = record->backend_port_be,
		.destination_port_be = record->source_port_be,
	};

	key.protocol_be = protocol_word(record->protocol);
	return key;
}

static __always_inline int is_from_client(const struct weir_nat_flow *record,
					  const struct weir_flow_key *key)
{
	return same_address(&record->client, &key->source) &&
	       same_address(&record->vip, &key->destination) &&
	       record->client_port_be == key->source_port_be &&
	       record->vip_port_be == key->destination_port_be &&
	       protocol_word(record->protocol) == key->protocol_be;
}

static __always_inline int is_reply_to(const struct weir_nat_flow *record,
				       const struct weir_flow_key *key)
{
	return same_address(&record->backend, &key->source) &&
	       same_address(&record->source, &key->destination) &&
	       record->backend_port_be == key->source_port_be &&
	       record->source_port_be == key->destination_port_be &&
	       protocol_word(record->protocol) == key->protocol_be;
}

static __always_inline struct weir_nat_flow *record_at(__u32 index)
{
	return bpf_map_lookup_elem(&weir_nat_flows, &index);
}

/* Takes an entry out, if it is the one of this record and generation. */
static __always_inline void remove_entry(const struct weir_flow_key *key, __u32 index,
					 __u32 generation)
{
	const struct weir_nat_entry *entry = bpf_map_lookup_elem(&weir_nat_index, key);

	if (entry && (entry->record & ~WEIR_NAT_REPLY) == index && entry->generation == generation)
		bpf_map_delete_elem(&weir_nat_index, key);
}

/* Whether the backend's entry leads to the record too. */
static __always_inline int has_reply_entry(const struct weir_nat_flow *record, __u32 index,
					   __u32 generation)
{
	struct weir_flow_key key = key_of_reply(record);
	const struct weir_nat_entry *entry = bpf_map_lookup_elem(&weir_nat_index, &key);

	return entry && entry->record == (index | WEIR_NAT_REPLY) &&
	       entry->generation == generation;
}

static __always_inline __u32 index_of(nat_handle flow)
{
	return (__u32)flow & ~WEIR_NAT_REPLY;
}

static __always_inline int is_reply_of(nat_handle flow)
{
	return flow & WEIR_NAT_REPLY ? 1 : 0;
}

static __always_inline int is_held_by(__u64 owner, nat_handle flow)
{
	return generation_of(owner) == flow >> 32;
}

/* By who has claimed the record. */
__noinline int weir_nat_remove_entries(__u32 index, __u32 generation)
{
	const struct weir_nat_flow *record = record_at(index);
	struct weir_flow_key key;

	if (!record)
		return -1; /* it has just been claimed; only the verifier asks */
	key = key_of_client(record);
	remove_entry(&key, index, generation);
	key = key_of_reply(record);
	remove_entry(&key, index, generation);
	return 0;
}

/* Frees the record of a flow, if it is still that flow's. Returns its owner, or 0. */
static __always_inline __u64 end_flow(nat_handle flow)
{
	struct weir_nat_flow *record = record_at(index_of(flow));
	__u32 generation = flow >> 32;
	__u64 owner;

	if (!record)
		return 0; /* it has just been read; only the verifier asks */
	owner = owner_of(record);
	if (!is_held_by(owner, flow) || weir_nat_state_of(owner) <= WEIR_NAT_CLAIMED ||
	    !change_owner(record, owner, owner_in_state(generation, WEIR_NAT_CLAIMED)))
		return 0;
	weir_nat_remove_entries(index_of(flow), generation);
	*(volatile __u64 *)&record->owner = owner_in_state(generation, WEIR_NAT_FREE);
	return owner;
}

/* Because its backend went, or it begins anew. */
__noinline int weir_nat_forget(nat_handle flow)
{
	if (!end_flow(flow))
		return -1;
	count_nat_event(WEIR_NAT_FORGOTTEN);
	return 0;
}

/* The flow that an entry leads to. One that leads nowhere is removed. */
static __always_inline nat_handle follow_index(const struct weir_flow_key *key)
{
	const struct weir_nat_flow *record;
	struct weir_nat_entry entry;
	const void *found = bpf_map_lookup_elem(&weir_nat_index, key);
	nat_handle flow;
	__u64 owner, both;

	if (!found)
		return 0;
	both = *(const volatile __u64 *)found; /* both halves of the same moment */
	__builtin_memcpy(&entry, &both, sizeof(entry));
	flow = (__u64)entry.generation << 32 | entry.record;
	record = record_at(index_of(flow));
	if (!record)
		return 0; /* the table is smaller than the one that the index was made for */
	owner = owner_of(record);
	if (is_held_by(owner, flow) && weir_nat_state_of(owner) != WEIR_NAT_FREE)
		return flow;
	bpf_map_delete_elem(&weir_nat_index, key);
	count_nat_event(WEIR_NAT_REPAIRED);
	return 0;
}

/* The flow of a packet, or none: one that is being written is none either. */
static __always_inline nat_handle find_translated(const struct weir_flow_key *flow_key)
{
	struct weir_flow_key key = *flow_key; /* Linux 6.1 takes no key that came by pointer */
	nat_handle flow = follow_index(&key);
	const struct weir_nat_flow *record = flow ? record_at(index_of(flow)) : NULL;

	if (!record || weir_nat_state_of(owner_of(record)) == WEIR_NAT_CLAIMED)
		return 0;
	if (is_reply_of(flow) ? is_reply_to(record, &key) : is_from_client(record, &key))
		return flow;
	return 0;
}

__noinline __u64 weir_nat_find(const struct weir_flow_key *key)
{
	return key ? find_translated(key) : 0; /* it never is NULL; only the verifier asks */
}

static __always_inline int has_expired(const struct weir_nat_flow *record, __u64 owner, __u32 now_s)
{
	return age_of(record->stamp, now_s) >
	       weir_nat_timeout_s(owner, record->protocol == IPPROTO_TCP);
}

/* How readily a record gives way to a new flow: the highest goes, 0 stays. Within a rank the one
 * that was idle for longest. */
static __always_inline __u32 nat_readiness_of(const struct weir_nat_flow *record, __u64 owner,
					      __u32 now_s)
{
	__u32 age = age_of(record->stamp, now_s), rank = 0;

	switch (weir_nat_state_of(owner)) {
	case WEIR_NAT_FREE:
		return 0xffffffff;
	case WEIR_NAT_CLAIMED:
		return 0;
	case WEIR_NAT_CLOSING:
		rank = 3;
		break;
	case WEIR_NAT_NEW:
		rank = 2;
		break;
	case WEIR_NAT_REPLIED:
		rank = record->protocol == IPPROTO_TCP || age > NAT_UDP_IDLE_S ? 1 : 0;
		break;
	default:
		rank = weir_nat_was_reset(owner) && age >= WEIR_FLOW_CLOSED_S ? 3 : 0;
		break;
	}
	if (has_expired(record, owner, now_s))
		rank = 4;
	return rank ? rank << 18 | age : 0;
}

static __always_inline void count_nat_victim(__u64 owner, __u8 protocol, __u32 readiness)
{
	if (weir_nat_state_of(owner) == WEIR_NAT_FREE)
		return;
	if (readiness >> 18 == 4)
		count_nat_event(WEIR_NAT_EXPIRED);
	else if (weir_nat_state_of(owner) == WEIR_NAT_CLOSING || weir_nat_was_reset(owner))
		count_nat_event(WEIR_NAT_EVICTED_CLOSING);
	else if (weir_nat_state_of(owner) == WEIR_NAT_NEW || protocol == IPPROTO_TCP)
		count_nat_event(WEIR_NAT_EVICTED_NEW);
	else
		count_nat_event(WEIR_NAT_EVICTED_UDP);
}

/* By which a flow is given a record and a port. Computed apart: what uses it has little stack left.
 */
__noinline __u64 weir_nat_hash(const struct packet *pkt)
{
	return pkt ? weir_table_hash(&pkt->flow, weir_flow_keys) : 0; /* it never is NULL */
}

/* Claims a record for a new flow, of several that its hash names, and takes out the entries of the
 * flow that it held. Returns its index, or -1. */
__noinline int weir_nat_claim(__u64 hash)
{
	__u32 now_s = seconds_now(), best = 0, best_index = 0, at, step;
	struct weir_nat_flow *record;
	__u64 owner, best_owner = 0;

	at = hash;
	step = hash >> 32 | 1; /* odd: no record twice */
	for (int i = 0; i < NAT_CANDIDATES; i++) {
		__u32 readiness, index = at & weir_nat_mask;

		at += step;
		record = record_at(index);
		if (!record)
			break; /* the mask is larger than the table */
		owner = owner_of(record);
		readiness = nat_readiness_of(record, owner, now_s);
		if (readiness <= best)
			continue;
		best = readiness;
		best_owner = owner;
		best_index = index;
		if (weir_nat_state_of(owner) == WEIR_NAT_FREE)
			break;
	}
	record = record_at(best_index);
	if (!record || !best ||
	    !change_owner(record, best_owner,
			  owner_in_state(generation_of(best_owner) + 1, WEIR_NAT_CLAIMED))) {
		count_nat_event(WEIR_NAT_NO_RECORD);
		return -1;
	}
	if (weir_nat_state_of(best_owner) != WEIR_NAT_FREE)
		weir_nat_remove_entries(best_index, generation_of(best_owner));
	count_nat_victim(best_owner, record->protocol, best);
	return best_index;
}

/* What of the flow is known before its source port is. */
static __always_inline void fill_record(struct weir_nat_flow *record, const struct packet *pkt,
					const struct weir_vip *vip)
{
	record->stamp = seconds_now();
	record->vip_id = vip->id;
	record->client = pkt->flow.source;
	record->vip = pkt->flow.destination;
	record->client_port_be = pkt->flow.source_port_be;
	record->vip_port_be = pkt->flow.destination_port_be;
	record->backend_id = pkt->backend_id;
	record->expected_ack = 0;
	record->ifindex = 0; /* the way back of the flow before is not this one's */
	record->protocol = pkt->flow.protocol;
}

/* A reply of the flow as it will arrive; its port is the client's until another one is chosen. */
static __always_inline struct weir_flow_key expected_reply(const struct packet *pkt,
							   const struct weir_vip *vip,
							   const struct weir_backend *backend)
{
	struct weir_flow_key key = {
		.source = backend->address,
		.source_port_be =
			backend->port_be ? backend->port_be : pkt->flow.destination_port_be,
		.destination_port_be = pkt->flow.source_port_be,
	};

	key.destination = vip->flags & WEIR_VIP_SNAT ? backend->outer_source : pkt->flow.source;
	key.protocol_be = pkt->flow.protocol_be;
	return key;
}

/* The same for who does not have the backend at hand yet; 0 where it is gone. */
static __always_inline int find_expected_reply(const struct packet *pkt, const struct weir_vip *vip,
					       struct weir_flow_key *key)
{
	const struct weir_backend *backend = find_backend(pkt->backend_id, vip->id);

	if (!backend)
		return 0;
	*key = expected_reply(pkt, vip, backend);
	return 1;
}

/* A port of the range, another one for each attempt. */
static __always_inline __be16 drawn_port(__u64 hash, __u32 attempt)
{
	__u32 first = weir_nat_port_first, count = weir_nat_port_last - first + 1;

	return bpf_htons(first + weir_scale((__u32)(hash >> 32) + attempt * 0x9e3779b9, count));
}

/* The source port to try first: the client's own. An address of the node is the node's own too: its
 * connections to the backend use its ephemeral ports, so full NAT keeps to its range, even with a
 * port of the client's. */
static __always_inline __be16 first_port_of(const struct packet *pkt, const struct weir_vip *vip,
					    __u64 hash)
{
	__u32 first = weir_nat_port_first, count = weir_nat_port_last - first + 1;
	__u32 own = bpf_ntohs(pkt->flow.source_port_be);

	if (!first || !(vip->flags & WEIR_VIP_SNAT) || own - first < count)
		return pkt->flow.source_port_be;
	return drawn_port(hash, 0);
}

/* How many ports are tried for a flow, and which. Without a range only the first is. */
static __always_inline __u32 port_attempts(void)
{
	return weir_nat_port_first ? NAT_PORT_ATTEMPTS : 1;
}

static __always_inline __be16 nth_port_of(const struct packet *pkt, const struct weir_vip *vip,
					  __u64 hash, __u32 attempt)
{
	return attempt ? drawn_port(hash, attempt) : first_port_of(pkt, vip, hash);
}

/* Puts the backend's entry in, which makes the tuple that the backend sees this flow's alone. An
 * entry that is there, and leads nowhere, is removed by looking. */
static __always_inline int take_tuple(const struct weir_flow_key *key,
				      const struct weir_nat_entry *entry)
{
	if (!bpf_map_update_elem(&weir_nat_index, key, entry, BPF_NOEXIST))
		return 0;
	return follow_index(key) ? -1
				 : bpf_map_update_elem(&weir_nat_index, key, entry, BPF_NOEXIST);
}

/* With the first source port that is to be had; key->destination_port_be is that then. -1: none. */
static __always_inline int insert_reply(const struct packet *pkt, const struct weir_vip *vip,
					const struct weir_nat_entry *entry,
					struct weir_flow_key *key, __u64 hash)
{
	for (__u32 attempt = 0; attempt < port_attempts(); attempt++) {
		key->destination_port_be = nth_port_of(pkt, vip, hash, attempt);
		if (!take_tuple(key, entry))
			return 0;
	}
	return -1;
}

/*
 * Where living flows have all ports that are tried: the one of these flows that gives way most
 * readily, as in a full table, or 0. Without this a flood of handshakes that nobody goes on with
 * holds every port for a minute.
 */
__noinline __u64 weir_nat_port_holder(const struct packet *pkt, const struct weir_vip *vip,
				      __u64 hash)
{
	__u32 best = 0, now_s = seconds_now();
	nat_handle victim = 0;
	struct weir_flow_key key;

	if (!pkt || !vip)
		return 0; /* they never are; only the verifier asks */
	if (!find_expected_reply(pkt, vip, &key))
		return 0;
	for (__u32 attempt = 0; attempt < port_attempts(); attempt++) {
		const struct weir_nat_flow *record;
		nat_handle holder;
		__u32 readiness;

		key.destination_port_be = nth_port_of(pkt, vip, hash, attempt);
		holder = follow_index(&key);
		record = holder ? record_at(index_of(holder)) : NULL;
		readiness = record ? nat_readiness_of(record, owner_of(record), now_s) : 0;
		if (readiness > best) {
			best = readiness;
			victim = holder;
		}
	}
	return victim;
}

/* Ends a flow whose port another one needs. */
__noinline int weir_nat_evict(nat_handle flow)
{
	const struct weir_nat_flow *record = record_at(index_of(flow));
	__u32 readiness;
	__u64 owner;

	if (!record)
		return -1;
	readiness = nat_readiness_of(record, owner_of(record), seconds_now());
	owner = readiness ? end_flow(flow) : 0;
	if (!owner)
		return -1;
	count_nat_victim(owner, record->protocol, readiness);
	return 0;
}

/* Gives back a record that was claimed in vain. */
static __always_inline void release_record(struct weir_nat_flow *record)
{
	*(volatile __u64 *)&record->owner =
		owner_in_state(generation_of(record->owner), WEIR_NAT_FREE);
}

/* Fills a record that was claimed, and leads the client's entry to it. Returns -1, with the record
 * free again, where another CPU was faster. In two functions, because the keys of both entries are
 * too much for one's stack. */
__noinline int weir_nat_begin(const struct packet *pkt, const struct weir_vip *vip, __u32 index)
{
	struct weir_nat_flow *record = record_at(index);
	struct weir_nat_entry entry = {.record = index};
	struct weir_flow_key key;

	if (!pkt || !vip || !record)
		return -1; /* they never are; only the verifier asks */
	key = pkt->flow;
	entry.generation = generation_of(owner_of(record));
	fill_record(record, pkt, vip);
	if (!bpf_map_update_elem(&weir_nat_index, &key, &entry, BPF_NOEXIST))
		return 0;
	release_record(record);
	return -1;
}

/* Leads the backend's entry to the record too, which makes it the flow's. Returns enum
 * weir_verdict, WEIR_CONTINUE if it did. */
static __always_inline int publish_record(struct weir_nat_flow *record, struct packet *pkt,
					  const struct weir_vip *vip,
					  const struct weir_backend *backend, __u32 index,
					  __u64 hash)
{
	struct weir_flow_key key = expected_reply(pkt, vip, backend);
	struct weir_nat_entry entry = {
		.record = index | WEIR_NAT_REPLY,
		.generation = generation_of(owner_of(record)),
	};

	if (insert_reply(pkt, vip, &entry, &key, hash))
		return WEIR_DROP_NAT_FULL;
	record->backend = key.source;
	record->source = key.destination;
	record->backend_port_be = key.source_port_be;
	record->source_port_be = key.destination_port_be;
	*(volatile __u64 *)&record->owner = owner_in_state(entry.generation, WEIR_NAT_NEW);
	pkt->is_new_flow = 1;
	count_nat_event(WEIR_NAT_ADDED);
	if (key.destination_port_be != pkt->flow.source_port_be)
		count_nat_event(WEIR_NAT_PORT_CHANGED);
	return WEIR_CONTINUE;
}

/* The second half; pkt->backend_id is the flow's backend. */
__noinline int weir_nat_complete(struct packet *pkt, const struct weir_vip *vip, __u32 index,
				 __u64 hash)
{
	struct weir_nat_flow *record = record_at(index);
	const struct weir_backend *backend;

	if (!pkt || !vip || !record)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	backend = find_backend(pkt->backend_id, vip->id);
	/* Tables are swapped before their backends go, and families are not translated. */
	if (!backend || is_v4_mapped(&backend->address) != (pkt->ip_version == 4))
		return WEIR_DROP_INTERNAL;
	return publish_record(record, pkt, vip, backend, index, hash);
}

/* Takes the first half back. */
__noinline int weir_nat_abandon(const struct packet *pkt, __u32 index)
{
	struct weir_nat_flow *record = record_at(index);
	struct weir_flow_key key;

	if (!pkt || !record)
		return -1; /* they never are; only the verifier asks */
	key = pkt->flow;
	bpf_map_delete_elem(&weir_nat_index, &key);
	release_record(record);
	return 0;
}

/* Where only the client's entry was lost, the record is found by the tuple that the backend sees,
 * if the port was kept. Returns the reply's flow, or none. */
__noinline __u64 weir_nat_find_reply(const struct packet *pkt, const struct weir_vip *vip,
				     __u64 hash)
{
	struct weir_flow_key key;
	nat_handle flow;

	if (!pkt || !vip)
		return 0; /* they never are; only the verifier asks */
	if (!find_expected_reply(pkt, vip, &key))
		return 0;
	key.destination_port_be = first_port_of(pkt, vip, hash);
	flow = follow_index(&key);
	return flow && is_reply_of(flow) ? flow : 0;
}

/* Gives the client's entry back, if the record is of the packet's flow; returns 0 if it did. */
__noinline int weir_nat_restore(const struct packet *pkt, nat_handle flow)
{
	const struct weir_nat_flow *record = record_at(index_of(flow));
	struct weir_nat_entry entry = {
		.record = index_of(flow),
		.generation = flow >> 32,
	};
	struct weir_flow_key key;

	if (!pkt || !record)
		return -1; /* they never are; only the verifier asks */
	key = pkt->flow;
	if (weir_nat_state_of(owner_of(record)) == WEIR_NAT_CLAIMED ||
	    !is_from_client(record, &key) ||
	    bpf_map_update_elem(&weir_nat_index, &key, &entry, BPF_NOEXIST))
		return -1;
	count_nat_event(WEIR_NAT_REPAIRED);
	return 0;
}
