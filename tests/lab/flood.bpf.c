// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A SYN flood. flood_syn runs over copies of one frame (test-run with live frames) and sends each
 * from another source; flood_dam stands where the balancer's packets leave and keeps the flood from
 * the backends, which share the machine: what they do with SYNs is not what is tested.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SOURCES	     0xc6120000 /* 198.18.0.0/15, for benchmarks (RFC 2544) */
#define SOURCES_MASK 0xfffe0000

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32); /* 0: sent, 1: held back by the dam */
	__type(value, __u64);
} flood_counters SEC(".maps");

struct frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame);
} flood_frame SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 *counter = bpf_map_lookup_elem(&flood_counters, &key);

	if (counter)
		(*counter)++;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	for (int i = 0; i < 3; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_words(const void *at, int bytes)
{
	const __u16 *word = at;
	__u64 sum = 0;

	for (int i = 0; i < bytes / 2; i++)
		sum += word[i];
	return sum;
}

/* Everything is written anew: memory is used again, and may hold what the balancer has made of an
 * earlier frame. */
SEC("xdp") int flood_syn(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;
	const struct frame *made;
	__u32 key = 0;

	made = bpf_map_lookup_elem(&flood_frame, &key);
	if (!made || (void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*frame = *made;
	frame->ip.saddr = bpf_htonl(SOURCES | (bpf_get_prandom_u32() & ~SOURCES_MASK));
	frame->ip.check = ~fold(sum_words(&frame->ip, sizeof(frame->ip)));
	frame->tcp.source = bpf_get_prandom_u32();
	frame->tcp.seq = bpf_get_prandom_u32();
	frame->tcp.check =
		~fold(sum_words(&frame->tcp, sizeof(frame->tcp)) + frame->ip.saddr +
		      frame->ip.daddr + bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(frame->tcp)));
	count(0);
	return XDP_TX;
}

/* Of IP in IP only. */
SEC("xdp") int flood_dam(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	const struct ethhdr *ethernet = data;
	const struct iphdr *outer = (void *)(ethernet + 1);
	const struct iphdr *inner = outer + 1;

	if ((void *)(inner + 1) > (void *)(long)ctx->data_end ||
	    ethernet->h_proto != bpf_htons(ETH_P_IP) || outer->protocol != IPPROTO_IPIP ||
	    (bpf_ntohl(inner->saddr) & SOURCES_MASK) != SOURCES)
		return XDP_PASS;
	count(1);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
