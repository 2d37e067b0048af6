// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that datapath_bench measures beside weir_lb, and the one it measures weir_lb through.
 *
 * A test-run with repeats does not restore the packet: from the second pass on, a program that
 * encapsulates would see its own tunnel packet, and one that lowers the TTL would soon drop. So
 * bench_wrapper puts the packet back as it was, takes the next flow, and tail-calls the program.
 * What it costs is measured with a stand-in behind it, and subtracted.
 */

/* Kernel style, as in bpf/, which the settings of this folder do not know. */
/* clang-format off */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"

#define PORTS_PER_CLIENT 32768
#define BENCH_AF_INET	 2
#define BENCH_FIRST_VIP	 0xc6336401 /* 198.51.100.1, which is kVip of datapath_bench */

/* Set by the benchmark before a row, read for every packet. */
__u32 bench_frame_bytes;
__u32 bench_flow_mask; /* number of flows, a power of two, less one */
__u32 bench_vip_mask; /* number of VIPs that flows are spread over, a power of two, less one */
__u32 bench_push_bytes;
__u32 bench_is_reply; /* flows differ in where the packet goes, not in where it comes from */
__u32 bench_egress_ifindex; /* behind which the route leads to the VIP, for bench_fib */
__u32 bench_line_mask; /* lines of bench_lines less one */
__u64 bench_packets;

__u8 bench_ethernet[ETH_HLEN];
/* What follows the Ethernet header: IP and TCP. */
__u32 bench_headers4[10];
__u32 bench_headers6[15];

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * WEIR_VIPS_MAX);
	__type(key, struct weir_vip_key);
	__type(value, struct weir_vip);
} bench_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_flow_set);
} bench_lines SEC(".maps");

static __always_inline void *data_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *end_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* Floor: what a test-run costs without a program. */
SEC("xdp")
int bench_return(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* The least that a balancer can do, IPv4 and TCP only, one service lookup. */
static __always_inline int parse_and_lookup(struct xdp_md *ctx)
{
	struct weir_vip_key key = {};
	struct ethhdr *eth = data_of(ctx);
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end_of(ctx))
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	key.address.bytes[10] = 0xff;
	key.address.bytes[11] = 0xff;
	__builtin_memcpy(key.address.bytes + 12, &ip->daddr, 4);
	key.port_be = tcp->dest;
	key.protocol = ip->protocol;
	return bpf_map_lookup_elem(&bench_services, &key) ? XDP_TX : XDP_PASS;
}

/* Floor. */
SEC("xdp")
int bench_lookup(struct xdp_md *ctx)
{
	return parse_and_lookup(ctx);
}

/* Floor of what remembers flows: one more line, anywhere in a table of the flow table's size. */
SEC("xdp")
int bench_line(struct xdp_md *ctx)
{
	__u32 index = (bench_packets++ * 0x9e3779b97f4a7c15ull >> 32) & bench_line_mask;
	const struct weir_flow_set *set = bpf_map_lookup_elem(&bench_lines, &index);

	if (!set || set->entries[0])
		return XDP_ABORTED; /* all are zero */
	return parse_and_lookup(ctx);
}

/* What it would take to ask the kernel's routes and neighbours for every packet; a balancer's
 * backends carry theirs, which the daemon keeps up to date. */
SEC("xdp")
int bench_fib(struct xdp_md *ctx)
{
	struct bpf_fib_lookup way = {.family = BENCH_AF_INET, .ifindex = bench_egress_ifindex};
	struct ethhdr *eth = data_of(ctx);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end_of(ctx))
		return XDP_DROP;
	way.ipv4_src = ip->saddr;
	way.ipv4_dst = ip->daddr;
	if (bpf_fib_lookup(ctx, &way, sizeof(way), BPF_FIB_LOOKUP_OUTPUT) !=
	    BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_ABORTED;
	__builtin_memcpy(eth->h_dest, way.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, way.smac, ETH_ALEN);
	return XDP_TX;
}

/* Two moves of the packet's head, out and back: half of it is what one costs. */
SEC("xdp")
int bench_head_moves(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, -20) || bpf_xdp_adjust_head(ctx, 20))
		return XDP_ABORTED;
	return XDP_TX;
}

/* Stand-in for weir_lb behind the wrapper: makes the room, and nothing else. */
SEC("xdp")
int bench_push(struct xdp_md *ctx)
{
	if (bench_push_bytes && bpf_xdp_adjust_head(ctx, -(int)bench_push_bytes))
		return XDP_ABORTED;
	return XDP_TX;
}

static __always_inline int restore_ipv4(struct xdp_md *ctx, __u32 flow)
{
	struct iphdr *ip = data_of(ctx) + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end_of(ctx))
		return -1;
	__builtin_memcpy(ip, bench_headers4, sizeof(bench_headers4));
	if (!bench_flow_mask)
		return 0;
	if (bench_vip_mask)
		ip->daddr = bpf_htonl(BENCH_FIRST_VIP + (flow & bench_vip_mask));
	if (bench_is_reply) {
		ip->daddr = bpf_htonl(0x0a000000 + flow / PORTS_PER_CLIENT);
		tcp->dest = bpf_htons(1024 + flow % PORTS_PER_CLIENT);
	} else {
		ip->saddr = bpf_htonl(0x0a000000 + flow / PORTS_PER_CLIENT);
		tcp->source = bpf_htons(1024 + flow % PORTS_PER_CLIENT);
	}
	return 0;
}

static __always_inline int restore_ipv6(struct xdp_md *ctx, __u32 flow)
{
	struct ipv6hdr *ip = data_of(ctx) + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end_of(ctx))
		return -1;
	__builtin_memcpy(ip, bench_headers6, sizeof(bench_headers6));
	if (!bench_flow_mask)
		return 0;
	if (bench_is_reply) {
		ip->daddr.s6_addr32[3] = bpf_htonl(flow / PORTS_PER_CLIENT);
		tcp->dest = bpf_htons(1024 + flow % PORTS_PER_CLIENT);
	} else {
		ip->saddr.s6_addr32[3] = bpf_htonl(flow / PORTS_PER_CLIENT);
		tcp->source = bpf_htons(1024 + flow % PORTS_PER_CLIENT);
	}
	return 0;
}

static __always_inline int restore(struct xdp_md *ctx, __u32 flow)
{
	int pushed = (int)(ctx->data_end - ctx->data) - (int)bench_frame_bytes;
	const __u8 *version;

	if (pushed > 0 && bpf_xdp_adjust_head(ctx, pushed))
		return -1;
	version = data_of(ctx) + ETH_HLEN;
	if ((void *)(version + 1) > end_of(ctx))
		return -1;
	__builtin_memcpy(data_of(ctx), bench_ethernet, sizeof(bench_ethernet));
	return *version >> 4 == 4 ? restore_ipv4(ctx, flow) : restore_ipv6(ctx, flow);
}

SEC("xdp")
int bench_wrapper(struct xdp_md *ctx)
{
	__u32 flow = bench_packets++ & bench_flow_mask;

	if (restore(ctx, flow))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &bench_target, 0);
	return XDP_ABORTED;
}

char bench_license[] SEC("license") = "Dual BSD/GPL";
