/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The ways to a backend that leave the packet's own addresses alone: IP in IP, GUE, MAC rewrite. */

#include "bpf/frame.h"
#include "bpf/maps.h"
#include "bpf/outer.h"
#include "bpf/parse.h"
#include "bpf/select.h"

#define IP_BYTES_MAX   65535 /* what IPv4's length field holds; IPv6 could have 40 more */
#define SUM_STEP_BYTES 128
#define SUM_STEPS_MAX  72 /* 9,216 bytes: the largest frame that devices carry */

/* Forwarding lowers the hop limit even inside a tunnel (RFC 2003, section 3.1; RFC 2473, section
 * 3.1): between balancers that point at each other it is what ends the loop. */
static __always_inline enum weir_verdict lower_hop_limit(struct xdp_md *ctx,
							 const struct packet *pkt)
{
	void *header = network_header(ctx, pkt);
	struct ipv6hdr *ip6 = header;
	struct iphdr *ip4 = header;
	__u16 old_word, new_word;

	if (pkt->ip_version == 4) {
		if ((void *)(ip4 + 1) > packet_end(ctx))
			return WEIR_DROP_INTERNAL; /* the parser saw it; only the verifier asks */
		if (ip4->ttl <= 1)
			return WEIR_DROP_TTL;
		old_word = bpf_htons(ip4->ttl << 8 | ip4->protocol);
		ip4->ttl--;
		new_word = bpf_htons(ip4->ttl << 8 | ip4->protocol);
		ip4->check = checksum_replace(ip4->check, old_word, new_word);
		return WEIR_CONTINUE;
	}
	if ((void *)(ip6 + 1) > packet_end(ctx))
		return WEIR_DROP_INTERNAL; /* as above */
	if (ip6->hop_limit <= 1)
		return WEIR_DROP_TTL;
	ip6->hop_limit--;
	return WEIR_CONTINUE;
}

/* Whether the packet may go; lowers its hop limit if so. */
static __always_inline enum weir_verdict
admit(struct xdp_md *ctx, struct packet *pkt, const struct weir_backend *backend, __u32 outer_bytes)
{
	__u16 mac[3];

	__builtin_memcpy(mac, backend->macs.next_hop, sizeof(mac));
	if (!backend->egress_ifindex || !(mac[0] | mac[1] | mac[2]))
		return WEIR_DROP_NO_NEXT_HOP;
	TRACE(FIT, pkt->ip_bytes | (__u64)outer_bytes << 32, backend->egress_mtu);
	if (outer_bytes + pkt->ip_bytes > backend->egress_mtu ||
	    outer_bytes + pkt->ip_bytes > IP_BYTES_MAX) {
		pkt->mtu = backend->egress_mtu - outer_bytes;
		return WEIR_DROP_TOO_BIG;
	}
	return lower_hop_limit(ctx, pkt);
}

/*
 * The outer packet is never fragmented: a receiver that decapsulates in XDP could not put it
 * together. Identification may then be anything (RFC 6864, section 4.1). The DS field goes
 * outside with its ECN bits (RFC 6040, section 4.1).
 *
 * Headers are written by words. A structure filled field by field, and then read by words for its
 * checksum, was measured 8 ns slower.
 */
static __always_inline void write_outer_ipv4(__u32 *out, const struct weir_backend *backend,
					     const struct packet *pkt, __u8 protocol,
					     __u32 payload_bytes)
{
	__u32 length = sizeof(struct iphdr) + payload_bytes;
	__u64 sum;

	out[0] = bpf_htonl(0x45000000 | (__u32)pkt->traffic_class << 16 | length);
	out[1] = bpf_htonl(IPV4_DONT_FRAGMENT);
	__builtin_memcpy(out + 3, backend->outer_source.bytes + 12, 4);
	__builtin_memcpy(out + 4, backend->address.bytes + 12, 4);
	out[2] = bpf_htonl(OUTER_HOP_LIMIT << 24 | protocol << 16);
	sum = (__u64)out[0] + out[1] + out[2] + out[3] + out[4];
	((__u16 *)out)[5] = ~fold(sum);
}

static __always_inline void write_outer_ipv6(__u32 *out, const struct weir_backend *backend,
					     const struct packet *pkt, __u8 protocol,
					     __u32 payload_bytes)
{
	out[0] = bpf_htonl(0x60000000 | (__u32)pkt->traffic_class << 20);
	out[1] = bpf_htonl(payload_bytes << 16 | protocol << 8 | OUTER_HOP_LIMIT);
	__builtin_memcpy(out + 2, &backend->outer_source, sizeof(backend->outer_source));
	__builtin_memcpy(out + 6, &backend->address, sizeof(backend->address));
}

static __always_inline __u32 outer_ip_bytes(const struct weir_backend *backend)
{
	return is_v4_mapped(&backend->address) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* What a mode adds to the packet. */
static __always_inline __u32 outer_bytes_of(__u8 mode, const struct weir_backend *backend)
{
	if (mode == WEIR_MODE_IPIP)
		return outer_ip_bytes(backend);
	return mode == WEIR_MODE_GUE ? outer_ip_bytes(backend) + sizeof(struct udphdr) : 0;
}

/*
 * The one's complement sum of an IP packet, without reading its payload: a transport segment with a
 * right checksum sums up to the complement of its pseudo header, and an IPv4 header to nothing. A
 * segment whose checksum is wrong makes the outer one wrong by as much, and is refused by the
 * receiver, as it should be.
 */
static __always_inline __u64 sum_of_sound_packet(const struct xdp_md *ctx, const struct packet *pkt)
{
	const void *header = network_header(ctx, pkt);
	const struct ipv6hdr *ip6 = header;
	const struct iphdr *ip4 = header;
	__u32 words[10];
	__u64 sum, pseudo;

	pseudo = bpf_htonl(pkt->ip_bytes - pkt->header_bytes) + (__u64)bpf_htonl(pkt->protocol);
	if (pkt->ip_version == 4) {
		if ((void *)(ip4 + 1) > packet_end(ctx))
			return 0; /* the parser saw it; only the verifier asks */
		if (pkt->protocol == IPPROTO_ICMP)
			return 0; /* no pseudo header (RFC 792) */
		pseudo += (__u64)ip4->saddr + ip4->daddr;
		return (__u16)~fold(pseudo);
	}
	if ((void *)(ip6 + 1) > packet_end(ctx))
		return 0; /* as above */
	__builtin_memcpy(words, ip6, sizeof(words));
	for (int i = 2; i < 10; i++) /* both addresses */
		pseudo += words[i];
	sum = (__u16)~fold(pseudo);
	for (int i = 0; i < 10; i++) /* the whole header, which has no checksum of its own */
		sum += words[i];
	return sum;
}

/* The same by reading everything, in steps of what is left. A global function, which the verifier
 * checks once. */
__noinline __u64 weir_sum_of_bytes(struct xdp_md *ctx, const struct packet *pkt)
{
	__u32 offset, left, last = 0;
	__u64 sum = 0;

	if (!pkt)
		return 0; /* it never is; only the verifier asks */
	offset = pkt->l2_bytes;
	left = pkt->ip_bytes;
	for (int i = 0; i < SUM_STEPS_MAX; i++) {
		const __u32 *at = packet_data(ctx) + (offset & SUM_OFFSET_MASK);

		if (left < SUM_STEP_BYTES || (const void *)at + SUM_STEP_BYTES > packet_end(ctx))
			break;
		for (int word = 0; word < SUM_STEP_BYTES / 4; word++)
			sum += at[word];
		offset += SUM_STEP_BYTES;
		left -= SUM_STEP_BYTES;
	}
	for (int i = 0; i < SUM_STEP_BYTES / 4; i++) {
		const __u32 *at = packet_data(ctx) + (offset & SUM_OFFSET_MASK);

		if (left < 4 || (const void *)(at + 1) > packet_end(ctx))
			break;
		sum += *at;
		offset += 4;
		left -= 4;
	}
	for (int i = 0; i < 3; i++) { /* what a word is short of */
		const __u8 *at = packet_data(ctx) + (offset & SUM_OFFSET_MASK);

		if (!left || (const void *)(at + 1) > packet_end(ctx))
			break;
		((__u8 *)&last)[i] = *at;
		offset++;
		left--;
	}
	return sum + last;
}

static __always_inline struct udphdr gue_header(struct xdp_md *ctx, const struct packet *pkt,
						const struct weir_vip *vip,
						const struct weir_backend *backend)
{
	__u32 udp_bytes = sizeof(struct udphdr) + pkt->ip_bytes;
	struct udphdr gue = {
		.source = gue_source_port(&pkt->flow),
		.dest = vip->gue_port_be,
		.len = bpf_htons(udp_bytes),
	};
	__u64 sum =
		pkt->has_odd_bytes ? weir_sum_of_bytes(ctx, pkt) : sum_of_sound_packet(ctx, pkt);

	/* The ffff of a v4-mapped address counts for nothing in a one's complement sum. */
	sum += sum_address(&backend->outer_source) + sum_address(&backend->address) +
	       bpf_htonl(IPPROTO_UDP) + bpf_htonl(udp_bytes) + gue.source + gue.dest + gue.len;
	gue.check = ~fold(sum);
	if (!gue.check)
		gue.check = 0xffff; /* zero would say that there is none (RFC 768) */
	return gue;
}

/* Puts the packet, whose padding is gone, behind an outer IP header and a shim between the two,
 * which may have no bytes. */
static __always_inline int push_outer(struct xdp_md *ctx, const struct packet *pkt,
				      const struct weir_backend *backend, __u8 protocol,
				      const struct udphdr *shim, __u32 shim_bytes)
{
	int is_v4 = is_v4_mapped(&backend->address);
	__u32 ip_bytes = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct link_layer link = {};
	struct udphdr *to;
	void *ip;

	link_layer_to(ctx, pkt, backend, &link);
	/* What is written is at most this, which the packet that follows makes room for in any
	 * case. */
	ip = open_frame(ctx, pkt, &link, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6),
			ip_bytes + shim_bytes, sizeof(struct ipv6hdr));
	if (!ip)
		return -1;
	if (is_v4)
		write_outer_ipv4(ip, backend, pkt, protocol, shim_bytes + pkt->ip_bytes);
	else
		write_outer_ipv6(ip, backend, pkt, protocol, shim_bytes + pkt->ip_bytes);
	to = ip + ip_bytes;
	if (!shim_bytes)
		return 0;
	if ((void *)(to + 1) > packet_end(ctx))
		return -1; /* the room has just been made; only the verifier asks */
	*to = *shim;
	return 0;
}

/*
 * IP in IP: RFC 2003 (4in4), RFC 2473 (4in6, 6in6), RFC 4213 (6in4). And generic UDP encapsulation,
 * variant 1: the payload is the IP packet, told by its version field (draft-ietf-intarea-gue-09,
 * section 4), with an outer source port that varies with the flow, so that the backend's NIC
 * spreads flows over its queues. The packet has been admitted.
 */
static __always_inline enum weir_verdict encapsulate(struct xdp_md *ctx, const struct packet *pkt,
						     const struct weir_vip *vip,
						     const struct weir_backend *backend)
{
	__u8 protocol = pkt->ip_version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	struct udphdr gue = {};
	__u32 gue_bytes = 0;

	if (vip->mode == WEIR_MODE_GUE) {
		gue = gue_header(ctx, pkt, vip, backend);
		gue_bytes = sizeof(gue);
		protocol = IPPROTO_UDP;
	}
	if (trim_padding(ctx, pkt) || push_outer(ctx, pkt, backend, protocol, &gue, gue_bytes))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom */
	if (gue_bytes)
		return send_out(ctx, backend, WEIR_TX_GUE, WEIR_REDIRECT_GUE);
	return send_out(ctx, backend, WEIR_TX_IPIP, WEIR_REDIRECT_IPIP);
}

static __always_inline enum weir_verdict rewrite_macs(struct xdp_md *ctx, const struct packet *pkt,
						      const struct weir_backend *backend)
{
	__be16 type = pkt->ip_version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	struct link_layer link = {};

	link_layer_to(ctx, pkt, backend, &link);
	if (!open_frame(ctx, pkt, &link, type, 0, 0))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom for a tag */
	return send_out(ctx, backend, WEIR_TX_L2, WEIR_REDIRECT_L2);
}
