#pragma once

/*
 * The kernel's helpers as the packet path meets them on the host. The engine that runs it,
 * host_engine.cpp or replay_engine.cpp, defines those that its programs call.
 */

#include <linux/types.h>

struct xdp_md;

#ifdef __cplusplus
extern "C" {
#endif

void* weir_host_map_lookup_elem(const void* map, const void* key);
long weir_host_map_update_elem(const void* map, const void* key, const void* value, __u64 flags);
long weir_host_map_delete_elem(const void* map, const void* key);
long weir_host_check_mtu(void* ctx, __u32 ifindex, __u32* mtu, __s32 difference, __u64 flags);
long weir_host_redirect_map(const void* map, __u64 key, __u64 flags);
__s64 weir_host_csum_diff(const __be32* from, __u32 from_size, const __be32* to, __u32 to_size,
                          __u32 seed);
long weir_host_xdp_adjust_head(struct xdp_md* ctx, int delta);
long weir_host_xdp_adjust_tail(struct xdp_md* ctx, int delta);
__u64 weir_host_xdp_get_buff_len(struct xdp_md* ctx);
long weir_host_xdp_load_bytes(struct xdp_md* ctx, __u32 offset, void* to, __u32 bytes);
__u64 weir_host_jiffies64(void);
__u64 weir_host_ktime_get_ns(void);
__u32 weir_host_get_prandom_u32(void);
void* weir_host_ringbuf_reserve(void* ring, __u64 bytes, __u64 flags);
void weir_host_ringbuf_submit(void* record, __u64 flags);

#ifdef __cplusplus
}
#endif
