#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/control/config.h"
#include "l4/control/rules.h"
#include "l4/control/yaml_tree.h"

/// Typed values out of a YAML tree; what does not fit becomes a diagnostic and reading goes on, so
/// that one run shows everything that is wrong.
namespace weir::control {

/// The word of a field's value in the file, and what it means.
template <typename Enum>
struct Choice {
  std::string_view word;
  Enum value;
};

class ConfigReader {
 public:
  /// More diagnostics than anyone reads: sorting needs them all before the first are kept.
  static constexpr std::size_t kCollectedMax = 1000;

  explicit ConfigReader(std::string file, std::size_t collected_max = kCollectedMax)
      : file_{std::move(file)}, collected_max_{collected_max} {}

  void report(Position at, std::string message, std::string expectation = {},
              std::string hint = {});
  /// What is no mistake, but not quite what the file says.
  void warn(Position at, std::string message, std::string expectation = {});

  /// In file order.
  [[nodiscard]] std::vector<Diagnostic> take_diagnostics();
  [[nodiscard]] std::vector<Diagnostic> take_warnings();
  [[nodiscard]] const std::string& file() const { return file_; }

  // Each of these takes a node and the words that name it in a diagnostic ("port of vip 'dns'").
  std::optional<std::string> text(const YamlNode& node, std::string_view what,
                                  std::string_view expectation);
  std::optional<std::uint64_t> number(const YamlNode& node, std::string_view what,
                                      std::uint64_t minimum, std::uint64_t maximum);
  /// With a unit: B, Ki, Mi, Gi; a bare 0 is allowed where the minimum is 0.
  std::optional<std::uint64_t> bytes(const YamlNode& node, std::string_view what,
                                     std::uint64_t minimum, std::uint64_t maximum);
  /// With a unit: ms, s, m, h; in milliseconds.
  std::optional<std::uint32_t> duration_ms(const YamlNode& node, std::string_view what,
                                           std::uint32_t minimum, std::uint32_t maximum);
  /// A percentage with its sign; of kShareWhole.
  std::optional<std::uint32_t> share(const YamlNode& node, std::string_view what);
  /// With or without a unit: k, M, Ki, Mi.
  std::optional<std::uint32_t> count(const YamlNode& node, std::string_view what,
                                     std::uint32_t minimum, std::uint32_t maximum);
  /// With its unit: /s, k/s, M/s, Ki/s, Mi/s; a bare 0 is allowed where the minimum is 0.
  std::optional<std::uint32_t> rate(const YamlNode& node, std::string_view what,
                                    std::uint32_t maximum, std::uint32_t minimum = 1);
  std::optional<PortRange> ports(const YamlNode& node, std::string_view what);
  /// An address or a prefix without host bits.
  std::optional<wire::Prefix> network(const YamlNode& node, std::string_view what);
  std::optional<wire::Port> port(const YamlNode& node, std::string_view what);
  std::optional<wire::IpAddress> address(const YamlNode& node, std::string_view what);
  std::optional<std::string> name(const YamlNode& node, std::string_view what);
  std::optional<std::string> hostname(const YamlNode& node, std::string_view what);
  bool is_list(const YamlNode& node, std::string_view what, std::string_view expectation);
  void report_no_list(const YamlNode& node, std::string_view what, std::string_view expectation);

  template <typename Enum>
  std::optional<Enum> choice(const YamlNode& node, std::string_view what,
                             std::span<const Choice<Enum>> choices,
                             std::initializer_list<std::string_view> later = {}) {
    std::vector<std::string_view> words;
    for (const Choice<Enum>& choice : choices)
      words.push_back(choice.word);
    const std::optional<std::size_t> index = word_index(node, what, words, later);
    return index ? std::optional{choices[*index].value} : std::nullopt;
  }

  /// Reports the objection, if there is one; true when the value may be used.
  bool accept(Position at, std::string_view what, const MaybeObjection& objection);

 private:
  std::optional<std::size_t> word_index(const YamlNode& node, std::string_view what,
                                        const std::vector<std::string_view>& words,
                                        std::initializer_list<std::string_view> later);

  std::string file_;
  std::size_t collected_max_;
  std::vector<Diagnostic> diagnostics_;
  std::vector<Diagnostic> warnings_;
};

/// One member of a map, with the place of its key. Views into the tree.
struct MapEntry {
  std::string_view key;
  Position at;
  const YamlNode* value;
};

/// The members of a map in file order; of a key that is there twice, the first. Whatever else the
/// node is gets reported, with `owner` as its name.
std::vector<MapEntry> entries_of(ConfigReader& reader, const YamlNode& node, std::string_view owner,
                                 std::string_view expectation);

/// The members of a map whose keys are fixed. Construction reports keys that are unknown or of a
/// later version.
class Fields {
 public:
  /// A word that somebody may well try, and why it is not to be had: "cannot be …, because …".
  struct Refused {
    std::string_view word;
    std::string_view reason;
  };
  struct Words {
    std::vector<std::string_view> known;
    std::vector<std::string_view> later = {};
    std::vector<Refused> refused = {};
  };

  /// `owner` names the map in diagnostics: "vip 'dns'".
  Fields(ConfigReader& reader, const YamlNode& node, std::string owner, const Words& words);

  [[nodiscard]] const YamlNode* find(std::string_view key) const;
  /// Reports at the map when the key is not there.
  const YamlNode* need(std::string_view key, std::string_view expectation);
  [[nodiscard]] std::string label(std::string_view key) const;
  [[nodiscard]] const std::string& owner() const { return owner_; }
  [[nodiscard]] Position at() const { return at_; }

 private:
  ConfigReader& reader_;
  Position at_;
  std::string owner_;
  bool is_map_;
  std::vector<MapEntry> entries_;
  std::vector<std::string_view> meant_;  // by misspelt keys; their absence needs no second word
};

/// "vip 'dns'" when the map has a usable name, else "vip number 3".
std::string owner_of(std::string_view kind, const YamlNode& node, std::size_t index);

/// What a node is, for a sentence: "'80a'", "a list", "a map", "empty".
std::string found_text(const YamlNode& node);

/// The word that was probably meant, or empty.
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> words);

}  // namespace weir::control
