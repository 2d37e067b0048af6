// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * On a backend, in XDP: takes off the outer headers that a balancer put on, and gives the packet to
 * the host, which owns the VIP. For kernels without tunnel devices, and cheaper than one. VLAN tags
 * that are still in the frame stay around the inner packet.
 */

#include "bpf/parse.h"

typedef struct xdp_md decap_context;
#define frame_start(ctx) packet_data(ctx)
#define frame_end(ctx)	 packet_end(ctx)
#include "bpf/decap.h"

#define MACS_BYTES 12

static __always_inline void write_inner_header(void *inner, const struct tunnel *tunnel)
{
	__builtin_memcpy(inner, &tunnel->inner_word, sizeof(tunnel->inner_word));
	if (tunnel->inner_version == 4)
		__builtin_memcpy(inner + IPV4_CHECK_OFFSET, &tunnel->inner_check,
				 sizeof(tunnel->inner_check));
}

/* The bounds that are checked here have been read before; only the verifier asks. Tags are moved as
 * they stand, and only the type of what follows the last of them changes. */
static __always_inline enum weir_decap_verdict strip(struct xdp_md *ctx,
						     const struct tunnel *tunnel)
{
	__u8 *frame = packet_data(ctx);
	void *inner = frame + (tunnel->inner_offset & INNER_OFFSET_MASK);
	__be16 type = tunnel->inner_version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	__u8 saved[LINK_BYTES_MAX];

	if (inner + sizeof(struct iphdr) > packet_end(ctx) ||
	    (void *)(frame + LINK_BYTES_MAX) > packet_end(ctx))
		return WEIR_DECAP_DROP_INTERNAL;
	if (tunnel->changes_ecn)
		write_inner_header(inner, tunnel);
	__builtin_memcpy(saved, frame, LINK_BYTES_MAX);
	if (bpf_xdp_adjust_head(ctx, tunnel->inner_offset - tunnel->link_bytes))
		return WEIR_DECAP_DROP_INTERNAL;
	frame = packet_data(ctx);
	if ((void *)(frame + LINK_BYTES_MAX) > packet_end(ctx))
		return WEIR_DECAP_DROP_INTERNAL;
	__builtin_memcpy(frame, saved, MACS_BYTES);
	switch (tunnel->link_bytes) {
	case sizeof(struct ethhdr):
		__builtin_memcpy(frame + 12, &type, sizeof(type));
		break;
	case sizeof(struct ethhdr) + sizeof(struct vlan_tag):
		__builtin_memcpy(frame + 12, saved + 12, 4);
		__builtin_memcpy(frame + 16, &type, sizeof(type));
		break;
	default:
		__builtin_memcpy(frame + 12, saved + 12, 8);
		__builtin_memcpy(frame + 20, &type, sizeof(type));
	}
	return WEIR_DECAP_PASS_INNER;
}

static __always_inline enum weir_decap_verdict decapsulate(struct xdp_md *ctx,
							   struct tunnel *tunnel)
{
	struct cursor cur = {.pos = packet_data(ctx), .end = packet_end(ctx)};
	enum weir_decap_verdict verdict;

	cur.left = cur.end - cur.pos;
	tunnel->frame_bytes = cur.left;
	verdict = read_tunnel(&cur, tunnel);
	if (verdict != WEIR_DECAP_CONTINUE)
		return verdict;
	if (has_udp_sum(tunnel) && !is_udp_sum_right(ctx, tunnel))
		return WEIR_DECAP_DROP_CHECKSUM;
	return strip(ctx, tunnel);
}

SEC("xdp")
int weir_decap(struct xdp_md *ctx)
{
	struct tunnel tunnel = {};
	enum weir_decap_verdict verdict = decapsulate(ctx, &tunnel);

	count(verdict, tunnel.frame_bytes);
	return is_pass(verdict) ? XDP_PASS : XDP_DROP;
}

char weir_decap_license[] SEC("license") = "Dual BSD/GPL";
