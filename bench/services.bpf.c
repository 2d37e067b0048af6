// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Both ends of the way that `weir bench services` sends packets along, once through a balancer in
 * XDP and once through the kernel's NAT: services_send runs over copies of one frame (test-run with
 * live frames) and makes flows of them; services_drop_* count what arrives, as a frame or as a
 * packet of the kernel's, whichever costs least.
 */

/* Kernel style, as in bpf/, which the settings of this folder do not know. */
/* clang-format off */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FLOWS	   1024 /* a power of two */
#define FIRST_PORT 20000

struct frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame);
} services_frame SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} services_arrived SEC(".maps");

__u32 services_next;

SEC("xdp")
int services_send(struct xdp_md *ctx)
{
	struct frame *to = (void *)(long)ctx->data;
	struct frame *from;
	__u32 zero = 0;

	from = bpf_map_lookup_elem(&services_frame, &zero);
	if (!from || (void *)(to + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*to = *from; /* test-runs do not restore what was changed on the way */
	to->udp.source = bpf_htons(FIRST_PORT + (services_next++ & (FLOWS - 1)));
	return XDP_TX;
}

/* By one CPU: what is sent into a veth is received on the CPU that sent it. */
static __always_inline void count(void)
{
	__u32 zero = 0;
	__u64 *arrived = bpf_map_lookup_elem(&services_arrived, &zero);

	if (arrived)
		++*arrived;
}

SEC("xdp")
int services_drop_frame(struct xdp_md *ctx)
{
	count();
	return XDP_DROP;
}

SEC("tc")
int services_drop_packet(struct __sk_buff *skb)
{
	count();
	return TC_ACT_SHOT;
}

char services_license[] SEC("license") = "Dual BSD/GPL";
