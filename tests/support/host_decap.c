/* bpf/decap.bpf.c for the host. System headers come first, so that the next line is about ours. */
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
#include "bpf/decap.bpf.c"
#undef const

const struct weir_host_map weir_decap_maps[] = {
    WEIR_HOST_MAP(weir_decap_sources),
    WEIR_HOST_MAP(weir_decap_vips),
    WEIR_HOST_MAP(weir_decap_counters),
    WEIR_HOST_MAP_END,
};
