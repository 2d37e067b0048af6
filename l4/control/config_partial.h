#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/control/config.h"

/// A configuration of which what is valid counts.
namespace weir::control {

/// An object of the file that does not count: a VIP, a gateway, a service or a route.
struct LeftOut {
  std::string object;                   ///< "vip 'dns'"
  std::vector<Diagnostic> diagnostics;  ///< why; never empty
};

struct PartialOutcome {
  /// As parse_config() gives it for the file without what was left out. Diagnostics are what no
  /// object is to blame for: the whole file is refused then.
  ParseOutcome outcome;
  std::vector<LeftOut> left_out;  ///< in the order in which they were found
};

/// What else there may be to say against a model that is right by itself, with places.
using Objections = std::function<std::vector<Diagnostic>(const Model&, const SourceMap&)>;

/// Leaves out the objects that have something wrong in them, then those that refer to them, and so
/// on. Of two objects that contradict each other, the second goes.
PartialOutcome parse_config_partially(std::string_view text, const std::string& file,
                                      const Objections& objections);

}  // namespace weir::control
