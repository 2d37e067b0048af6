/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The contract between the XDP programs and user space: every structure, constant and name that
 * both sides see. Fixed-width types only. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. Fields
 * that end in _be are in network byte order, all others in host order. Keys have no padding.
 *
 * A change of any layout here is a new WEIR_ABI_VERSION: a daemon refuses to adopt maps that were
 * pinned under another one.
 */

#include <linux/types.h>

#define WEIR_ABI_VERSION 1

#define WEIR_VIPS_MAX		4096  /* ids 1 … WEIR_VIPS_MAX - 1; 0 is never a valid id */
#define WEIR_BACKENDS_MAX	65536 /* ids 1 … WEIR_BACKENDS_MAX - 1 */
#define WEIR_L7_WORKERS_MAX	64    /* slots of the devmap that leads to the L7 workers */
#define WEIR_L7_ADDRESSES_MAX	256 /* L7's own addresses, the source of its upstream connections */
#define WEIR_DEVICES_MAX	64  /* devices that the programs may send out of */
#define WEIR_DECAP_SOURCES_MAX	1024 /* balancers that a backend takes tunnel packets from */
#define WEIR_DECAP_VIPS_MAX	4096 /* prefixes that a backend takes inner packets for */
#define WEIR_DECAP_GUE_PORT	6080 /* registered for GUE; the default */
#define WEIR_TABLE_SIZE_DEFAULT 65537
#define WEIR_TABLE_SIZE_MAX	1048573 /* largest Maglev table; sizes are prime */
#define WEIR_FLOWS_DEFAULT	262144	/* entries of the flow table unless set before load */

enum weir_verdict {
	WEIR_CONTINUE = -1, /* not the end yet: go on with the next step */
#define WEIR_VERDICT(symbol, action, label, sentence) WEIR_##symbol,
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
	WEIR_VERDICT_COUNT,
};

/* How a VIP's packets reach its backends. */
enum weir_forward_mode {
	WEIR_MODE_NONE = 0,
	WEIR_MODE_IPIP = 1, /* RFC 2003 and RFC 2473: 4in4, 6in6, 4in6, 6in4 */
	WEIR_MODE_L2 = 2, /* destination MAC rewritten; backends share a segment and own the VIP */
	WEIR_MODE_L7 = 3, /* handed to a weir-l7 worker of this node */
};

struct weir_address {
	__u8 bytes[16];
};

/* Map weir_vips: which service a packet is for. */
struct weir_vip_key {
	struct weir_address address;
	__u16 port_be;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP; 0 with port 0: the address belongs to a VIP */
	__u8 reserved; /* zero */
};

struct weir_vip {
	__u32 id; /* index of weir_tables and weir_vip_counters; 0 in address-only entries */
	__u32 table_size; /* slots of its Maglev table; fixed for the life of the VIP */
	__u8 mode;	  /* enum weir_forward_mode */
	__u8 reserved[7]; /* zero */
};

/* A backend as the packet path needs it. Slots of Maglev tables and flow entries hold its id. */
struct weir_backend {
	struct weir_address address;	  /* where an encapsulated packet goes */
	struct weir_address outer_source; /* source of the outer header; same family as address */
	__u8 next_hop_mac[6];		  /* destination MAC of the frame; all zero: not resolved */
	__u8 source_mac[6];		  /* the egress device's own MAC */
	__u32 egress_ifindex;		  /* 0: not resolved */
	__u32 egress_mtu;		  /* bytes of IP packet that the egress device can carry */
	__u32 flags;			  /* WEIR_BACKEND_* */
};

#define WEIR_BACKEND_IN_USE 1 /* unset: the slot is free, or was freed and may still be named */

/* Map weir_flows: which backend a connection was given. */
struct weir_flow_key {
	struct weir_address source;
	struct weir_address destination;
	__u16 source_port_be;
	__u16 destination_port_be;
	__u8 protocol;
	__u8 reserved[3]; /* zero */
};

struct weir_flow {
	__u32 backend_id;
	__u32 vip_id;
};

struct weir_counter {
	__u64 packets;
	__u64 bytes; /* of whole frames as received, Ethernet header included */
};

/* Per VIP, maps weir_vip_counters and, per backend, weir_backend_counters. */
struct weir_service_counter {
	__u64 packets;
	__u64 bytes;
	__u64 new_flows; /* flows that were given a backend by the table, not by the flow entry */
};

/* Map weir_decap_vips, a trie: which inner destinations a backend owns. IPv4 prefixes have 96 bits
 * more, those of the mapped form. */
struct weir_decap_vip_key {
	__u32 prefix_bits;
	struct weir_address address;
};

/* What the decapsulation programs count, map weir_decap_counters. */
enum weir_decap_verdict {
	WEIR_DECAP_CONTINUE = -1, /* not the end yet: go on with the next step */
#define WEIR_DECAP_VERDICT(symbol, action, label, sentence) WEIR_DECAP_##symbol,
#include "bpf/decap_verdicts.def"
#undef WEIR_DECAP_VERDICT
	WEIR_DECAP_VERDICT_COUNT,
};

/* What the return program, on the balancer's end of an L7 worker's veth, counts. */
enum weir_return_verdict {
	WEIR_RETURN_REDIRECT = 0, /* sent out of the network device */
	WEIR_RETURN_DROP = 1,	  /* no device is set */
	WEIR_RETURN_VERDICT_COUNT,
};

#ifdef __cplusplus
#define WEIR_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define WEIR_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif
WEIR_ASSERT_SIZE(struct weir_vip_key, 20);
WEIR_ASSERT_SIZE(struct weir_vip, 16);
WEIR_ASSERT_SIZE(struct weir_backend, 56);
WEIR_ASSERT_SIZE(struct weir_flow_key, 40);
WEIR_ASSERT_SIZE(struct weir_flow, 8);
WEIR_ASSERT_SIZE(struct weir_decap_vip_key, 20);
