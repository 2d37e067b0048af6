/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* What the owner word of a NAT record says (abi.h): for the program, which keeps records by it, and
 * for user space, which counts them by it. Plain C and C++, as hash.h. */

#include "bpf/abi.h"
#include "bpf/hash.h"

WEIR_PURE __u32 weir_nat_state_of(__u64 owner)
{
	return owner & WEIR_NAT_STATE_MASK;
}

/* Whether a flow was established and somebody has sent a RST since. */
WEIR_PURE int weir_nat_was_reset(__u64 owner)
{
	return weir_nat_state_of(owner) == WEIR_NAT_ESTABLISHED && owner & WEIR_NAT_RESET ? 1 : 0;
}

/* For how many seconds a flow is kept without a packet. */
WEIR_PURE __u32 weir_nat_timeout_s(__u64 owner, int is_tcp)
{
	switch (weir_nat_state_of(owner)) {
	case WEIR_NAT_NEW:
		return is_tcp ? WEIR_NAT_TCP_NEW_S : WEIR_NAT_UDP_NEW_S;
	case WEIR_NAT_REPLIED:
		return is_tcp ? WEIR_NAT_TCP_REPLIED_S : WEIR_NAT_UDP_REPLIED_S;
	case WEIR_NAT_ESTABLISHED:
		return weir_nat_was_reset(owner) ? WEIR_NAT_TCP_CLOSING_S
						 : WEIR_NAT_TCP_ESTABLISHED_S;
	default:
		return WEIR_NAT_TCP_CLOSING_S;
	}
}
