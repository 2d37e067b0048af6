#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"

namespace CLI {
class App;
}

/// Manual pages from the tree of commands that also prints the help text, so that a page cannot
/// know less than its program. What a tree cannot say stands beside, in `<page>.in`: man(7) with
/// lines
/// @SYNOPSIS@, @COMMANDS@, @OPTIONS@ and @EXAMPLES@, which this fills in.
namespace weir::man {

/// The page whose prose is `prose`. `name` is the program's: "weir-l4".
std::string page_of(const CLI::App& app, std::string_view name, std::string_view prose);

/// Adds the hidden option --man FILE: prints the page whose prose is in FILE, and ends.
void add_man_option(CLI::App& app, std::string name);

/// The words between which an option's value is chosen; none where it is free.
std::vector<std::string> choices_of(const std::string& type_name);

}  // namespace weir::man
