#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "l4/control/model.h"

/// What the configuration does to a request beside sending it somewhere, one line each, for people.
namespace weir::l7 {

/// Of a rule, its route's error pages included.
std::vector<std::string> effects_of(const control::HttpRoute& route,
                                    const control::RouteRule& rule);

/// Of a whole request: those of the rule that gets it, if one does, and of the listener that it
/// came to, "gateway/listener".
std::vector<std::string> effects_of(const control::Model& model, std::string_view listener,
                                    std::string_view route, std::string_view rule);

/// What a rule is called: its name, or its place in the route.
std::string rule_name(const control::HttpRoute& route, std::size_t index);

}  // namespace weir::l7
