#pragma once

/*
 * Stands before the kernel's <linux/bpf.h> when the packet path is compiled for the host: the
 * same, but for the context, whose packet pointers must hold real ones.
 */

#define xdp_md kernel_xdp_md
#include_next <linux/bpf.h>
#undef xdp_md

struct xdp_md {
  __u64 data;
  __u64 data_end;
  __u32 ingress_ifindex;
};
