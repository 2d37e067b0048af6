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
#undef __noinline
#define __noinline __attribute__((noinline))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value)* name
#define __array(name, value) __typeof__(value)* name[]

/* libbpf has functions for user space by the same names, which the test links too. */
#define bpf_map_lookup_elem weir_host_map_lookup_elem
#define bpf_map_update_elem weir_host_map_update_elem
#define bpf_map_delete_elem weir_host_map_delete_elem
#define bpf_check_mtu weir_host_check_mtu
#define bpf_redirect_map weir_host_redirect_map
#define bpf_csum_diff weir_host_csum_diff
#define bpf_xdp_adjust_head weir_host_xdp_adjust_head
#define bpf_xdp_adjust_tail weir_host_xdp_adjust_tail
#define bpf_xdp_get_buff_len weir_host_xdp_get_buff_len
#define bpf_xdp_load_bytes weir_host_xdp_load_bytes
#define bpf_jiffies64 weir_host_jiffies64
#define bpf_ktime_get_ns weir_host_ktime_get_ns
#define bpf_get_prandom_u32 weir_host_get_prandom_u32
#define bpf_ringbuf_reserve weir_host_ringbuf_reserve
#define bpf_ringbuf_submit weir_host_ringbuf_submit

void* bpf_map_lookup_elem(const void* map, const void* key);
long bpf_map_update_elem(const void* map, const void* key, const void* value, __u64 flags);
long bpf_map_delete_elem(const void* map, const void* key);
long bpf_check_mtu(void* ctx, __u32 ifindex, __u32* mtu, __s32 difference, __u64 flags);
long bpf_redirect_map(const void* map, __u64 key, __u64 flags);
__s64 bpf_csum_diff(const __be32* from, __u32 from_size, const __be32* to, __u32 to_size,
                    __u32 seed);
long bpf_xdp_adjust_head(struct xdp_md* ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md* ctx, int delta);
__u64 bpf_xdp_get_buff_len(struct xdp_md* ctx);
long bpf_xdp_load_bytes(struct xdp_md* ctx, __u32 offset, void* to, __u32 bytes);
__u64 bpf_jiffies64(void);
__u64 bpf_ktime_get_ns(void);
__u32 bpf_get_prandom_u32(void);
void* bpf_ringbuf_reserve(void* ring, __u64 bytes, __u64 flags);
void bpf_ringbuf_submit(void* record, __u64 flags);
