// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Does nothing, and is needed: a veth receives frames that its peer sends by XDP_TX or by redirect
 * only while it has an XDP program itself.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int weir_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char weir_pass_license[] SEC("license") = "Dual BSD/GPL";
