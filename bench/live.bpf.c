// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs around the balancer in `weir bench l4`, on both ends of a veth pair:
 *
 *     live_send, in the kernel's live-frames test-run ──► weir_lb or a floor ──► live_sink
 *
 * Test-runs take frames from a pool and do not restore them, so live_send writes every byte that
 * the balancer may have changed. It costs the same in front of the floors.
 */

/* Kernel style, as in bpf/, which the settings of this folder do not know. */
/* clang-format off */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PORTS_PER_CLIENT 32768
#define FIRST_CLIENT	 0x0a000000 /* 10.0.0.0 */
#define TTL		 64

/* Set by the benchmark before a row. */
__u32 live_flow_mask; /* number of flows, a power of two, less one; ~0: every packet is a new one */
__be32 live_vip;
__be16 live_port;
__u8 live_tcp_flags;

__u32 live_next_flow;
/* By one CPU: what is sent into a veth is received on the CPU that sent it. */
__u64 live_dropped; /* by live_floor_drop */
__u64 live_returned;

/* Bounds checks included, the headers that a balancer reads. NULL: not IPv4 and TCP. */
static __always_inline struct tcphdr *parse(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return NULL;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return NULL;
	return tcp;
}

SEC("xdp")
int live_send(struct xdp_md *ctx)
{
	__u32 flow = live_next_flow++ & live_flow_mask;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	__builtin_memset(eth, 2, 2 * ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	*(__be32 *)ip = bpf_htonl(0x45000000 | (sizeof(*ip) + sizeof(*tcp)));
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = TTL;
	ip->protocol = IPPROTO_TCP;
	ip->check = 0; /* which the balancer does not verify */
	ip->saddr = bpf_htonl(FIRST_CLIENT + flow / PORTS_PER_CLIENT);
	ip->daddr = live_vip;
	tcp->source = bpf_htons(1024 + flow % PORTS_PER_CLIENT);
	tcp->dest = live_port;
	((__u8 *)tcp)[12] = 0x50;
	((__u8 *)tcp)[13] = live_tcp_flags;
	return XDP_TX;
}

/* Floor: a packet is parsed and gone. */
SEC("xdp")
int live_floor_drop(struct xdp_md *ctx)
{
	if (parse(ctx))
		live_dropped++;
	return XDP_DROP;
}

/* Floor: a packet is parsed and sent back, as the balancer's are. */
SEC("xdp")
int live_floor_return(struct xdp_md *ctx)
{
	return parse(ctx) ? XDP_TX : XDP_DROP;
}

SEC("xdp")
int live_sink(struct xdp_md *ctx)
{
	live_returned++;
	return XDP_DROP;
}

char live_license[] SEC("license") = "Dual BSD/GPL";
