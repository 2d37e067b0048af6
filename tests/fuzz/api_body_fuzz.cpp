#include <cstdint>
#include <cstdlib>
#include <iostream>

#include "tests/fuzz/control_properties.h"

/// Bodies of the admin API. One target for all: each reader is given the same text, so that what
/// one needs to get deep another may have found.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::testing::ControlParser;
  for (const ControlParser parser :
       {ControlParser::kVip, ControlParser::kBackend, ControlParser::kModel,
        ControlParser::kSubmission, ControlParser::kLoad, ControlParser::kTrace}) {
    const std::string broken =
        weir::testing::check_control(parser, {reinterpret_cast<const char*>(data), size});
    if (broken.empty()) continue;
    std::cerr << weir::testing::name_of(parser) << ": " << broken << "\n";
    std::abort();
  }
  return 0;
}
