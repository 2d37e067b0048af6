/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* What stands before the IP packet: room for headers, Ethernet header, VLAN tags, the way out. */

#include "bpf/checksum.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

/* The Ethernet header and tags of a frame that is sent. In 16-bit words: more alignment an Ethernet
 * header does not have, and for less the compiler copies byte by byte. */
struct link_layer {
	__u16 macs[6]; /* destination, source */
	__u16 tags[VLAN_BYTES_MAX / 2];
	__u32 tag_bytes; /* 0, 4 or 8 */
};

static __always_inline __u32 tag_bytes_of(const struct packet *pkt)
{
	return pkt->l2_bytes - ETH_HLEN;
}

/* Back to who sent the frame. Returns -1 where there is no frame, which only the verifier asks. */
static __always_inline int link_layer_back(const struct xdp_md *ctx, const struct packet *pkt,
					   struct link_layer *link)
{
	const __u16 *macs = packet_data(ctx);

	if ((void *)(macs + 6) > packet_end(ctx))
		return -1;
	for (int i = 0; i < 3; i++) {
		link->macs[i] = macs[3 + i];
		link->macs[3 + i] = macs[i];
	}
	__builtin_memcpy(link->tags, pkt->tags, sizeof(link->tags));
	link->tag_bytes = tag_bytes_of(pkt);
	return 0;
}

/* To a backend's next hop. */
static __always_inline void link_layer_to(const struct xdp_md *ctx, const struct packet *pkt,
					  const struct weir_backend *backend,
					  struct link_layer *link)
{
	__builtin_memcpy(link->macs, &backend->macs, sizeof(link->macs));
	link->tag_bytes = 0;
	if (backend->vlan == WEIR_VLAN_KEEP) {
		if (tag_bytes_of(pkt) && backend->egress_ifindex == ctx->ingress_ifindex) {
			__builtin_memcpy(link->tags, pkt->tags, sizeof(link->tags));
			link->tag_bytes = tag_bytes_of(pkt);
		}
	} else if (backend->vlan != WEIR_VLAN_NONE) {
		link->tags[0] = bpf_htons(ETH_P_8021Q);
		link->tags[1] = bpf_htons(backend->vlan);
		link->tag_bytes = VLAN_TAG_BYTES;
	}
}

/*
 * Moves the head of the frame so that Ethernet header, the tags of `link` and `outer_bytes` stand
 * before the IP packet, writes the link layer, and returns where the outer headers go, of which
 * `access_bytes` may be written. NULL: the driver keeps no headroom. Pointers into the frame that
 * were read before are void.
 */
static __always_inline void *open_frame(struct xdp_md *ctx, const struct packet *pkt,
					const struct link_layer *link, __be16 type,
					__u32 outer_bytes, __u32 access_bytes)
{
	int delta = (int)pkt->l2_bytes - (int)(ETH_HLEN + link->tag_bytes + outer_bytes);
	__u16 *out;

	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return NULL;
	out = packet_data(ctx);
	if ((void *)out + ETH_HLEN + VLAN_BYTES_MAX > packet_end(ctx)) /* an IP header is larger */
		return NULL;
	for (int i = 0; i < 6; i++)
		out[i] = link->macs[i];
	out += 6;
	if (link->tag_bytes) {
		out[0] = link->tags[0];
		out[1] = link->tags[1];
		out += 2;
		if (link->tag_bytes == VLAN_BYTES_MAX) {
			out[0] = link->tags[2];
			out[1] = link->tags[3];
			out += 2;
		}
	}
	*out++ = type;
	return (void *)out + access_bytes > packet_end(ctx) ? NULL : out;
}

/* Takes off what follows the IP packet: padding that Ethernet added would become payload of a
 * tunnel, and part of what an answer quotes. */
static __always_inline int trim_padding(struct xdp_md *ctx, const struct packet *pkt)
{
	int padding = pkt->frame_bytes - pkt->l2_bytes - pkt->ip_bytes;

	return padding > 0 ? bpf_xdp_adjust_tail(ctx, -padding) : 0;
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
