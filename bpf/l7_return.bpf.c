// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * On the balancer's end of an L7 worker's veth: what the worker sends is a finished frame, next
 * hop included, and goes out of the network device as it is.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"

/* Slot 0: the network device. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} weir_return_device SEC(".maps");

/* enum weir_return_verdict → counter. Written by the program, summed by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_RETURN_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct weir_counter);
} weir_return_counters SEC(".maps");

SEC("xdp")
int weir_l7_return(struct xdp_md *ctx)
{
	__u32 verdict = WEIR_RETURN_REDIRECT;
	struct weir_counter *counter;

	if (bpf_redirect_map(&weir_return_device, 0, 0) != XDP_REDIRECT)
		verdict = WEIR_RETURN_DROP;
	counter = bpf_map_lookup_elem(&weir_return_counters, &verdict);
	if (counter) {
		counter->packets++;
		counter->bytes += ctx->data_end - ctx->data;
	}
	return verdict == WEIR_RETURN_REDIRECT ? XDP_REDIRECT : XDP_DROP;
}

char weir_l7_return_license[] SEC("license") = "Dual BSD/GPL";
