/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* From a packet to its VIP, and from there to a backend: flow table first, Maglev slot second. */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

/* A backend that was chosen, or the verdict that says why there is none. */
struct choice {
	const struct weir_backend *backend;
	__u32 backend_id;
	enum weir_verdict verdict;
};

/* With ports: the service. Without (a packet that has none to read): whose address it is. */
static __always_inline const struct weir_vip *find_vip(const struct packet *pkt, __be16 port,
						       __u8 protocol)
{
	struct weir_vip_key key = {
		.address = pkt->flow.destination,
		.port_be = port,
		.protocol = protocol,
	};

	return bpf_map_lookup_elem(&weir_vips, &key);
}

static __always_inline const struct weir_vip *find_service(const struct packet *pkt)
{
	return find_vip(pkt, pkt->flow.destination_port_be, pkt->flow.protocol);
}

static __always_inline const struct weir_vip *find_vip_address(const struct packet *pkt)
{
	return find_vip(pkt, 0, 0);
}

static __always_inline const struct weir_backend *find_backend(__u32 backend_id)
{
	const struct weir_backend *backend = bpf_map_lookup_elem(&weir_backends, &backend_id);

	return backend && backend->flags & WEIR_BACKEND_IN_USE ? backend : NULL;
}

static __always_inline struct choice no_choice(enum weir_verdict verdict)
{
	struct choice none = {.verdict = verdict};

	return none;
}

static __always_inline struct choice choose_by_table(struct packet *pkt, const struct weir_vip *vip)
{
	__u32 vip_id = vip->id;
	__u32 slot = weir_table_slot(hash_of(pkt), vip->table_size);
	struct choice choice = {.verdict = WEIR_CONTINUE};
	const __u32 *backend_id;
	void *table;

	table = bpf_map_lookup_elem(&weir_tables, &vip_id);
	if (!table) /* a VIP without backends needs no table */
		return no_choice(WEIR_DROP_NO_BACKEND);
	backend_id = bpf_map_lookup_elem(table, &slot);
	if (!backend_id) /* table_size is larger than the table */
		return no_choice(WEIR_DROP_INTERNAL);
	choice.backend_id = *backend_id;
	if (!choice.backend_id)
		return no_choice(WEIR_DROP_NO_BACKEND);
	choice.backend = find_backend(choice.backend_id);
	if (!choice.backend) /* tables are swapped before their backends go */
		return no_choice(WEIR_DROP_INTERNAL);
	remember_flow(pkt, choice.backend_id);
	return choice;
}

static __always_inline struct choice choose_backend(struct packet *pkt, const struct weir_vip *vip)
{
	struct choice choice = {.backend_id = find_flow(pkt), .verdict = WEIR_CONTINUE};

	if (choice.backend_id) {
		choice.backend = find_backend(choice.backend_id);
		if (choice.backend)
			return choice;
	}
	return choose_by_table(pkt, vip);
}
