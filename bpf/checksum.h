/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Internet checksums (RFC 1071, RFC 1624), of what is sent and of what tunnels bring. */

#include <linux/ip.h>

#include "bpf/abi.h"

/* Where in a frame a sum may read, for the verifier: headers and the largest frame that devices
 * carry, 9,216 bytes, come to less. */
#define SUM_OFFSET_MASK 0x3fff

/* One's complement sums are kept in 64 bits and folded at the end: hundreds of 32-bit words fit. */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_address(const struct weir_address *address)
{
	__u32 words[4];

	__builtin_memcpy(words, address, sizeof(words));
	return (__u64)words[0] + words[1] + words[2] + words[3];
}

/* RFC 1624, equation 3, for one 16-bit word. */
static __always_inline __u16 checksum_replace(__u16 checksum, __u16 old_word, __u16 new_word)
{
	return ~fold((__u64)(__u16)~checksum + (__u16)~old_word + new_word);
}

static __always_inline __u16 ipv4_checksum(const struct iphdr *ip)
{
	__u32 words[sizeof(*ip) / 4];
	__u64 sum = 0;

	__builtin_memcpy(words, ip, sizeof(words));
	for (int i = 0; i < 5; i++) /* the words of a header without options */
		sum += words[i];
	return ~fold(sum);
}
