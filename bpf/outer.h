/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* What outer headers look like, whoever writes them: the balancer and the probes of its backends.
 */

#include <bpf/bpf_endian.h>

#include "bpf/checksum.h"

#define OUTER_HOP_LIMIT	   64
#define IPV4_DONT_FRAGMENT 0x4000
#define GUE_SOURCE_FIRST   0xc000 /* outer source ports are dynamic ones (RFC 6335, section 6) */

/* A source port that varies with the flow and with nothing else. */
static __always_inline __be16 gue_source_port(const struct weir_flow_key *flow)
{
	__u64 mixed = sum_address(&flow->source) + sum_address(&flow->destination) +
		      ((__u64)flow->source_port_be << 16) + flow->destination_port_be;

	return bpf_htons(GUE_SOURCE_FIRST | (mixed * 0x9e3779b97f4a7c15ULL) >> 50);
}
