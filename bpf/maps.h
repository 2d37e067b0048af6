/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Every map of the balancer and its settings. (The maps of the decapsulator and of the return
 * program stand in their own files: libbpf creates each map that an object names, used or not.)
 *
 * User space fills maps before it attaches the program, and publishes by swapping, never by
 * editing what packets can reach. README.md has the order of updates.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"
#include "bpf/hash.h"

/* Key of the flow hash. All balancers of a VIP have the same one, so that any of them sends a
 * flow to the same backend, and it is secret, so that nobody can aim flows at one backend. */
const volatile __u64 weir_hash_seed[2];

/* Keys of the flow table's own hash, from a secret of the node (hash.h). The same in every program
 * over one flow table, whatever its seed. */
const volatile __u32 weir_flow_keys[WEIR_FLOW_KEYS];

/* Sets of the flow table less one; the map has that many. */
const volatile __u32 weir_flow_set_mask;

/* 1: flows are not remembered, every packet is chosen for by table. */
const volatile __u8 weir_is_stateless;

/* Workers of the weir-l7 process on this node; 0: there is none. */
const volatile __u32 weir_l7_worker_count;

/* The clock is the kernel's tick: reading it is one load, where ktime_get is a call and, in a
 * virtual machine, a slow one. How many parts of WEIR_RATE_SECOND a tick is; and how far to shift
 * ticks for about a second. */
const volatile __u32 weir_tick_parts;
const volatile __u8 weir_second_shift;

/* Answers of our own (echo, unreachable, too big, time exceeded, RST) a second, per CPU. */
const volatile __u32 weir_answers_per_s;

/* Records of weir_nat_flows less one, a power of two less one; 0: no flow is translated, and what
 * looks for translated ones is not even part of the program. */
const volatile __u32 weir_nat_mask;

/* Source ports that full NAT may use; 0 and 0: the client's own or none. */
const volatile __u16 weir_nat_port_first;
const volatile __u16 weir_nat_port_last;

/* One bit per hash of an address in weir_addresses (hash.h), so that what is for none of them is
 * passed without a lookup; all bits while there are prefixes. Behind these the same bits for what
 * mode nat has to do with: its VIPs, its sources, and its backends, which are in no other map:
 * their replies may be for any client. Set before an address is written, cleared after it is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_FILTERS *WEIR_FILTER_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} weir_filter SEC(".maps");

/* Every address that has to do with us. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_ADDRESSES_MAX);
	__type(key, struct weir_address);
	__type(value, struct weir_address_entry);
} weir_addresses SEC(".maps");

/* Prefix VIPs: prefix → the address that stands for all of them in weir_addresses,
 * weir_services and weir_ranges, the prefix's first. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, struct weir_prefix_key);
	__type(value, struct weir_address);
} weir_prefixes SEC(".maps");

/* Services of one port → VIP id. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, struct weir_vip_key);
	__type(value, __u32);
} weir_services SEC(".maps");

/* Services of ranges of ports, and of all → VIP id. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_RANGES_MAX);
	__type(key, struct weir_range_key);
	__type(value, __u32);
} weir_ranges SEC(".maps");

/* VIP id → the VIP. Written by user space: before its services, which it outlives. What changes
 * later (flags, limits, times) are single words. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__type(value, struct weir_vip);
} weir_vips SEC(".maps");

/* Inner maps are declared by the sizes of keys and values: clang describes a structure that is
 * named in one, and nowhere else, without its size. */

/* The backends of all VIPs by number: an entry is the id of one, 0 of none. A VIP has a range of
 * entries (struct weir_vip). Written by user space: before a table names the number, and zeroed
 * once none does, before the backend goes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_MEMBERS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} weir_members SEC(".maps");

/* A Maglev table. One line here: each VIP's own table is made by user space with its own size,
 * which BPF_F_INNER_MAP allows. */
struct weir_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct weir_table_line));
};

/* VIP id → its Maglev table, which several may share. Written by user space, which swaps whole
 * tables. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__array(values, struct weir_table);
} weir_tables SEC(".maps");

/* Backend id → where it is and how to get there. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct weir_backend);
} weir_backends SEC(".maps");

/* Set → flows. Written by the program. A cache: an evicted flow is found again by its table unless
 * that has changed twice. User space may resize it before load, to a power of two of sets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WEIR_FLOWS_DEFAULT / WEIR_FLOW_WAYS);
	__type(key, __u32);
	__type(value, struct weir_flow_set);
} weir_flows SEC(".maps");

/* Translated flows (nat.h). Written by the program, read by it and by user space. One record here:
 * user space sets a power of two before load, and weir_nat_mask with it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_nat_flow);
} weir_nat_flows SEC(".maps");

/* A packet as it arrives → the record of its flow. Written and read by the program. Not an LRU map:
 * that would part pairs. Two entries a record, set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, struct weir_flow_key);
	__type(value, struct weir_nat_entry);
} weir_nat_index SEC(".maps");

/* enum weir_nat_event → how often. Written by the program on the CPU it runs on. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_NAT_EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} weir_nat_counters SEC(".maps");

/* Datagrams that came in fragments → their ports. Written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WEIR_FRAGMENTS_DEFAULT);
	__type(key, struct weir_fragment_key);
	__type(value, struct weir_fragment);
} weir_fragments SEC(".maps");

/*
 * What only some VIPs have is made for each of them by user space when it is asked for, and put
 * into an outer map by VIP id: nobody pays for what he does not use, and no VIP can fill another's.
 */

/* A list of sources: prefix → enum weir_list_answer. */
struct weir_list {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_LIST_PREFIXES_MAX);
	__uint(key_size, sizeof(struct weir_prefix_key));
	__uint(value_size, sizeof(__u32));
};

/* VIP id → its list of sources; id 0 is the node's block list. Swapped whole. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__array(values, struct weir_list);
} weir_lists SEC(".maps");

/* What is left of the rates of sources, by their hash (rate.h). Written by the program. */
struct weir_sources {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_SOURCE_SETS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct weir_source_set));
};

/* VIP id → its sources. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__array(values, struct weir_sources);
} weir_source_limits SEC(".maps");

/* VIP id → what is left of its own rates. Written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__type(value, struct weir_buckets);
} weir_vip_limits SEC(".maps");

/* QUIC server id → backend id. */
struct weir_quic_ids {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_BACKENDS_MAX);
	__uint(key_size, sizeof(struct weir_quic_key));
	__uint(value_size, sizeof(__u32));
};

/* VIP id → its server ids. Swapped whole. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__array(values, struct weir_quic_ids);
} weir_quic SEC(".maps");

/* enum weir_answer → what of these this CPU may still give. Written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_ANSWER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} weir_answers SEC(".maps");

/* Where events go, while somebody watches: slot 0. Written by user space. */
struct weir_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct weir_ring);
} weir_monitor SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_monitor_filter);
} weir_monitor_filter SEC(".maps");

/* enum weir_flow_event → how often. Written by the program on the CPU it runs on. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_FLOW_EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} weir_flow_counters SEC(".maps");

/* Counters: written by the program on the CPU it runs on, summed by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct weir_counter);
} weir_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_VIPS_MAX);
	__type(key, __u32);
	__type(value, struct weir_service_counter);
} weir_vip_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct weir_service_counter);
} weir_backend_counters SEC(".maps");

/* L7 worker → the balancer's end of its veth. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, WEIR_L7_WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} weir_l7_workers SEC(".maps");

/* Devices that frames may be sent out of: interface index → itself. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, WEIR_DEVICES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} weir_devices SEC(".maps");
