// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * On the balancer's end of an L7 worker's veth: what the worker sends is a finished frame, next
 * hop included, and goes out of the network device as it is. While one weir-l7 takes over from
 * another, it hands on what belongs to the old one's connections: such a frame says so by being
 * addressed to its own source, which no frame for the network is.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"

/* Slot 0: the network device. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} weir_return_device SEC(".maps");

/* The balancer's end of a worker's veth → that of the same worker in the other lane, both as
 * interface indexes. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 2 * WEIR_L7_WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} weir_other_lane SEC(".maps");

/* enum weir_return_verdict → counter. Written by the program, summed by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_RETURN_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct weir_counter);
} weir_return_counters SEC(".maps");

static __always_inline int is_for_other_lane(const struct xdp_md *ctx)
{
	/* Both addresses, three words each. */
	const __u16 *words = (const void *)(long)ctx->data;

	if ((const void *)(words + ETH_ALEN) > (const void *)(long)ctx->data_end)
		return 0;
	return words[0] == words[3] && words[1] == words[4] && words[2] == words[5];
}

SEC("xdp")
int weir_l7_return(struct xdp_md *ctx)
{
	__u32 verdict = WEIR_RETURN_REDIRECT;
	struct weir_counter *counter;
	long action;

	if (is_for_other_lane(ctx)) {
		verdict = WEIR_RETURN_OTHER_LANE;
		action = bpf_redirect_map(&weir_other_lane, ctx->ingress_ifindex, 0);
	} else {
		action = bpf_redirect_map(&weir_return_device, 0, 0);
	}
	if (action != XDP_REDIRECT)
		verdict = WEIR_RETURN_DROP;
	counter = bpf_map_lookup_elem(&weir_return_counters, &verdict);
	if (counter) {
		counter->packets++;
		counter->bytes += ctx->data_end - ctx->data;
	}
	return verdict == WEIR_RETURN_DROP ? XDP_DROP : XDP_REDIRECT;
}

char weir_l7_return_license[] SEC("license") = "Dual BSD/GPL";
