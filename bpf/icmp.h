/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * ICMP errors about a VIP's flow: they quote a packet that the VIP sent, so its flow is that packet
 * with both sides exchanged, and they go where the flow goes. The standards promise only eight
 * bytes of what follows the quoted IP header (RFC 792), which is the ports.
 */

#include "bpf/fragment.h"
#include "bpf/icmp_types.h"
#include "bpf/parse.h"
#include "bpf/trace.h"

#define QUOTED_PORTS_BYTES 4 /* source and destination port */

static __always_inline int is_icmp_error(const struct packet *pkt)
{
	if (!is_icmp(pkt) || !pkt->icmp_type || pkt->fragment == FRAGMENT_LATER)
		return 0;
	if (pkt->ip_version == 6)
		return pkt->icmp_type <= ICMPV6_ERROR_LAST;
	return pkt->icmp_type == ICMP_UNREACHABLE || pkt->icmp_type == ICMP_TIME_EXCEEDED ||
	       pkt->icmp_type == ICMP_PARAMETER;
}

/* Whether ports follow a quoted IP header of so many bytes: in the packet, that is, and not in what
 * Ethernet has put behind it. */
static __always_inline int quotes_ports(const struct packet *pkt, __u32 quoted_bytes)
{
	return pkt->header_bytes + ICMP_HEADER_BYTES + quoted_bytes + QUOTED_PORTS_BYTES <=
	       pkt->ip_bytes;
}

/* Of a quoted IPv6 packet: the header that makes it a first fragment, which is how a datagram that
 * its sender has fragmented meets a narrower link. NULL where none follows. */
static __always_inline const struct ipv6_extension *
quoted_fragment_header(const struct xdp_md *ctx, const struct ipv6hdr *ip6)
{
	const struct ipv6_extension *header = (const void *)(ip6 + 1);

	if ((void *)(header + 1) > packet_end(ctx) || ip6->nexthdr != IPPROTO_FRAGMENT ||
	    header->fragment & bpf_htons(IPV6_OFFSET_MASK))
		return NULL;
	return header;
}

/* Bytes of the quoted IP header, or 0 where it is none. Fills the flow's addresses and protocol,
 * already exchanged. Other extension headers of the quoted packet are not stepped over. */
static __always_inline __u32 read_quoted_ip(const struct xdp_md *ctx, const void *quoted,
					    const struct packet *pkt, struct weir_flow_key *flow)
{
	const struct ipv6_extension *fragment;
	const struct ipv6hdr *ip6 = quoted;
	const struct iphdr *ip4 = quoted;
	__u32 bytes = sizeof(*ip6);

	if (pkt->ip_version == 4) {
		if ((void *)(ip4 + 1) > packet_end(ctx) || ip4->version != 4 || ip4->ihl < 5 ||
		    ip4->frag_off & bpf_htons(IPV4_OFFSET_MASK) || !quotes_ports(pkt, ip4->ihl * 4))
			return 0;
		flow->source = v4_mapped(ip4->daddr);
		flow->destination = v4_mapped(ip4->saddr);
		flow->protocol = ip4->protocol;
		return ip4->ihl * 4;
	}
	if ((void *)(ip6 + 1) > packet_end(ctx) || ip6->version != 6)
		return 0;
	fragment = quoted_fragment_header(ctx, ip6);
	if (fragment)
		bytes += sizeof(*fragment);
	if (!quotes_ports(pkt, bytes))
		return 0;
	__builtin_memcpy(&flow->source, &ip6->daddr, sizeof(flow->source));
	__builtin_memcpy(&flow->destination, &ip6->saddr, sizeof(flow->destination));
	flow->protocol = fragment ? fragment->next_header : ip6->nexthdr;
	return bytes;
}

/* Takes the packet for one of the flow that it is about. */
static __always_inline enum weir_verdict resolve_icmp_error(const struct xdp_md *ctx,
							    struct packet *pkt)
{
	const void *quoted = transport_header(ctx, pkt) + ICMP_HEADER_BYTES;
	struct weir_flow_key flow = {};
	__u32 quoted_bytes = read_quoted_ip(ctx, quoted, pkt, &flow);
	const __be16 *ports = quoted + quoted_bytes;

	if (!quoted_bytes || (flow.protocol != IPPROTO_TCP && flow.protocol != IPPROTO_UDP) ||
	    (void *)(ports + 2) > packet_end(ctx))
		return WEIR_PASS_NO_PORTS;
	/* Who sent the quoted packet is who must be told. Nobody has a reason to tell the VIP of
	 * packets that were not its own. */
	if (!same_address(&flow.destination, &pkt->flow.destination))
		return WEIR_PASS_NO_PORTS;
	flow.source_port_be = ports[1];
	flow.destination_port_be = ports[0];
	pkt->flow = flow;
	pkt->is_icmp_error = 1;
	TRACE_PACKET(ICMP_ABOUT, pkt, 0);
	return WEIR_CONTINUE;
}

/* Takes a later fragment, or an ICMP error, for a packet of the flow that it belongs to:
 * WEIR_CONTINUE if it did. `verdict` is the parser's. */
static __always_inline enum weir_verdict resolve_flow(const struct xdp_md *ctx, struct packet *pkt,
						      enum weir_verdict verdict)
{
	if (verdict == WEIR_DROP_FRAGMENT && pkt->fragment == FRAGMENT_LATER)
		return recall_ports(pkt);
	if (verdict == WEIR_PASS_NO_PORTS && is_icmp_error(pkt))
		return resolve_icmp_error(ctx, pkt);
	return verdict;
}
