/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The hashes of the packet path, for user space and for tests too: C and C++, no helpers.
 *
 * What chooses a backend is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF")
 * of the 40 bytes of a weir_flow_key, keyed by weir_hash_seed. A keyed function, because source
 * ports and IPv6 source addresses are the client's to choose: under a known hash one client could
 * put all its flows on one backend. Nine rounds; only packets without a flow entry pay for them.
 *
 * What finds a flow in the flow table is NH (Black et al., "UMAC: Fast and Secure Message
 * Authentication", section 4) with a finishing mix: five multiplications that do not wait for each
 * other, a quarter of SipHash's time. Its keys come from a secret of the node's own, which stays
 * when the seed changes, and what it yields cannot be seen from outside; two flows collide once in
 * 2^32 whatever a client sends.
 */

#include <linux/types.h>

#include "bpf/abi.h"

#define WEIR_PURE static inline __attribute__((always_inline))

struct weir_sip_state {
	__u64 v0, v1, v2, v3;
};

WEIR_PURE __u64 weir_rotate_left(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

WEIR_PURE void weir_sip_round(struct weir_sip_state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = weir_rotate_left(s->v1, 13) ^ s->v0;
	s->v3 = weir_rotate_left(s->v3, 16) ^ s->v2;
	s->v0 = weir_rotate_left(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = weir_rotate_left(s->v1, 17) ^ s->v2;
	s->v3 = weir_rotate_left(s->v3, 21) ^ s->v0;
	s->v2 = weir_rotate_left(s->v2, 32);
}

WEIR_PURE void weir_sip_absorb(struct weir_sip_state *s, __u64 word)
{
	s->v3 ^= word;
	weir_sip_round(s);
	s->v0 ^= word;
}

WEIR_PURE __u64 weir_flow_hash(const struct weir_flow_key *flow, __u64 seed0, __u64 seed1)
{
	__u64 words[sizeof(*flow) / sizeof(__u64)];
	struct weir_sip_state s = {
		seed0 ^ 0x736f6d6570736575ULL,
		seed1 ^ 0x646f72616e646f6dULL,
		seed0 ^ 0x6c7967656e657261ULL,
		seed1 ^ 0x7465646279746573ULL,
	};

	__builtin_memcpy(words, flow, sizeof(words));
	for (int i = 0; i < 5; i++) { /* 40 bytes are five words */
		/* Words are little-endian whatever the machine: nodes must agree. */
		if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
			words[i] = __builtin_bswap64(words[i]);
		weir_sip_absorb(&s, words[i]);
	}
	weir_sip_absorb(&s, 40ULL << 56); /* the length closes the message */
	s.v2 ^= 0xff;
	weir_sip_round(&s);
	weir_sip_round(&s);
	weir_sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#define WEIR_FLOW_KEYS	  10
#define WEIR_FILTER_WORDS 1024 /* 64 Ki bits: 4,096 addresses set 1 in 16, 10,000 one in 7 */
#define WEIR_FILTERS	  2    /* of all addresses of ours, and of those of mode nat */

/* The hash of the node's own tables, by a key of 32 bits for each word; an even number of words. */
WEIR_PURE __u64 weir_words_hash(const __u32 *words, int count, const volatile __u32 *keys)
{
	__u64 hash = 0;

	for (int i = 0; i < count; i += 2) {
		__u32 left = words[i] + keys[i];
		__u32 right = words[i + 1] + keys[i + 1];
		__u64 product = left;

		product *= right;
		hash += product;
	}
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL; /* an odd constant with well spread bits */
	hash ^= hash >> 32;
	return hash;
}

/* Of a flow, in the flow table. */
WEIR_PURE __u64 weir_table_hash(const struct weir_flow_key *flow, const volatile __u32 *keys)
{
	__u32 words[WEIR_FLOW_KEYS];

	__builtin_memcpy(words, flow, sizeof(words));
	return weir_words_hash(words, WEIR_FLOW_KEYS, keys);
}

/* Of a source, among those that have rates of their own. */
WEIR_PURE __u64 weir_source_hash(const struct weir_address *source, const volatile __u32 *keys)
{
	__u32 words[sizeof(*source) / sizeof(__u32)];

	__builtin_memcpy(words, source, sizeof(words));
	return weir_words_hash(words, sizeof(words) / sizeof(__u32), keys);
}

/* Key `index` of the flow table's hash, from two words of secret. Which value is hashed does not
 * matter: no flow has it. */
WEIR_PURE __u32 weir_flow_key_of(__u64 secret0, __u64 secret1, __u32 index)
{
	struct weir_flow_key label = {};

	label.reserved[0] = 1;
	label.source_port_be = index;
	return weir_flow_hash(&label, secret0, secret1);
}

/* Bit of weir_filter for an address. Not keyed: whoever hits a bit gains a lookup, nothing else. */
WEIR_PURE __u32 weir_filter_bit(const struct weir_address *address)
{
	/* By four bytes, as the address was just written: a load of eight would wait until two
	 * stores have left the core's buffer, 2 of the 18 ns of a packet for no VIP. */
	__u32 words[4];
	__u64 high;

	__builtin_memcpy(words, address, sizeof(words));
	high = words[1] ^ words[3];
	return (((words[0] ^ words[2]) | high << 32) * 0x9e3779b97f4a7c15ULL) >> 48;
}

/* Scales 32 bits of hash to 0 … count - 1 by multiplication: a division costs five times as much,
 * and the shares differ by less than count / 2^32 either way. */
WEIR_PURE __u32 weir_scale(__u32 hash, __u32 count)
{
	__u64 product = hash;

	product *= count;
	return product >> 32;
}

/* A Maglev slot and an L7 worker are taken from different halves, so that neither choice says
 * anything about the other. */
WEIR_PURE __u32 weir_slot_of(__u64 hash, __u32 table_size)
{
	return weir_scale(hash >> 32, table_size);
}

WEIR_PURE __u32 weir_lines_of(__u32 table_size)
{
	return (table_size + WEIR_LINE_SLOTS - 1) / WEIR_LINE_SLOTS;
}

WEIR_PURE __u32 weir_worker_of(__u64 hash, __u32 worker_count)
{
	return weir_scale(hash & 0xffffffff, worker_count);
}
