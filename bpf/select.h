/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* From a packet to its VIP, and from there to a backend. */

#include "bpf/flow.h"
#include "bpf/guard.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/quic.h"
#include "bpf/trace.h"

/* What a choice is returned as: a backend's id, or where there is none to choose the verdict that
 * says why, negated. No verdict that a choice can end in is 0. */
#define NO_CHOICE(verdict) (-(int)(verdict))

static __always_inline int is_in_filter(const struct weir_address *address, __u32 first_word)
{
	__u32 bit = weir_filter_bit(address);
	__u32 word = first_word + bit / 64;
	const __u64 *bits = bpf_map_lookup_elem(&weir_filter, &word);

	TRACE_IF(bits && *bits >> (bit % 64) & 1, FILTER_HIT, 0, 0);
	TRACE_IF(bits && !(*bits >> (bit % 64) & 1), FILTER_MISS, 0, 0);
	return bits && *bits >> (bit % 64) & 1;
}

/* Nearly everything that is not ours ends here, without a lookup. */
static __always_inline int may_be_ours(const struct weir_address *address)
{
	return is_in_filter(address, 0);
}

/* Whether mode nat has to do with the address: as a VIP, as a source or as a backend. */
static __always_inline int may_be_translated(const struct weir_address *address)
{
	return is_in_filter(address, WEIR_FILTER_WORDS);
}

static __always_inline const struct weir_vip *vip_of(__u32 id)
{
	return bpf_map_lookup_elem(&weir_vips, &id);
}

/* The service of one port of an address; of a prefix, the address that stands for it. */
static __always_inline const struct weir_vip *find_port(const struct packet *pkt,
							const struct weir_address *address)
{
	struct weir_vip_key key = {
		.address = *address,
		.port_be = pkt->flow.destination_port_be,
		.protocol = pkt->flow.protocol,
	};
	const __u32 *id = bpf_map_lookup_elem(&weir_services, &key);

	TRACE_PACKET_IF(id, VIP_BY_PORT, pkt, *id);
	return id ? vip_of(*id) : NULL;
}

static __always_inline const struct weir_vip *find_range(const struct packet *pkt,
							 const struct weir_address *address)
{
	struct weir_range_key key = {
		.prefix_length = WEIR_RANGE_PREFIX_BITS + 16,
		.address = *address,
		.protocol = pkt->flow.protocol,
		.port_be = pkt->flow.destination_port_be,
	};
	const __u32 *id = bpf_map_lookup_elem(&weir_ranges, &key);

	TRACE_PACKET_IF(id, VIP_BY_RANGE, pkt, *id);
	return id ? vip_of(*id) : NULL;
}

/* Of a service of one port of one address: whether the packet is for it. */
static __always_inline int is_service_of(const struct weir_vip *vip, const struct packet *pkt)
{
	return vip->protocol == pkt->flow.protocol &&
	       vip->port_be == pkt->flow.destination_port_be &&
	       same_address(&vip->address, &pkt->flow.destination);
}

/* The VIP of a known flow, by way of its backend. Two flows of one set may have the same tag, so
 * the VIP is held against the packet. */
static __always_inline const struct weir_vip *find_by_flow(const struct packet *pkt,
							   const struct flow_place *place)
{
	__u32 backend_id = backend_of(place->entry);
	const struct weir_backend *backend = bpf_map_lookup_elem(&weir_backends, &backend_id);
	const struct weir_vip *vip;

	if (!backend)
		return NULL;
	vip = vip_of(backend->vip_id);
	if (!vip || !is_service_of(vip, pkt))
		return NULL;
	TRACE_PACKET(VIP_BY_FLOW, pkt, vip->id);
	return vip;
}

static __always_inline const struct weir_backend *find_backend(__u32 backend_id, __u32 vip_id)
{
	const struct weir_backend *backend = bpf_map_lookup_elem(&weir_backends, &backend_id);

	if (!backend || !(backend->flags & WEIR_BACKEND_IN_USE) || backend->vip_id != vip_id)
		return NULL;
	return backend;
}

/* What of the flow counts for the choice of a new one. Under a policy that leaves the destination
 * out, a client meets one backend on all ports of a VIP, and on all VIPs with the same backends. */
static __always_inline __u64 hash_of(const struct packet *pkt, __u8 policy)
{
	struct weir_flow_key flow = {};

	if (policy == WEIR_HASH_FIVE_TUPLE) {
		flow = pkt->flow;
	} else {
		flow.source = pkt->flow.source;
		if (policy == WEIR_HASH_SOURCE_PORT)
			flow.source_port_be = pkt->flow.source_port_be;
	}
	return weir_flow_hash(&flow, weir_hash_seed[0], weir_hash_seed[1]);
}

static __always_inline const struct weir_table_line *line_of(void *table, __u32 index)
{
	return bpf_map_lookup_elem(table, &index);
}

/* The id of a VIP's backend in a slot of its table, or 0; -1 where the table is shorter than it
 * says. */
static __always_inline int read_slot(const struct weir_vip *vip, void *table, __u32 first_line,
				     __u32 slot)
{
	const struct weir_table_line *line = line_of(table, first_line + slot / WEIR_LINE_SLOTS);
	const __u32 *id;
	__u32 member;

	if (!line)
		return -1;
	member = line->slots[slot % WEIR_LINE_SLOTS];
	if (!member)
		return 0;
	member += vip->first_member;
	id = bpf_map_lookup_elem(&weir_members, &member);
	return id ? (int)*id : -1;
}

/* The same of the table before. */
static __always_inline int read_previous(const struct weir_vip *vip, void *table,
					 const struct weir_table_line *sizes, __u64 hash)
{
	if (!sizes->previous_size)
		return 0;
	return read_slot(vip, table, 1 + weir_lines_of(sizes->size),
			 weir_slot_of(hash, sizes->previous_size));
}

/*
 * The second chance. After a change of backends, a slot may lead to another backend than before. A
 * packet from the middle of a connection that has no flow entry (the table was lost, or is small)
 * began under the table before, as far as one can know, and goes where that one led. One that
 * begins a connection goes by the table of now.
 *
 * Without a flow table every packet of a connection has to come to the same end by itself: all go
 * by the table before while that backend is in use, draining or not, and the table of now comes
 * into its own with the next one.
 */
static __always_inline int second_chance(const struct packet *pkt, const struct weir_vip *vip,
					 void *table, const struct weir_table_line *sizes,
					 __u64 hash, int current)
{
	int previous;

	if (!weir_is_stateless && (pkt->flow.protocol != IPPROTO_TCP || is_syn(pkt)))
		return 0;
	previous = read_previous(vip, table, sizes, hash);
	if (previous <= 0 || previous == current || !find_backend(previous, vip->id))
		return 0;
	count_flow_event(WEIR_FLOW_SECOND_CHANCE);
	TRACE(SECOND_CHANCE, previous, 0);
	return previous;
}

/* Global functions from here on: the verifier checks each once, and the fast path is free of them.
 */
__noinline int weir_choose_by_table(const struct packet *pkt, const struct weir_vip *vip)
{
	const struct weir_table_line *sizes;
	int current, previous;
	__u32 vip_id, slot;
	void *table;
	__u64 hash;

	if (!pkt || !vip)
		return NO_CHOICE(WEIR_DROP_INTERNAL); /* they never are; only the verifier asks */
	vip_id = vip->id;
	hash = hash_of(pkt, vip->hash);
	table = bpf_map_lookup_elem(&weir_tables, &vip_id);
	TRACE_IF(!table, NO_TABLE, 0, 0);
	if (!table) /* a VIP without backends needs no table */
		return NO_CHOICE(WEIR_DROP_NO_BACKEND);
	sizes = line_of(table, 0);
	if (!sizes)
		return NO_CHOICE(WEIR_DROP_INTERNAL); /* no table is without that line */
	slot = weir_slot_of(hash, sizes->size);
	TRACE(SLOT, vip->hash, slot);
	current = read_slot(vip, table, 1, slot);
	TRACE(SLOT_NOW, current, read_previous(vip, table, sizes, hash));
	previous = second_chance(pkt, vip, table, sizes, hash, current);
	if (previous)
		return previous;
	if (current <= 0)
		return NO_CHOICE(current ? WEIR_DROP_INTERNAL : WEIR_DROP_NO_BACKEND);
	return current;
}

/* A client's entry in the flow table has the VIP in the place of the destination. */
static __always_inline struct weir_flow_key client_key(const struct packet *pkt, __u32 vip_id)
{
	struct weir_flow_key key = {.source = pkt->flow.source};

	__builtin_memcpy(&key.destination, &vip_id, sizeof(vip_id));
	return key;
}

/*
 * Affinity: a new flow of a client goes where its last one went, while that backend takes new
 * flows and the client has not been idle for longer than the VIP allows. Such VIPs hash by source,
 * so that all balancers agree for as long as the backends do not change. A client of one packet,
 * which anybody can send from any address, gives way as flows of one packet do; a second flow, or a
 * flow's second packet, makes it one that stays.
 */
__noinline int weir_find_client(const struct packet *pkt, const struct weir_vip *vip)
{
	const struct weir_backend *backend;
	struct weir_flow_key key;
	struct flow_place place;

	if (!pkt || !vip)
		return NO_CHOICE(WEIR_DROP_INTERNAL); /* they never are; only the verifier asks */
	key = client_key(pkt, vip->id);
	place = find_flow(&key);
	if (!place.entry || age_of(place.entry, place.now_s) > vip->affinity_s)
		return 0;
	backend = find_backend(backend_of(place.entry), vip->id);
	if (!backend || backend->flags & WEIR_BACKEND_DRAINING)
		return 0;
	refresh_flow(&place, WEIR_FLOW_CLIENT);
	TRACE(CLIENT, backend_of(place.entry), 0);
	return backend_of(place.entry);
}

__noinline int weir_keep_client(const struct packet *pkt, __u32 vip_id, __u32 backend_id,
				__u32 state)
{
	struct weir_flow_key key;
	struct flow_place place;

	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	key = client_key(pkt, vip_id);
	place = find_flow(&key);
	return weir_keep_flow(&place, backend_id, state);
}

/* A flow that ends, or was never here, makes no entry; nor do errors about one. */
static __always_inline int makes_entry(const struct packet *pkt)
{
	return !pkt->is_icmp_error && !(pkt->tcp_flags & (TCP_FIN | TCP_RST));
}

static __always_inline int choose_for_client(const struct packet *pkt, const struct weir_vip *vip)
{
	int choice = weir_find_client(pkt, vip);

	if (choice)
		return choice;
	choice = weir_choose_by_table(pkt, vip);
	if (choice > 0 && makes_entry(pkt))
		weir_keep_client(pkt, vip->id, choice, WEIR_FLOW_NEW);
	return choice;
}

static __always_inline int choose_by_policy(const struct packet *pkt, const struct weir_vip *vip)
{
	int verdict;

	/* A packet from the middle of a connection is no new flow, though it finds no entry. */
	if (!pkt->is_icmp_error &&
	    (pkt->flow.protocol == IPPROTO_TCP ? is_syn(pkt) : !weir_is_stateless)) {
		verdict = check_flow_rates(pkt, vip);
		if (verdict != WEIR_CONTINUE)
			return NO_CHOICE(verdict);
	}
	return vip->affinity_s ? choose_for_client(pkt, vip) : weir_choose_by_table(pkt, vip);
}

/* For a flow that has no entry, or one that no longer speaks for it. */
__noinline int weir_choose_anew(struct packet *pkt, const struct weir_vip *vip,
				const struct flow_place *place)
{
	int choice;

	if (!pkt || !vip || !place)
		return NO_CHOICE(WEIR_DROP_INTERNAL); /* they never are; only the verifier asks */
	choice = choose_by_policy(pkt, vip);
	if (choice <= 0 || !makes_entry(pkt))
		return choice;
	pkt->is_new_flow = 1;
	TRACE(FLOW_KEPT, choice, 0);
	weir_keep_flow(place, choice, WEIR_FLOW_NEW);
	return choice;
}

/* For a packet whose connection id names a backend: its flow is one like others, which has an
 * entry, so that errors about it find their way, and counts where flows are limited. Returns enum
 * weir_verdict. */
__noinline int weir_follow_connection_id(struct packet *pkt, const struct weir_vip *vip,
					 const struct flow_place *place, __u32 backend_id)
{
	int verdict;

	if (!pkt || !vip || !place)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	if (weir_is_stateless)
		return WEIR_CONTINUE;
	if (backend_of(place->entry) == backend_id) {
		refresh_flow(place, next_state(state_of(place->entry), pkt));
		return WEIR_CONTINUE;
	}
	if (!place->entry) {
		verdict = check_flow_rates(pkt, vip);
		if (verdict != WEIR_CONTINUE)
			return verdict;
		pkt->is_new_flow = 1;
	}
	weir_keep_flow(place, backend_id, WEIR_FLOW_NEW);
	return WEIR_CONTINUE;
}

/* Whether a flow's entry still speaks for the packet. */
static __always_inline int is_same_flow(const struct packet *pkt, const struct flow_place *place,
					const struct weir_backend *backend)
{
	__u32 idle_s = age_of(place->entry, place->now_s);

	if (pkt->flow.protocol != IPPROTO_TCP)
		return idle_s <= WEIR_FLOW_UDP_IDLE_S;
	if (!is_syn(pkt) || !(backend->flags & WEIR_BACKEND_DRAINING))
		return 1;
	return state_of(place->entry) == WEIR_FLOW_ESTABLISHED && idle_s <= FLOW_ALIVE_S;
}

/* A packet that finds its flow. */
static __always_inline void go_on(const struct packet *pkt, const struct weir_vip *vip,
				  const struct flow_place *place, __u32 backend_id)
{
	enum weir_flow_state before = state_of(place->entry), after = next_state(before, pkt);

	refresh_flow(place, after);
	if (vip->affinity_s && before == WEIR_FLOW_NEW && after == WEIR_FLOW_ESTABLISHED)
		weir_keep_client(pkt, vip->id, backend_id, WEIR_FLOW_CLIENT);
}

/* A backend that was chosen, or the verdict that says why there is none. */
struct choice {
	const struct weir_backend *backend; /* NULL: there is none */
	__u32 backend_id;
	enum weir_verdict verdict;
};

static __always_inline struct choice choose_backend(struct xdp_md *ctx, struct packet *pkt,
						    const struct weir_vip *vip,
						    const struct flow_place *place)
{
	struct choice choice = {.verdict = WEIR_CONTINUE};
	int chosen;

	if (vip->quic_id_bytes && !pkt->is_icmp_error) {
		choice.backend_id = weir_find_by_connection_id(ctx, pkt, vip);
		choice.backend = find_backend(choice.backend_id, vip->id);
		TRACE(QUIC, choice.backend_id, 0);
		if (choice.backend) {
			choice.verdict =
				weir_follow_connection_id(pkt, vip, place, choice.backend_id);
			if (choice.verdict != WEIR_CONTINUE)
				choice.backend = NULL;
			return choice;
		}
	}
	if (place->entry) {
		choice.backend_id = backend_of(place->entry);
		choice.backend = find_backend(choice.backend_id, vip->id);
		if (choice.backend && is_same_flow(pkt, place, choice.backend)) {
			if (!pkt->is_icmp_error)
				go_on(pkt, vip, place, choice.backend_id);
			return choice;
		}
		TRACE(FLOW_VOID, choice.backend_id, 0);
	}
	chosen = weir_choose_anew(pkt, vip, place);
	choice.backend = NULL;
	if (chosen <= 0) {
		choice.verdict = -chosen;
		return choice;
	}
	choice.backend_id = chosen;
	choice.backend = find_backend(chosen, vip->id);
	if (!choice.backend) /* tables are swapped before their backends go */
		choice.verdict = WEIR_DROP_INTERNAL;
	return choice;
}
