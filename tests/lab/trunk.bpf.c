// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * VLAN tags for kernels without VLAN devices. trunk_push, at the client's egress, tags what goes to
 * the lab's VIPs; trunk_pop, at the ingress of client and backends, takes the tags off. What is in
 * between, bridge and balancer, sees a trunk.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TAGS_MAX 2

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TAGS_MAX);
	__type(key, __u32);   /* 0: the inner tag, 1: the outer one */
	__type(value, __u32); /* VLAN id; 0: no such tag */
} trunk_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32); /* 0: frames that got tags; 1: frames that had the tags of trunk_ids */
	__type(value, __u64);
} trunk_counters SEC(".maps");

static __always_inline __u32 id_of(__u32 tag)
{
	const __u32 *id = bpf_map_lookup_elem(&trunk_ids, &tag);

	return id ? *id : 0;
}

/* In frames, also where the kernel handles several as one buffer. */
static __always_inline void count(const struct __sk_buff *skb, __u32 key)
{
	__u64 *counter = bpf_map_lookup_elem(&trunk_counters, &key);

	if (counter)
		__sync_fetch_and_add(counter, skb->gso_segs ? skb->gso_segs : 1);
}

/* 203.0.113.0/24 and 2001:db8:77::/64, as in tools/lab/weirlab.py. */
static __always_inline int is_for_vip(struct __sk_buff *skb)
{
	struct ipv6hdr ip6;
	struct iphdr ip;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		return !bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) &&
		       (ip.daddr & bpf_htonl(0xffffff00)) == bpf_htonl(0xcb007100);
	return skb->protocol == bpf_htons(ETH_P_IPV6) &&
	       !bpf_skb_load_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6)) &&
	       ip6.daddr.s6_addr32[0] == bpf_htonl(0x20010db8) &&
	       ip6.daddr.s6_addr32[1] == bpf_htonl(0x00770000);
}

SEC("tc") int trunk_push(struct __sk_buff *skb)
{
	if (!id_of(0) || !is_for_vip(skb))
		return TC_ACT_OK;
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), id_of(0)))
		return TC_ACT_SHOT;
	if (id_of(1) && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), id_of(1)))
		return TC_ACT_SHOT;
	count(skb, 0);
	return TC_ACT_OK;
}

/* The kernel has moved the outermost tag out of the frame. Other tags than those of trunk_ids are
 * left, and then nobody takes the frame. */
SEC("tc") int trunk_pop(struct __sk_buff *skb)
{
	if (!skb->vlan_present)
		return TC_ACT_OK;
	if (id_of(1)) {
		if (skb->vlan_tci != id_of(1) || bpf_skb_vlan_pop(skb))
			return TC_ACT_SHOT;
	}
	if (!skb->vlan_present || skb->vlan_tci != id_of(0) || bpf_skb_vlan_pop(skb))
		return TC_ACT_SHOT;
	count(skb, 1);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
