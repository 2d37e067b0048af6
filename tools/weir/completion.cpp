#include "tools/weir/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>

#include "l4/control/host_facts.h"
#include "tools/man/page.h"
#include "tools/weir/answers.h"

namespace weir::cli {
namespace {

bool is_hidden(const CLI::Option& option) { return option.get_group().empty(); }

/// The option of this name, of the command or of one above it.
const CLI::Option* option_named(const CLI::App* command, const std::string& name) {
  for (const CLI::App* at = command; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      if (!option->get_positional() && option->check_name(name)) return option;
    }
  }
  return nullptr;
}

const CLI::App* command_named(const CLI::App& parent, const std::string& name) {
  const auto found =
      parent.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

/// What was given so far.
struct Line {
  const CLI::App* command;
  const CLI::Option* awaits = nullptr;   ///< an option whose value comes next
  std::vector<std::string> positionals;  ///< those of the command
};

Line read_line(const CLI::App& app, const std::vector<std::string>& words) {
  Line line{&app, nullptr, {}};
  int values_left = 0;
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (values_left > 0) {
      if (--values_left == 0) line.awaits = nullptr;
      continue;
    }
    if (word.starts_with("-")) {
      const CLI::Option* option = option_named(line.command, word);
      values_left = option == nullptr ? 0 : option->get_items_expected_min();
      line.awaits = values_left > 0 ? option : nullptr;
      continue;
    }
    const CLI::App* next = command_named(*line.command, word);
    if (next != nullptr && line.positionals.empty()) {
      line.command = next;
    } else {
      line.positionals.push_back(word);
    }
  }
  return line;
}

const CLI::Option* positional_at(const CLI::App& command, std::size_t index) {
  const CLI::Option* last = nullptr;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    last = option;
    if (index == 0) return option;
    --index;
  }
  return last != nullptr && last->get_items_expected_max() > 1 ? last : nullptr;
}

std::vector<Candidate> values_of(const CLI::Option& option, const Line& line,
                                 const Surroundings& surroundings) {
  const std::string type = option.get_type_name();
  std::vector<Candidate> candidates;
  for (const std::string& choice : man::choices_of(type))
    candidates.push_back({choice, {}});
  if (type.find("ADDR:PORT/") != std::string::npos)
    std::ranges::move(surroundings.vips(), std::back_inserter(candidates));
  if (!candidates.empty()) return candidates;
  const std::string name = option.get_name(true, true);
  if (name.find("file") != std::string::npos || type == "FILE")
    return {{std::string{kFilesCandidate}, {}}};
  if (name == "ITEM" && !line.positionals.empty())
    return line.positionals.front() == "l7" ? surroundings.rules() : surroundings.vips();
  if (name.find("BACKEND") != std::string::npos)
    return surroundings.backends(line.positionals.empty() ? "" : line.positionals.front());
  if (name.find("DEV") != std::string::npos || name.find("device") != std::string::npos)
    return surroundings.devices();
  return {};
}

void add_options(const CLI::App* command, std::vector<Candidate>& candidates) {
  for (const CLI::App* at = command; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      if (option->get_positional() || is_hidden(*option)) continue;
      for (const std::string& name : option->get_lnames()) {
        const bool is_known =
            std::ranges::find(candidates, "--" + name, &Candidate::word) != candidates.end();
        if (!is_known) candidates.push_back({"--" + name, option->get_description()});
      }
    }
  }
}

std::vector<Candidate> all_candidates(const Line& line, const std::string& current,
                                      const Surroundings& surroundings) {
  if (line.awaits != nullptr) return values_of(*line.awaits, line, surroundings);
  if (const std::size_t equals = current.find('=');
      current.starts_with("--") && equals != std::string::npos) {
    const std::string name = current.substr(0, equals);
    const CLI::Option* option = option_named(line.command, name);
    if (option == nullptr) return {};
    std::vector<Candidate> candidates = values_of(*option, line, surroundings);
    for (Candidate& candidate : candidates) {
      if (candidate.word != kFilesCandidate) candidate.word.insert(0, name + "=");
    }
    return candidates;
  }
  std::vector<Candidate> candidates;
  if (current.starts_with("-")) {
    add_options(line.command, candidates);
    return candidates;
  }
  for (const CLI::App* command :
       line.command->get_subcommands([](const CLI::App* of) { return !of->get_group().empty(); }))
    candidates.push_back({command->get_name(), command->get_description()});
  if (!candidates.empty()) {
    if (!line.positionals.empty()) candidates.clear();  // behind a command that there is not
    return candidates;
  }
  if (const CLI::Option* option = positional_at(*line.command, line.positionals.size()))
    return values_of(*option, line, surroundings);
  add_options(line.command, candidates);  // nothing else is left to say
  return candidates;
}

constexpr std::string_view kBash = R"script(_weir() {
  local line="${COMP_LINE:0:COMP_POINT}" current candidate prefix="" separator
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  current="${words[-1]}"
  # Readline takes these characters for ends of words, and replaces only what is behind them.
  for separator in : =; do
    if [[ $COMP_WORDBREAKS == *$separator* && ${current#"$prefix"} == *$separator* ]]; then
      prefix="${current%"${current##*"$separator"}"}"
    fi
  done
  COMPREPLY=()
  while IFS= read -r candidate; do
    if [[ $candidate == :files ]]; then
      compopt -o default
      return
    fi
    candidate="${candidate%%$'\t'*}"
    COMPREPLY+=("${candidate#"$prefix"}")
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _weir weir
)script";

constexpr std::string_view kZsh = R"script(#compdef weir
_weir() {
  local -a found
  local line word
  local -a before
  before=("${(@Q)words[2,CURRENT-1]}")
  for line in "${(@f)$("${words[1]}" __complete "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    if [[ $line == :files ]]; then
      _files
      return
    fi
    word=${line%%$'\t'*}
    found+=("${word//:/\\:}${${line#$word}/$'\t'/:}")
  done
  _describe -t words word found
}
if [[ ${funcstack[1]} == _weir ]]; then
  _weir "$@"
else
  compdef _weir weir
fi
)script";

constexpr std::string_view kFish = R"script(function __weir_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  $words[1] __complete $words[2..-1] "$current" 2>/dev/null
end
function __weir_wants_file
  test "$(__weir_complete)" = :files
end
complete -c weir -e
complete -c weir -n 'not __weir_wants_file' -f -a '(__weir_complete)'
complete -c weir -n __weir_wants_file -F
)script";

}  // namespace

std::vector<Candidate> candidates_for(const CLI::App& app, const std::vector<std::string>& words,
                                      const Surroundings& surroundings) {
  const std::string current = words.empty() ? "" : words.back();
  std::vector<Candidate> candidates = all_candidates(read_line(app, words), current, surroundings);
  std::erase_if(candidates, [&](const Candidate& candidate) {
    return candidate.word != kFilesCandidate && !candidate.word.starts_with(current);
  });
  return candidates;
}

Surroundings surroundings_of(const std::string& l4_socket, const std::string& l7_socket) {
  const control::AdminClient daemon{"weir-l4", l4_socket};
  const control::AdminClient l7{"weir-l7", l7_socket};
  const auto vips_of = [](const Answer& answer) {
    const Json* json = std::get_if<Json>(&answer);
    return json == nullptr ? Json::array() : list_at(*json, "vips");
  };
  return {.vips =
              [daemon, vips_of] {
                std::vector<Candidate> found;
                for (const Json& vip : vips_of(ask(daemon, "GET", "/v1/vips")))
                  found.push_back({text_at(vip, "vip"), text_at(vip, "name")});
                return found;
              },
          .backends =
              [daemon, vips_of](const std::string& wanted) {
                std::vector<Candidate> found;
                for (const Json& vip : vips_of(ask(daemon, "GET", "/v1/vips"))) {
                  if (text_at(vip, "vip") != wanted) continue;
                  for (const Json& backend : list_at(vip, "backends"))
                    found.push_back({text_at(backend, "address"), text_at(backend, "name")});
                }
                return found;
              },
          .devices =
              [] {
                std::vector<Candidate> found;
                const Result<control::HostFacts> facts = control::read_host_facts();
                if (!facts) return found;
                for (const std::string& name : facts->interfaces)
                  found.push_back({name, {}});
                return found;
              },
          .rules =
              [l7] {
                std::vector<Candidate> found;
                const Answer answer = ask(l7, "GET", "/v1/routes");
                const Json* json = std::get_if<Json>(&answer);
                if (json == nullptr) return found;
                for (const Json& row : list_at(*json, "routes"))
                  found.push_back({text_at(row, "route") + "/" + text_at(row, "rule"), {}});
                return found;
              }};
}

std::string completion_script(std::string_view shell) {
  if (shell == "fish") return std::string{kFish};
  return std::string{shell == "zsh" ? kZsh : kBash};
}

}  // namespace weir::cli
