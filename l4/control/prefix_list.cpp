#include "l4/control/prefix_list.h"

#include <algorithm>

#include "l4/control/config_files.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

constexpr std::size_t kFileBytesMax = 16 * 1024 * 1024;
constexpr std::size_t kQuotedMax = 60;

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

/// What is wrong with an entry, for a sentence that begins with its place.
std::string complaint_about(std::string_view entry) {
  const Result<wire::Prefix> prefix = wire::Prefix::parse(entry);
  if (!prefix) return fmt::format("'{}' is no address and no prefix", entry.substr(0, kQuotedMax));
  return fmt::format("{}; use {}", object_to_network(*prefix)->problem, network_of(*prefix).text());
}

}  // namespace

Result<std::vector<wire::Prefix>> parse_prefix_list(std::string_view text,
                                                    const std::string& path) {
  std::vector<wire::Prefix> prefixes;
  std::string first_wrong;
  std::size_t wrong = 0;
  std::size_t line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view whole = text.substr(begin, end - begin);
    const std::string_view entry = without_blanks(whole.substr(0, whole.find('#')));
    begin = end + 1;
    if (entry.empty()) continue;
    const Result<wire::Prefix> prefix = wire::Prefix::parse(entry);
    if (prefix && is_network(*prefix)) {
      if (prefixes.size() == kPrefixesPerListMax) {
        return Error{ErrorCode::kInvalid,
                     fmt::format("{}:{}: more than {} prefixes", path, line, kPrefixesPerListMax)};
      }
      prefixes.push_back(*prefix);
      continue;
    }
    if (wrong++ == 0) first_wrong = fmt::format("{}:{}: {}", path, line, complaint_about(entry));
  }
  if (wrong == 0) return prefixes;
  return Error{
      ErrorCode::kInvalid,
      wrong == 1 ? first_wrong : fmt::format("{} ({} lines are wrong)", first_wrong, wrong)};
}

Result<std::vector<wire::Prefix>> read_prefix_list(const std::string& path) {
  const Result<std::string> text = read_regular_file(path, kFileBytesMax);
  if (!text) return text.error();
  return parse_prefix_list(*text, path);
}

}  // namespace weir::control
