/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What the two decapsulation programs share: lists, the reader of a tunnel packet, and the
 * decision. Nothing here changes a packet; how headers are taken off differs between XDP and tc.
 *
 * Tunnels: IP in IP (RFC 2003, RFC 2473, RFC 4213: 4in4, 6in6, 4in6, 6in4) and GUE
 * (draft-ietf-intarea-gue: variant 1, and variant 0 with nothing but its base header).
 *
 * Whoever may send such packets decides what source address the inner ones appear to come from, so
 * the balancers are listed, and so are the VIPs that this host owns. What is not for us by these
 * lists is *foreign*. It is passed untouched by default: the host may have tunnels of its own, also
 * from the nodes that the balancers run on (an overlay of pods, a site-to-site tunnel), and without
 * them the kernel refuses the packet itself, by protocol or port unreachable. To drop them here
 * would break the former to gain nothing for the latter. The exception is a host with a tunnel
 * device that takes packets from anyone (tunl0, sit0 up); weir_decap_drop_foreign is for it.
 */

#include "bpf/checksum.h"
#include "bpf/parse.h"

/* The includer has said what a program is given: decap_context, and where its frame lies:
 * frame_start() and frame_end(). */

/* 1: any source is a balancer; for networks that filter tunnel packets at their border. */
const volatile __u8 weir_decap_any_source;
/* 1: any inner destination is a VIP of this host. */
const volatile __u8 weir_decap_any_vip;
/* 1: foreign tunnel packets are dropped instead of passed. */
const volatile __u8 weir_decap_drop_foreign;
/* UDP destination port of GUE, host order; 0: UDP is none of our business. */
const volatile __u16 weir_decap_gue_port = WEIR_DECAP_GUE_PORT;

/* Addresses of balancers: a set, the value is not read. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_DECAP_SOURCES_MAX);
	__type(key, struct weir_address);
	__type(value, __u32);
} weir_decap_sources SEC(".maps");

/* Prefixes of VIPs: a set, the value is not read. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, WEIR_DECAP_VIPS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weir_decap_vip_key);
	__type(value, __u32);
} weir_decap_vips SEC(".maps");

/* enum weir_decap_verdict → counter. Written by the program, summed by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_DECAP_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct weir_counter);
} weir_decap_counters SEC(".maps");

#define LINK_BYTES_MAX	   22  /* an Ethernet header with both */
#define HEADERS_BYTES_MAX  148 /* link 22, outer IP 60 and UDP 8, GUE 4, inner IP 40, rounded up */
#define INNER_OFFSET_MASK  127 /* link and outer headers: 94 at most; tells the verifier so */
#define UDP_BLOCK_BYTES	   512 /* what bpf_csum_diff() takes at once before Linux 6.13 */
#define UDP_BLOCKS_MAX	   18  /* 9216 bytes, the usual limit of jumbo frames */
#define GUE_VARIANT_DIRECT 1   /* the payload of UDP is the inner packet */
#define IPV4_CHECK_OFFSET  10

enum ecn { ECN_NOT_ECT = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3 }; /* RFC 3168, section 5 */

struct vlan_tag {
	__be16 tci;
	__be16 type; /* of what follows */
};

/* Variant 0 (draft-ietf-intarea-gue, section 3.1). */
struct gue_header {
	__u8 variant_control_length; /* all zero: variant 0, no control message, no extensions */
	__u8 protocol;
	__be16 flags; /* say which extensions follow */
};

/* What is known of a tunnel packet. Offsets are from the start of the frame. */
struct tunnel {
	struct weir_address source; /* of the outer header */
	struct weir_address vip;    /* destination of the inner one */
	__u64 outer_sum;	    /* of the pseudo header, for GUE's UDP checksum */
	__u32 frame_bytes;	    /* as received */
	__u32 link_bytes;	    /* Ethernet header and tags: they stay */
	__u32 udp_offset;	    /* 0: no UDP header */
	__u32 udp_bytes;	    /* header and payload */
	__u32 inner_offset;	    /* link_bytes … inner_offset is what is taken off */
	__u16 udp_check;
	__u16 inner_word;  /* first two bytes of the inner header as they are to be, as on the wire
			    */
	__u16 inner_check; /* its IPv4 header checksum as it is to be */
	__u8 inner_version;
	__u8 is_outer_ipv4;
	__u8 outer_ecn;
	__u8 is_fragment;
	__u8 is_malformed;
	__u8 is_wrong_sum; /* the outer IPv4 header's */
	__u8 changes_ecn;  /* inner_word, and inner_check of IPv4, are to be written */
};

static __always_inline int is_ipip(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

/* Whose ending it is that lists do not decide: pass and drop of the same reason. */
static __always_inline enum weir_decap_verdict foreign(enum weir_decap_verdict pass,
						       enum weir_decap_verdict drop)
{
	return weir_decap_drop_foreign ? drop : pass;
}

/* The type of what follows the Ethernet header and its tags; 0 where there is no room for it. */
static __always_inline __be16 read_link(struct cursor *cur, struct tunnel *tunnel)
{
	const struct ethhdr *eth = take(cur, sizeof(*eth));
	const struct vlan_tag *tag;
	__be16 type;

	if (!eth)
		return 0;
	type = eth->h_proto;
	tunnel->link_bytes = sizeof(*eth);
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		tag = take(cur, sizeof(*tag));
		if (!tag)
			return 0;
		type = tag->type;
		tunnel->link_bytes += sizeof(*tag);
	}
	return type;
}

/* A UDP datagram is a tunnel packet by its port. `addresses_sum` is the pseudo header's share. */
static __always_inline enum weir_decap_verdict read_udp(struct cursor *cur, struct tunnel *tunnel,
							__u32 outer_bytes, __u64 addresses_sum)
{
	const struct udphdr *udp = take(cur, sizeof(*udp));

	if (!udp || !weir_decap_gue_port || udp->dest != bpf_htons(weir_decap_gue_port))
		return WEIR_DECAP_PASS_OTHER;
	tunnel->udp_offset = tunnel->link_bytes + outer_bytes;
	tunnel->inner_offset = tunnel->udp_offset + sizeof(*udp);
	tunnel->udp_bytes = bpf_ntohs(udp->len);
	tunnel->udp_check = udp->check;
	tunnel->outer_sum = addresses_sum + bpf_htons(IPPROTO_UDP) + udp->len;
	if (tunnel->udp_bytes < sizeof(*udp) || tunnel->udp_bytes - sizeof(*udp) > cur->left)
		tunnel->is_malformed = 1;
	else
		cur->left = tunnel->udp_bytes - sizeof(*udp);
	return WEIR_DECAP_CONTINUE;
}

/* Options, at most ten words, into the header's sum; 0 where they are not all there. */
static __always_inline int take_options(struct cursor *cur, __u32 bytes, __u64 *sum)
{
	const __u32 *word;

	for (int i = 0; i < 10; i++) {
		if (i * sizeof(*word) >= bytes)
			break;
		word = take(cur, sizeof(*word));
		if (!word)
			return 0;
		*sum += *word;
	}
	return 1;
}

/* The header checksum is verified, since it is our last chance: with the header it goes away
 * (RFC 1122, section 3.2.1.2: a host must). It guards the address that we look up. */
static __always_inline enum weir_decap_verdict read_outer_ipv4(struct cursor *cur,
							       struct tunnel *tunnel)
{
	__u32 available = cur->left;
	const struct iphdr *ip = take(cur, sizeof(*ip));
	const __u32 *words = (const __u32 *)ip;
	__u32 ip_bytes, header_bytes;
	__u64 sum;

	if (!ip || (!is_ipip(ip->protocol) && ip->protocol != IPPROTO_UDP))
		return WEIR_DECAP_PASS_OTHER;
	header_bytes = ip->ihl * 4;
	ip_bytes = bpf_ntohs(ip->tot_len);
	tunnel->source = v4_mapped(ip->saddr);
	tunnel->is_outer_ipv4 = 1;
	tunnel->outer_ecn = ip->tos & 3;
	tunnel->inner_offset = tunnel->link_bytes + header_bytes;
	tunnel->is_fragment = !!(ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK));
	sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
	if (ip->version != 4 || header_bytes < sizeof(*ip) || ip_bytes < header_bytes ||
	    ip_bytes > available || !take_options(cur, header_bytes - sizeof(*ip), &sum)) {
		tunnel->is_malformed = 1;
		return is_ipip(ip->protocol) ? WEIR_DECAP_CONTINUE : WEIR_DECAP_PASS_OTHER;
	}
	tunnel->is_wrong_sum = fold(sum) != 0xffff;
	cur->left = ip_bytes - header_bytes;
	if (ip->protocol == IPPROTO_UDP) {
		/* Ports are in the first fragment only. */
		if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))
			return WEIR_DECAP_PASS_OTHER;
		return read_udp(cur, tunnel, header_bytes, (__u64)ip->saddr + ip->daddr);
	}
	tunnel->inner_version = ip->protocol == IPPROTO_IPIP ? 4 : 6;
	return WEIR_DECAP_CONTINUE;
}

/* Balancers put no extension header on, so a packet with one is none of theirs. */
static __always_inline enum weir_decap_verdict read_outer_ipv6(struct cursor *cur,
							       struct tunnel *tunnel)
{
	const struct ipv6hdr *ip = take(cur, sizeof(*ip));
	const __u32 *words = (const __u32 *)ip;
	__u64 sum;

	if (!ip || (!is_ipip(ip->nexthdr) && ip->nexthdr != IPPROTO_UDP))
		return WEIR_DECAP_PASS_OTHER;
	__builtin_memcpy(&tunnel->source, &ip->saddr, sizeof(tunnel->source));
	tunnel->outer_ecn = ip->flow_lbl[0] >> 4 & 3;
	tunnel->inner_offset = tunnel->link_bytes + sizeof(*ip);
	if (ip->version != 6 || bpf_ntohs(ip->payload_len) > cur->left) {
		tunnel->is_malformed = 1;
		return is_ipip(ip->nexthdr) ? WEIR_DECAP_CONTINUE : WEIR_DECAP_PASS_OTHER;
	}
	cur->left = bpf_ntohs(ip->payload_len);
	if (ip->nexthdr == IPPROTO_UDP) {
		sum = (__u64)words[2] + words[3] + words[4] + words[5] + words[6] + words[7] +
		      words[8] + words[9];
		return read_udp(cur, tunnel, sizeof(*ip), sum);
	}
	tunnel->inner_version = ip->nexthdr == IPPROTO_IPIP ? 4 : 6;
	return WEIR_DECAP_CONTINUE;
}

static __always_inline enum weir_decap_verdict read_outer(struct cursor *cur, struct tunnel *tunnel)
{
	switch (read_link(cur, tunnel)) {
	case bpf_htons(ETH_P_IP):
		return read_outer_ipv4(cur, tunnel);
	case bpf_htons(ETH_P_IPV6):
		return read_outer_ipv6(cur, tunnel);
	default:
		return WEIR_DECAP_PASS_OTHER;
	}
}

/* Our own form of IPv4 addresses never stands in an IPv6 header (RFC 4291, section 2.5.5.2); were
 * it looked up, a forged one would pass for a balancer. */
static __always_inline int is_listed_source(const struct tunnel *tunnel)
{
	if (weir_decap_any_source)
		return 1;
	if (!tunnel->is_outer_ipv4 && is_v4_mapped(&tunnel->source))
		return 0;
	return !!bpf_map_lookup_elem(&weir_decap_sources, &tunnel->source);
}

static __always_inline int is_listed_vip(const struct tunnel *tunnel)
{
	struct weir_decap_vip_key key = {.prefix_bits = 128, .address = tunnel->vip};

	if (weir_decap_any_vip)
		return 1;
	if (tunnel->inner_version == 6 && is_v4_mapped(&tunnel->vip))
		return 0; /* as above */
	return !!bpf_map_lookup_elem(&weir_decap_vips, &key);
}

/* What stands between UDP and the inner packet; 0 unless it is something that we understand. */
static __always_inline int read_gue(struct cursor *cur, struct tunnel *tunnel)
{
	const __u8 *first = cur->pos;
	const struct gue_header *gue;

	if (cur->left < 1 || (void *)(first + 1) > cur->end)
		return 0;
	if (*first >> 6 == GUE_VARIANT_DIRECT) {
		tunnel->inner_version = *first >> 4; /* 4 to 7; the inner header decides */
		return 1;
	}
	gue = take(cur, sizeof(*gue));
	if (!gue || gue->variant_control_length || gue->flags || !is_ipip(gue->protocol))
		return 0;
	tunnel->inner_version = gue->protocol == IPPROTO_IPIP ? 4 : 6;
	tunnel->inner_offset += sizeof(*gue);
	return 1;
}

/* The inner header must be there, be of the family that was announced, and not claim more than was
 * carried; the host checks the rest. 0 where it does not. */
static __always_inline int read_inner(struct cursor *cur, struct tunnel *tunnel)
{
	__u32 available = cur->left;

	if (tunnel->inner_version == 4) {
		const struct iphdr *ip = take(cur, sizeof(*ip));

		if (!ip || ip->version != 4 || ip->ihl * 4 < sizeof(*ip) ||
		    bpf_ntohs(ip->tot_len) < ip->ihl * 4 || bpf_ntohs(ip->tot_len) > available)
			return 0;
		tunnel->vip = v4_mapped(ip->daddr);
		tunnel->inner_word = *(const __u16 *)ip;
		tunnel->inner_check = ip->check;
		return 1;
	} else {
		const struct ipv6hdr *ip = take(cur, sizeof(*ip));

		if (!ip || ip->version != 6 || bpf_ntohs(ip->payload_len) > cur->left)
			return 0;
		__builtin_memcpy(&tunnel->vip, &ip->daddr, sizeof(tunnel->vip));
		tunnel->inner_word = *(const __u16 *)ip;
		return 1;
	}
}

/* RFC 6040, section 4.2: what routers marked on the outer header goes inside. A mark that an inner
 * packet cannot carry, since its sender does not know ECN, is carried by its loss. */
static __always_inline enum weir_decap_verdict combine_ecn(struct tunnel *tunnel)
{
	const __u16 before = tunnel->inner_word;
	const int shift = tunnel->inner_version == 4 ? 0 : 4; /* within the second byte */
	__u16 host_word = bpf_ntohs(before);
	__u8 ecn = host_word >> shift & 3;

	if (tunnel->outer_ecn == ECN_CE && ecn == ECN_NOT_ECT)
		return WEIR_DECAP_DROP_ECN;
	if (tunnel->outer_ecn == ecn || ecn == ECN_NOT_ECT || ecn == ECN_CE)
		return WEIR_DECAP_CONTINUE;
	if (tunnel->outer_ecn != ECN_CE && !(tunnel->outer_ecn == ECN_ECT1 && ecn == ECN_ECT0))
		return WEIR_DECAP_CONTINUE;
	host_word = (host_word & ~(3 << shift)) | tunnel->outer_ecn << shift;
	tunnel->inner_word = bpf_htons(host_word);
	/* RFC 1624, equation 3: a checksum that was wrong stays wrong. */
	tunnel->inner_check =
		~fold((__u64)(__u16)~tunnel->inner_check + (__u16)~before + tunnel->inner_word);
	tunnel->changes_ecn = 1;
	return WEIR_DECAP_CONTINUE;
}

/* All but the UDP checksum, which takes the whole datagram. What is foreign is found out first: it
 * must not be dropped for what its own tunnel may be fine with. */
static __always_inline enum weir_decap_verdict read_tunnel(struct cursor *cur,
							   struct tunnel *tunnel)
{
	enum weir_decap_verdict verdict = read_outer(cur, tunnel);

	if (verdict != WEIR_DECAP_CONTINUE)
		return verdict;
	if (!is_listed_source(tunnel))
		return foreign(WEIR_DECAP_PASS_SOURCE, WEIR_DECAP_DROP_SOURCE);
	/* Balancers set the don't-fragment flag, so a fragment is not one of theirs. */
	if (tunnel->is_fragment)
		return foreign(WEIR_DECAP_PASS_FRAGMENT, WEIR_DECAP_DROP_FRAGMENT);
	if (tunnel->is_malformed || (tunnel->udp_offset && !read_gue(cur, tunnel)) ||
	    !read_inner(cur, tunnel))
		return WEIR_DECAP_DROP_MALFORMED;
	if (!is_listed_vip(tunnel))
		return foreign(WEIR_DECAP_PASS_VIP, WEIR_DECAP_DROP_VIP);
	if (tunnel->is_wrong_sum)
		return WEIR_DECAP_DROP_CHECKSUM;
	return combine_ecn(tunnel);
}

static __always_inline int has_udp_sum(const struct tunnel *tunnel)
{
	return tunnel->udp_offset && (tunnel->udp_check || !tunnel->is_outer_ipv4);
}

/*
 * The sums are functions of their own, which the verifier checks once: inlined, every length of a
 * tail would be checked again with every kind of tunnel. They are given what it can be told in a
 * signature, offsets from the frame's start, and answer -1 where the frame is shorter than that.
 */

/* Less than a block, in its powers of two: the verifier wants to know sizes. */
__noinline int weir_decap_sum_tail(decap_context *ctx, __u32 offset, __u32 bytes)
{
	struct cursor cur = {.end = frame_end(ctx), .left = bytes};
	__u8 last[2] = {0, 0};
	__u64 sum = 0;
	__u16 word;
	void *block;

	cur.pos = frame_start(ctx) + (offset & SUM_OFFSET_MASK);
	for (__u32 size = UDP_BLOCK_BYTES / 2; size >= 4; size /= 2) {
		if (!(bytes & size))
			continue;
		block = take(&cur, size);
		if (!block)
			return -1;
		sum += (__u32)bpf_csum_diff(NULL, 0, block, size, 0);
	}
	if (bytes & 2) {
		block = take(&cur, sizeof(word));
		if (!block)
			return -1;
		sum += *(__u16 *)block;
	}
	if (bytes & 1) {
		block = take(&cur, 1);
		if (!block)
			return -1;
		last[0] = *(__u8 *)block;
		__builtin_memcpy(&word, last, sizeof(word)); /* padded with zero (RFC 768) */
		sum += word;
	}
	return fold(sum);
}

__noinline int weir_decap_sum(decap_context *ctx, __u32 offset, __u32 bytes)
{
	struct cursor cur = {.end = frame_end(ctx), .left = bytes};
	__u64 sum = 0;
	void *block;
	int tail;

	if (bytes >= (UDP_BLOCKS_MAX + 1) * UDP_BLOCK_BYTES)
		return -1;
	cur.pos = frame_start(ctx) + (offset & INNER_OFFSET_MASK);
	for (int i = 0; i < UDP_BLOCKS_MAX && cur.left >= UDP_BLOCK_BYTES; i++) {
		block = take(&cur, UDP_BLOCK_BYTES);
		if (!block)
			return -1;
		sum += (__u32)bpf_csum_diff(NULL, 0, block, UDP_BLOCK_BYTES, 0);
	}
	tail = weir_decap_sum_tail(ctx, offset + bytes - cur.left, cur.left);
	return tail < 0 ? tail : fold(sum + tail);
}

/*
 * The outer UDP checksum, in full: pseudo header, UDP header, and every byte of the payload. It is
 * the only thing that guards the outer IPv6 header, the ports and GUE's own header, and the inner
 * packet may have nothing that guards its data (UDP over IPv4 without a checksum). To trust the
 * inner checksum instead, and verify the headers alone, would save some 100 ns per packet and miss
 * that. Over IPv4 zero means that there is none (RFC 768), over IPv6 a tunnel may only do without
 * by agreement (RFC 6936), which our balancers do not ask for.
 *
 * Datagrams longer than what jumbo frames carry are refused, so that the work is bounded.
 */
static __always_inline int is_udp_sum_right(decap_context *ctx, const struct tunnel *tunnel)
{
	int sum;

	if (!tunnel->udp_check)
		return 0;
	sum = weir_decap_sum(ctx, tunnel->udp_offset, tunnel->udp_bytes);
	return sum >= 0 && fold(tunnel->outer_sum + sum) == 0xffff;
}

static __always_inline void count(enum weir_decap_verdict verdict, __u32 frame_bytes)
{
	__u32 index = verdict;
	struct weir_counter *counter = bpf_map_lookup_elem(&weir_decap_counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += frame_bytes;
}

/* Whether the host gets the packet; the one place that knows. */
static __always_inline int is_pass(enum weir_decap_verdict verdict)
{
	switch (verdict) {
#define WEIR_DECAP_ACTION_PASS 1
#define WEIR_DECAP_ACTION_DROP 0
#define WEIR_DECAP_VERDICT(symbol, action, label, sentence)                                        \
	case WEIR_DECAP_##symbol:                                                                  \
		return WEIR_DECAP_ACTION_##action;
#include "bpf/decap_verdicts.def"
#undef WEIR_DECAP_VERDICT
#undef WEIR_DECAP_ACTION_PASS
#undef WEIR_DECAP_ACTION_DROP
	case WEIR_DECAP_CONTINUE:
	case WEIR_DECAP_VERDICT_COUNT:
		break;
	}
	return 0;
}
