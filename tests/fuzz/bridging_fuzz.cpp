#include <cstdint>

#include "tests/fuzz/bridging_properties.h"

/// What clients send, through a whole worker, against what endpoints receive.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::testing::check_bridging_input(std::as_bytes(std::span{data, size}));
  return 0;
}
