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
#define IPV6_OFFSET_MASK       0xfff8
#define VLAN_TAG_BYTES	       4
#define VLAN_TAGS_MAX	       2 /* 802.1ad around 802.1Q */
#define VLAN_BYTES_MAX	       (VLAN_TAGS_MAX * VLAN_TAG_BYTES)
#define IPV6_EXTENSIONS_MAX    4 /* RFC 8504, section 5.3 lets a node set such a limit */
#define ICMP_HEADER_BYTES      8
#define ICMPV6_ND_FIRST	       133 /* router solicitation … */
#define ICMPV6_ND_SOLICITATION 135
#define ICMPV6_ND_LAST	       137 /* … redirect (RFC 4861, section 4) */

enum packet_kind {
	PACKET_FOREIGN = 0, /* nothing in it can be ours: the parser's verdict is final */
	PACKET_NEIGHBOR,    /* ARP or neighbour solicitation; flow.destination is its target */
	PACKET_IP,
};

enum packet_fragment {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST, /* carries the ports */
	FRAGMENT_LATER,
};

struct packet {
	struct weir_flow_key flow; /* ports are zero unless the parser returned WEIR_CONTINUE; of
				    * an ICMP error, once resolved, the flow that it is about */
	enum packet_kind kind;
	enum packet_fragment fragment;
	__u32 frame_bytes;  /* as received */
	__u32 ip_bytes;	    /* as the IP header says; less than the frame where it is padded */
	__u32 l2_bytes;	    /* Ethernet header and tags */
	__u32 header_bytes; /* of IP, options and extension headers included */
	__u32 fragment_id_be;
	__u16 tags[VLAN_BYTES_MAX / 2]; /* as they stand in the frame; l2_bytes says how many */
	__u8 ip_version;		/* 4 or 6 */
	__u8 traffic_class;		/* DSCP and ECN */
	__u8 protocol;			/* that stands behind the IP header, errors' own included */
	__u8 fragment_protocol;		/* as every fragment of the datagram names it */
	__u8 tcp_flags;			/* zero for UDP */
	__u8 icmp_type;
	__u8 is_icmp_error; /* resolved: to be sent where the flow that it is about goes */
	__u8 may_refuse;    /* the verdicts "no backend" and "unknown port" may be answered */
	__u8 has_odd_bytes; /* not all bytes of the IP packet are under one transport checksum */
	__u32 vip_id;	    /* set once known; zero is no id */
	__u32 backend_id;   /* set once chosen; zero is no id */
	__u32 is_new_flow;
	__u32 mtu; /* with verdict WEIR_DROP_TOO_BIG: what would fit */
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

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

/* Read anew each time: the compiler must not carry one over a change of the packet's head, nor
 * merge two reads into a number that the verifier does not take for a pointer. */
static __always_inline void *packet_data(const struct xdp_md *ctx)
{
	return (void *)(long)*(const volatile __typeof__(ctx->data) *)&ctx->data;
}

static __always_inline void *packet_end(const struct xdp_md *ctx)
{
	return (void *)(long)*(const volatile __typeof__(ctx->data_end) *)&ctx->data_end;
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

static __always_inline int same_address(const struct weir_address *a, const struct weir_address *b)
{
	__u32 left[4], right[4];

	__builtin_memcpy(left, a, sizeof(left));
	__builtin_memcpy(right, b, sizeof(right));
	return !((left[0] ^ right[0]) | (left[1] ^ right[1]) | (left[2] ^ right[2]) |
		 (left[3] ^ right[3]));
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

static __always_inline __u32 protocol_word(__u8 protocol)
{
	return bpf_htonl((__u32)protocol << 24);
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
	pkt->flow.ports_be = *(const __u32 *)tcp;
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
	/* The length is the datagram's, of which a first fragment has only the beginning. */
	if (pkt->fragment == FRAGMENT_NONE && udp_bytes - sizeof(*udp) > cur->left)
		return WEIR_DROP_TRUNCATED;
	if (!udp->check || udp_bytes - sizeof(*udp) != cur->left)
		pkt->has_odd_bytes = 1;
	pkt->flow.ports_be = *(const __u32 *)udp;
	return WEIR_CONTINUE;
}

/* What an ICMP packet means for us is decided where its destination is known to be a VIP's. */
static __always_inline enum weir_verdict parse_icmp(struct cursor *cur, struct packet *pkt)
{
	const __u8 *type = cur->pos;

	if (cur->left < ICMP_HEADER_BYTES || (void *)(type + ICMP_HEADER_BYTES) > cur->end)
		return WEIR_PASS_NO_PORTS;
	pkt->icmp_type = *type;
	return WEIR_PASS_NO_PORTS;
}

/* A solicitation sent to the solicited-node group asks for its target, not for the group. */
static __always_inline enum weir_verdict parse_icmpv6(struct cursor *cur, struct packet *pkt)
{
	const struct neighbor_solicitation *solicitation;

	parse_icmp(cur, pkt);
	if (pkt->icmp_type != ICMPV6_ND_SOLICITATION || pkt->flow.destination.bytes[0] != 0xff)
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
	if (pkt->fragment == FRAGMENT_LATER)
		return WEIR_DROP_FRAGMENT; /* unless its first fragment has left its ports */
	switch (pkt->flow.protocol) {
	case IPPROTO_TCP:
		return parse_tcp(cur, pkt);
	case IPPROTO_UDP:
		return parse_udp(cur, pkt);
	case IPPROTO_ICMP:
		return pkt->ip_version == 4 ? parse_icmp(cur, pkt) : WEIR_PASS_NO_PORTS;
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
	__u32 options_bytes;

	if (!ip)
		return WEIR_PASS_NOT_IP;
	pkt->kind = PACKET_IP;
	pkt->ip_version = 4;
	pkt->flow.source = v4_mapped(ip->saddr);
	pkt->flow.destination = v4_mapped(ip->daddr);
	pkt->flow.protocol_be = protocol_word(ip->protocol);
	pkt->protocol = ip->protocol;
	pkt->traffic_class = ip->tos;
	pkt->ip_bytes = bpf_ntohs(ip->tot_len);
	pkt->header_bytes = ip->ihl * 4;

	if (ip->version != 4 || pkt->header_bytes < sizeof(*ip) ||
	    pkt->ip_bytes < pkt->header_bytes)
		return WEIR_DROP_MALFORMED;
	if (pkt->ip_bytes > available)
		return WEIR_DROP_TRUNCATED;
	/* Only the first fragment carries ports (RFC 791, section 3.2). */
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK)) {
		pkt->fragment = ip->frag_off & bpf_htons(IPV4_OFFSET_MASK) ? FRAGMENT_LATER
									   : FRAGMENT_FIRST;
		pkt->fragment_id_be = ip->id;
		pkt->fragment_protocol = ip->protocol;
		pkt->has_odd_bytes = 1;
	}

	/* From here on the datagram's length counts, not the frame's: Ethernet pads. */
	cur->left = pkt->ip_bytes - sizeof(*ip);
	options_bytes = pkt->header_bytes - sizeof(*ip); /* at most 40: ihl has four bits */
	if (options_bytes && !take(cur, options_bytes))
		return WEIR_DROP_TRUNCATED;
	return parse_transport(cur, pkt);
}

static __always_inline int is_ipv6_extension(__u8 next_header)
{
	return next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING ||
	       next_header == IPPROTO_DSTOPTS || next_header == IPPROTO_FRAGMENT;
}

/* A fragment header may stand on a whole datagram, then it says nothing (RFC 8200, section 4.5;
 * RFC 6946). */
static __always_inline void read_fragment_header(const struct ipv6_extension *extension,
						 struct packet *pkt)
{
	if (!(extension->fragment & bpf_htons(IPV6_FRAGMENT_MASK)))
		return;
	pkt->fragment =
		extension->fragment & bpf_htons(IPV6_OFFSET_MASK) ? FRAGMENT_LATER : FRAGMENT_FIRST;
	pkt->fragment_protocol = extension->next_header;
	__builtin_memcpy(&pkt->fragment_id_be, extension->rest, sizeof(pkt->fragment_id_be));
}

/* Steps over the extension header that is next. Returns whether another one may follow. */
static __always_inline int skip_extension(struct cursor *cur, struct packet *pkt,
					  enum weir_verdict *verdict)
{
	const struct ipv6_extension *extension;
	__u8 protocol = pkt->flow.protocol;

	if (!is_ipv6_extension(protocol))
		return 0;
	pkt->has_odd_bytes = 1;
	extension = take(cur, sizeof(*extension));
	if (!extension) {
		*verdict = WEIR_DROP_TRUNCATED;
		return 0;
	}
	pkt->flow.protocol_be = protocol_word(extension->next_header);
	if (protocol == IPPROTO_FRAGMENT) {
		read_fragment_header(extension, pkt);
		return pkt->fragment != FRAGMENT_LATER; /* what follows is payload */
	}
	if (take(cur, extension->length * 8))
		return 1;
	*verdict = WEIR_DROP_TRUNCATED;
	return 0;
}

static __always_inline enum weir_verdict skip_extensions(struct cursor *cur, struct packet *pkt)
{
	enum weir_verdict verdict = WEIR_CONTINUE;
	__u32 available = cur->left;

	/* IPV6_EXTENSIONS_MAX times. Not a loop: Linux 6.1 takes this one for an endless one. */
	if (skip_extension(cur, pkt, &verdict) && skip_extension(cur, pkt, &verdict) &&
	    skip_extension(cur, pkt, &verdict))
		skip_extension(cur, pkt, &verdict);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	pkt->header_bytes += available - cur->left;
	pkt->protocol = pkt->flow.protocol;
	if (pkt->fragment == FRAGMENT_LATER)
		return WEIR_CONTINUE;
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
	pkt->flow.protocol_be = protocol_word(ip->nexthdr);
	pkt->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	pkt->ip_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	pkt->header_bytes = sizeof(*ip);

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

/* The type of what an Ethernet header or a tag is followed by. */
static __always_inline int is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* Steps over up to two tags (IEEE 802.1Q, 802.1ad) and returns the type behind them. Tags that the
 * device takes off on its own are not seen by XDP at all. */
static __always_inline __be16 skip_tags(struct cursor *cur, struct packet *pkt, __be16 type)
{
	for (int i = 0; i < VLAN_TAGS_MAX && is_vlan(type); i++) {
		const __be16 *tag = take(cur, VLAN_TAG_BYTES);

		if (!tag)
			return 0;
		pkt->tags[2 * i] = type;
		pkt->tags[2 * i + 1] = tag[0];
		pkt->l2_bytes += VLAN_TAG_BYTES;
		type = tag[1];
	}
	return type;
}

/* What a whole link was sent is neither forwarded nor answered (RFC 1812, section 5.3.4; RFC 1122,
 * section 3.2.2). Neighbours' questions go to such addresses. */
static __always_inline enum weir_verdict for_one_host(const struct ethhdr *eth, struct packet *pkt,
						      enum weir_verdict verdict)
{
	if (!(eth->h_dest[0] & 1) || pkt->kind != PACKET_IP)
		return verdict;
	pkt->kind = PACKET_FOREIGN;
	return WEIR_PASS_GROUP;
}

static __always_inline enum weir_verdict parse_packet(const struct xdp_md *ctx, struct packet *pkt)
{
	struct cursor cur = {.pos = packet_data(ctx), .end = packet_end(ctx)};
	const struct ethhdr *eth;
	__be16 type;

	cur.left = cur.end - cur.pos;
	pkt->frame_bytes = cur.left;
	eth = take(&cur, sizeof(*eth));
	if (!eth)
		return WEIR_PASS_NOT_IP;
	pkt->l2_bytes = sizeof(*eth);
	type = eth->h_proto;
	if (is_vlan(type))
		type = skip_tags(&cur, pkt, type);
	switch (type) {
	case bpf_htons(ETH_P_IP):
		return for_one_host(eth, pkt, parse_ipv4(&cur, pkt));
	case bpf_htons(ETH_P_IPV6):
		return for_one_host(eth, pkt, parse_ipv6(&cur, pkt));
	case bpf_htons(ETH_P_ARP):
		return parse_arp(&cur, pkt);
	default:
		return WEIR_PASS_NOT_IP;
	}
}

/* Where the IP packet begins, and what follows its headers. The verifier forgets what it knew of
 * numbers that were stored; the masks are no limits of ours. */
static __always_inline void *network_header(const struct xdp_md *ctx, const struct packet *pkt)
{
	return packet_data(ctx) + (pkt->l2_bytes & 0x1f);
}

static __always_inline void *transport_header(const struct xdp_md *ctx, const struct packet *pkt)
{
	return network_header(ctx, pkt) + (pkt->header_bytes & 0x3fff);
}

static __always_inline int is_icmp(const struct packet *pkt)
{
	return pkt->protocol == (pkt->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* The first packet of a TCP connection. */
static __always_inline int is_syn(const struct packet *pkt)
{
	return (pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}
