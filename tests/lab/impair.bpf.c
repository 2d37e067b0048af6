// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A cable between two devices that loses one frame in a hundred, at random and in both directions.
 * Loaded on both devices of the lab's host "impair"; impair_devices says where a frame goes on.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define LOSS_PERCENT 1

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 2);
	__type(key, __u32);   /* ifindex that the frame came in by */
	__type(value, __u32); /* ifindex that it leaves by */
} impair_devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32); /* 0: passed on, 1: lost */
	__type(value, __u64);
} impair_counters SEC(".maps");

SEC("xdp") int impair(struct xdp_md *ctx)
{
	__u32 lost = bpf_get_prandom_u32() % 100 < LOSS_PERCENT;
	__u64 *counter = bpf_map_lookup_elem(&impair_counters, &lost);

	if (counter)
		(*counter)++;
	return lost ? XDP_DROP : bpf_redirect_map(&impair_devices, ctx->ingress_ifindex, XDP_DROP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
