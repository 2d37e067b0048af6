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

#define WEIR_ABI_VERSION 5

#define WEIR_VIPS_MAX		16384  /* ids 1 … WEIR_VIPS_MAX - 1; 0 is never a valid id */
#define WEIR_BACKENDS_MAX	131072 /* ids 1 … WEIR_BACKENDS_MAX - 1; 17 bits */
#define WEIR_MEMBERS_MAX	262144 /* backends by number, of all VIPs; entry 0 is never used */
#define WEIR_L7_WORKERS_MAX	64     /* slots of the devmap that leads to the L7 workers */
#define WEIR_L7_ADDRESSES_MAX	256 /* L7's own addresses, the source of its upstream connections */
#define WEIR_SNAT_ADDRESSES_MAX 64  /* addresses of the node that full NAT sends from */
#define WEIR_DEVICES_MAX	64  /* devices that the programs may send out of */
#define WEIR_DECAP_SOURCES_MAX	1024	/* balancers that a backend takes tunnel packets from */
#define WEIR_DECAP_VIPS_MAX	4096	/* prefixes that a backend takes inner packets for */
#define WEIR_DECAP_GUE_PORT	6080	/* registered for GUE; the default */
#define WEIR_TABLE_SIZE_MAX	1048573 /* largest Maglev table; sizes are prime */
#define WEIR_FLOWS_DEFAULT	262144	/* entries of the flow table unless set before load */
#define WEIR_FRAGMENTS_DEFAULT	4096	/* datagrams whose later fragments are waited for */
#define WEIR_RANGES_MAX		65536	/* a range of ports takes up to 30 entries */
#define WEIR_LIST_PREFIXES_MAX	262144	/* prefixes of one source list */
#define WEIR_SOURCE_WAYS	4
#define WEIR_SOURCE_SETS	16384 /* of one VIP: so many sources, times ways, have rates */
#define WEIR_ADDRESSES_MAX	(WEIR_VIPS_MAX + WEIR_L7_ADDRESSES_MAX + WEIR_SNAT_ADDRESSES_MAX)
#define WEIR_GUE_PORT_DEFAULT	6080

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
	WEIR_MODE_L2 = 2,  /* destination MAC rewritten; backends share a segment and own the VIP */
	WEIR_MODE_L7 = 3,  /* handed to a weir-l7 worker of this node */
	WEIR_MODE_GUE = 4, /* UDP with the IP packet as payload (GUE variant 1) */
	WEIR_MODE_NAT = 5, /* destination, and where asked source, address and port rewritten */
};

/* What of a packet chooses the backend of a new flow. */
enum weir_hash_policy {
	WEIR_HASH_FIVE_TUPLE = 0,
	WEIR_HASH_SOURCE_PORT = 1, /* source address and port */
	WEIR_HASH_SOURCE = 2,	   /* source address: one client, one backend */
};

/* Aligned so that it is read by words. */
struct weir_address {
	__u8 bytes[16];
} __attribute__((aligned(4)));

/* Map weir_services: address, port and protocol → VIP id. Ranges, and all ports, are in
 * weir_ranges. */
struct weir_vip_key {
	struct weir_address address;
	__u16 port_be;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 reserved; /* zero */
};

/* Map weir_ranges: ranges of ports → VIP id. The prefix length counts from `address` on:
 * WEIR_RANGE_PREFIX_BITS alone is every port, with 16 bits more it is one. */
struct weir_range_key {
	__u32 prefix_length;
	struct weir_address address;
	__u8 protocol;
	__u8 reserved; /* zero */
	__u16 port_be;
};

#define WEIR_RANGE_PREFIX_BITS 144 /* address, protocol, reserved */

/* Events a second, as buckets count them: a bucket holds one second's worth. */
struct weir_limits {
	__u32 new_flows_per_source; /* 0: no limit; the same for all */
	__u32 packets_per_source;
	__u32 new_flows;
	__u32 packets;
};

/* Map weir_vips, by id: all that a packet needs to know of its service, in one cache line. */
struct weir_vip {
	__u32 id;	    /* its own index */
	__u32 first_member; /* backend number n is in entry first_member + n of weir_members */
	__u32 flags;	    /* WEIR_VIP_* */
	__u32 affinity_s;   /* how long a client that is idle keeps its backend, in seconds of the
			     * flow table's clock; 0: no affinity */
	struct weir_limits limits;
	struct weir_address address; /* address, port and protocol as in its key: a packet whose */
	__u16 port_be;	    /* flow is known is told by them to be for this VIP, without a */
	__u8 protocol;	    /* lookup; protocol 0 for prefixes and ranges */
	__u8 mode;	    /* enum weir_forward_mode */
	__u8 hash;	    /* enum weir_hash_policy */
	__u8 quic_id_bytes; /* length of server ids; 0: connection ids are not looked at */
	__u8 quic_rotation; /* configuration rotation bits of routable connection ids */
	__u8 reserved;	    /* zero */
	__u16 gue_port_be;  /* destination port of the outer UDP header */
	__u16 member_room;  /* numbers go from 1 to this; only user space asks */
	__u8 reserved2[4];  /* zero */
};

#define WEIR_VIP_SOURCE_LIST 1	/* weir_lists has a list for it */
#define WEIR_VIP_BLOCK_LIST  2	/* weir_lists[0], the node's, is not empty */
#define WEIR_VIP_LIMITS	     4	/* some limit is set */
#define WEIR_VIP_REFUSE	     8	/* no backend: answer by RST or ICMP instead of dropping */
#define WEIR_VIP_SNAT	     16 /* nat: the source becomes an address of this node too */
/* Packets of this VIP need more than flow table and Maglev slot. */
#define WEIR_VIP_GUARDED (WEIR_VIP_SOURCE_LIST | WEIR_VIP_BLOCK_LIST | WEIR_VIP_LIMITS)

/* Map weir_addresses: every address that has to do with us. */
struct weir_address_entry {
	__u32 flags; /* WEIR_ADDRESS_* */
};

#define WEIR_ADDRESS_VIP    1	/* of some service */
#define WEIR_ADDRESS_RANGES 2	/* weir_ranges has services for it */
#define WEIR_ADDRESS_L7	    4	/* of a service in mode l7: ICMP is L7's to answer */
#define WEIR_ADDRESS_L7_OWN 8	/* L7's own: replies to its upstream connections */
#define WEIR_ADDRESS_SNAT   16	/* the node's, in front of full NAT: replies of backends */
#define WEIR_ADDRESS_REFUSE 32	/* an unknown port is answered by RST or ICMP */
#define WEIR_ADDRESS_ECHO   64	/* echo requests are answered */
#define WEIR_ADDRESS_NAT    128 /* of a service in mode nat */

/* Maps weir_prefixes and weir_lists: an address and how many bits of it count. */
struct weir_prefix_key {
	__u32 prefix_length; /* 0 … 128; IPv4's are 96 longer than they are written */
	struct weir_address address;
};

/* Map weir_lists, by VIP id; id 0 is the node's block list. What no prefix covers is allowed
 * unless the list says otherwise for the empty prefix. */
enum weir_list_answer {
	WEIR_LIST_ALLOW = 1,
	WEIR_LIST_DENY = 2,
};

/* The first twelve bytes of an Ethernet frame. */
struct weir_macs {
	__u8 next_hop[6];
	__u8 source[6]; /* the egress device's own */
} __attribute__((aligned(4)));

/* A backend as the packet path needs it, in one cache line. Flow entries hold its id. */
struct weir_backend {
	struct weir_address address;	  /* where an encapsulated or translated packet goes */
	struct weir_address outer_source; /* source of the outer header; same family as address */
	struct weir_macs macs;		  /* of the frame sent; next hop all zero: not resolved */
	__u32 egress_ifindex;		  /* 0: not resolved */
	__u32 vip_id;			  /* the VIP it was given out for; never another's */
	__u16 egress_mtu;		  /* bytes of IP packet that the egress device can carry */
	__u16 vlan;			  /* of the frame sent: an id, or WEIR_VLAN_* */
	__u16 flags;			  /* WEIR_BACKEND_* */
	__u16 port_be;			  /* nat: destination port; 0: the packet's own */
	__u32 reserved;			  /* zero */
};

#define WEIR_BACKEND_IN_USE   1 /* unset: the slot is free, or was freed and may still be named */
#define WEIR_BACKEND_DRAINING 2 /* keeps its flows, takes no new ones */

#define WEIR_VLAN_NONE 0      /* sent untagged, whatever it came with */
#define WEIR_VLAN_KEEP 0xffff /* the tags it came with, if it leaves where it came in */

/*
 * A Maglev table: a line with its sizes, weir_lines_of(size) lines of slots, and after them those
 * of the table before, which may have been of another size. Four slots to a line, because an array
 * map spends eight bytes on a value of two. New flows read only the first half.
 *
 * A slot is a number that means a backend within its VIP (weir_members), 0 none. So VIPs with the
 * same backends share one table, though each has ids and counters of its own; and a table is
 * swapped whole with its size, whatever happens to that.
 */
#define WEIR_LINE_SLOTS 4
struct weir_table_line {
	union {
		__u16 slots[WEIR_LINE_SLOTS];
		struct {
			__u32 size;
			__u32 previous_size; /* 0: there was no table before */
		};
	};
};

/* What a flow is, in the bytes that are hashed. Ports are zero where the policy leaves them out.
 * The packet path writes ports and protocol by words, because it reads them so: a word that was put
 * together of smaller writes makes a processor wait. */
struct weir_flow_key {
	struct weir_address source;
	struct weir_address destination;
	union {
		struct {
			__u16 source_port_be;
			__u16 destination_port_be;
		};
		__u32 ports_be; /* both, in the order of TCP and UDP headers */
	};
	union {
		struct {
			__u8 protocol;
			__u8 reserved[3]; /* zero */
		};
		__u32 protocol_be; /* the protocol in the first byte */
	};
};

/*
 * Map weir_flows: which backend a flow was given. A set is one cache line of entries, and a flow
 * may stand in any entry of the one set that its hash names; in its own way, where that was free.
 * An entry is one word, so that it is read and written whole:
 *
 *     tag (27 bits of the hash) | backend id (17) | state (2) | stamp (18 bits of seconds)
 *
 * The tag stands for the flow. Two flows of a set have the same one once in 2^27; then a new flow
 * is given the backend of the other one, which is of the same VIP, and keeps it.
 */
#define WEIR_FLOW_WAYS 8

struct weir_flow_set {
	__u64 entries[WEIR_FLOW_WAYS]; /* 0: free */
};

enum weir_flow_state {
	WEIR_FLOW_NEW = 0,	   /* one packet so far: a SYN, or anything unknown */
	WEIR_FLOW_ESTABLISHED = 1, /* the client has answered */
	WEIR_FLOW_CLOSING = 2,	   /* the client has sent FIN or RST */
	WEIR_FLOW_CLIENT = 3,	   /* not a flow but a client, see affinity */
};

#define WEIR_FLOW_UDP_IDLE_S  120 /* without a SYN, a pause tells two flows apart (RFC 4787) */
#define WEIR_FLOW_CLOSED_S    8	  /* after which a closing flow is over for practical purposes */
#define WEIR_FLOW_LONG_IDLE_S 120 /* after which a flow gives way to a new one */

#define WEIR_FLOW_TAG_SHIFT	37
#define WEIR_FLOW_WAY_SHIFT	32 /* of a flow's own way in its hash; below it its set */
#define WEIR_FLOW_BACKEND_SHIFT 20
#define WEIR_FLOW_BACKEND_MASK	0x1ffff
#define WEIR_FLOW_STATE_SHIFT	18
#define WEIR_FLOW_STAMP_MASK	0x3ffff

/* What happened in the flow table, map weir_flow_counters. */
enum weir_flow_event {
	WEIR_FLOW_ADDED = 0,
	WEIR_FLOW_EVICTED_NEW = 1, /* one of one packet, or of a flow that ended, made room */
	WEIR_FLOW_EVICTED_ESTABLISHED = 2, /* one that was in use */
	WEIR_FLOW_NOT_ADDED = 3,	   /* the set is full of flows that are worth more */
	WEIR_FLOW_SECOND_CHANCE = 4,	   /* found by the previous table */
	WEIR_FLOW_EVENT_COUNT,
};

/*
 * Map weir_nat_flows: a translated flow, in two cache lines. Two entries of weir_nat_index lead to
 * it, by the packets as they arrive: client → VIP, and backend → source. They live and die with it.
 */
struct weir_nat_flow {
	__u64 owner; /* generation | WEIR_NAT_FIN_* | enum weir_nat_state; changed by compare and
		      * exchange only, and whoever makes it CLAIMED owns the rest */
	__u32 stamp; /* second of the last packet, as in flow entries */
	__u32 vip_id;
	struct weir_address client;
	struct weir_address vip;     /* as the client wrote it, which may be one of a prefix */
	struct weir_address backend; /* what the destination becomes */
	struct weir_address source;  /* what the source becomes; the client's own without SNAT */
	__u16 client_port_be;
	__u16 vip_port_be;
	__u16 backend_port_be;
	__u16 source_port_be;
	__u32 backend_id;
	__u32 ifindex; /* the way back: the last packet of the client came in there, and so on */
	struct weir_macs macs;
	__u16 tags[4]; /* as they stand in the frame */
	__u32 tag_bytes;
	__u8 protocol;
	__u8 reserved[3];   /* zero */
	__u32 expected_ack; /* TCP, state REPLIED: what acknowledges the backend's SYN-ACK */
};

enum weir_nat_state {
	WEIR_NAT_FREE = 0,
	WEIR_NAT_CLAIMED = 1,	  /* being written; not to be read */
	WEIR_NAT_NEW = 2,	  /* the backend has not answered */
	WEIR_NAT_REPLIED = 3,	  /* it has; a UDP flow stays here */
	WEIR_NAT_ESTABLISHED = 4, /* TCP: and the client has acknowledged that */
	WEIR_NAT_CLOSING = 5,	  /* TCP: FIN from both sides, or RST before it was established */
};

#define WEIR_NAT_STATE_MASK	  7
#define WEIR_NAT_FIN_CLIENT	  8  /* the client is done */
#define WEIR_NAT_FIN_BACKEND	  16 /* the backend is */
#define WEIR_NAT_RESET		  32 /* established; a RST was seen, which may be forged */
#define WEIR_NAT_GENERATION_SHIFT 32 /* counts the flows that the record has held */

/* Seconds without a packet after which a flow is over. RFC 5382, REQ-5 has 4 minutes for
 * connections that are partly open, which is for NATs in front of clients: here the other side is a
 * backend of ours. */
#define WEIR_NAT_TCP_NEW_S	   10
#define WEIR_NAT_TCP_REPLIED_S	   60
#define WEIR_NAT_TCP_ESTABLISHED_S 7440 /* RFC 5382, REQ-5: keepalives come every two hours */
#define WEIR_NAT_TCP_CLOSING_S	   60	/* TIME-WAIT of Linux */
#define WEIR_NAT_UDP_NEW_S	   60
#define WEIR_NAT_UDP_REPLIED_S	   180

/* Map weir_nat_index. Aligned so that it is read as one word. */
struct weir_nat_entry {
	__u32 record;	  /* in weir_nat_flows, and WEIR_NAT_REPLY */
	__u32 generation; /* of the record; if that has another one, the entry is stale */
} __attribute__((aligned(8)));

#define WEIR_NAT_REPLY 0x80000000 /* the packet is the backend's */

/* What happened to translated flows, map weir_nat_counters. */
enum weir_nat_event {
	WEIR_NAT_ADDED = 0,
	WEIR_NAT_EXPIRED = 1,	      /* a record whose time was up was used for another flow */
	WEIR_NAT_EVICTED_CLOSING = 2, /* one whose time was not */
	WEIR_NAT_EVICTED_NEW = 3,
	WEIR_NAT_EVICTED_UDP = 4,
	WEIR_NAT_FORGOTTEN = 5,	   /* the backend or the VIP is gone, or a SYN began anew */
	WEIR_NAT_NO_RECORD = 6,	   /* all places are held by flows that are worth more */
	WEIR_NAT_NO_PORT = 7,	   /* every source port that was tried is taken */
	WEIR_NAT_PORT_CHANGED = 8, /* the client's own source port was not to be had */
	WEIR_NAT_REPAIRED = 9,	   /* half of a pair of entries was missing or stale */
	WEIR_NAT_EVENT_COUNT,
};

/* Later fragments of a datagram carry no ports: its first one leaves them here. */
struct weir_fragment_key {
	struct weir_address source;
	struct weir_address destination;
	__u32 id_be;
	__u8 protocol;
	__u8 reserved[3]; /* zero */
};

struct weir_fragment {
	__u16 source_port_be;
	__u16 destination_port_be;
	__u32 stamp; /* seconds, as in flow entries */
};

/* Bytes of a QUIC server id, zeros behind. */
struct weir_quic_key {
	__u8 server_id[16];
};

/*
 * What is left of a rate, in one word: the time at which the bucket, of one second's worth, will be
 * full again, modulo 2^48, in units of 1/WEIR_RATE_SECOND seconds (the virtual scheduling algorithm
 * of ITU-T I.371, annex A). A time that has come means full, and 0 is as good as one; so does one
 * that lies too far ahead, which is an old one that the clock has come round to. The bits above are
 * a source's tag, half of it.
 */
#define WEIR_RATE_SECOND    0xffffffffu
#define WEIR_RATE_AHEAD	    0x400000000ull /* from four seconds on, a time is an old one */
#define WEIR_RATE_TAG_SHIFT 48
#define WEIR_RATE_TIME	    0xffffffffffffull

/* Answers of the balancer's own, by what limits them: each has the whole rate. */
enum weir_answer {
	WEIR_ANSWER_OTHER = 0,
	WEIR_ANSWER_TOO_BIG = 1,
	WEIR_ANSWER_COUNT,
};

/* Of one source or of one VIP. */
struct weir_buckets {
	__u64 packets;
	__u64 new_flows;
};

/* Sources of one VIP that share a hash: a cache line. Written by the program. */
struct weir_source_set {
	struct weir_buckets ways[WEIR_SOURCE_WAYS];
};

/* Map weir_monitor_filter: which packets become events. Zero matches everything. */
struct weir_monitor_filter {
	__u64 verdicts;		    /* bit n: verdict n is wanted; 0: all */
	__u32 vip_id;		    /* only of this VIP; 0: any */
	__u32 every;		    /* one of so many that match; 0 and 1: all */
	struct weir_address source; /* only from this address; all zero: any */
	__u32 snap_bytes;	    /* how much of a frame is kept, at most WEIR_EVENT_BYTES */
	__u32 is_on;
	__u64 lost; /* events that found the ring full; counted by the program */
};

#define WEIR_EVENT_BYTES 256

/* What the ring in weir_monitor carries. The frame is as it leaves the program. */
struct weir_event {
	__u64 time_ns; /* of the monotonic clock */
	__u32 verdict;
	__u32 vip_id;
	__u32 backend_id;
	__u32 ifindex;	   /* it came in by */
	__u32 frame_bytes; /* of the whole frame as it leaves */
	__u32 kept_bytes;  /* of it in `frame` */
	__u8 frame[WEIR_EVENT_BYTES];
};

/* Steps of a traced run, trace.def; how user space writes the numbers that come with them. */
enum weir_value {
	WEIR_VALUE_NONE,
	WEIR_VALUE_NUMBER,
	WEIR_VALUE_PARSED, /* how it would end, were it a service's; WEIR_CONTINUE: sound */
	WEIR_VALUE_VERDICT,
	WEIR_VALUE_END, /* the verdict, with its sentence */
	WEIR_VALUE_VIP, /* ids; 0: none */
	WEIR_VALUE_BACKEND,
	WEIR_VALUE_NEXT_HOP, /* of a backend id */
	WEIR_VALUE_ENTRY,    /* enum weir_flow_state, and above 8 bits seconds of idleness */
	WEIR_VALUE_ADDRESS,  /* WEIR_ADDRESS_* */
	WEIR_VALUE_LIST,     /* VIP id; 0: the node's block list */
	WEIR_VALUE_ANSWER,   /* 1: denied */
	WEIR_VALUE_ROOM,     /* 1: there was room for it */
	WEIR_VALUE_POLICY,   /* enum weir_hash_policy */
	WEIR_VALUE_BYTES,    /* of the packet, and above 32 bits of outer headers */
};

enum weir_step {
#define WEIR_STEP(symbol, label, a, b, sentence) WEIR_STEP_##symbol,
#include "bpf/trace.def"
#undef WEIR_STEP
	WEIR_STEP_COUNT,
};

struct weir_trace_step {
	__u32 step; /* enum weir_step */
	__u32 reserved;
	__u64 a;
	__u64 b;
	struct weir_flow_key flow; /* of some steps; otherwise zero */
};

#define WEIR_TRACE_STEPS_MAX 32

/* What the tracing program writes. */
struct weir_trace {
	__u32 count;
	__u32 reserved;
	struct weir_trace_step steps[WEIR_TRACE_STEPS_MAX];
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

/* Marks of the probes' sockets (SO_MARK): this in the first byte, a number in the rest. Packets
 * with other marks are none of the probe programs' business. */
#define WEIR_PROBE_MARK	     0x57000000U
#define WEIR_PROBE_MARK_MASK 0xff000000U
#define WEIR_PROBE_PATHS_MAX 262144U /* VIPs times their backends */
#define WEIR_PROBE_FLOWS_MAX 65536U  /* probes under way, the longest ago forgotten first */

/* Map weir_probe_paths, by mark: how what goes to a backend's own address gets to the VIP there. */
struct weir_probe_path {
	struct weir_address vip;
	struct weir_address outer_source; /* the backend's address is the outer destination */
	__u8 mode;			  /* enum weir_forward_mode: ipip, gue, l2 */
	__u8 reserved[5];
	__be16 gue_port_be;
};

/* Map weir_probe_flows: a backend's answer to a probe, and the address that the socket expects it
 * from. Of an echo the identifier is the node's port, and the VIP's is 0. */
struct weir_probe_flow {
	struct weir_address vip;
	struct weir_address node;
	__be16 vip_port_be;
	__be16 node_port_be;
	__u8 protocol;
	__u8 reserved[3];
};

/* What the return program, on the balancer's end of an L7 worker's veth, counts. */
enum weir_return_verdict {
	WEIR_RETURN_REDIRECT = 0,   /* sent out of the network device */
	WEIR_RETURN_DROP = 1,	    /* no device is set */
	WEIR_RETURN_OTHER_LANE = 2, /* handed to the same worker of the other weir-l7 */
	WEIR_RETURN_VERDICT_COUNT,
};

#ifdef __cplusplus
#define WEIR_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define WEIR_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif
WEIR_ASSERT_SIZE(struct weir_vip_key, 20);
WEIR_ASSERT_SIZE(struct weir_range_key, 24);
WEIR_ASSERT_SIZE(struct weir_vip, 64);
WEIR_ASSERT_SIZE(struct weir_prefix_key, 20);
WEIR_ASSERT_SIZE(struct weir_backend, 64);
WEIR_ASSERT_SIZE(struct weir_table_line, 8);
WEIR_ASSERT_SIZE(struct weir_flow_key, 40);
WEIR_ASSERT_SIZE(struct weir_flow_set, 64);
WEIR_ASSERT_SIZE(struct weir_nat_flow, 128);
WEIR_ASSERT_SIZE(struct weir_nat_entry, 8);
WEIR_ASSERT_SIZE(struct weir_fragment_key, 40);
WEIR_ASSERT_SIZE(struct weir_monitor_filter, 48);
WEIR_ASSERT_SIZE(struct weir_trace_step, 64);
WEIR_ASSERT_SIZE(struct weir_decap_vip_key, 20);
WEIR_ASSERT_SIZE(struct weir_probe_path, 40);
WEIR_ASSERT_SIZE(struct weir_probe_flow, 40);
