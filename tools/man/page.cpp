#include "tools/man/page.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>
#include <sstream>
#include <vector>

namespace weir::man {
namespace {

constexpr std::size_t kColumnsMax = 79;  ///< of a page's source, as mandoc likes it

/// Text of a paragraph: nothing in it is a request or an escape, and every minus can be copied.
std::string escaped(std::string_view text) {
  std::string out;
  bool at_line_start = true;
  for (const char c : text) {
    if (at_line_start && (c == '.' || c == '\'')) out += "\\&";
    at_line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string bold(std::string_view text) { return fmt::format("\\fB{}\\fR", escaped(text)); }
std::string italic(std::string_view text) { return fmt::format("\\fI{}\\fR", escaped(text)); }

/// "A sentence": descriptions begin small and have no full stop, as help texts do.
std::string sentence(std::string text) {
  if (text.empty()) return text;
  if (text.front() >= 'a' && text.front() <= 'z' && text.find(' ') != std::string::npos)
    text.front() = static_cast<char>(text.front() - 'a' + 'A');
  if (text.back() != '.') text += '.';
  return escaped(text);
}

bool is_hidden(const CLI::Option& option) { return option.get_group().empty(); }
bool is_hidden(const CLI::App& command) { return command.get_group().empty(); }

/// What stands for the value: the words to choose from, or the name of its kind; empty for a flag.
std::string value_of(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return {};
  const std::string type = option.get_type_name();
  const std::vector<std::string> choices = choices_of(type);
  if (!choices.empty()) {
    std::string words;
    for (const std::string& choice : choices)
      words += (words.empty() ? "" : "|") + bold(choice);
    return words;
  }
  // "UINT:INT in [1 - 65535]" is a number in a range, "TEXT:PREFIX" a prefix.
  const std::size_t colon = type.find(':');
  const std::string kind = colon == std::string::npos ? type : type.substr(colon + 1);
  const std::size_t range = kind.find(" in [");
  if (range == std::string::npos) return italic(kind.empty() ? "VALUE" : kind);
  return fmt::format("{} {}", italic("N"), escaped("(" + kind.substr(range + 5)));
}

std::string heading_of(const CLI::Option& option) {
  if (option.get_positional())
    return fmt::format("{}{}", italic(option.get_name(true, false)),
                       option.get_items_expected_max() > 1 ? " ..." : "");
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames())
    names.push_back(bold("-" + name));
  for (const std::string& name : option.get_lnames())
    names.push_back(bold("--" + name));
  std::string value = value_of(option);
  if (value.size() > 1 && value.ends_with("]")) value.back() = ')';
  return fmt::format("{}{}{}", fmt::join(names, ", "), value.empty() ? "" : " ", value);
}

std::string names_of(const std::set<CLI::Option*>& options) {
  std::string names;
  for (const CLI::Option* option : options) {
    const std::string name = option->get_positional() ? italic(option->get_name(true, false))
                                                      : bold("--" + option->get_lnames().front());
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

std::string entry_of(const CLI::Option& option) {
  std::string text =
      fmt::format(".TP\n{}\n{}\n", heading_of(option), sentence(option.get_description()));
  // A flag's value and an empty text are no defaults that a person could give.
  if (!option.get_default_str().empty() && option.get_items_expected_max() != 0)
    text += fmt::format("Default: {}.\n", bold(option.get_default_str()));
  if (!option.get_envname().empty())
    text += fmt::format("The environment variable {} has the same effect.\n",
                        bold(option.get_envname()));
  if (!option.get_needs().empty())
    text += fmt::format("Goes with {}.\n", names_of(option.get_needs()));
  if (!option.get_excludes().empty())
    text += fmt::format("Not together with {}.\n", names_of(option.get_excludes()));
  return text;
}

/// Options of one command: what it works on first, then flags.
std::string entries_of(const CLI::App& app, bool with_help) {
  std::string text;
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : app.get_options()) {
      if (is_hidden(*option) || option->get_positional() != positional) continue;
      if (!with_help && option->check_lname("help")) continue;
      text += entry_of(*option);
    }
  }
  return text;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !is_hidden(*command); });
}

/// "weir vip add VIP [options]"
std::string usage_of(const CLI::App& command, std::string_view path) {
  std::string text = bold(path);
  bool has_options = false;
  for (const CLI::Option* option : command.get_options()) {
    if (is_hidden(*option)) continue;
    if (!option->get_positional()) {
      has_options |= !option->check_lname("help");
      continue;
    }
    const std::string name = heading_of(*option);
    text += option->get_required() ? " " + name : " [" + name + "]";
  }
  if (!commands_of(command).empty()) return text + " " + italic("COMMAND") + " ...";
  return text + (has_options ? " [" + italic("OPTIONS") + "]" : "");
}

// Two levels of commands; the recursion ends with them.
std::string commands_text(const CLI::App& app, const std::string& path) {
  std::string text;
  for (const CLI::App* command : commands_of(app)) {
    const std::string name = path + " " + command->get_name();
    if (!commands_of(*command).empty()) {
      text += commands_text(*command, name);
      continue;
    }
    text += fmt::format(".SS {}\n{}\n{}", usage_of(*command, name),
                        sentence(command->get_description()), entries_of(*command, false));
    if (!command->get_footer().empty())
      text += fmt::format(".PP\n{}\n", escaped(command->get_footer()));
  }
  return text;
}

/// The examples of the help text as they stand there.
std::string examples_of(const CLI::App& app) {
  const std::string footer = app.get_footer();
  const std::string_view title = "Examples:\n";
  const std::size_t at = footer.find(title);
  if (at == std::string::npos) return {};
  std::string text = footer.substr(at + title.size());
  text.erase(std::min(text.size(), text.find("\n\n")));
  return fmt::format(".nf\n{}\n.fi\n", escaped(text));
}

/// Breaks lines of text, where a break is a blank; not requests, what they take (the line after
/// .TP), and what stands as it is (.nf).
std::string wrapped(const std::string& page) {
  std::string out;
  bool is_fixed = false;
  bool is_tag = false;
  std::stringstream lines{page};
  for (std::string line; std::getline(lines, line);) {
    if (line == ".nf" || line == ".fi") is_fixed = line == ".nf";
    const bool may_break = !is_fixed && !is_tag && !line.starts_with('.');
    is_tag = line == ".TP";
    while (may_break && line.size() > kColumnsMax) {
      const std::size_t blank = line.rfind(' ', kColumnsMax);
      if (blank == std::string::npos || blank == 0) break;
      out += line.substr(0, blank) + "\n";
      line.erase(0, blank + 1);
      if (line.starts_with('.') || line.starts_with('\'')) line.insert(0, "\\&");
    }
    out += line + "\n";
  }
  return out;
}

std::string filled_in(std::string_view line, const CLI::App& app, const std::string& name) {
  if (line == "@SYNOPSIS@") return usage_of(app, name) + "\n";
  if (line == "@COMMANDS@") return commands_text(app, name);
  if (line == "@OPTIONS@") return entries_of(app, true);
  if (line == "@EXAMPLES@") return examples_of(app);
  return std::string{line} + "\n";
}

}  // namespace

std::vector<std::string> choices_of(const std::string& type_name) {
  const std::size_t open = type_name.find('{');
  const std::size_t close = type_name.find('}');
  std::vector<std::string> choices;
  if (open == std::string::npos || close == std::string::npos || close < open) return choices;
  std::stringstream words{type_name.substr(open + 1, close - open - 1)};
  for (std::string word; std::getline(words, word, ',');)
    choices.push_back(word);
  return choices;
}

std::string page_of(const CLI::App& app, std::string_view name, std::string_view prose) {
  std::string page;
  std::stringstream lines{std::string{prose}};
  for (std::string line; std::getline(lines, line);)
    page += filled_in(line, app, std::string{name});
  return wrapped(page);
}

void add_man_option(CLI::App& app, std::string name) {
  app.add_option_function<std::string>(
         "--man",
         [&app, name = std::move(name)](const std::string& path) {
           std::ifstream file{path};
           std::stringstream prose;
           prose << file.rdbuf();
           if (!file) throw CLI::ValidationError{"--man", "cannot read " + path};
           std::string page = page_of(app, name, prose.str());
           page.pop_back();  // the parser's exit adds the last line break
           throw CLI::CallForVersion{page, 0};
         },
         "print the manual page whose prose is in FILE")
      ->trigger_on_parse()
      ->configurable(false)
      ->group("");
}

}  // namespace weir::man
