#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "l4/base/result.h"

namespace weir::l4 {

/// A pinned program as the kernel knows it.
struct ProgramFacts {
  std::string name;  ///< of its pin: "weir_lb"
  std::uint32_t id = 0;
  std::string tag;                 ///< of its instructions, 16 digits: equal programs, equal tags
  std::int64_t loaded_unix_s = 0;  ///< when it was loaded, in seconds since 1970
};

/// Those below `<pin directory>/programs`, by name; none where nothing is loaded.
Result<std::vector<ProgramFacts>> read_programs(const std::string& pin_directory);

}  // namespace weir::l4
