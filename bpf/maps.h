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

/* Key of the flow hash. All balancers of a VIP have the same one, so that any of them sends a
 * flow to the same backend, and it is secret, so that nobody can aim flows at one backend. */
const volatile __u64 weir_hash_seed[2];

/* Workers of the weir-l7 process on this node; 0: there is none. */
const volatile __u32 weir_l7_worker_count;

/* Services, and one address-only entry (port 0, protocol 0) per address that has a service.
 * Written by user space. Twice the number of VIPs: each may have an address of its own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * WEIR_VIPS_MAX);
	__type(key, struct weir_vip_key);
	__type(value, struct weir_vip);
} weir_vips SEC(".maps");

/* A Maglev table: slot → backend id, 0 where there is none. One slot here: each VIP's own table
 * is made by user space with its own size, which BPF_F_INNER_MAP allows. */
struct weir_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

/* VIP id → its Maglev table. Written by user space, which swaps whole tables. */
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

/* Flow → backend. Written by the program, once per flow. A cache: an evicted flow is found again
 * by its table unless the table has changed. User space may resize it before load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WEIR_FLOWS_DEFAULT);
	__type(key, struct weir_flow_key);
	__type(value, struct weir_flow);
} weir_flows SEC(".maps");

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

/* L7's own addresses: a set, the value is not read. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_L7_ADDRESSES_MAX);
	__type(key, struct weir_address);
	__type(value, __u32);
} weir_l7_addresses SEC(".maps");

/* Devices that frames may be sent out of: interface index → itself. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, WEIR_DEVICES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} weir_devices SEC(".maps");
