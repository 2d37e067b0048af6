/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Fragments. The first one of a datagram carries the ports and goes where its flow goes; what it
 * leaves here lets the later ones follow. One that overtakes the first is dropped, and counted:
 * holding packets back is not for this place. The map is bounded, and a datagram's entry is void
 * after the time in which a receiver would wait for it.
 */

#include "bpf/flow.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/trace.h"

#define FRAGMENT_WAIT_S 30 /* what Linux waits; RFC 8200, section 4.5 allows 60 */

static __always_inline struct weir_fragment_key fragment_key(const struct packet *pkt)
{
	struct weir_fragment_key key = {
		.source = pkt->flow.source,
		.destination = pkt->flow.destination,
		.id_be = pkt->fragment_id_be,
		.protocol = pkt->fragment_protocol,
	};

	return key;
}

/* To be called for first fragments of a VIP's packets. */
static __always_inline void leave_ports(const struct packet *pkt)
{
	struct weir_fragment_key key = fragment_key(pkt);
	struct weir_fragment ports = {
		.source_port_be = pkt->flow.source_port_be,
		.destination_port_be = pkt->flow.destination_port_be,
		.stamp = seconds_now(),
	};

	bpf_map_update_elem(&weir_fragments, &key, &ports, BPF_ANY);
}

/* Gives a later fragment the ports of its datagram. */
static __always_inline enum weir_verdict recall_ports(struct packet *pkt)
{
	struct weir_fragment_key key = fragment_key(pkt);
	const struct weir_fragment *ports = bpf_map_lookup_elem(&weir_fragments, &key);

	if (!ports || age_of(ports->stamp, seconds_now()) > FRAGMENT_WAIT_S)
		return WEIR_DROP_FRAGMENT;
	pkt->flow.source_port_be = ports->source_port_be;
	pkt->flow.destination_port_be = ports->destination_port_be;
	TRACE_PACKET(FRAGMENT_LATER, pkt, 0);
	return WEIR_CONTINUE;
}
