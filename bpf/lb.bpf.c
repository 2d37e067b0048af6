// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The balancer, on every device that receives VIP traffic: parse, select, rewrite, finish. */

#include "bpf/encap.h"
#include "bpf/finish.h"
#include "bpf/handoff.h"
#include "bpf/maps.h"
#include "bpf/parse.h"
#include "bpf/select.h"

static __always_inline enum weir_verdict forward_to_backend(struct xdp_md *ctx, struct packet *pkt,
							    const struct weir_vip *vip)
{
	struct choice choice = choose_backend(pkt, vip);

	if (choice.verdict != WEIR_CONTINUE)
		return choice.verdict;
	pkt->backend_id = choice.backend_id;
	switch (vip->mode) {
	case WEIR_MODE_IPIP:
		return forward_ipip(ctx, pkt, choice.backend);
	case WEIR_MODE_L2:
		return forward_l2(ctx, pkt, choice.backend);
	default:
		return WEIR_DROP_INTERNAL; /* user space wrote a mode that we do not know */
	}
}

static __always_inline enum weir_verdict forward(struct xdp_md *ctx, struct packet *pkt,
						 const struct weir_vip *vip)
{
	pkt->vip_id = vip->id;
	if (vip->mode == WEIR_MODE_L7)
		return hand_over_flow(pkt);
	return forward_to_backend(ctx, pkt, vip);
}

static __always_inline int is_icmp(const struct packet *pkt)
{
	return pkt->flow.protocol == (pkt->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* The host announces VIPs, so it answers for them to neighbours too. */
static __always_inline int is_neighbor_discovery(const struct packet *pkt)
{
	return pkt->ip_version == 6 && pkt->icmp_type >= ICMPV6_ND_FIRST &&
	       pkt->icmp_type <= ICMPV6_ND_LAST;
}

/* No service takes the packet. `if_vip` is how it ends if the address is nevertheless a VIP's. */
static __always_inline enum weir_verdict refuse_or_pass(const struct packet *pkt,
							enum weir_verdict if_vip)
{
	const struct weir_vip *vip = find_vip_address(pkt);

	if (!vip)
		return hand_over_local(pkt, WEIR_PASS_NOT_A_VIP);
	/* L7 answers echo for its VIPs, and needs the errors about its connections. */
	if (if_vip == WEIR_PASS_NO_PORTS && vip->mode == WEIR_MODE_L7 && is_icmp(pkt) &&
	    !is_neighbor_discovery(pkt))
		return hand_over_icmp();
	return if_vip;
}

/* The service is looked up before the address, not after: a VIP's packets, which are the many,
 * then cost one lookup less, and what goes on to the host costs microseconds anyway. */
static __always_inline enum weir_verdict decide(struct xdp_md *ctx, struct packet *pkt)
{
	enum weir_verdict verdict = parse_packet(ctx, pkt);
	const struct weir_vip *vip;

	if (pkt->kind == PACKET_FOREIGN)
		return verdict;
	if (pkt->kind == PACKET_NEIGHBOR)
		return hand_over_local(pkt, verdict);
	if (verdict != WEIR_CONTINUE)
		return refuse_or_pass(pkt, verdict);
	vip = find_service(pkt);
	if (!vip)
		return refuse_or_pass(pkt, WEIR_DROP_UNKNOWN_PORT);
	return forward(ctx, pkt, vip);
}

SEC("xdp")
int weir_lb(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum weir_verdict verdict = decide(ctx, &pkt);

	return finish(&pkt, verdict);
}

char weir_lb_license[] SEC("license") = "Dual BSD/GPL";
