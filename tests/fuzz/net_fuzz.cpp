#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include "l4/base/assert.h"
#include "tests/fuzz/net_properties.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// Frames for one interface.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string violation = weir::testing::check_net_properties({data, size}).violation;
  if (!violation.empty()) {
    std::fprintf(stderr, "%s\n", violation.c_str());
    WEIR_ASSERT(false);  // what was broken is printed
  }
  return 0;
}
