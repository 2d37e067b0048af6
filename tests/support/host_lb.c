/* bpf/lb.bpf.c for the host. System headers come first, so that the next line is about ours. */
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "tests/support/host_engine.h"

#define const /* settings become variables that a test can set */
#include "bpf/lb.bpf.c"
#undef const

const struct weir_host_map weir_lb_maps[] = {
    WEIR_HOST_MAP(weir_filter),
    WEIR_HOST_MAP(weir_addresses),
    WEIR_HOST_MAP(weir_prefixes),
    WEIR_HOST_MAP(weir_services),
    WEIR_HOST_MAP(weir_ranges),
    WEIR_HOST_MAP(weir_vips),
    WEIR_HOST_MAP(weir_members),
    WEIR_HOST_OUTER_MAP(weir_tables),
    WEIR_HOST_MAP(weir_backends),
    WEIR_HOST_MAP(weir_flows),
    WEIR_HOST_MAP(weir_nat_flows),
    WEIR_HOST_MAP(weir_nat_index),
    WEIR_HOST_MAP(weir_nat_counters),
    WEIR_HOST_MAP(weir_fragments),
    WEIR_HOST_OUTER_MAP(weir_lists),
    WEIR_HOST_OUTER_MAP(weir_source_limits),
    WEIR_HOST_MAP(weir_vip_limits),
    WEIR_HOST_OUTER_MAP(weir_quic),
    WEIR_HOST_MAP(weir_answers),
    WEIR_HOST_OUTER_MAP(weir_monitor),
    WEIR_HOST_MAP(weir_monitor_filter),
    WEIR_HOST_MAP(weir_flow_counters),
    WEIR_HOST_MAP(weir_counters),
    WEIR_HOST_MAP(weir_vip_counters),
    WEIR_HOST_MAP(weir_backend_counters),
    WEIR_HOST_MAP(weir_l7_workers),
    WEIR_HOST_MAP(weir_devices),
    WEIR_HOST_MAP_END,
};
