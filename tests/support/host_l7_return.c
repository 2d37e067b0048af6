/* bpf/l7_return.bpf.c for the host; it has no settings. */
#include "bpf/l7_return.bpf.c"
#include "tests/support/host_engine.h"

const struct weir_host_map weir_l7_return_maps[] = {
    WEIR_HOST_MAP(weir_return_device),
    WEIR_HOST_MAP(weir_other_lane),
    WEIR_HOST_MAP(weir_return_counters),
    WEIR_HOST_MAP_END,
};
