/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What the balancer answers by itself, in the VIP's name and out of the device that the packet
 * came in by: ICMP errors, echo replies, RST. "Too big" has a rate of its own, so that nobody who
 * pings, or knocks on closed ports, takes path MTU discovery away from others; all else draws on
 * one. What makes them are global functions, which the verifier checks once: they are rare and
 * long.
 */

#include "bpf/frame.h"
#include "bpf/guard.h"
#include "bpf/icmp.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

#define ANSWER_HOP_LIMIT     64
#define ANSWER_TRAFFIC_CLASS 0xc0	 /* internetwork control (RFC 1812, section 4.3.2.5) */
#define IPV4_QUOTE_BYTES     (576 - 28)	 /* RFC 1812, section 4.3.2.3 */
#define IPV6_QUOTE_BYTES     (1280 - 48) /* RFC 4443, section 2.4 (c) */
#define IPV6_MTU_MIN	     1280	 /* RFC 8200, section 5 */
#define ANSWER_WORDS_MAX     ((ICMP_HEADER_BYTES + IPV6_QUOTE_BYTES) / 4)

static __always_inline int may_answer(enum weir_verdict answer)
{
	__u32 key = answer == WEIR_TX_TOO_BIG ? WEIR_ANSWER_TOO_BIG : WEIR_ANSWER_OTHER;
	__u64 *answers = bpf_map_lookup_elem(&weir_answers, &key);

	return answers && take_token(answers, weir_answers_per_s);
}

/* Errors are sent about whole packets or first fragments of one host to another, and never about
 * ICMP errors (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e)). */
static __always_inline int deserves_error(const struct packet *pkt)
{
	const __u8 *source = pkt->flow.source.bytes;

	if (pkt->is_icmp_error || pkt->fragment == FRAGMENT_LATER)
		return 0;
	if (pkt->ip_version == 6)
		return source[0] != 0xff && (source[0] || source[15] > 1);
	return source[12] && source[12] != 127 && source[12] < 224;
}

/* Answers go back to where the packet came from, from where it wanted to go. */
static __always_inline void write_answer_ipv4(struct iphdr *ip, const struct packet *pkt,
					      __u8 protocol, __u32 bytes)
{
	struct iphdr header = {
		.version = 4,
		.ihl = 5,
		.tos = ANSWER_TRAFFIC_CLASS,
		.tot_len = bpf_htons(bytes),
		.frag_off = bpf_htons(0x4000), /* don't fragment: then it needs no id */
		.ttl = ANSWER_HOP_LIMIT,
		.protocol = protocol,
	};

	__builtin_memcpy(&header.saddr, pkt->flow.destination.bytes + 12, sizeof(header.saddr));
	__builtin_memcpy(&header.daddr, pkt->flow.source.bytes + 12, sizeof(header.daddr));
	header.check = ipv4_checksum(&header);
	*ip = header;
}

static __always_inline void write_answer_ipv6(struct ipv6hdr *ip, const struct packet *pkt,
					      __u8 protocol, __u32 payload_bytes)
{
	struct ipv6hdr header = {
		.version = 6,
		.priority = ANSWER_TRAFFIC_CLASS >> 4,
		.payload_len = bpf_htons(payload_bytes),
		.nexthdr = protocol,
		.hop_limit = ANSWER_HOP_LIMIT,
	};

	__builtin_memcpy(&header.saddr, &pkt->flow.destination, sizeof(header.saddr));
	__builtin_memcpy(&header.daddr, &pkt->flow.source, sizeof(header.daddr));
	*ip = header;
}

/* One's complement sum of an answer's pseudo header; both families' have the same form once the
 * addresses are 16 bytes, because the ffff of a v4-mapped one counts for nothing. */
static __always_inline __u64 answer_pseudo_sum(const struct packet *pkt, __u8 protocol, __u32 bytes)
{
	return sum_address(&pkt->flow.source) + sum_address(&pkt->flow.destination) +
	       bpf_htonl(bytes) + bpf_htonl(protocol);
}

/* `words` words, of which the verifier knows only that they end before the packet does. */
static __always_inline __u64 sum_words(const struct xdp_md *ctx, const __u32 *at, __u32 words)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < ANSWER_WORDS_MAX; i++) {
		if (i >= words || (void *)(at + i + 1) > packet_end(ctx))
			break;
		sum += at[i];
	}
	return sum;
}

/* Makes an ICMP error of the packet, which it quotes. `rest` is the second word of its header. */
__noinline int weir_make_icmp_error(struct xdp_md *ctx, const struct packet *pkt, __u8 type,
				    __u8 code, __be32 rest)
{
	__u32 ip_header_bytes, quote_bytes, icmp_bytes, *icmp;
	struct link_layer link;
	int is_v4, surplus;
	__u64 sum = 0;
	void *ip;

	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	is_v4 = pkt->ip_version == 4;
	ip_header_bytes = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	quote_bytes = is_v4 ? IPV4_QUOTE_BYTES : IPV6_QUOTE_BYTES;
	if (pkt->ip_bytes < quote_bytes)
		quote_bytes = pkt->ip_bytes & ~3U;
	icmp_bytes = ICMP_HEADER_BYTES + quote_bytes;
	surplus = pkt->frame_bytes - pkt->l2_bytes - quote_bytes;
	if (link_layer_back(ctx, pkt, &link) || (surplus && bpf_xdp_adjust_tail(ctx, -surplus)))
		return -1;
	ip = open_frame(ctx, pkt, &link, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6),
			ip_header_bytes + ICMP_HEADER_BYTES,
			sizeof(struct ipv6hdr) + ICMP_HEADER_BYTES);
	if (!ip)
		return -1;
	if (is_v4) {
		write_answer_ipv4(ip, pkt, IPPROTO_ICMP, ip_header_bytes + icmp_bytes);
		icmp = ip + sizeof(struct iphdr);
	} else {
		write_answer_ipv6(ip, pkt, IPPROTO_ICMPV6, icmp_bytes);
		icmp = ip + sizeof(struct ipv6hdr);
		sum = answer_pseudo_sum(pkt, IPPROTO_ICMPV6, icmp_bytes);
	}
	icmp[0] = bpf_htonl(type << 24 | code << 16);
	icmp[1] = rest;
	sum += sum_words(ctx, icmp, icmp_bytes / 4);
	((__u16 *)icmp)[1] = ~fold(sum);
	return 0;
}

/* `verdict` if the error is sent, `otherwise` if none may be sent about this packet. */
static __always_inline enum weir_verdict answer_error(struct xdp_md *ctx, const struct packet *pkt,
						      __u16 type_and_code, __be32 rest,
						      enum weir_verdict verdict,
						      enum weir_verdict otherwise)
{
	if (!deserves_error(pkt))
		return otherwise;
	if (!may_answer(verdict))
		return WEIR_DROP_ICMP_RATE;
	if (weir_make_icmp_error(ctx, pkt, type_and_code >> 8, type_and_code & 0xff, rest))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom */
	return verdict;
}

static __always_inline int forbids_fragments(const struct xdp_md *ctx, const struct packet *pkt)
{
	const struct iphdr *ip = network_header(ctx, pkt);

	if (pkt->ip_version == 6)
		return 1;
	return (void *)(ip + 1) <= packet_end(ctx) && ip->frag_off & bpf_htons(0x4000);
}

/* RFC 1191 and RFC 8201. A sender that allows fragments would not listen,
 * and XDP cannot make them. */
static __always_inline enum weir_verdict answer_too_big(struct xdp_md *ctx,
							const struct packet *pkt)
{
	__u32 mtu = pkt->mtu;

	if (!forbids_fragments(ctx, pkt))
		return WEIR_DROP_TOO_BIG;
	if (pkt->ip_version == 4)
		return answer_error(ctx, pkt, ICMP_UNREACHABLE << 8 | ICMP_CODE_TOO_BIG,
				    bpf_htonl(mtu), WEIR_TX_TOO_BIG, WEIR_DROP_TOO_BIG);
	if (mtu < IPV6_MTU_MIN)
		mtu = IPV6_MTU_MIN;
	return answer_error(ctx, pkt, ICMPV6_TOO_BIG << 8, bpf_htonl(mtu), WEIR_TX_TOO_BIG,
			    WEIR_DROP_TOO_BIG);
}

static __always_inline enum weir_verdict answer_ttl_exceeded(struct xdp_md *ctx,
							     const struct packet *pkt)
{
	__u16 type = pkt->ip_version == 4 ? ICMP_TIME_EXCEEDED : ICMPV6_TIME_EXCEEDED;

	return answer_error(ctx, pkt, type << 8, 0, WEIR_TX_TTL_EXCEEDED, WEIR_DROP_TTL);
}

/* RFC 9293, section 3.10.7.1: what a closed port sends in answer to a segment of so many bytes of
 * payload. The checksum is left out. */
static __always_inline struct tcphdr reset_for(const struct tcphdr *tcp, __u32 payload_bytes)
{
	struct tcphdr reset = {
		.source = tcp->dest,
		.dest = tcp->source,
		.doff = sizeof(reset) / 4,
		.rst = 1,
	};

	if (tcp->ack) {
		reset.seq = tcp->ack_seq;
	} else {
		reset.ack_seq =
			bpf_htonl(bpf_ntohl(tcp->seq) + payload_bytes + tcp->syn + tcp->fin);
		reset.ack = 1;
	}
	return reset;
}

/* The segment becomes the RST: it is at least as long. */
__noinline int weir_make_reset(struct xdp_md *ctx, const struct packet *pkt)
{
	struct link_layer link;
	struct tcphdr reset, *tcp;
	int is_v4, surplus;
	__u32 ip_bytes;
	void *ip;

	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	is_v4 = pkt->ip_version == 4;
	ip_bytes = (is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + sizeof(reset);
	surplus = pkt->frame_bytes - pkt->l2_bytes - ip_bytes;
	tcp = transport_header(ctx, pkt);
	if ((void *)(tcp + 1) > packet_end(ctx))
		return -1; /* the parser saw it; only the verifier asks */
	reset = reset_for(tcp, pkt->ip_bytes - pkt->header_bytes - tcp->doff * 4);
	if (link_layer_back(ctx, pkt, &link) || (surplus > 0 && bpf_xdp_adjust_tail(ctx, -surplus)))
		return -1;
	ip = open_frame(ctx, pkt, &link, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), 0,
			sizeof(struct iphdr) + sizeof(reset));
	if (!ip)
		return -1;
	if (is_v4) {
		write_answer_ipv4(ip, pkt, IPPROTO_TCP, ip_bytes);
		tcp = ip + sizeof(struct iphdr);
	} else {
		if (ip + sizeof(struct ipv6hdr) + sizeof(reset) > packet_end(ctx))
			return -1; /* it was there a moment ago; only the verifier asks */
		write_answer_ipv6(ip, pkt, IPPROTO_TCP, sizeof(reset));
		tcp = ip + sizeof(struct ipv6hdr);
	}
	*tcp = reset;
	tcp->check = ~fold(answer_pseudo_sum(pkt, IPPROTO_TCP, sizeof(reset)) +
			   sum_words(ctx, (const __u32 *)tcp, sizeof(reset) / 4));
	return 0;
}

/* What a host would say on whose port nobody listens. */
static __always_inline enum weir_verdict refuse(struct xdp_md *ctx, const struct packet *pkt,
						enum weir_verdict otherwise)
{
	if (pkt->flow.protocol == IPPROTO_UDP)
		return answer_error(ctx, pkt,
				    pkt->ip_version == 4
					    ? ICMP_UNREACHABLE << 8 | ICMP_CODE_PORT
					    : ICMPV6_UNREACHABLE << 8 | ICMPV6_CODE_PORT,
				    0, WEIR_TX_REFUSED, otherwise);
	if (pkt->tcp_flags & TCP_RST || pkt->fragment != FRAGMENT_NONE || !deserves_error(pkt))
		return otherwise;
	if (!may_answer(WEIR_TX_REFUSED))
		return WEIR_DROP_ICMP_RATE;
	return weir_make_reset(ctx, pkt) ? WEIR_DROP_INTERNAL : WEIR_TX_REFUSED;
}

static __always_inline int is_echo_request(const struct packet *pkt)
{
	return is_icmp(pkt) &&
	       pkt->icmp_type == (pkt->ip_version == 4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST);
}

static __always_inline void swap_ipv4(struct iphdr *ip)
{
	__be32 source = ip->saddr;
	__u16 old_word = bpf_htons(ip->ttl << 8 | ip->protocol);

	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->ttl = ANSWER_HOP_LIMIT;
	ip->check = checksum_replace(ip->check, old_word, bpf_htons(ip->ttl << 8 | ip->protocol));
}

static __always_inline void swap_ipv6(struct ipv6hdr *ip)
{
	struct in6_addr source = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->hop_limit = ANSWER_HOP_LIMIT;
}

/* The request becomes its reply in place: addresses change sides, which no sum notices, and the
 * type changes, by which the checksum is corrected. A wrong one stays wrong. */
__noinline int weir_make_echo_reply(struct xdp_md *ctx, const struct packet *pkt)
{
	struct link_layer link;
	__u16 *words;
	__u8 reply;
	int is_v4;
	void *ip;

	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	is_v4 = pkt->ip_version == 4;
	reply = is_v4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
	if (link_layer_back(ctx, pkt, &link))
		return -1;
	ip = open_frame(ctx, pkt, &link, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), 0,
			sizeof(struct iphdr));
	if (!ip)
		return -1;
	if (is_v4)
		swap_ipv4(ip);
	else if (ip + sizeof(struct ipv6hdr) <= packet_end(ctx))
		swap_ipv6(ip);
	words = transport_header(ctx, pkt);
	if ((void *)words + ICMP_HEADER_BYTES > packet_end(ctx))
		return -1; /* the parser saw it; only the verifier asks */
	words[1] = checksum_replace(words[1], words[0], bpf_htons(reply << 8));
	words[0] = bpf_htons(reply << 8);
	return 0;
}

static __always_inline enum weir_verdict answer_echo(struct xdp_md *ctx, const struct packet *pkt)
{
	/* The checksum of a fragmented request is about more than is here. */
	if (pkt->fragment != FRAGMENT_NONE)
		return WEIR_DROP_FRAGMENT;
	if (!deserves_error(pkt)) /* as for errors: who sends from such addresses gets nothing */
		return WEIR_DROP_MALFORMED;
	if (!may_answer(WEIR_TX_ECHO_REPLY))
		return WEIR_DROP_ICMP_RATE;
	return weir_make_echo_reply(ctx, pkt) ? WEIR_DROP_INTERNAL : WEIR_TX_ECHO_REPLY;
}

/* The last step before the end: verdicts that the sender should hear of become what he is told. */
static __always_inline enum weir_verdict tell_sender(struct xdp_md *ctx, const struct packet *pkt,
						     enum weir_verdict verdict)
{
	switch (verdict) {
	case WEIR_DROP_TOO_BIG:
		return answer_too_big(ctx, pkt);
	case WEIR_DROP_TTL:
		return answer_ttl_exceeded(ctx, pkt);
	case WEIR_TX_ECHO_REPLY:
		return answer_echo(ctx, pkt);
	case WEIR_DROP_NO_BACKEND:
	case WEIR_DROP_UNKNOWN_PORT:
		return pkt->may_refuse ? refuse(ctx, pkt, verdict) : verdict;
	default:
		return verdict;
	}
}
