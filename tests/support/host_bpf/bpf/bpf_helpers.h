#pragma once

/*
 * Stands in for libbpf's <bpf/bpf_helpers.h> when the packet path is compiled for the host. Map
 * declarations keep their form, so that type, sizes and number of entries can be read from them
 * (host_engine.h); helpers are functions of host_engine.cpp.
 */

#include <linux/bpf.h>
#include <stddef.h>

#define SEC(name) __attribute__((used))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value)* name
#define __array(name, value) __typeof__(value)* name[]

/* libbpf has functions for user space by the same names, which the test links too. */
#define bpf_map_lookup_elem weir_host_map_lookup_elem
#define bpf_map_update_elem weir_host_map_update_elem
#define bpf_redirect_map weir_host_redirect_map
#define bpf_csum_diff weir_host_csum_diff
#define bpf_xdp_adjust_head weir_host_xdp_adjust_head
#define bpf_xdp_adjust_tail weir_host_xdp_adjust_tail

void* bpf_map_lookup_elem(const void* map, const void* key);
long bpf_map_update_elem(const void* map, const void* key, const void* value, __u64 flags);
long bpf_redirect_map(const void* map, __u64 key, __u64 flags);
__s64 bpf_csum_diff(const __be32* from, __u32 from_size, const __be32* to, __u32 to_size,
                    __u32 seed);
long bpf_xdp_adjust_head(struct xdp_md* ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md* ctx, int delta);
