#pragma once

/*
 * Between the packet path compiled for the host (host_*.c, in C) and the engine that runs it
 * (bpf_runner.cpp). Settings of a program are `const volatile` in bpf/; here they are variables.
 */

#ifdef __cplusplus
#include "tests/support/host_bpf/linux/bpf.h"
extern "C" {
#else
#include <linux/bpf.h>
#endif

struct weir_host_map {
  const void* identity; /* what the program passes to helpers */
  const char* name;
  __u32 type;
  __u32 key_bytes;
  __u32 value_bytes;
  __u32 max_entries;
};

#define WEIR_HOST_MAP_WITH(map, bytes)                                            \
  {                                                                               \
    &(map), #map, sizeof(*(map).type) / sizeof(int), sizeof(*(map).key), (bytes), \
        sizeof(*(map).max_entries) / sizeof(int)                                  \
  }
/* An outer map's values are its inner maps, which the engine keeps by key. */
#define WEIR_HOST_OUTER_MAP(map) WEIR_HOST_MAP_WITH(map, sizeof(__u32))
#define WEIR_HOST_MAP(map) WEIR_HOST_MAP_WITH(map, sizeof(*(map).value))
#define WEIR_HOST_MAP_END \
  { 0, 0, 0, 0, 0, 0 }

int weir_lb(struct xdp_md* ctx);
extern const struct weir_host_map weir_lb_maps[];
extern volatile __u64 weir_hash_seed[2];
extern volatile __u32 weir_flow_keys[];
extern volatile __u32 weir_flow_set_mask;
extern volatile __u8 weir_is_stateless;
extern volatile __u32 weir_l7_worker_count;
extern volatile __u32 weir_tick_parts;
extern volatile __u8 weir_second_shift;
extern volatile __u32 weir_answers_per_s;
extern volatile __u32 weir_nat_mask;
extern volatile __u16 weir_nat_port_first;
extern volatile __u16 weir_nat_port_last;

int weir_l7_return(struct xdp_md* ctx);
extern const struct weir_host_map weir_l7_return_maps[];

int weir_decap(struct xdp_md* ctx);
extern const struct weir_host_map weir_decap_maps[];
extern volatile __u8 weir_decap_any_source;
extern volatile __u8 weir_decap_any_vip;
extern volatile __u8 weir_decap_drop_foreign;

#ifdef __cplusplus
}
#endif
