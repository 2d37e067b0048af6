/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The bytes of NAT: addresses and ports of a packet become others, and every checksum is corrected
 * by the difference (RFC 1624), so that a wrong one stays wrong and the receiver drops the packet.
 * An ICMP error is translated as a whole, with the packet that it quotes (RFC 5508, section 4).
 */

#include "bpf/frame.h"
#include "bpf/icmp.h"
#include "bpf/maps.h"
#include "bpf/nat_table.h"
#include "bpf/parse.h"

#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6
#define PORTS_REACH	 8 /* what an ICMP error quotes at least (RFC 792) */

/* What a one's complement sum changes by. A word of all ones is zero in it, so that differences are
 * sums of complements, and positive. */
static __always_inline __u64 word_difference(__u32 before, __u32 after)
{
	return (__u64)(__u32)~before + after;
}

/* As they stand in TCP and UDP headers, in one word. */
static __always_inline __u32 join_ports(__be16 source, __be16 destination)
{
	const __be16 ports[2] = {source, destination};
	__u32 word;

	__builtin_memcpy(&word, ports, sizeof(word));
	return word;
}

static __always_inline __u16 checksum_adjust(__u16 checksum, __u64 difference)
{
	return ~fold((__u16)~checksum + difference);
}

/* Writes an address, and returns what the sum of the header changed by. */
static __always_inline __u64 rewrite_ipv4_address(__be32 *at, const struct weir_address *address)
{
	__be32 before = *at, after;

	__builtin_memcpy(&after, address->bytes + 12, sizeof(after));
	*at = after;
	return word_difference(before, after);
}

static __always_inline __u64 rewrite_ipv6_address(struct in6_addr *at,
						  const struct weir_address *address)
{
	__u32 before[4], after[4];
	__u64 difference = 0;

	__builtin_memcpy(before, at, sizeof(before));
	__builtin_memcpy(after, address, sizeof(after));
	for (int i = 0; i < 4; i++)
		difference += word_difference(before[i], after[i]);
	__builtin_memcpy(at, after, sizeof(after));
	return difference;
}

/* Writes the addresses of an IP header, of the packet itself or of one that it quotes, and returns
 * what their sum changed by. A source of NULL stays. 0 where there is no header, which only the
 * verifier asks: a sum of complements is never 0. */
static __always_inline __u64 rewrite_ip(const struct xdp_md *ctx, void *header, int is_v4,
					const struct weir_address *source,
					const struct weir_address *destination)
{
	struct ipv6hdr *ip6 = header;
	struct iphdr *ip4 = header;
	__u64 difference;

	if (is_v4) {
		if ((void *)(ip4 + 1) > packet_end(ctx))
			return 0;
		difference = rewrite_ipv4_address(&ip4->daddr, destination);
		if (source)
			difference += rewrite_ipv4_address(&ip4->saddr, source);
		ip4->check = checksum_adjust(ip4->check, difference);
		return difference;
	}
	if ((void *)(ip6 + 1) > packet_end(ctx))
		return 0;
	difference = rewrite_ipv6_address(&ip6->daddr, destination);
	if (source)
		difference += rewrite_ipv6_address(&ip6->saddr, source);
	return difference;
}

/* The checksum of a segment whose pseudo header and ports changed by `difference`. A UDP datagram
 * without one (RFC 768; over IPv6 RFC 6935) stays without, and one that has it never gets zero. */
static __always_inline __u16 adjust_transport(__u8 protocol, __u16 checksum, __u64 difference)
{
	__u16 adjusted = checksum_adjust(checksum, difference);

	if (protocol == IPPROTO_TCP)
		return adjusted;
	if (!checksum)
		return 0;
	return adjusted ? adjusted : 0xffff;
}

/* Ports and checksum. Of a fragmented datagram the first fragment has both, for all of it. */
static __always_inline int rewrite_transport(const struct xdp_md *ctx, const struct packet *pkt,
					     __u32 ports_be, __u64 difference)
{
	__u8 *transport = transport_header(ctx, pkt);
	__u16 *check;

	if ((void *)(transport + UDP_CHECK_OFFSET + 2) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* the parser saw it; only the verifier asks */
	difference += word_difference(*(__u32 *)transport, ports_be);
	*(__u32 *)transport = ports_be;
	check = (__u16 *)(transport + UDP_CHECK_OFFSET);
	if (pkt->protocol == IPPROTO_TCP) {
		if ((void *)(transport + TCP_CHECK_OFFSET + 2) > packet_end(ctx))
			return WEIR_DROP_INTERNAL; /* as above */
		check = (__u16 *)(transport + TCP_CHECK_OFFSET);
	}
	*check = adjust_transport(pkt->protocol, *check, difference);
	return WEIR_CONTINUE;
}

/* Ports of the quoted segment, and its checksum where that is quoted too: `offset` is where in the
 * IP packet the segment begins. Adds to `difference` what the ICMP message's sum changes by. */
static __always_inline int rewrite_quoted_transport(const struct xdp_md *ctx,
						    const struct packet *pkt, __u8 *transport,
						    __u32 offset, __u32 ports_be,
						    __u64 addresses_difference, __u64 *difference)
{
	__u8 protocol = pkt->flow.protocol;
	__u64 ports_difference;
	__u16 *check, before;

	if (offset + PORTS_REACH > pkt->ip_bytes ||
	    (void *)(transport + PORTS_REACH) > packet_end(ctx))
		return WEIR_DROP_MALFORMED;
	ports_difference = word_difference(*(__u32 *)transport, ports_be);
	*(__u32 *)transport = ports_be;
	*difference += ports_difference;
	check = (__u16 *)(transport + UDP_CHECK_OFFSET);
	if (protocol == IPPROTO_TCP) {
		if (offset + TCP_CHECK_OFFSET + 2 > pkt->ip_bytes ||
		    (void *)(transport + TCP_CHECK_OFFSET + 2) > packet_end(ctx))
			return WEIR_CONTINUE;
		check = (__u16 *)(transport + TCP_CHECK_OFFSET);
	}
	before = *check;
	*check = adjust_transport(protocol, before, addresses_difference + ports_difference);
	*difference += (__u64)(__u16)~before + *check;
	return WEIR_CONTINUE;
}

/* The quoted packet went the other way, so its sides are exchanged. `pseudo` is what the error's
 * own pseudo header changed by. */
static __always_inline int rewrite_quoted(const struct xdp_md *ctx, const struct packet *pkt,
					  const struct weir_address *source,
					  const struct weir_address *destination, __u32 ports_be,
					  __u64 pseudo)
{
	__u8 *icmp = transport_header(ctx, pkt);
	struct iphdr *ip4 = (void *)(icmp + ICMP_HEADER_BYTES);
	__u32 quoted_bytes = sizeof(struct ipv6hdr);
	__u64 difference = pseudo, addresses;
	int is_v4 = pkt->ip_version == 4, verdict;
	__u16 before = 0;

	if ((void *)(ip4 + 1) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* the flow was read from it; only the verifier asks */
	if (is_v4) {
		before = ip4->check;
		quoted_bytes = ip4->ihl * 4;
	} else if ((void *)((struct ipv6hdr *)ip4 + 1) <= packet_end(ctx) &&
		   quoted_fragment_header(ctx, (const struct ipv6hdr *)ip4)) {
		quoted_bytes += sizeof(struct ipv6_extension);
	}
	addresses = rewrite_ip(ctx, ip4, is_v4, destination, source);
	if (!addresses)
		return WEIR_DROP_INTERNAL; /* as above */
	difference += addresses;
	if (is_v4)
		difference += (__u64)(__u16)~before + ip4->check;
	verdict = rewrite_quoted_transport(ctx, pkt, (__u8 *)ip4 + quoted_bytes,
					   pkt->header_bytes + ICMP_HEADER_BYTES + quoted_bytes,
					   ports_be << 16 | ports_be >> 16, addresses, &difference);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	((__u16 *)icmp)[1] = checksum_adjust(((__u16 *)icmp)[1], difference);
	return WEIR_CONTINUE;
}

/* The source of an ICMP error is a router of one side, and means nothing on the other. It becomes
 * the flow's, unless the flow keeps its source. */
static __always_inline int keeps_source(const struct packet *pkt, const struct weir_address *source)
{
	return pkt->is_icmp_error && same_address(source, &pkt->flow.source);
}

/* The other side's ports, in one word. */
static __always_inline __u32 ports_beyond(const struct weir_nat_flow *record, int is_reply)
{
	return is_reply ? join_ports(record->vip_port_be, record->client_port_be)
			: join_ports(record->source_port_be, record->backend_port_be);
}

/* For a whole packet, or a first fragment. Returns enum weir_verdict. */
static __always_inline int rewrite_packet(const struct xdp_md *ctx, const struct packet *pkt,
					  const struct weir_nat_flow *record, int is_reply)
{
	__u64 difference = rewrite_ip(ctx, network_header(ctx, pkt), pkt->ip_version == 4,
				      is_reply ? &record->vip : &record->source,
				      is_reply ? &record->client : &record->backend);

	if (!difference)
		return WEIR_DROP_INTERNAL; /* the parser saw it; only the verifier asks */
	return rewrite_transport(ctx, pkt, ports_beyond(record, is_reply), difference);
}

/*
 * Makes the packet of a flow what it is on the other side; an ICMP error, whose flow is pkt->flow,
 * one about that. Returns enum weir_verdict.
 */
__noinline int weir_nat_rewrite(struct xdp_md *ctx, const struct packet *pkt, __u64 flow)
{
	const struct weir_nat_flow *record = record_at(index_of(flow));
	const struct weir_address *source, *destination;
	int is_reply = is_reply_of(flow), is_v4;
	__u64 difference;
	__u32 ports_be;

	if (!pkt || !record)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	is_v4 = pkt->ip_version == 4;
	source = is_reply ? &record->vip : &record->source;
	destination = is_reply ? &record->client : &record->backend;
	ports_be = ports_beyond(record, is_reply);
	difference = rewrite_ip(ctx, network_header(ctx, pkt), is_v4,
				keeps_source(pkt, source) ? NULL : source, destination);
	if (!difference)
		return WEIR_DROP_INTERNAL; /* the parser saw it; only the verifier asks */
	if (pkt->is_icmp_error)
		return rewrite_quoted(ctx, pkt, source, destination, ports_be,
				      is_v4 ? 0 : difference);
	if (pkt->fragment == FRAGMENT_LATER)
		return WEIR_CONTINUE;
	return rewrite_transport(ctx, pkt, ports_be, difference);
}
