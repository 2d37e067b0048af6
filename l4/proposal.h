#pragma once

#include <string>
#include <vector>

#include "l4/control/admin.h"
#include "l4/control/config.h"
#include "l4/control/config_partial.h"
#include "l4/plane.h"

/// From a configuration text to the state that applying it would lead to.
namespace weir::l4 {

struct Proposal {
  DesiredState next;
  std::vector<control::Diagnostic> diagnostics;  ///< with any, nothing is proposed
  std::vector<control::LeftOut> left_out;        ///< of a partial submission only
  std::vector<std::string> warnings;
};

/// The text is read and compared with this host and with what was added by hand. A VIP by hand that
/// the file has too, with equal values but perhaps another name, becomes the file's; with others it
/// is a conflict. The rest of what can be refused is up to Plane::validate().
Result<Proposal> propose(const Plane& plane, const control::ConfigSubmission& submission);

/// The state of an earlier revision, to be applied anew. Where the balancer was not loaded then, it
/// stays where it is now: only unload stops traffic. What operators say of backends stays too: a
/// machine in maintenance is no less so for an older configuration.
Result<DesiredState> return_to(const Plane& plane, std::uint64_t revision);

}  // namespace weir::l4
