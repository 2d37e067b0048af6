#pragma once

/*
 * Stands in for libbpf's <bpf/bpf_helpers.h> when the packet path is compiled for the host. Map
 * declarations keep their form, so that type, sizes and number of entries can be read from them
 * (host_engine.h); helpers are host_helpers.h's.
 */

#include <linux/bpf.h>
#include <stddef.h>

#include "tests/support/host_bpf/host_helpers.h"

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
