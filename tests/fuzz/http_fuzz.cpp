#include <cstdint>
#include <cstdlib>
#include <iostream>

#include "tests/fuzz/control_properties.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string broken = weir::testing::check_control(
      weir::testing::ControlParser::kHttp, {reinterpret_cast<const char*>(data), size});
  if (broken.empty()) return 0;
  std::cerr << broken << "\n";
  std::abort();
}
