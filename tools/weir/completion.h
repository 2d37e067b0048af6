#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace weir::cli {

/// A completion script for "bash", "zsh" or "fish", made from the tree of commands, so that it
/// cannot know less than the program.
std::string completion_script(const CLI::App& app, std::string_view shell);

}  // namespace weir::cli
