#pragma once

#include <array>
#include <string>
#include <string_view>

/// What must hold for every text that comes to the control plane from outside, whatever is in it.
namespace weir::testing {

enum class ControlParser { kConfig, kModel, kVip, kBackend, kSubmission, kLoad, kTrace, kHttp };

inline constexpr std::array kControlParsers{ControlParser::kConfig,     ControlParser::kModel,
                                            ControlParser::kVip,        ControlParser::kBackend,
                                            ControlParser::kSubmission, ControlParser::kLoad,
                                            ControlParser::kTrace,      ControlParser::kHttp};

/// The folder of the parser's corpus, and a name for people.
std::string_view name_of(ControlParser parser);

/// Empty if all holds: what is accepted is the same after its own spelling was read again, what is
/// refused has a message in one line. Else what was broken.
std::string check_control(ControlParser parser, std::string_view input);

}  // namespace weir::testing
