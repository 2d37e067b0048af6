#include "tools/weir/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <vector>

namespace weir::cli {
namespace {

/// A command by its words ("vip add"; empty for `weir` itself) and what may come after it.
struct Node {
  std::string path;
  std::vector<std::string> words;
  std::string description;
};

// The tree has two levels of commands; the recursion ends with it.
void collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node{path, {}, app.get_description()};
  const std::vector<const CLI::App*> commands =
      app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands)
    node.words.push_back(command->get_name());
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames())
      node.words.push_back("--" + name);
    for (const std::string& name : option->get_snames())
      node.words.push_back("-" + name);
  }
  nodes.push_back(std::move(node));
  for (const CLI::App* command : commands)
    collect(*command, path.empty() ? command->get_name() : path + " " + command->get_name(), nodes);
}

std::string bash_function(const std::vector<Node>& nodes) {
  std::string known;
  std::string choices;
  for (const Node& node : nodes) {
    if (!node.path.empty()) known += fmt::format("{}\"{}\"", known.empty() ? "" : "|", node.path);
    choices += fmt::format("    \"{}\") words=\"{}\" ;;\n", node.path, fmt::join(node.words, " "));
  }
  return fmt::format(R"(_weir() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word words=""
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "${{path:+$path }}$word" in
      {}) path="${{path:+$path }}$word" ;;
    esac
  done
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _weir weir
)",
                     known, choices);
}

std::string fish_lines(const CLI::App& app) {
  std::string lines = "complete -c weir -e\n";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    lines += fmt::format("complete -c weir -n __fish_use_subcommand -a {} -d '{}'\n",
                         command->get_name(), command->get_description());
    std::vector<Node> nodes;
    collect(*command, command->get_name(), nodes);
    for (const Node& node : nodes) {
      std::string condition;
      std::string rest = node.path;
      for (std::size_t blank = rest.find(' '); !rest.empty(); blank = rest.find(' ')) {
        condition += fmt::format("{}__fish_seen_subcommand_from {}",
                                 condition.empty() ? "" : "; and ", rest.substr(0, blank));
        rest = blank == std::string::npos ? "" : rest.substr(blank + 1);
      }
      lines +=
          fmt::format("complete -c weir -n '{}' -a '{}'\n", condition, fmt::join(node.words, " "));
    }
  }
  return lines;
}

}  // namespace

std::string completion_script(const CLI::App& app, std::string_view shell) {
  if (shell == "fish") return fish_lines(app);
  std::vector<Node> nodes;
  collect(app, "", nodes);
  const std::string function = bash_function(nodes);
  if (shell == "zsh") return "autoload -U +X bashcompinit && bashcompinit\n" + function;
  return function;
}

}  // namespace weir::cli
