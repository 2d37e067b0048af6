// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The same at tc's ingress (clsact or tcx), for devices and programs that XDP does not go with. It
 * works on socket buffers: the kernel's merging of segments (GRO) has been done, the packet may lie
 * in pieces, and its headers' offsets and protocol have been noted, which must stay right.
 *
 * A tag that the kernel has taken into the buffer stays there. One that is still in the frame (the
 * second of two) means that the kernel's idea of the protocol is the tag, and room cannot be
 * adjusted under it: load the program on the VLAN's own device.
 */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

typedef struct __sk_buff decap_context;
#define frame_start(skb) ((void *)(long)(skb)->data)
#define frame_end(skb)	 ((void *)(long)(skb)->data_end)
#include "bpf/decap.h"

#define FAMILIES_DIFFER_BYTES ((int)(sizeof(struct ipv6hdr) - sizeof(struct iphdr)))

/* Makes the first `bytes` of the packet, or all of it if it is shorter, readable in place. */
static __always_inline int make_linear(struct __sk_buff *skb, __u32 bytes)
{
	__u32 there = skb->data_end - skb->data;

	if (there >= bytes || there >= skb->len)
		return 1;
	return !bpf_skb_pull_data(skb, bytes < skb->len ? bytes : skb->len);
}

/* By the protocol alone, wherever the header lies: what is no tunnel is not to be copied together.
 */
static __always_inline int may_be_tunnel(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN;
	__u8 protocol;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		offset += offsetof(struct iphdr, protocol);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		offset += offsetof(struct ipv6hdr, nexthdr);
	else
		return 0;
	if (bpf_skb_load_bytes(skb, offset, &protocol, sizeof(protocol)))
		return 0;
	return is_ipip(protocol) || protocol == IPPROTO_UDP;
}

/* Through the helper and not in place: a checksum of the whole packet that the device computed has
 * to follow the change. */
static __always_inline int write_inner_header(struct __sk_buff *skb, const struct tunnel *tunnel)
{
	__u32 inner = tunnel->inner_offset;

	if (bpf_skb_store_bytes(skb, inner, &tunnel->inner_word, sizeof(tunnel->inner_word),
				BPF_F_RECOMPUTE_CSUM))
		return 0;
	if (tunnel->inner_version != 4)
		return 1;
	return !bpf_skb_store_bytes(skb, inner + IPV4_CHECK_OFFSET, &tunnel->inner_check,
				    sizeof(tunnel->inner_check), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Where the families differ, the buffer's protocol has to change too. Flags of
 * bpf_skb_adjust_room() do that since Linux 6.3; bpf_skb_change_proto() does it everywhere. That
 * one exchanges an IPv4 header for an IPv6 one, or back, so it grows or shrinks the outer header by
 * 20 bytes, whose content does not matter: they go away at once. The kernel goes by the buffer's
 * protocol, whoever looks at the frame (packet sockets, a bridge) by the type in it.
 */
static __always_inline int change_family(struct __sk_buff *skb, __be16 type)
{
	return !bpf_skb_change_proto(skb, type, 0) &&
	       !bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type), 0);
}

/*
 * The size of merged segments (FIXED_GSO) is one of the inner packet's data, so it stays. The
 * verdict of a device about checksums was about the outer ones; adjusting room takes it back, so
 * that the host verifies the inner ones.
 */
static __always_inline enum weir_decap_verdict strip(struct __sk_buff *skb,
						     const struct tunnel *tunnel)
{
	int outer_bytes = tunnel->inner_offset - tunnel->link_bytes;

	if (tunnel->changes_ecn && !write_inner_header(skb, tunnel))
		return WEIR_DECAP_DROP_INTERNAL;
	if (tunnel->is_outer_ipv4 && tunnel->inner_version == 6) {
		if (!change_family(skb, bpf_htons(ETH_P_IPV6)))
			return WEIR_DECAP_DROP_INTERNAL;
		outer_bytes += FAMILIES_DIFFER_BYTES;
	} else if (!tunnel->is_outer_ipv4 && tunnel->inner_version == 4) {
		if (!change_family(skb, bpf_htons(ETH_P_IP)))
			return WEIR_DECAP_DROP_INTERNAL;
		outer_bytes -= FAMILIES_DIFFER_BYTES;
	}
	if (bpf_skb_adjust_room(skb, -outer_bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return WEIR_DECAP_DROP_INTERNAL;
	return WEIR_DECAP_PASS_INNER;
}

static __always_inline enum weir_decap_verdict verify(struct __sk_buff *skb,
						      const struct tunnel *tunnel)
{
	/* One buffer, several datagrams, each with its own tunnel headers: they cannot all be
	 * taken off. The kernel does this only where it was told to. (Merged TCP in IP in IP is one
	 * packet with one set of headers.) */
	if (tunnel->udp_offset && skb->gso_size)
		return WEIR_DECAP_DROP_MERGED;
	if (!has_udp_sum(tunnel))
		return WEIR_DECAP_CONTINUE;
	if (!make_linear(skb, skb->len))
		return WEIR_DECAP_DROP_INTERNAL;
	if (!is_udp_sum_right(skb, tunnel))
		return WEIR_DECAP_DROP_CHECKSUM;
	return WEIR_DECAP_CONTINUE;
}

static __always_inline enum weir_decap_verdict decapsulate(struct __sk_buff *skb,
							   struct tunnel *tunnel)
{
	enum weir_decap_verdict verdict;
	struct cursor cur = {};

	tunnel->frame_bytes = skb->len;
	if (!may_be_tunnel(skb))
		return WEIR_DECAP_PASS_OTHER;
	if (!make_linear(skb, HEADERS_BYTES_MAX))
		return WEIR_DECAP_DROP_INTERNAL;
	cur.pos = frame_start(skb);
	cur.end = frame_end(skb);
	cur.left = skb->len;
	verdict = read_tunnel(&cur, tunnel);
	if (verdict == WEIR_DECAP_CONTINUE)
		verdict = verify(skb, tunnel);
	return verdict == WEIR_DECAP_CONTINUE ? strip(skb, tunnel) : verdict;
}

/* UNSPEC leaves a packet that goes on to the programs after this one. */
SEC("tc")
int weir_decap_tc(struct __sk_buff *skb)
{
	struct tunnel tunnel = {};
	enum weir_decap_verdict verdict = decapsulate(skb, &tunnel);

	count(verdict, tunnel.frame_bytes);
	return is_pass(verdict) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

char weir_decap_tc_license[] SEC("license") = "Dual BSD/GPL";
