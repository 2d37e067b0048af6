// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes of the VIP on one backend, through what carries its traffic (modes ipip, gue, l2), where
 * the backend answers whoever asks directly.
 *
 * The prober's socket is connected to the backend's own address, so that routes and neighbours are
 * the ordinary ones, and has a mark that stands for VIP and backend:
 *
 *   socket ──node → backend──► weir_probe_out ──[node's → backend] node → VIP──► the backend
 *   socket ◄──backend → node── weir_probe_in ◄──────────VIP → node───────────── the backend
 *
 * Both run at tc: the first on egress, after routing and netfilter, the second on ingress, before
 * them, so that neither the host's connection tracking nor its reverse path filter sees a VIP.
 *
 * Checksums of locally made packets are often unfinished here (CHECKSUM_PARTIAL); the helpers with
 * BPF_F_PSEUDO_HDR know that, and adjusting room with the ENCAP flags tells devices where the inner
 * headers are, so that they or the kernel finish them.
 */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include "bpf/icmp_types.h"
#include "bpf/outer.h"
#include "bpf/parse.h"

#define ICMP_CHECK_OFFSET      2
#define ICMP_IDENTIFIER_OFFSET 4

/* Mark → path. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_PROBE_PATHS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct weir_probe_path);
} weir_probe_paths SEC(".maps");

/* Answers that are expected, and the backend's own address. Written on egress, read on ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WEIR_PROBE_FLOWS_MAX);
	__type(key, struct weir_probe_flow);
	__type(value, struct weir_address);
} weir_probe_flows SEC(".maps");

/* Of an IP packet somewhere in the buffer: what the two programs need. */
struct seen {
	struct weir_flow_key
		flow; /* of an echo: source port or destination port is its identifier */
	__u32 ip_offset;
	__u32 transport_offset;
	__u32 ip_bytes;
	__u32 check_offset; /* of a checksum that covers the addresses; 0: there is none */
	__u8 protocol;
	__u8 traffic_class;
	__u8 is_v4;
	__u8 icmp_type; /* 0 for other protocols; also that of an IPv4 echo reply */
};

static __always_inline int read_ipv4(struct __sk_buff *skb, struct seen *seen)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, seen->ip_offset, &ip, sizeof(ip)))
		return -1;
	if (ip.version != 4 || ip.ihl != 5 ||
	    ip.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK))
		return -1;
	seen->is_v4 = 1;
	seen->protocol = ip.protocol;
	seen->traffic_class = ip.tos;
	seen->ip_bytes = bpf_ntohs(ip.tot_len);
	seen->transport_offset = seen->ip_offset + sizeof(ip);
	seen->flow.source.bytes[10] = seen->flow.source.bytes[11] = 0xff;
	seen->flow.destination.bytes[10] = seen->flow.destination.bytes[11] = 0xff;
	__builtin_memcpy(seen->flow.source.bytes + 12, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(seen->flow.destination.bytes + 12, &ip.daddr, sizeof(ip.daddr));
	return 0;
}

static __always_inline int read_ipv6(struct __sk_buff *skb, struct seen *seen)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, seen->ip_offset, &ip, sizeof(ip)))
		return -1;
	if (ip.version != 6)
		return -1;
	seen->protocol = ip.nexthdr; /* an extension header is none of our protocols */
	seen->traffic_class = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	seen->ip_bytes = sizeof(ip) + bpf_ntohs(ip.payload_len);
	seen->transport_offset = seen->ip_offset + sizeof(ip);
	__builtin_memcpy(&seen->flow.source, &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(&seen->flow.destination, &ip.daddr, sizeof(ip.daddr));
	return 0;
}

/* RFC 792 and RFC 4443, section 4: type, code, checksum, identifier. */
static __always_inline int read_icmp(struct __sk_buff *skb, struct seen *seen)
{
	__be16 identifier;

	if (bpf_skb_load_bytes(skb, seen->transport_offset, &seen->icmp_type, 1) ||
	    bpf_skb_load_bytes(skb, seen->transport_offset + ICMP_IDENTIFIER_OFFSET, &identifier,
			       sizeof(identifier)))
		return -1;
	if (seen->icmp_type == (seen->is_v4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST))
		seen->flow.source_port_be = identifier;
	if (seen->icmp_type == (seen->is_v4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY))
		seen->flow.destination_port_be = identifier;
	if (!seen->is_v4)
		seen->check_offset = seen->transport_offset + ICMP_CHECK_OFFSET;
	return 0;
}

/* The packet whose header begins at `ip_offset`. Returns -1 where it is nothing that a probe sends
 * or gets. */
static __always_inline int read_packet(struct __sk_buff *skb, __u32 ip_offset, int is_v4,
				       struct seen *seen)
{
	seen->ip_offset = ip_offset;
	if (is_v4 ? read_ipv4(skb, seen) : read_ipv6(skb, seen))
		return -1;
	if (seen->protocol == (is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return read_icmp(skb, seen);
	if (seen->protocol == IPPROTO_TCP)
		seen->check_offset = seen->transport_offset + offsetof(struct tcphdr, check);
	else if (seen->protocol == IPPROTO_UDP)
		seen->check_offset = seen->transport_offset + offsetof(struct udphdr, check);
	else
		return -1;
	return bpf_skb_load_bytes(skb, seen->transport_offset, &seen->flow.ports_be,
				  sizeof(seen->flow.ports_be));
}

/* The answer's flow, seen from the question's direction. */
static __always_inline struct weir_probe_flow flow_of(const struct seen *question,
						      const struct weir_address *vip)
{
	struct weir_probe_flow flow = {
		.vip = *vip,
		.node = question->flow.source,
		.vip_port_be = question->flow.destination_port_be,
		.node_port_be = question->flow.source_port_be,
		.protocol = question->protocol,
	};

	return flow;
}

/* Exchanges one of the packet's two addresses. */
static __always_inline int replace_address(struct __sk_buff *skb, const struct seen *seen,
					   int is_source, struct weir_address *to)
{
	struct weir_address from = is_source ? seen->flow.source : seen->flow.destination;
	__u64 flags = BPF_F_PSEUDO_HDR;
	__u32 from4, to4;
	__s64 difference;

	if (seen->protocol == IPPROTO_UDP)
		flags |= BPF_F_MARK_MANGLED_0; /* zero stays zero, and nothing becomes it */
	if (seen->is_v4) {
		__builtin_memcpy(&from4, from.bytes + 12, sizeof(from4));
		__builtin_memcpy(&to4, to->bytes + 12, sizeof(to4));
		if (seen->check_offset &&
		    bpf_l4_csum_replace(skb, seen->check_offset, from4, to4, flags | sizeof(to4)))
			return -1;
		if (bpf_l3_csum_replace(skb, seen->ip_offset + offsetof(struct iphdr, check), from4,
					to4, sizeof(to4)))
			return -1;
		return bpf_skb_store_bytes(skb,
					   seen->ip_offset +
						   (is_source ? offsetof(struct iphdr, saddr)
							      : offsetof(struct iphdr, daddr)),
					   &to4, sizeof(to4), 0);
	}
	difference = bpf_csum_diff((__be32 *)&from, sizeof(from), (__be32 *)to, sizeof(*to), 0);
	if (bpf_l4_csum_replace(skb, seen->check_offset, 0, difference, flags))
		return -1;
	/* The helper takes the difference off the sum of the whole packet that a device computed
	 * (CHECKSUM_COMPLETE), as is right for IPv4, whose header's own sum changes as well. Here
	 * address and checksum make up for each other, so it is put back. Without such a sum this
	 * does nothing. */
	bpf_csum_update(skb, difference);
	return bpf_skb_store_bytes(skb,
				   seen->ip_offset + (is_source ? offsetof(struct ipv6hdr, saddr)
								: offsetof(struct ipv6hdr, daddr)),
				   to, sizeof(*to), 0);
}

/* Of an IPv6 packet with a right transport checksum, finished or not: the segment sums up to the
 * complement of its pseudo header. See sum_of_sound_packet() in encap.h. */
static __always_inline __u64 sum_of_sound_ipv6(const struct seen *seen, const struct ipv6hdr *ip)
{
	__u32 words[sizeof(*ip) / 4];
	__u64 pseudo, sum = 0;

	__builtin_memcpy(words, ip, sizeof(words));
	pseudo = bpf_htonl(seen->ip_bytes - sizeof(*ip)) + (__u64)bpf_htonl(seen->protocol);
	for (int i = 2; i < 10; i++) /* both addresses */
		pseudo += words[i];
	for (int i = 0; i < 10; i++) /* the whole header, which has no checksum of its own */
		sum += words[i];
	return sum + (__u16)~fold(pseudo);
}

/*
 * GUE variant 1, as the balancer sends it. Over IPv4 without a checksum, which RFC 768 allows: one
 * of a packet whose inner checksum is unfinished fits what a device sends, but not what a veth peer
 * gets. IPv6 requires one of tunnels that were not told otherwise (RFC 6936).
 */
static __always_inline int read_gue(struct __sk_buff *skb, const struct seen *seen,
				    const struct weir_probe_path *path, struct udphdr *gue)
{
	struct ipv6hdr ip;
	__u64 sum;

	gue->source = gue_source_port(&seen->flow);
	gue->dest = path->gue_port_be;
	gue->len = bpf_htons(sizeof(*gue) + seen->ip_bytes);
	gue->check = 0;
	if (seen->is_v4)
		return 0;
	if (bpf_skb_load_bytes(skb, seen->ip_offset, &ip, sizeof(ip)))
		return -1;
	sum = sum_of_sound_ipv6(seen, &ip) + sum_address(&path->outer_source) +
	      sum_address(&seen->flow.destination) + bpf_htonl(IPPROTO_UDP) +
	      bpf_htonl(sizeof(*gue) + seen->ip_bytes) + gue->source + gue->dest + gue->len;
	gue->check = ~fold(sum);
	if (!gue->check)
		gue->check = 0xffff;
	return 0;
}

static __always_inline int write_outer_ip(struct __sk_buff *skb, const struct seen *seen,
					  const struct weir_probe_path *path, __u8 protocol,
					  __u32 payload_bytes)
{
	struct ipv6hdr ip6 = {
		.version = 6,
		.priority = seen->traffic_class >> 4,
		.flow_lbl = {seen->traffic_class << 4},
		.payload_len = bpf_htons(payload_bytes),
		.nexthdr = protocol,
		.hop_limit = OUTER_HOP_LIMIT,
	};
	struct iphdr ip4 = {
		.version = 4,
		.ihl = 5,
		.tos = seen->traffic_class,
		.tot_len = bpf_htons(sizeof(ip4) + payload_bytes),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = OUTER_HOP_LIMIT,
		.protocol = protocol,
	};

	if (seen->is_v4) {
		__builtin_memcpy(&ip4.saddr, path->outer_source.bytes + 12, sizeof(ip4.saddr));
		__builtin_memcpy(&ip4.daddr, seen->flow.destination.bytes + 12, sizeof(ip4.daddr));
		ip4.check = ipv4_checksum(&ip4);
		return bpf_skb_store_bytes(skb, ETH_HLEN, &ip4, sizeof(ip4), 0);
	}
	__builtin_memcpy(&ip6.saddr, &path->outer_source, sizeof(ip6.saddr));
	__builtin_memcpy(&ip6.daddr, &seen->flow.destination, sizeof(ip6.daddr));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6), 0);
}

/* Outer headers around the packet, whose destination is the VIP's by now; outside it stays the
 * backend. The one family of both is what user space has seen to. */
static __always_inline int wrap(struct __sk_buff *skb, const struct seen *seen,
				const struct weir_probe_path *path)
{
	__u32 ip_bytes = seen->is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u8 protocol = seen->is_v4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	__u64 flags = seen->is_v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	struct udphdr gue = {};
	__u32 gue_bytes = 0;

	if (path->mode == WEIR_MODE_GUE) {
		if (read_gue(skb, seen, path, &gue))
			return -1;
		gue_bytes = sizeof(gue);
		protocol = IPPROTO_UDP;
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	}
	if (bpf_skb_adjust_room(skb, ip_bytes + gue_bytes, BPF_ADJ_ROOM_MAC, flags))
		return -1; /* it would be too large for the device */
	if (write_outer_ip(skb, seen, path, protocol, gue_bytes + seen->ip_bytes))
		return -1;
	if (!gue_bytes)
		return 0;
	return bpf_skb_store_bytes(skb, ETH_HLEN + ip_bytes, &gue, sizeof(gue), 0);
}

static __always_inline int send_to_vip(struct __sk_buff *skb, const struct weir_probe_path *path)
{
	struct weir_address vip = path->vip;
	struct seen seen = {};
	struct weir_probe_flow flow;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return -1;
	if (read_packet(skb, ETH_HLEN, skb->protocol == bpf_htons(ETH_P_IP), &seen))
		return -1;
	flow = flow_of(&seen, &vip);
	if (bpf_map_update_elem(&weir_probe_flows, &flow, &seen.flow.destination, BPF_ANY))
		return -1;
	if (replace_address(skb, &seen, 0, &vip))
		return -1;
	return path->mode == WEIR_MODE_L2 ? 0 : wrap(skb, &seen, path);
}

/* What cannot be sent as it should is dropped: sent otherwise, it would test something else. UNSPEC
 * leaves a packet to the programs after this one. */
SEC("tc")
int weir_probe_out(struct __sk_buff *skb)
{
	const struct weir_probe_path *path;
	__u32 mark = skb->mark;

	if ((mark & WEIR_PROBE_MARK_MASK) != WEIR_PROBE_MARK)
		return TC_ACT_UNSPEC;
	path = bpf_map_lookup_elem(&weir_probe_paths, &mark);
	if (!path || send_to_vip(skb, path))
		return TC_ACT_SHOT;
	skb->mark = 0; /* the device below this one is not to do it again */
	return TC_ACT_UNSPEC;
}

/* An ICMP error about a question: what it quotes is made what the socket has sent, so that a port
 * that is refused is known as such. */
static __always_inline void restore_quoted(struct __sk_buff *skb, const struct seen *error)
{
	__u32 quoted_at = error->transport_offset + ICMP_HEADER_BYTES;
	struct weir_address *backend, vip;
	struct weir_probe_flow flow;
	struct seen quoted = {};

	if (read_packet(skb, quoted_at, error->is_v4, &quoted))
		return;
	vip = quoted.flow.destination;
	flow = flow_of(&quoted, &vip);
	backend = bpf_map_lookup_elem(&weir_probe_flows, &flow);
	if (!backend)
		return;
	/* The transport checksum within is cut off or not looked at; the error's own covers what is
	 * quoted. In IPv4 it need not follow: the quoted header's sum stays as it was. */
	quoted.check_offset = error->is_v4 ? 0 : error->check_offset;
	quoted.protocol = error->protocol;
	if (replace_address(skb, &quoted, 0, backend))
		return;
	if (same_address(&error->flow.source, &vip))
		replace_address(skb, error, 1, backend);
}

SEC("tc")
int weir_probe_in(struct __sk_buff *skb)
{
	struct weir_probe_flow flow = {};
	struct weir_address *backend;
	struct seen seen = {};
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP);

	if (!is_v4 && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	if (read_packet(skb, ETH_HLEN, is_v4, &seen))
		return TC_ACT_UNSPEC;
	if (is_v4 ? seen.protocol == IPPROTO_ICMP && seen.icmp_type == ICMP_UNREACHABLE
		  : seen.protocol == IPPROTO_ICMPV6 && seen.icmp_type == ICMPV6_UNREACHABLE) {
		restore_quoted(skb, &seen);
		return TC_ACT_UNSPEC;
	}
	flow.vip = seen.flow.source;
	flow.node = seen.flow.destination;
	flow.vip_port_be = seen.flow.source_port_be;
	flow.node_port_be = seen.flow.destination_port_be;
	flow.protocol = seen.protocol;
	backend = bpf_map_lookup_elem(&weir_probe_flows, &flow);
	/* A failure leaves a packet that no socket waits for: the probe runs into its timeout. */
	if (backend)
		replace_address(skb, &seen, 1, backend);
	return TC_ACT_UNSPEC;
}

char weir_probe_license[] SEC("license") = "Dual BSD/GPL";
