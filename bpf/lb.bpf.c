// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The balancer, on every device that receives VIP traffic: parse, select, rewrite, finish. */

#include "bpf/answer.h"
#include "bpf/encap.h"
#include "bpf/finish.h"
#include "bpf/fragment.h"
#include "bpf/guard.h"
#include "bpf/handoff.h"
#include "bpf/icmp.h"
#include "bpf/maps.h"
#include "bpf/nat.h"
#include "bpf/parse.h"
#include "bpf/select.h"
#include "bpf/trace.h"

static __always_inline enum weir_verdict forward_to_backend(struct xdp_md *ctx, struct packet *pkt,
							    const struct weir_vip *vip,
							    const struct flow_place *place)
{
	struct choice choice;
	const struct weir_backend *backend;
	enum weir_verdict verdict;

	if (vip->mode == WEIR_MODE_NAT)
		return forward_nat(ctx, pkt, vip);
	choice = choose_backend(ctx, pkt, vip, place);
	backend = choice.backend;
	if (!backend)
		return choice.verdict;
	pkt->backend_id = choice.backend_id;
	TRACE(BACKEND, choice.backend_id, choice.backend_id);
	verdict = admit(ctx, pkt, backend, outer_bytes_of(vip->mode, backend));
	if (verdict != WEIR_CONTINUE)
		return verdict;
	switch (vip->mode) {
	case WEIR_MODE_IPIP:
	case WEIR_MODE_GUE:
		return encapsulate(ctx, pkt, vip, backend);
	case WEIR_MODE_L2:
		return rewrite_macs(ctx, pkt, backend);
	default:
		return WEIR_DROP_INTERNAL; /* user space wrote a mode that we do not know */
	}
}

static __always_inline enum weir_verdict forward(struct xdp_md *ctx, struct packet *pkt,
						 const struct weir_vip *vip,
						 const struct flow_place *place)
{
	enum weir_verdict verdict;

	pkt->vip_id = vip->id;
	pkt->may_refuse = vip->flags & WEIR_VIP_REFUSE ? 1 : 0;
	if (vip->flags & WEIR_VIP_GUARDED) {
		verdict = weir_guard(pkt, vip, place);
		if (verdict != WEIR_CONTINUE)
			return verdict;
	}
	if (pkt->fragment == FRAGMENT_FIRST)
		leave_ports(pkt);
	if (vip->mode == WEIR_MODE_L7)
		return hand_over_flow(pkt, vip, place);
	return forward_to_backend(ctx, pkt, vip, place);
}

/* The host announces VIPs, so it answers for them to neighbours too. */
static __always_inline int is_neighbor_discovery(const struct packet *pkt)
{
	return pkt->ip_version == 6 && pkt->icmp_type >= ICMPV6_ND_FIRST &&
	       pkt->icmp_type <= ICMPV6_ND_LAST;
}

/* Whose an address is, and which address stands for it where it is one of a prefix. */
struct owner {
	const struct weir_address_entry *entry; /* NULL: nobody's */
	const struct weir_address *address;
};

static __always_inline struct owner find_owner(const struct weir_address *address)
{
	struct weir_prefix_key key = {.prefix_length = 128, .address = *address};
	struct owner owner = {.address = address};

	owner.entry = bpf_map_lookup_elem(&weir_addresses, &key.address);
	if (owner.entry)
		return owner;
	owner.address = bpf_map_lookup_elem(&weir_prefixes, &key);
	if (owner.address)
		owner.entry = bpf_map_lookup_elem(&weir_addresses, owner.address);
	return owner;
}

/* No service takes the packet, whose destination is a VIP's. `verdict` is what the parser said. */
static __always_inline enum weir_verdict refuse_or_pass(struct packet *pkt, __u32 flags,
							enum weir_verdict verdict)
{
	pkt->may_refuse = flags & WEIR_ADDRESS_REFUSE ? 1 : 0;
	if (verdict == WEIR_CONTINUE)
		return WEIR_DROP_UNKNOWN_PORT;
	if (verdict != WEIR_PASS_NO_PORTS || !is_icmp(pkt) || is_neighbor_discovery(pkt))
		return verdict;
	if (flags & WEIR_ADDRESS_L7) /* which puts no fragments together */
		return pkt->fragment == FRAGMENT_NONE ? hand_over_icmp(pkt) : WEIR_DROP_FRAGMENT;
	if (flags & WEIR_ADDRESS_ECHO && is_echo_request(pkt))
		return WEIR_TX_ECHO_REPLY; /* which tell_sender() makes it */
	return verdict;
}

/* The service of a packet that is for no single port of a single address, or the verdict that says
 * why there is none: prefixes, ranges of ports, later fragments, ICMP errors. Not inlined: the rest
 * of the packets, which are the many, should not carry it through the instruction cache. */
static __noinline const struct weir_vip *
find_service_further(struct xdp_md *ctx, struct packet *pkt, enum weir_verdict *verdict)
{
	const struct weir_vip *vip = NULL;
	struct owner owner = find_owner(&pkt->flow.destination);
	__u32 flags = owner.entry ? owner.entry->flags : 0;

	/* What else comes to an address of full NAT is the node's own. */
	if (!owner.entry || !(flags & ~WEIR_ADDRESS_SNAT)) {
		TRACE(NOBODY, 0, 0);
		*verdict = WEIR_PASS_NOT_A_VIP;
		return NULL;
	}
	TRACE(OWNER, owner.entry->flags, 0);
	if (owner.entry->flags & WEIR_ADDRESS_L7_OWN) {
		*verdict = hand_over_local(pkt, WEIR_PASS_NOT_A_VIP);
		return NULL;
	}
	*verdict = resolve_flow(ctx, pkt, *verdict);
	if (*verdict == WEIR_CONTINUE) {
		vip = find_port(pkt, owner.address);
		if (!vip && owner.entry->flags & WEIR_ADDRESS_RANGES)
			vip = find_range(pkt, owner.address);
	}
	TRACE_IF(!vip, NO_VIP, 0, 0);
	if (!vip)
		*verdict = refuse_or_pass(pkt, owner.entry->flags, *verdict);
	return vip;
}

/* ARP and neighbour solicitations for L7's own addresses are L7's to answer. */
static __always_inline enum weir_verdict decide_neighbor(const struct packet *pkt,
							 enum weir_verdict otherwise)
{
	struct weir_address target = pkt->flow.destination;
	const struct weir_address_entry *entry = bpf_map_lookup_elem(&weir_addresses, &target);

	if (!entry || !(entry->flags & WEIR_ADDRESS_L7_OWN))
		return otherwise;
	return hand_over_local(pkt, otherwise);
}

/* What the node's list denies is not answered either, nor handed to L7 to answer. */
static __always_inline int would_be_answered(enum weir_verdict verdict)
{
	return verdict == WEIR_DROP_UNKNOWN_PORT || verdict == WEIR_TX_ECHO_REPLY ||
	       verdict == WEIR_REDIRECT_L7;
}

/*
 * The flow is looked up before the service: a known one leads to its VIP by itself. And the service
 * before the address, so that new flows cost one lookup less.
 */
static __always_inline enum weir_verdict decide(struct xdp_md *ctx, struct packet *pkt)
{
	enum weir_verdict verdict = parse_packet(ctx, pkt), sent;
	const struct weir_vip *vip = NULL;
	struct flow_place place;

	TRACE_PACKET(PARSED, pkt, verdict);
	if (pkt->kind == PACKET_FOREIGN)
		return verdict;
	if (!may_be_ours(&pkt->flow.destination)) {
		if (pkt->kind == PACKET_NEIGHBOR)
			return verdict;
		verdict = send_foreign(ctx, pkt, verdict);
		return verdict == WEIR_CONTINUE ? WEIR_PASS_NOT_A_VIP : verdict;
	}
	if (pkt->kind == PACKET_NEIGHBOR)
		return decide_neighbor(pkt, verdict);
	if (verdict == WEIR_CONTINUE) {
		sent = send_translated(ctx, pkt);
		if (sent != WEIR_CONTINUE)
			return sent;
	}
	place = find_flow(&pkt->flow);
	if (verdict == WEIR_CONTINUE) {
		TRACE_IF(!place.entry, FLOW_MISS, 0, 0);
		TRACE_IF(place.entry, FLOW_HIT, backend_of(place.entry), trace_entry(&place));
		if (place.entry)
			vip = find_by_flow(pkt, &place);
		if (!vip)
			vip = find_port(pkt, &pkt->flow.destination);
	}
	if (!vip) {
		if (verdict != WEIR_CONTINUE) {
			sent = send_odd(ctx, pkt, verdict);
			if (sent != WEIR_CONTINUE)
				return sent;
		}
		vip = find_service_further(ctx, pkt, &verdict);
		if (!vip)
			return would_be_answered(verdict) && weir_is_blocked(pkt)
				       ? WEIR_DROP_BLOCKED
				       : verdict;
		place = find_flow(&pkt->flow); /* of an error or a fragment, it is known only now */
		TRACE_IF(place.entry, FLOW_HIT, backend_of(place.entry), trace_entry(&place));
	}
	return forward(ctx, pkt, vip, &place);
}

SEC("xdp")
int weir_lb(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum weir_verdict verdict = decide(ctx, &pkt);

	TRACE(DECIDED, verdict, 0);
	verdict = tell_sender(ctx, &pkt, verdict);
	return finish(ctx, &pkt, verdict);
}

char weir_lb_license[] SEC("license") = "Dual BSD/GPL";
