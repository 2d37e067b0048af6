/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Mode nat: the destination becomes the backend's, and for full NAT (WEIR_VIP_SNAT) the source an
 * address of this node, to which the backend replies. Without that, replies come by here because
 * the network leads them here. README.md, "NAT", has the choices.
 */

#include "bpf/encap.h"
#include "bpf/fragment.h"
#include "bpf/frame.h"
#include "bpf/icmp.h"
#include "bpf/maps.h"
#include "bpf/nat_rewrite.h"
#include "bpf/nat_table.h"
#include "bpf/parse.h"
#include "bpf/select.h"
#include "bpf/trace.h"

/* IPv6 works on no less (RFC 8200, section 5), and nobody sets less for IPv4. */
#define NAT_MTU_SURELY 1280

#define NAT_LONG_WAY -1 /* no verdict: by weir_nat_find() and what follows it */

/* Who has seen the backend's SYN-ACK acknowledges it, and who has only written somebody's address
 * on a packet does not know what to acknowledge. Without this, two forged packets would hold a
 * record for two hours. */
static __always_inline int completes_handshake(const struct xdp_md *ctx, const struct packet *pkt,
					       const struct weir_nat_flow *record)
{
	const struct tcphdr *tcp = transport_header(ctx, pkt);

	if (pkt->flow.protocol != IPPROTO_TCP || pkt->is_icmp_error ||
	    pkt->fragment == FRAGMENT_LATER || (void *)(tcp + 1) > packet_end(ctx))
		return 0;
	return tcp->ack && !tcp->syn && bpf_ntohl(tcp->ack_seq) == record->expected_ack;
}

/* Of a SYN-ACK. */
static __always_inline void expect_ack(const struct xdp_md *ctx, const struct packet *pkt,
				       struct weir_nat_flow *record)
{
	const struct tcphdr *tcp = transport_header(ctx, pkt);

	if ((void *)(tcp + 1) <= packet_end(ctx))
		record->expected_ack = bpf_ntohl(tcp->seq) + 1;
}

/* What a TCP packet of the backend's makes of a flow's state. More than a SYN-ACK as its first
 * answer means that it knows the connection, which is older than the record. */
static __always_inline enum weir_nat_state state_by_reply(enum weir_nat_state state,
							  const struct packet *pkt)
{
	if (state != WEIR_NAT_NEW)
		return state;
	return pkt->tcp_flags & TCP_SYN ? WEIR_NAT_REPLIED : WEIR_NAT_ESTABLISHED;
}

/*
 * A RST is believed where there is nothing to lose. Of an established flow it is noted only,
 * because nobody here knows whether its sequence number is one that the other end accepts; the
 * backend's next packet takes the note back (RFC 7857, section 2).
 */
static __always_inline __u64 owner_after_tcp(__u64 owner, const struct packet *pkt, int is_reply,
					     int is_acknowledged)
{
	enum weir_nat_state state = weir_nat_state_of(owner);
	const __u64 both = WEIR_NAT_FIN_CLIENT | WEIR_NAT_FIN_BACKEND;
	__u64 rest = owner & ~(__u64)WEIR_NAT_STATE_MASK;

	if (pkt->tcp_flags & TCP_RST)
		return state == WEIR_NAT_ESTABLISHED ? owner | WEIR_NAT_RESET
						     : rest | WEIR_NAT_CLOSING;
	if (pkt->tcp_flags & TCP_FIN)
		rest |= is_reply ? WEIR_NAT_FIN_BACKEND : WEIR_NAT_FIN_CLIENT;
	if (is_reply) {
		rest &= ~(__u64)WEIR_NAT_RESET;
		state = state_by_reply(state, pkt);
	} else if (state == WEIR_NAT_REPLIED && is_acknowledged) {
		state = WEIR_NAT_ESTABLISHED;
	}
	return (rest & both) == both ? rest | WEIR_NAT_CLOSING : rest | state;
}

/* What the next packet makes of a flow. */
static __always_inline __u64 next_owner(__u64 owner, const struct packet *pkt, int is_reply,
					int is_acknowledged)
{
	if (pkt->fragment == FRAGMENT_LATER)
		return owner;
	if (pkt->flow.protocol == IPPROTO_TCP)
		return owner_after_tcp(owner, pkt, is_reply, is_acknowledged);
	if (is_reply && weir_nat_state_of(owner) == WEIR_NAT_NEW)
		return (owner & ~(__u64)WEIR_NAT_STATE_MASK) | WEIR_NAT_REPLIED;
	return owner;
}

/* An error says nothing about whether the flow lives. Two CPUs that write at once lose one of two
 * steps, and the next packet makes it up. */
static __always_inline void touch(struct weir_nat_flow *record, const struct packet *pkt,
				  int is_reply, int is_acknowledged)
{
	__u32 now_s = seconds_now();
	__u64 owner, next;

	if (pkt->is_icmp_error)
		return;
	if (record->stamp != now_s)
		record->stamp = now_s;
	owner = owner_of(record);
	next = next_owner(owner, pkt, is_reply, is_acknowledged);
	if (next != owner)
		change_owner(record, owner, next);
}

/* Replies go back the way the client's packets come: no route and no neighbour is looked up.
 * Written only when it changes, so that the record stays shared between caches. A reply that reads
 * a way half written goes astray, once. */
static __always_inline void note_way(const struct xdp_md *ctx, const struct packet *pkt,
				     struct weir_nat_flow *record)
{
	__u32 *macs, *tags, words[3], tag_words[2];
	struct link_layer link = {};

	if (link_layer_back(ctx, pkt, &link))
		return; /* there is a frame; only the verifier asks */
	macs = (__u32 *)&record->macs;
	tags = (__u32 *)record->tags;
	__builtin_memcpy(words, link.macs, sizeof(words));
	__builtin_memcpy(tag_words, link.tags, sizeof(tag_words));
	if (macs[0] == words[0] && macs[1] == words[1] && macs[2] == words[2] &&
	    tags[0] == tag_words[0] && tags[1] == tag_words[1] &&
	    record->tag_bytes == link.tag_bytes && record->ifindex == ctx->ingress_ifindex)
		return;
	for (int i = 0; i < 3; i++)
		macs[i] = words[i];
	tags[0] = tag_words[0];
	tags[1] = tag_words[1];
	record->tag_bytes = link.tag_bytes;
	record->ifindex = ctx->ingress_ifindex;
}

__noinline int weir_nat_note_way(struct xdp_md *ctx, const struct packet *pkt, __u64 flow)
{
	struct weir_nat_flow *record = record_at(index_of(flow));

	if (!pkt || !record)
		return -1; /* they never are; only the verifier asks */
	note_way(ctx, pkt, record);
	return 0;
}

/* The way back, as the client's last packet left it. */
static __always_inline void link_layer_of(const struct weir_nat_flow *record,
					  struct link_layer *link)
{
	__builtin_memcpy(link->macs, &record->macs, sizeof(link->macs));
	__builtin_memcpy(link->tags, record->tags, sizeof(link->tags));
	link->tag_bytes = record->tag_bytes;
}

static __always_inline __be16 type_of_ip(const struct packet *pkt)
{
	return pkt->ip_version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

/* Whether the flow's record may be used for a packet of the client's: its backend is still the one
 * it was, and the packet does not begin another flow with the same addresses and ports. */
static __always_inline int goes_on(const struct weir_nat_flow *record, const struct packet *pkt,
				   const struct weir_backend *backend)
{
	__u64 owner = owner_of(record);
	__u32 now_s = seconds_now();

	if (!same_address(&backend->address, &record->backend))
		return 0;
	if (pkt->is_icmp_error)
		return 1;
	if (pkt->flow.protocol != IPPROTO_TCP)
		return !has_expired(record, owner, now_s);
	if (!is_syn(pkt))
		return 1;
	if (weir_nat_state_of(owner) == WEIR_NAT_CLOSING || has_expired(record, owner, now_s))
		return 0;
	/* A RST and a SYN, both forged, move a flow only if it is silent as well. */
	if (weir_nat_was_reset(owner) && age_of(record->stamp, now_s) >= WEIR_FLOW_CLOSED_S)
		return 0;
	return !(backend->flags & WEIR_BACKEND_DRAINING) ||
	       (weir_nat_state_of(owner) == WEIR_NAT_ESTABLISHED &&
		age_of(record->stamp, now_s) <= FLOW_ALIVE_S);
}

/* Whether a packet of the client's may go; lowers its hop limit if so. Returns WEIR_TX_NAT, or
 * WEIR_CONTINUE where the flow does not go on, or the verdict that it ends in. */
__noinline int weir_nat_admit_packet(struct xdp_md *ctx, struct packet *pkt, __u64 flow)
{
	struct weir_nat_flow *record = record_at(index_of(flow));
	const struct weir_backend *backend;
	enum weir_verdict verdict;

	if (!pkt || !record)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	backend = find_backend(record->backend_id, pkt->vip_id);
	if (!backend || !goes_on(record, pkt, backend))
		return WEIR_CONTINUE;
	if (weir_nat_state_of(owner_of(record)) == WEIR_NAT_NEW && !pkt->is_icmp_error &&
	    !has_reply_entry(record, index_of(flow), flow >> 32))
		return WEIR_CONTINUE;
	pkt->backend_id = record->backend_id;
	TRACE(NAT_HIT, record->backend_id, 0);
	verdict = admit(ctx, pkt, backend, 0);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	touch(record, pkt, 0, completes_handshake(ctx, pkt, record));
	return WEIR_TX_NAT;
}

/* Whether a reply fits the device that it leaves by; what fits anywhere is not asked for. The
 * device that it came in by has carried it. */
static __always_inline enum weir_verdict check_reply_size(struct xdp_md *ctx, struct packet *pkt,
							  __u32 ifindex)
{
	__u32 mtu = pkt->ip_bytes;

	if (pkt->ip_bytes <= NAT_MTU_SURELY || ifindex == ctx->ingress_ifindex)
		return WEIR_CONTINUE;
	if (bpf_check_mtu(ctx, ifindex, &mtu, 0, 0) <= 0) /* no such device: redirecting says so */
		return WEIR_CONTINUE;
	pkt->mtu = mtu;
	return WEIR_DROP_TOO_BIG;
}

/* The same for a reply: WEIR_TX_NAT_REPLY, or the verdict that it ends in. WEIR_CONTINUE, with the
 * packet as it was, where nothing of the flow was ever sent, because its first packet was too big
 * or at the end of its hops: then nobody has anything to reply to, and no way back is known. */
static __always_inline enum weir_verdict admit_reply(struct xdp_md *ctx, struct packet *pkt,
						     struct weir_nat_flow *record)
{
	enum weir_verdict verdict;

	if (!record->ifindex)
		return WEIR_CONTINUE;
	verdict = check_reply_size(ctx, pkt, record->ifindex);
	if (verdict == WEIR_CONTINUE)
		verdict = lower_hop_limit(ctx, pkt);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	touch(record, pkt, 1, 0);
	pkt->vip_id = record->vip_id; /* for who watches; finish() counts no replies there */
	pkt->backend_id = record->backend_id;
	return WEIR_TX_NAT_REPLY;
}

__noinline int weir_nat_admit_reply(struct xdp_md *ctx, struct packet *pkt, __u64 flow)
{
	struct weir_nat_flow *record = record_at(index_of(flow));

	if (!pkt || !record)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	TRACE(NAT_REPLY, record->backend_id, 0);
	if (pkt->tcp_flags & TCP_SYN && !pkt->is_icmp_error)
		expect_ack(ctx, pkt, record);
	return admit_reply(ctx, pkt, record);
}

/* The link layer of a translated packet, and the way out: to the backend, or back to the client
 * where that is NULL. */
static __always_inline enum weir_verdict leave(struct xdp_md *ctx, const struct packet *pkt,
					       const struct weir_nat_flow *record, nat_handle flow,
					       const struct weir_backend *backend)
{
	struct link_layer link = {};
	__u32 ifindex = backend ? backend->egress_ifindex : record->ifindex;

	if (backend)
		link_layer_to(ctx, pkt, backend, &link);
	else
		link_layer_of(record, &link);
	if (!is_held_by(owner_of(record), flow))
		return WEIR_DROP_NAT_NO_FLOW; /* it became another's while it was read */
	if (!open_frame(ctx, pkt, &link, type_of_ip(pkt), 0, 0))
		return WEIR_DROP_INTERNAL; /* the driver keeps no headroom for a tag */
	if (ifindex == ctx->ingress_ifindex)
		return backend ? WEIR_TX_NAT : WEIR_TX_NAT_REPLY;
	if (bpf_redirect_map(&weir_devices, ifindex, 0) != XDP_REDIRECT)
		return WEIR_DROP_INTERNAL; /* devices are listed before packets come by them */
	return backend ? WEIR_REDIRECT_NAT : WEIR_REDIRECT_NAT_REPLY;
}

__noinline int weir_nat_leave(struct xdp_md *ctx, const struct packet *pkt, __u64 flow)
{
	const struct weir_nat_flow *record = record_at(index_of(flow));
	const struct weir_backend *backend;

	if (!pkt || !record)
		return WEIR_DROP_INTERNAL; /* they never are; only the verifier asks */
	if (is_reply_of(flow))
		return leave(ctx, pkt, record, flow, NULL);
	backend = find_backend(record->backend_id, pkt->vip_id);
	if (!backend)
		return WEIR_DROP_NO_BACKEND; /* it went just now */
	return leave(ctx, pkt, record, flow, backend);
}

__noinline int weir_nat_leave_ports(const struct packet *pkt)
{
	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	leave_ports(pkt);
	return 0;
}

/* Translates and sends a packet that was admitted. */
static __always_inline enum weir_verdict translate(struct xdp_md *ctx, struct packet *pkt,
						   nat_handle flow)
{
	int verdict = weir_nat_rewrite(ctx, pkt, flow);

	return verdict == WEIR_CONTINUE ? weir_nat_leave(ctx, pkt, flow) : verdict;
}

/* WEIR_CONTINUE where the flow does not go on; it is forgotten then, and the packet is as it was.
 */
static __always_inline enum weir_verdict send_to_backend(struct xdp_md *ctx, struct packet *pkt,
							 nat_handle flow)
{
	int verdict = weir_nat_admit_packet(ctx, pkt, flow);

	if (verdict == WEIR_CONTINUE)
		weir_nat_forget(flow);
	if (verdict != WEIR_TX_NAT)
		return verdict;
	if (!pkt->is_icmp_error)
		weir_nat_note_way(ctx, pkt, flow);
	return translate(ctx, pkt, flow);
}

static __always_inline enum weir_verdict send_to_client(struct xdp_md *ctx, struct packet *pkt,
							nat_handle flow)
{
	int verdict = weir_nat_admit_reply(ctx, pkt, flow);

	if (verdict != WEIR_TX_NAT_REPLY)
		return verdict;
	if (pkt->fragment == FRAGMENT_FIRST)
		weir_nat_leave_ports(pkt);
	return translate(ctx, pkt, flow);
}

/* Whether the flow has come so far that its packets change little. */
static __always_inline int has_begun(const struct weir_nat_flow *record)
{
	enum weir_nat_state state = weir_nat_state_of(owner_of(record));

	return state != WEIR_NAT_NEW &&
	       (state != WEIR_NAT_REPLIED || record->protocol != IPPROTO_TCP);
}

/* The backend of a flow whose packet of the client's needs nothing else on its way: no lists, no
 * rates, no range, no handshake. Then its VIP is noted. */
static __always_inline const struct weir_backend *
find_plain_backend(struct packet *pkt, const struct weir_nat_flow *record)
{
	const struct weir_vip *vip = vip_of(record->vip_id);
	const struct weir_backend *backend;

	if (!vip || vip->mode != WEIR_MODE_NAT || vip->flags & WEIR_VIP_GUARDED ||
	    !is_service_of(vip, pkt) || !has_begun(record))
		return NULL;
	backend = find_backend(record->backend_id, record->vip_id);
	if (!backend || !goes_on(record, pkt, backend))
		return NULL;
	pkt->vip_id = record->vip_id;
	pkt->backend_id = record->backend_id;
	return backend;
}

/*
 * For a whole packet that the index may know, before its service is looked up: the many. All in one
 * function, because looking up what another one has found was measured: a third of the time.
 * Returns enum weir_verdict; WEIR_CONTINUE, with the packet as it was, where more is to be known,
 * NAT_LONG_WAY for a reply of which more is to be kept.
 */
__noinline int weir_nat_send_plain(struct xdp_md *ctx, struct packet *pkt)
{
	const struct weir_backend *backend = NULL;
	struct weir_nat_flow *record;
	nat_handle flow;
	int verdict;

	if (!pkt)
		return WEIR_DROP_INTERNAL; /* it never is; only the verifier asks */
	flow = find_translated(&pkt->flow);
	record = flow ? record_at(index_of(flow)) : NULL;
	if (!record)
		return WEIR_CONTINUE;
	if (is_reply_of(flow)) {
		if (pkt->tcp_flags & TCP_SYN)
			return NAT_LONG_WAY;
		TRACE(NAT_REPLY, record->backend_id, 0);
		verdict = admit_reply(ctx, pkt, record);
		if (verdict != WEIR_TX_NAT_REPLY)
			return verdict;
	} else {
		backend = find_plain_backend(pkt, record);
		if (!backend)
			return WEIR_CONTINUE;
		TRACE(VIP_BY_FLOW, pkt->vip_id, 0);
		TRACE(NAT_HIT, record->backend_id, 0);
		verdict = admit(ctx, pkt, backend, 0);
		if (verdict != WEIR_CONTINUE)
			return verdict;
		touch(record, pkt, 0, 0);
		note_way(ctx, pkt, record);
	}
	verdict = rewrite_packet(ctx, pkt, record, !backend);
	return verdict == WEIR_CONTINUE ? leave(ctx, pkt, record, flow, backend) : verdict;
}

/* The same for first fragments, and for what was resolved. Those of the client's go on to their
 * service. */
static __always_inline enum weir_verdict send_resolved(struct xdp_md *ctx, struct packet *pkt)
{
	nat_handle flow = weir_nat_find(&pkt->flow);

	return flow && is_reply_of(flow) ? send_to_client(ctx, pkt, flow) : WEIR_CONTINUE;
}

static __always_inline enum weir_verdict send_known(struct xdp_md *ctx, struct packet *pkt)
{
	int sent = NAT_LONG_WAY;

	if (pkt->fragment == FRAGMENT_NONE)
		sent = weir_nat_send_plain(ctx, pkt);
	if (sent != NAT_LONG_WAY)
		return sent;
	return send_resolved(ctx, pkt);
}

/* For a packet whose destination may be ours: sends it if its flow is known. */
static __always_inline enum weir_verdict send_translated(struct xdp_md *ctx, struct packet *pkt)
{
	if (!weir_nat_mask ||
	    (!may_be_translated(&pkt->flow.destination) && !may_be_translated(&pkt->flow.source)))
		return WEIR_CONTINUE;
	return send_known(ctx, pkt);
}

/* Returns enum weir_verdict. */
__noinline int weir_nat_resolve(struct xdp_md *ctx, struct packet *pkt, __u32 verdict)
{
	if (!pkt)
		return WEIR_DROP_INTERNAL; /* it never is; only the verifier asks */
	return resolve_flow(ctx, pkt, verdict);
}

/* Takes back what resolve_flow() has done. */
__noinline int weir_nat_unresolve(const struct xdp_md *ctx, struct packet *pkt)
{
	const struct iphdr *ip4;
	const struct ipv6hdr *ip6;

	if (!pkt)
		return -1; /* it never is; only the verifier asks */
	ip4 = network_header(ctx, pkt);
	ip6 = network_header(ctx, pkt);
	pkt->is_icmp_error = 0;
	pkt->flow.ports_be = 0;
	pkt->flow.protocol_be = protocol_word(pkt->protocol);
	if (pkt->ip_version == 4 && (void *)(ip4 + 1) <= packet_end(ctx)) {
		pkt->flow.source = v4_mapped(ip4->saddr);
		pkt->flow.destination = v4_mapped(ip4->daddr);
	} else if ((void *)(ip6 + 1) <= packet_end(ctx)) {
		__builtin_memcpy(&pkt->flow.source, &ip6->saddr, sizeof(pkt->flow.source));
		__builtin_memcpy(&pkt->flow.destination, &ip6->daddr,
				 sizeof(pkt->flow.destination));
	}
	return 0;
}

/* For a packet that the parser found no flow in, or that is for no address of ours: sends it if it
 * belongs to a flow, and leaves it as it was otherwise (WEIR_CONTINUE). */
static __always_inline enum weir_verdict send_odd(struct xdp_md *ctx, struct packet *pkt,
						  enum weir_verdict verdict)
{
	enum weir_verdict sent = WEIR_CONTINUE;

	if (!weir_nat_mask || weir_nat_resolve(ctx, pkt, verdict) != WEIR_CONTINUE)
		return WEIR_CONTINUE;
	sent = send_resolved(ctx, pkt);
	if (sent == WEIR_CONTINUE)
		weir_nat_unresolve(ctx, pkt);
	return sent;
}

__noinline int weir_nat_may_be_reply(const struct packet *pkt)
{
	if (!pkt)
		return 0; /* it never is; only the verifier asks */
	return may_be_translated(&pkt->flow.source) || is_icmp_error(pkt);
}

/* For a packet whose destination is none of ours: a backend's reply to a client, which came by
 * here, or an error about what was sent to the backend. */
static __always_inline enum weir_verdict send_foreign(struct xdp_md *ctx, struct packet *pkt,
						      enum weir_verdict verdict)
{
	if (!weir_nat_mask || !weir_nat_may_be_reply(pkt))
		return WEIR_CONTINUE;
	return verdict == WEIR_CONTINUE ? send_known(ctx, pkt) : send_odd(ctx, pkt, verdict);
}

__noinline int weir_nat_choose(const struct packet *pkt, const struct weir_vip *vip)
{
	if (!pkt || !vip)
		return NO_CHOICE(WEIR_DROP_INTERNAL); /* they never are; only the verifier asks */
	return choose_by_policy(pkt, vip);
}

/* As choose_backend(), for a flow that has no record. */
static __always_inline int choose_for_nat(struct xdp_md *ctx, const struct packet *pkt,
					  const struct weir_vip *vip)
{
	__u32 backend_id;
	int verdict;

	/* What these are about is not known here, and nobody could answer them. */
	if (pkt->is_icmp_error || pkt->fragment == FRAGMENT_LATER || pkt->tcp_flags & TCP_RST)
		return NO_CHOICE(WEIR_DROP_NAT_NO_FLOW);
	if (vip->quic_id_bytes) {
		backend_id = weir_find_by_connection_id(ctx, pkt, vip);
		if (find_backend(backend_id, vip->id)) {
			verdict = check_flow_rates(pkt, vip);
			return verdict == WEIR_CONTINUE ? (int)backend_id : NO_CHOICE(verdict);
		}
	}
	return weir_nat_choose(pkt, vip);
}

/* In two steps, because of the stack. Returns whether one is free now. */
static __always_inline int free_a_port(const struct packet *pkt, const struct weir_vip *vip,
				       __u64 hash)
{
	nat_handle holder = weir_nat_port_holder(pkt, vip, hash);

	return holder && !weir_nat_evict(holder);
}

/* The record of a flow that has none. Returns enum weir_verdict. */
static __always_inline int begin_flow(struct xdp_md *ctx, struct packet *pkt,
				      const struct weir_vip *vip)
{
	int choice = choose_for_nat(ctx, pkt, vip), index, verdict;
	nat_handle half;
	__u64 hash;

	if (choice <= 0)
		return -choice;
	pkt->backend_id = choice;
	hash = weir_nat_hash(pkt);
	half = weir_nat_find_reply(pkt, vip, hash);
	if (half && !weir_nat_restore(pkt, half))
		return WEIR_CONTINUE;
	index = weir_nat_claim(hash);
	if (index < 0)
		return WEIR_DROP_NAT_FULL;
	if (weir_nat_begin(pkt, vip, index))
		return WEIR_CONTINUE; /* the flow has another CPU's record now */
	verdict = weir_nat_complete(pkt, vip, index, hash);
	if (verdict == WEIR_DROP_NAT_FULL && free_a_port(pkt, vip, hash))
		verdict = weir_nat_complete(pkt, vip, index, hash);
	if (verdict == WEIR_DROP_NAT_FULL)
		count_nat_event(WEIR_NAT_NO_PORT);
	if (verdict != WEIR_CONTINUE)
		weir_nat_abandon(pkt, index);
	return verdict;
}

/* For a packet to a VIP in mode nat. */
static __always_inline enum weir_verdict forward_nat(struct xdp_md *ctx, struct packet *pkt,
						     const struct weir_vip *vip)
{
	nat_handle flow;
	int verdict;

	if (!weir_nat_mask)
		return WEIR_DROP_INTERNAL; /* user space has made no table */
	flow = weir_nat_find(&pkt->flow);
	if (flow && !is_reply_of(flow)) {
		verdict = send_to_backend(ctx, pkt, flow);
		if (verdict != WEIR_CONTINUE)
			return verdict;
	}
	TRACE(NAT_MISS, 0, 0);
	verdict = begin_flow(ctx, pkt, vip);
	if (verdict != WEIR_CONTINUE)
		return verdict;
	flow = weir_nat_find(&pkt->flow);
	verdict = flow ? send_to_backend(ctx, pkt, flow) : WEIR_CONTINUE;
	return verdict == WEIR_CONTINUE ? WEIR_DROP_NAT_FULL : verdict;
}
