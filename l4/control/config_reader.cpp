#include "l4/control/config_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "l4/control/units.h"

namespace weir::control {
namespace {

constexpr std::size_t kQuotedMax = 80;

/// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitution = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

template <typename Range>
bool contains(const Range& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string one_of(std::span<const std::string_view> words) {
  return words.size() == 1 ? fmt::format("'{}'", words.front())
                           : fmt::format("one of {}", fmt::join(words, ", "));
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> words) {
  const std::string_view nearest = nearest_word(word, words);
  return nearest.empty() ? std::string{} : fmt::format("did you mean '{}'?", nearest);
}

/// Cut between characters: the bytes that continue one in UTF-8 are 0x80 to 0xbf.
std::string shortened(std::string_view text) {
  std::size_t length = std::min(text.size(), kQuotedMax);
  while (length > 0 && length < text.size() &&
         (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80)
    --length;
  std::string shown{text.substr(0, length)};
  if (length < text.size()) shown += "…";
  return shown;
}

}  // namespace

std::string_view nearest_word(std::string_view word, std::span<const std::string_view> words) {
  constexpr std::size_t kLongest = 64;  // longer words are no slips of ours, and cost time
  if (word.size() > kLongest) return {};
  std::string_view nearest;
  std::size_t nearest_distance = 0;
  for (const std::string_view candidate : words) {
    // Case alone is never a different word.
    const std::size_t distance = edit_distance(lower_case(word), lower_case(candidate));
    if (distance > std::max<std::size_t>(1, candidate.size() / 3)) continue;
    if (nearest.empty() || distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

std::string found_text(const YamlNode& node) {
  switch (node.kind) {
    case YamlKind::kNull:
      return "empty";
    case YamlKind::kList:
      return "a list";
    case YamlKind::kMap:
      return "a map";
    case YamlKind::kScalar:
      return fmt::format("'{}'", shortened(node.text));
  }
  WEIR_ASSERT(false);  // every kind is named above
  return {};
}

std::string owner_of(std::string_view kind, const YamlNode& node, std::size_t index) {
  for (std::size_t i = 0; node.kind == YamlKind::kMap && i + 1 < node.children.size(); i += 2) {
    const YamlNode& value = node.children[i + 1];
    if (node.children[i].text == "name" && value.kind == YamlKind::kScalar)
      return fmt::format("{} {}", kind, found_text(value));
  }
  return fmt::format("{} number {}", kind, index + 1);
}

void ConfigReader::report(Position at, std::string message, std::string expectation,
                          std::string hint) {
  if (diagnostics_.size() >= collected_max_) return;
  // A diagnostic is one line, whatever the file has in its strings.
  std::ranges::replace_if(
      message, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, ' ');
  diagnostics_.push_back(
      {file_, at.line, at.column, std::move(message), std::move(expectation), std::move(hint)});
}

void ConfigReader::warn(Position at, std::string message, std::string expectation) {
  if (warnings_.size() >= kDiagnosticsMax) return;
  warnings_.push_back({file_, at.line, at.column, std::move(message), std::move(expectation), {}});
}

std::vector<Diagnostic> ConfigReader::take_warnings() { return std::move(warnings_); }

std::vector<Diagnostic> ConfigReader::take_diagnostics() {
  std::ranges::stable_sort(diagnostics_, {}, [](const Diagnostic& diagnostic) {
    return std::pair{diagnostic.line, diagnostic.column};
  });
  // An alias repeats what is wrong with its anchor.
  const auto repeated = std::ranges::unique(diagnostics_);
  diagnostics_.erase(repeated.begin(), repeated.end());
  return std::move(diagnostics_);
}

std::optional<std::string> ConfigReader::text(const YamlNode& node, std::string_view what,
                                              std::string_view expectation) {
  if (node.kind == YamlKind::kScalar && !node.text.empty()) return std::string{node.text};
  report(node.at, fmt::format("{} is {}", what, found_text(node)), std::string{expectation});
  return std::nullopt;
}

std::optional<std::uint64_t> ConfigReader::number(const YamlNode& node, std::string_view what,
                                                  std::uint64_t minimum, std::uint64_t maximum) {
  if (node.kind == YamlKind::kScalar) {
    const std::optional<std::uint64_t> value = decimal(node.text);
    if (value && *value >= minimum && *value <= maximum) return value;
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         minimum == maximum ? fmt::format("{}", minimum)
                            : fmt::format("a number from {} to {}", minimum, maximum));
  return std::nullopt;
}

std::optional<std::uint64_t> ConfigReader::bytes(const YamlNode& node, std::string_view what,
                                                 std::uint64_t minimum, std::uint64_t maximum) {
  if (node.kind == YamlKind::kScalar) {
    const std::optional<std::uint64_t> value = with_unit(node.text, byte_units());
    if (value && *value >= minimum && *value <= maximum) return value;
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         fmt::format("a size from {} to {} with its unit (B, Ki, Mi, Gi)",
                     in_units(minimum, byte_units()), in_units(maximum, byte_units())));
  return std::nullopt;
}

std::optional<std::uint32_t> ConfigReader::duration_ms(const YamlNode& node, std::string_view what,
                                                       std::uint32_t minimum,
                                                       std::uint32_t maximum) {
  if (node.kind == YamlKind::kScalar) {
    const std::optional<std::uint64_t> value = with_unit(node.text, time_units());
    if (value && *value >= minimum && *value <= maximum) return static_cast<std::uint32_t>(*value);
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         fmt::format("a time from {} to {} with its unit (ms, s, m, h)",
                     in_units(minimum, time_units()), in_units(maximum, time_units())));
  return std::nullopt;
}

std::optional<std::uint32_t> ConfigReader::share(const YamlNode& node, std::string_view what) {
  if (node.kind == YamlKind::kScalar)
    if (const std::optional<std::uint32_t> value = parse_share(node.text)) return value;
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         "a share from 0% to 100%, such as 10% or 0.5%");
  return std::nullopt;
}

std::optional<std::uint32_t> ConfigReader::count(const YamlNode& node, std::string_view what,
                                                 std::uint32_t minimum, std::uint32_t maximum) {
  if (node.kind == YamlKind::kScalar) {
    const std::optional<std::uint64_t> value = with_unit(node.text, count_units());
    if (value && *value >= minimum && *value <= maximum) return static_cast<std::uint32_t>(*value);
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         fmt::format("a number from {} to {}, such as 4096 or 256Ki",
                     in_units(minimum, count_units()), in_units(maximum, count_units())));
  return std::nullopt;
}

std::optional<std::uint32_t> ConfigReader::rate(const YamlNode& node, std::string_view what,
                                                std::uint32_t maximum, std::uint32_t minimum) {
  if (node.kind == YamlKind::kScalar) {
    const std::optional<std::uint64_t> value = with_unit(node.text, rate_units());
    if (value && *value >= minimum && *value <= maximum) return static_cast<std::uint32_t>(*value);
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         fmt::format("a rate from {} to {}, such as 200/s or 10k/s",
                     in_units(minimum, rate_units()), in_units(maximum, rate_units())));
  return std::nullopt;
}

std::optional<PortRange> ConfigReader::ports(const YamlNode& node, std::string_view what) {
  if (node.kind == YamlKind::kScalar) {
    if (const Result<PortRange> ports = parse_ports(node.text)) return *ports;
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         "a number from 1 to 65535, a range such as 5000-5999, or any");
  return std::nullopt;
}

std::optional<wire::Prefix> ConfigReader::network(const YamlNode& node, std::string_view what) {
  if (node.kind == YamlKind::kScalar) {
    if (const Result<wire::Prefix> prefix = wire::Prefix::parse(node.text)) {
      const bool usable = accept(node.at, what, object_to_network(*prefix));
      return usable ? std::optional{*prefix} : std::nullopt;
    }
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)),
         "an address, or a prefix such as 198.51.100.0/24 or 2001:db8::/32");
  return std::nullopt;
}

std::optional<wire::Port> ConfigReader::port(const YamlNode& node, std::string_view what) {
  const std::optional<std::uint64_t> value = number(node, what, 1, 65535);
  if (!value) return std::nullopt;
  return wire::Port{static_cast<std::uint16_t>(*value)};
}

std::optional<wire::IpAddress> ConfigReader::address(const YamlNode& node, std::string_view what) {
  if (node.kind == YamlKind::kScalar) {
    if (const Result<wire::IpAddress> address = wire::IpAddress::parse(node.text)) {
      const bool usable = accept(node.at, what, object_to_address(*address));
      return usable ? std::optional{*address} : std::nullopt;
    }
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)), "an IPv4 or IPv6 address");
  return std::nullopt;
}

std::optional<std::string> ConfigReader::name(const YamlNode& node, std::string_view what) {
  const std::optional<std::string> value = text(node, what, "a name");
  if (!value || !accept(node.at, what, object_to_name(*value))) return std::nullopt;
  return value;
}

std::optional<std::string> ConfigReader::hostname(const YamlNode& node, std::string_view what) {
  std::optional<std::string> value = text(node, what, "a DNS name");
  if (!value) return std::nullopt;
  value = lower_case(*value);
  return accept(node.at, what, object_to_hostname(*value)) ? value : std::nullopt;
}

bool ConfigReader::is_list(const YamlNode& node, std::string_view what,
                           std::string_view expectation) {
  if (node.kind == YamlKind::kList) return true;
  report_no_list(node, what, expectation);
  return false;
}

void ConfigReader::report_no_list(const YamlNode& node, std::string_view what,
                                  std::string_view expectation) {
  report(node.at, fmt::format("{} is {}", what, found_text(node)), std::string{expectation});
}

bool ConfigReader::accept(Position at, std::string_view what, const MaybeObjection& objection) {
  if (!objection) return true;
  report(at, fmt::format("{} is {}", what, objection->problem), objection->expectation);
  return false;
}

std::optional<std::size_t> ConfigReader::word_index(const YamlNode& node, std::string_view what,
                                                    const std::vector<std::string_view>& words,
                                                    std::initializer_list<std::string_view> later) {
  std::string hint;
  if (node.kind == YamlKind::kScalar) {
    const auto found = std::ranges::find(words, node.text);
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    hint = contains(later, node.text)
               ? fmt::format("'{}' is not available yet in this version", node.text)
               : did_you_mean(node.text, words);
  }
  report(node.at, fmt::format("{} is {}", what, found_text(node)), one_of(words), std::move(hint));
  return std::nullopt;
}

namespace {

/// Of a key that is there twice the first is kept.
void leave_out_repeated(ConfigReader& reader, std::string_view owner,
                        std::vector<MapEntry>& entries) {
  std::vector<std::pair<std::string_view, std::size_t>> order;
  order.reserve(entries.size());
  for (const MapEntry& entry : entries)
    order.emplace_back(entry.key, order.size());
  std::ranges::sort(order);
  if (std::ranges::adjacent_find(order, {}, [](const auto& one) { return one.first; }) ==
      order.end())
    return;
  std::vector<std::size_t> first_of(entries.size());
  for (std::size_t i = 0, first = 0; i < order.size(); ++i) {
    if (order[i].first != order[first].first) first = i;
    first_of[order[i].second] = order[first].second;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {  // in file order: not all may be shown
    if (first_of[i] == i) continue;
    reader.report(entries[i].at,
                  fmt::format("key '{}' appears twice in {}; the first is in line {}",
                              shortened(entries[i].key), owner, entries[first_of[i]].at.line),
                  "", "keep one of them");
    entries[i].value = nullptr;
  }
  std::erase_if(entries, [](const MapEntry& entry) { return entry.value == nullptr; });
}

}  // namespace

std::vector<MapEntry> entries_of(ConfigReader& reader, const YamlNode& node, std::string_view owner,
                                 std::string_view expectation) {
  std::vector<MapEntry> entries;
  if (node.kind != YamlKind::kMap) {
    reader.report(node.at, fmt::format("{} is {}", owner, found_text(node)),
                  std::string{expectation});
    return entries;
  }
  entries.reserve(node.children.size() / 2);
  for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const YamlNode& key = node.children[i];
    if (key.kind == YamlKind::kScalar)
      entries.push_back({key.text, key.at, &node.children[i + 1]});
    else
      reader.report(key.at, fmt::format("a key in {} is {}", owner, found_text(key)), "a word");
  }
  leave_out_repeated(reader, owner, entries);
  return entries;
}

Fields::Fields(ConfigReader& reader, const YamlNode& node, std::string owner, const Words& words)
    : reader_{reader},
      at_{node.at},
      owner_{std::move(owner)},
      is_map_{node.kind == YamlKind::kMap},
      entries_{entries_of(reader, node, owner_,
                          is_map_ ? "" /* wanted only of what is none */
                                  : fmt::format("a map with {}", fmt::join(words.known, ", ")))} {
  for (const MapEntry& entry : entries_) {
    if (contains(words.known, entry.key)) continue;
    const auto refused = std::ranges::find(words.refused, entry.key, &Refused::word);
    if (refused != words.refused.end()) {
      reader_.report(entry.at, fmt::format("key '{}' in {} {}", entry.key, owner_, refused->reason),
                     "", "remove it");
      continue;
    }
    if (contains(words.later, entry.key)) {
      reader.report(
          entry.at,
          fmt::format("key '{}' in {} is not available yet in this version", entry.key, owner_), "",
          "remove it");
      continue;
    }
    reader.report(entry.at, fmt::format("unknown key '{}' in {}", shortened(entry.key), owner_),
                  one_of(words.known), did_you_mean(entry.key, words.known));
    meant_.push_back(nearest_word(entry.key, words.known));
  }
}

const YamlNode* Fields::find(std::string_view key) const {
  const auto found = std::ranges::find(entries_, key, &MapEntry::key);
  return found == entries_.end() ? nullptr : found->value;
}

const YamlNode* Fields::need(std::string_view key, std::string_view expectation) {
  const YamlNode* value = find(key);
  const bool misspelt = std::ranges::find(meant_, key) != meant_.end();
  if (value == nullptr && is_map_ && !misspelt)
    reader_.report(at_, fmt::format("{} has no {}", owner_, key), std::string{expectation});
  return value;
}

std::string Fields::label(std::string_view key) const {
  return fmt::format("{} of {}", key, owner_);
}

}  // namespace weir::control
