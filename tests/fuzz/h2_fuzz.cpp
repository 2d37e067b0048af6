#include <cstdint>

#include "tests/fuzz/h2_properties.h"

/// Sessions of HTTP/2 and what HTTP/1 becomes of their messages.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::testing::check_h2_input(std::as_bytes(std::span{data, size}));
  return 0;
}
