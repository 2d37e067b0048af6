/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The only code that changes a packet: hop limit, outer IP header, MAC addresses. */

#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/select.h"

#define OUTER_HOP_LIMIT	   64
#define IPV4_DONT_FRAGMENT 0x4000
#define IP_BYTES_MAX	   65535 /* what IPv4's length field holds; IPv6 could have 40 more */

/* RFC 1624, equation 3, for one 16-bit word. */
static __always_inline __u16 checksum_replace(__u16 checksum, __u16 old_word, __u16 new_word)
{
	__u32 sum = (__u16)~checksum + (__u16)~old_word + new_word;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u16 ipv4_checksum(const struct iphdr *ip)
{
	__u16 words[sizeof(*ip) / 2];
	__u32 sum = 0;

	__builtin_memcpy(words, ip, sizeof(words));
	for (int i = 0; i < 10; i++) /* the ten words of a header without options */
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Forwarding lowers the hop limit even inside a tunnel (RFC 2003, section 3.1; RFC 2473, section
 * 3.1): between balancers that point at each other it is what ends the loop. */
static __always_inline enum weir_verdict lower_ipv4_ttl(struct xdp_md *ctx)
{
	struct iphdr *ip = packet_data(ctx) + ETH_HLEN;
	__u16 old_word, new_word;

	if ((void *)(ip + 1) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* the parser saw the header; only the verifier asks */
	if (ip->ttl <= 1)
		return WEIR_DROP_TTL;
	old_word = bpf_htons(ip->ttl << 8 | ip->protocol);
	ip->ttl--;
	new_word = bpf_htons(ip->ttl << 8 | ip->protocol);
	ip->check = checksum_replace(ip->check, old_word, new_word);
	return WEIR_CONTINUE;
}

static __always_inline enum weir_verdict lower_ipv6_hop_limit(struct xdp_md *ctx)
{
	struct ipv6hdr *ip = packet_data(ctx) + ETH_HLEN;

	if ((void *)(ip + 1) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* as above */
	if (ip->hop_limit <= 1)
		return WEIR_DROP_TTL;
	ip->hop_limit--;
	return WEIR_CONTINUE;
}

static __always_inline enum weir_verdict lower_hop_limit(struct xdp_md *ctx,
							 const struct packet *pkt)
{
	return pkt->ip_version == 4 ? lower_ipv4_ttl(ctx) : lower_ipv6_hop_limit(ctx);
}

static __always_inline enum weir_verdict check_route(const struct weir_backend *backend,
						     __u32 ip_bytes)
{
	__u16 mac[3];

	__builtin_memcpy(mac, backend->next_hop_mac, sizeof(mac));
	if (!backend->egress_ifindex || !(mac[0] | mac[1] | mac[2]))
		return WEIR_DROP_NO_NEXT_HOP;
	if (ip_bytes > backend->egress_mtu || ip_bytes > IP_BYTES_MAX)
		return WEIR_DROP_TOO_BIG;
	return WEIR_CONTINUE;
}

static __always_inline void write_ethernet(struct ethhdr *eth, const struct weir_backend *backend,
					   __be16 type)
{
	__builtin_memcpy(eth->h_dest, backend->next_hop_mac, sizeof(eth->h_dest));
	__builtin_memcpy(eth->h_source, backend->source_mac, sizeof(eth->h_source));
	eth->h_proto = type;
}

/* The outer packet is never fragmented: a receiver that decapsulates in XDP could not put it
 * together. Identification may then be anything (RFC 6864, section 4.1). The DS field goes
 * outside with its ECN bits (RFC 6040, section 4.1). */
static __always_inline void write_outer_ipv4(struct iphdr *ip, const struct weir_backend *backend,
					     const struct packet *pkt, __u8 protocol)
{
	struct iphdr outer = {
		.version = 4,
		.ihl = 5,
		.tos = pkt->traffic_class,
		.tot_len = bpf_htons(sizeof(outer) + pkt->ip_bytes),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = OUTER_HOP_LIMIT,
		.protocol = protocol,
	};

	__builtin_memcpy(&outer.saddr, backend->outer_source.bytes + 12, sizeof(outer.saddr));
	__builtin_memcpy(&outer.daddr, backend->address.bytes + 12, sizeof(outer.daddr));
	outer.check = ipv4_checksum(&outer);
	*ip = outer;
}

static __always_inline void write_outer_ipv6(struct ipv6hdr *ip, const struct weir_backend *backend,
					     const struct packet *pkt, __u8 protocol)
{
	struct ipv6hdr outer = {
		.version = 6,
		.priority = pkt->traffic_class >> 4,
		.flow_lbl = {pkt->traffic_class << 4},
		.payload_len = bpf_htons(pkt->ip_bytes),
		.nexthdr = protocol,
		.hop_limit = OUTER_HOP_LIMIT,
	};

	__builtin_memcpy(&outer.saddr, backend->outer_source.bytes, sizeof(outer.saddr));
	__builtin_memcpy(&outer.daddr, backend->address.bytes, sizeof(outer.daddr));
	*ip = outer;
}

static __always_inline enum weir_verdict push_ipv4(struct xdp_md *ctx, const struct packet *pkt,
						   const struct weir_backend *backend,
						   __u8 protocol)
{
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom */
	eth = packet_data(ctx);
	if ((void *)(eth + 1) + sizeof(struct iphdr) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* we have just made the room; only the verifier asks */
	write_ethernet(eth, backend, bpf_htons(ETH_P_IP));
	write_outer_ipv4((struct iphdr *)(eth + 1), backend, pkt, protocol);
	return WEIR_CONTINUE;
}

static __always_inline enum weir_verdict push_ipv6(struct xdp_md *ctx, const struct packet *pkt,
						   const struct weir_backend *backend,
						   __u8 protocol)
{
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom */
	eth = packet_data(ctx);
	if ((void *)(eth + 1) + sizeof(struct ipv6hdr) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* as above */
	write_ethernet(eth, backend, bpf_htons(ETH_P_IPV6));
	write_outer_ipv6((struct ipv6hdr *)(eth + 1), backend, pkt, protocol);
	return WEIR_CONTINUE;
}

/* Out of the device it came in by, which needs no map, or out of another one. */
static __always_inline enum weir_verdict send_out(const struct xdp_md *ctx,
						  const struct weir_backend *backend,
						  enum weir_verdict if_same,
						  enum weir_verdict if_other)
{
	if (backend->egress_ifindex == ctx->ingress_ifindex)
		return if_same;
	if (bpf_redirect_map(&weir_devices, backend->egress_ifindex, 0) != XDP_REDIRECT)
		return WEIR_DROP_INTERNAL; /* devices are listed before backends name them */
	return if_other;
}

/* IP in IP: RFC 2003 (4in4), RFC 2473 (4in6, 6in6), RFC 4213 (6in4). */
static __always_inline enum weir_verdict forward_ipip(struct xdp_md *ctx, const struct packet *pkt,
						      const struct weir_backend *backend)
{
	__u8 protocol = pkt->ip_version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	int padding = pkt->frame_bytes - ETH_HLEN - pkt->ip_bytes;
	int outer_is_v4 = is_v4_mapped(&backend->address);
	__u32 outer_bytes = outer_is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	enum weir_verdict verdict;

	verdict = check_route(backend, outer_bytes + pkt->ip_bytes);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	verdict = lower_hop_limit(ctx, pkt);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	/* Padding that Ethernet added would become part of the tunnel's payload. */
	if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding))
		return WEIR_DROP_INTERNAL;
	verdict = outer_is_v4 ? push_ipv4(ctx, pkt, backend, protocol)
			      : push_ipv6(ctx, pkt, backend, protocol);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	return send_out(ctx, backend, WEIR_TX_IPIP, WEIR_REDIRECT_IPIP);
}

static __always_inline enum weir_verdict forward_l2(struct xdp_md *ctx, const struct packet *pkt,
						    const struct weir_backend *backend)
{
	enum weir_verdict verdict;
	struct ethhdr *eth;

	verdict = check_route(backend, pkt->ip_bytes);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	verdict = lower_hop_limit(ctx, pkt);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	eth = packet_data(ctx);
	if ((void *)(eth + 1) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* the parser saw the header; only the verifier asks */
	write_ethernet(eth, backend, eth->h_proto);
	return send_out(ctx, backend, WEIR_TX_L2, WEIR_REDIRECT_L2);
}
