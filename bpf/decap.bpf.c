// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * On a backend: takes off the outer header that a balancer put on, and gives the packet to the
 * host, which owns the VIP. For kernels without tunnel devices, and cheaper than one.
 *
 * Whoever may send such packets decides what source address they appear to come from, so the
 * balancers are listed. ECN marks that a router set on the outer header are not carried inside.
 */

#include "bpf/parse.h"

/* 1: any source is a balancer; for networks that filter tunnel packets at their border. */
const volatile __u8 weir_decap_any_source;

/* Addresses of balancers: a set, the value is not read. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_DECAP_SOURCES_MAX);
	__type(key, struct weir_address);
	__type(value, __u32);
} weir_decap_sources SEC(".maps");

/* enum weir_decap_verdict → counter. Written by the program, summed by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_DECAP_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct weir_counter);
} weir_decap_counters SEC(".maps");

/* What is known of a tunnel packet once its outer header has been read. */
struct tunnel {
	struct weir_address source;
	__u32 outer_bytes; /* 0: this is no tunnel packet */
	__u32 frame_bytes;
	__u8 inner_protocol;
	__u8 is_malformed;
};

static __always_inline int is_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

static __always_inline void read_outer_ipv4(struct cursor *cur, struct tunnel *tunnel)
{
	__u32 available = cur->left;
	const struct iphdr *ip = take(cur, sizeof(*ip));
	__u32 ip_bytes;

	if (!ip || !is_tunnel(ip->protocol))
		return;
	tunnel->source = v4_mapped(ip->saddr);
	tunnel->inner_protocol = ip->protocol;
	tunnel->outer_bytes = ip->ihl * 4;
	ip_bytes = bpf_ntohs(ip->tot_len);
	/* Balancers set the don't-fragment flag, so a fragment is not one of theirs. */
	if (ip->version != 4 || tunnel->outer_bytes < sizeof(*ip) ||
	    ip_bytes < tunnel->outer_bytes || ip_bytes > available ||
	    ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK)) {
		tunnel->is_malformed = 1;
		return;
	}
	cur->left = ip_bytes - sizeof(*ip);
	if (!take(cur, tunnel->outer_bytes - sizeof(*ip)))
		tunnel->is_malformed = 1;
}

static __always_inline void read_outer_ipv6(struct cursor *cur, struct tunnel *tunnel)
{
	const struct ipv6hdr *ip = take(cur, sizeof(*ip));

	if (!ip || !is_tunnel(ip->nexthdr))
		return;
	__builtin_memcpy(&tunnel->source, &ip->saddr, sizeof(tunnel->source));
	tunnel->inner_protocol = ip->nexthdr;
	tunnel->outer_bytes = sizeof(*ip);
	if (ip->version != 6 || bpf_ntohs(ip->payload_len) > cur->left)
		tunnel->is_malformed = 1;
	else
		cur->left = bpf_ntohs(ip->payload_len);
}

/* The inner header must be there, be of the family that the outer one announced, and not claim
 * more than was carried; the host checks the rest. */
static __always_inline int is_inner_sound(struct cursor *cur, __u8 protocol)
{
	__u32 available = cur->left;

	if (protocol == IPPROTO_IPIP) {
		const struct iphdr *ip = take(cur, sizeof(*ip));

		return ip && ip->version == 4 && bpf_ntohs(ip->tot_len) <= available;
	} else {
		const struct ipv6hdr *ip = take(cur, sizeof(*ip));

		return ip && ip->version == 6 && bpf_ntohs(ip->payload_len) <= cur->left;
	}
}

static __always_inline enum weir_decap_verdict strip(struct xdp_md *ctx,
						     const struct tunnel *tunnel)
{
	struct ethhdr *eth = packet_data(ctx);
	struct ethhdr saved;

	if ((void *)(eth + 1) > packet_end(ctx))
		return WEIR_DECAP_DROP_MALFORMED; /* it has been read; only the verifier asks */
	saved = *eth;
	saved.h_proto = tunnel->inner_protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP)
							       : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(ctx, tunnel->outer_bytes))
		return WEIR_DECAP_DROP_MALFORMED; /* as above: an inner header follows */
	eth = packet_data(ctx);
	if ((void *)(eth + 1) > packet_end(ctx))
		return WEIR_DECAP_DROP_MALFORMED; /* as above */
	*eth = saved;
	return WEIR_DECAP_PASS_INNER;
}

static __always_inline enum weir_decap_verdict decapsulate(struct xdp_md *ctx,
							   struct tunnel *tunnel)
{
	struct cursor cur = {.pos = packet_data(ctx), .end = packet_end(ctx)};
	const struct ethhdr *eth;

	cur.left = cur.end - cur.pos;
	tunnel->frame_bytes = cur.left;
	eth = take(&cur, sizeof(*eth));
	if (!eth)
		return WEIR_DECAP_PASS_OTHER;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		read_outer_ipv4(&cur, tunnel);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		read_outer_ipv6(&cur, tunnel);
	if (!tunnel->inner_protocol)
		return WEIR_DECAP_PASS_OTHER;
	if (!weir_decap_any_source && !bpf_map_lookup_elem(&weir_decap_sources, &tunnel->source))
		return WEIR_DECAP_DROP_SOURCE;
	if (tunnel->is_malformed || !is_inner_sound(&cur, tunnel->inner_protocol))
		return WEIR_DECAP_DROP_MALFORMED;
	return strip(ctx, tunnel);
}

SEC("xdp")
int weir_decap(struct xdp_md *ctx)
{
	struct tunnel tunnel = {};
	__u32 verdict = decapsulate(ctx, &tunnel);
	struct weir_counter *counter = bpf_map_lookup_elem(&weir_decap_counters, &verdict);

	if (counter) {
		counter->packets++;
		counter->bytes += tunnel.frame_bytes;
	}
	return verdict <= WEIR_DECAP_PASS_INNER ? XDP_PASS : XDP_DROP;
}

char weir_decap_license[] SEC("license") = "Dual BSD/GPL";
