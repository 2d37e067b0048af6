/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The one parser: frame in, struct packet and verdict out. It reads, and changes nothing.
 *
 * Whether a destination is a VIP is not known here, and what is for no VIP must be passed however
 * strange it looks. So for PACKET_IP a verdict other than WEIR_CONTINUE means: this is how the
 * packet ends *if* its destination is a VIP's address.
 *
 * The header checksum of IPv4 is not verified: the one change we make to that header is
 * incremental, so a wrong checksum stays wrong and the backend drops the packet.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"

#define ARP_HARDWARE_ETHERNET  1 /* linux/if_arp.h would bring in sockets and libc */
#define IPV4_MORE_FRAGMENTS    0x2000
#define IPV4_OFFSET_MASK       0x1fff
#define IPV6_FRAGMENT_MASK     0xfff9 /* offset and M flag (RFC 8200, section 4.5) */
#define IPV6_EXTENSIONS_MAX    4      /* RFC 8504, section 5.3 lets a node set such a limit */
#define ICMPV6_ND_FIRST	       133    /* router solicitation … */
#define ICMPV6_ND_SOLICITATION 135
#define ICMPV6_ND_LAST	       137 /* … redirect (RFC 4861, section 4) */

enum packet_kind {
	PACKET_FOREIGN = 0, /* nothing in it can be ours: the parser's verdict is final */
	PACKET_NEIGHBOR,    /* ARP or neighbour solicitation; flow.destination is its target */
	PACKET_IP,
};

struct packet {
	struct weir_flow_key flow; /* ports are zero unless the parser returned WEIR_CONTINUE */
	enum packet_kind kind;
	__u32 frame_bytes;  /* as received */
	__u32 ip_bytes;	    /* as the IP header says; less than the frame where it is padded */
	__u8 ip_version;    /* 4 or 6 */
	__u8 traffic_class; /* DSCP and ECN */
	__u8 tcp_flags;	    /* zero for UDP */
	__u8 icmp_type;	    /* of ICMPv6 only */
	__u32 vip_id;	    /* set once known; zero is no id */
	__u32 backend_id;   /* set once chosen; zero is no id */
	__u32 is_new_flow;
};

#define TCP_FIN 0x01
#define TCP_RST 0x04

/* `left` is what the headers read so far allow to be read, `end` what the verifier knows. */
struct cursor {
	void *pos;
	void *end;
	__u32 left;
};

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__be32 target_ip;
} __attribute__((packed));

/* RFC 4861, section 4.3. */
struct neighbor_solicitation {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 reserved;
	struct weir_address target;
};

struct ipv6_extension {
	__u8 next_header;
	__u8 length;	 /* in units of eight bytes beyond the first eight */
	__be16 fragment; /* of a fragment header only */
	__u8 rest[4];
};

static __always_inline void *packet_data(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *packet_end(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The next bytes, or NULL where they are not all there. Moves the cursor only on success. */
static __always_inline void *take(struct cursor *cur, __u32 bytes)
{
	void *taken = cur->pos;

	if (cur->left < bytes || taken + bytes > cur->end)
		return NULL;
	cur->pos = taken + bytes;
	cur->left -= bytes;
	return taken;
}

static __always_inline int is_v4_mapped(const struct weir_address *address)
{
	__u32 words[4];

	__builtin_memcpy(words, address, sizeof(words));
	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline struct weir_address v4_mapped(__be32 ipv4)
{
	const __be32 words[4] = {0, 0, bpf_htonl(0xffff), ipv4};
	struct weir_address address;

	__builtin_memcpy(&address, words, sizeof(address));
	return address;
}

static __always_inline enum weir_verdict parse_tcp(struct cursor *cur, struct packet *pkt)
{
	const struct tcphdr *tcp = take(cur, sizeof(*tcp));
	__u32 header_bytes;

	if (!tcp)
		return WEIR_DROP_TRUNCATED;
	header_bytes = tcp->doff * 4;
	if (header_bytes < sizeof(*tcp))
		return WEIR_DROP_MALFORMED;
	if (header_bytes - sizeof(*tcp) > cur->left)
		return WEIR_DROP_TRUNCATED;
	pkt->flow.source_port_be = tcp->source;
	pkt->flow.destination_port_be = tcp->dest;
	pkt->tcp_flags = ((const __u8 *)tcp)[13];
	return WEIR_CONTINUE;
}

static __always_inline enum weir_verdict parse_udp(struct cursor *cur, struct packet *pkt)
{
	const struct udphdr *udp = take(cur, sizeof(*udp));
	__u32 udp_bytes;

	if (!udp)
		return WEIR_DROP_TRUNCATED;
	udp_bytes = bpf_ntohs(udp->len);
	if (udp_bytes < sizeof(*udp))
		return WEIR_DROP_MALFORMED;
	if (udp_bytes - sizeof(*udp) > cur->left)
		return WEIR_DROP_TRUNCATED;
	pkt->flow.source_port_be = udp->source;
	pkt->flow.destination_port_be = udp->dest;
	return WEIR_CONTINUE;
}

/* A solicitation sent to the solicited-node group asks for its target, not for the group. */
static __always_inline enum weir_verdict parse_icmpv6(struct cursor *cur, struct packet *pkt)
{
	const struct neighbor_solicitation *solicitation;
	const __u8 *type = cur->pos;

	if (cur->left < 1 || (void *)(type + 1) > cur->end)
		return WEIR_PASS_NO_PORTS;
	pkt->icmp_type = *type;
	if (*type != ICMPV6_ND_SOLICITATION || pkt->flow.destination.bytes[0] != 0xff)
		return WEIR_PASS_NO_PORTS;
	solicitation = take(cur, sizeof(*solicitation));
	if (!solicitation)
		return WEIR_PASS_NO_PORTS;
	pkt->flow.destination = solicitation->target;
	pkt->kind = PACKET_NEIGHBOR;
	return WEIR_PASS_NOT_A_VIP;
}

static __always_inline enum weir_verdict parse_transport(struct cursor *cur, struct packet *pkt)
{
	switch (pkt->flow.protocol) {
	case IPPROTO_TCP:
		return parse_tcp(cur, pkt);
	case IPPROTO_UDP:
		return parse_udp(cur, pkt);
	case IPPROTO_ICMPV6:
		return pkt->ip_version == 6 ? parse_icmpv6(cur, pkt) : WEIR_PASS_NO_PORTS;
	default:
		return WEIR_PASS_NO_PORTS;
	}
}

static __always_inline enum weir_verdict parse_ipv4(struct cursor *cur, struct packet *pkt)
{
	__u32 available = cur->left;
	const struct iphdr *ip = take(cur, sizeof(*ip));
	__u32 header_bytes, options_bytes;

	if (!ip)
		return WEIR_PASS_NOT_IP;
	pkt->kind = PACKET_IP;
	pkt->ip_version = 4;
	pkt->flow.source = v4_mapped(ip->saddr);
	pkt->flow.destination = v4_mapped(ip->daddr);
	pkt->flow.protocol = ip->protocol;
	pkt->traffic_class = ip->tos;
	pkt->ip_bytes = bpf_ntohs(ip->tot_len);
	header_bytes = ip->ihl * 4;

	if (ip->version != 4 || header_bytes < sizeof(*ip) || pkt->ip_bytes < header_bytes)
		return WEIR_DROP_MALFORMED;
	if (pkt->ip_bytes > available)
		return WEIR_DROP_TRUNCATED;
	/* Only the first fragment carries ports (RFC 791, section 3.2), so the rest of the
	 * datagram could not be sent to the same backend. Refuse them all. */
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK))
		return WEIR_DROP_FRAGMENT;

	/* From here on the datagram's length counts, not the frame's: Ethernet pads. */
	cur->left = pkt->ip_bytes - sizeof(*ip);
	options_bytes = header_bytes - sizeof(*ip); /* at most 40: ihl has four bits */
	if (!take(cur, options_bytes))
		return WEIR_DROP_TRUNCATED;
	return parse_transport(cur, pkt);
}

static __always_inline int is_ipv6_extension(__u8 next_header)
{
	return next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING ||
	       next_header == IPPROTO_DSTOPTS || next_header == IPPROTO_FRAGMENT;
}

static __always_inline enum weir_verdict skip_extensions(struct cursor *cur, struct packet *pkt)
{
	const struct ipv6_extension *extension;

	for (int i = 0; i < IPV6_EXTENSIONS_MAX; i++) {
		if (!is_ipv6_extension(pkt->flow.protocol))
			return WEIR_CONTINUE;
		extension = take(cur, sizeof(*extension));
		if (!extension)
			return WEIR_DROP_TRUNCATED;
		/* A fragment header may stand on a whole datagram, then it says nothing
		 * (RFC 8200, section 4.5; RFC 6946). Its length field is reserved. */
		if (pkt->flow.protocol == IPPROTO_FRAGMENT) {
			if (extension->fragment & bpf_htons(IPV6_FRAGMENT_MASK))
				return WEIR_DROP_FRAGMENT;
		} else if (!take(cur, extension->length * 8)) {
			return WEIR_DROP_TRUNCATED;
		}
		pkt->flow.protocol = extension->next_header;
	}
	return is_ipv6_extension(pkt->flow.protocol) ? WEIR_DROP_MALFORMED : WEIR_CONTINUE;
}

static __always_inline enum weir_verdict parse_ipv6(struct cursor *cur, struct packet *pkt)
{
	const struct ipv6hdr *ip = take(cur, sizeof(*ip));
	enum weir_verdict verdict;

	if (!ip)
		return WEIR_PASS_NOT_IP;
	pkt->ip_version = 6;
	__builtin_memcpy(&pkt->flow.source, &ip->saddr, sizeof(pkt->flow.source));
	__builtin_memcpy(&pkt->flow.destination, &ip->daddr, sizeof(pkt->flow.destination));
	/* Our own form of IPv4 addresses never stands on the wire (RFC 4291, section 2.5.5.2);
	 * were it looked up, it would find an IPv4 VIP. */
	if (is_v4_mapped(&pkt->flow.destination))
		return WEIR_PASS_NOT_A_VIP;
	pkt->kind = PACKET_IP;
	pkt->flow.protocol = ip->nexthdr;
	pkt->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	pkt->ip_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);

	if (ip->version != 6)
		return WEIR_DROP_MALFORMED;
	if (pkt->ip_bytes - sizeof(*ip) > cur->left)
		return WEIR_DROP_TRUNCATED;
	cur->left = pkt->ip_bytes - sizeof(*ip);
	verdict = skip_extensions(cur, pkt);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	return parse_transport(cur, pkt);
}

static __always_inline enum weir_verdict parse_arp(struct cursor *cur, struct packet *pkt)
{
	const struct arp_ipv4 *arp = take(cur, sizeof(*arp));

	if (!arp || arp->hardware_type != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return WEIR_PASS_NOT_IP;
	pkt->flow.destination = v4_mapped(arp->target_ip);
	pkt->kind = PACKET_NEIGHBOR;
	return WEIR_PASS_NOT_IP;
}

static __always_inline enum weir_verdict parse_packet(const struct xdp_md *ctx, struct packet *pkt)
{
	struct cursor cur = {.pos = packet_data(ctx), .end = packet_end(ctx)};
	const struct ethhdr *eth;

	cur.left = cur.end - cur.pos;
	pkt->frame_bytes = cur.left;
	eth = take(&cur, sizeof(*eth));
	if (!eth)
		return WEIR_PASS_NOT_IP;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(&cur, pkt);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(&cur, pkt);
	case bpf_htons(ETH_P_ARP):
		return parse_arp(&cur, pkt);
	default:
		return WEIR_PASS_NOT_IP;
	}
}
