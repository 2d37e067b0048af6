// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The balancer once more, with its trace points: for test-runs, never attached. */

#define WEIR_IS_TRACING 1
#include "bpf/lb.bpf.c"
