#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/plane.h"

/// What people read where programs have numbers and bytes.
namespace weir::l4 {

/// VIPs and backends by the ids that they have in the kernel, at one revision.
struct Names {
  struct Named {
    std::string address;
    std::string name;
  };
  std::uint64_t revision = 0;
  std::map<std::uint32_t, Named> vips;
  std::map<std::uint32_t, Named> backends;

  static Names of(const Plane& plane);
};

}  // namespace weir::l4
