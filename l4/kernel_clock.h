#pragma once

#include "l4/base/result.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// How many ticks the kernel counts in a second (CONFIG_HZ). It tells nobody, so this runs a
/// program that reads its count, twice, a tenth of a second apart. Takes rights to load programs.
Result<Ticks> measure_kernel_ticks();

/// The second that it is, as the program writes it into flow entries and NAT records.
Result<std::uint32_t> read_stamp(const Ticks& ticks);

/// The rate that kernels are built with which a measurement means.
Ticks nearest_ticks(double per_s);

}  // namespace weir::l4
