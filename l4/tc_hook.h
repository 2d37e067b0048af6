#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"

/// Programs at tc: by a link where the kernel has them (tcx, Linux 6.6), else as a filter of
/// clsact. A link ends with its last descriptor or pin; a filter stays until it is removed.
namespace weir::l4 {

enum class TcSide : std::uint8_t { kIngress, kEgress };

/// Where a program hangs on a device.
struct TcPlace {
  std::string device;  ///< for errors
  std::uint32_t ifindex = 0;
  TcSide side = TcSide::kIngress;
  std::uint32_t priority = 0;  ///< among the filters of clsact; each use has its own, with handle 1
};

/// Empty: it is a filter. Refuses a filter place that is somebody else's.
Result<UniqueFd> attach_tc(int program, const TcPlace& place);

/// Another program in the place of our filter; no packet is missed.
Result<void> replace_tc_filter(int program, const TcPlace& place);
/// One that is not there is fine. The qdisc stays: others may have filters there by now, and
/// without any it does nothing.
Result<void> remove_tc_filter(const TcPlace& place);
/// Id of the program of whatever filter is there.
std::optional<std::uint32_t> tc_filter_program(const TcPlace& place);

}  // namespace weir::l4
