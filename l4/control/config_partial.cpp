#include "l4/control/config_partial.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "l4/control/config_parser.h"

namespace weir::control {
namespace {

/// Each takes out at least one object; a chain of references is as long as there are kinds of
/// objects, and who comes second to a name may come second to a port as well.
constexpr int kRoundsMax = 64;

/// Each round reads all that is left, so there should be few of them.
constexpr std::size_t kPartialCollectedMax = 100'000;

/// The place of an object in the tree: of a section's value, which child.
struct Place {
  std::size_t section = 0;
  std::size_t child = 0;
  friend auto operator<=>(const Place&, const Place&) = default;
};

std::string_view kind_of(std::string_view section) {
  if (section == "vips") return "vip";
  if (section == "gateways") return "gateway";
  if (section == "services") return "service";
  if (section == "httpRoutes") return "httpRoute";
  if (section == "tlsRoutes") return "tlsRoute";
  return {};
}

/// A map has its keys at even places and a value behind each: objects of `services`.
std::size_t step_of(const YamlNode& section) { return section.kind == YamlKind::kMap ? 2 : 1; }

/// Objects by the places where they begin. Made anew for each round: it is asked for every
/// diagnostic.
class Places {
 public:
  explicit Places(const YamlNode& root) {
    if (root.kind != YamlKind::kMap) return;
    for (std::size_t i = 0; i + 1 < root.children.size(); i += 2) {
      sections_.emplace_back(root.children[i].at, i);
      if (!kind_of(root.children[i].text).empty()) add_objects(i, root.children[i + 1]);
    }
    std::ranges::sort(sections_);
  }

  /// The object that the diagnostic is about; nothing where it is about something else.
  [[nodiscard]] std::optional<Place> of(const Diagnostic& diagnostic) const {
    if (diagnostic.line == 0) return std::nullopt;
    const Position at{diagnostic.line, diagnostic.column};
    const auto section = last_before(sections_, at);
    const auto objects = section ? objects_.find(*section) : objects_.end();
    if (objects == objects_.end()) return std::nullopt;
    const auto child = last_before(objects->second, at);
    return child ? std::optional{Place{*section, *child}} : std::nullopt;
  }

 private:
  using Begins = std::vector<std::pair<Position, std::size_t>>;

  void add_objects(std::size_t section, const YamlNode& value) {
    Begins& begins = objects_[section];
    for (std::size_t i = 0; i < value.children.size(); i += step_of(value))
      begins.emplace_back(value.children[i].at, i);
    std::ranges::sort(begins);
  }

  /// The last that begins no later than there.
  static std::optional<std::size_t> last_before(const Begins& begins, Position at) {
    const auto after =
        std::ranges::upper_bound(begins, at, {}, [](const auto& one) { return one.first; });
    return after == begins.begin() ? std::nullopt : std::optional{std::prev(after)->second};
  }

  Begins sections_;
  std::map<std::size_t, Begins> objects_;  // by section
};

std::string name_of(const YamlNode& root, Place place) {
  const YamlNode& value = root.children[place.section + 1];
  const std::string_view kind = kind_of(root.children[place.section].text);
  if (value.kind == YamlKind::kMap)
    return fmt::format("{} '{}'", kind, value.children[place.child].text);
  return owner_of(kind, value.children[place.child], place.child);
}

/// A tree without the objects that were taken out of it, which stays as it is.
class Remainder {
 public:
  explicit Remainder(const YamlNode& whole)
      : root_{whole}, sections_{whole.children.begin(), whole.children.end()} {
    root_.children = sections_;
  }
  Remainder(const Remainder&) = delete;
  Remainder& operator=(const Remainder&) = delete;

  [[nodiscard]] const YamlNode& root() const { return root_; }

  void take_out(std::size_t section, const std::set<std::size_t>& children) {
    YamlNode& value = sections_[section + 1];
    const std::size_t step = step_of(value);
    std::vector<YamlNode> rest;
    rest.reserve(value.children.size());
    for (std::size_t i = 0; i < value.children.size(); i += step) {
      const auto object = value.children.subspan(i, step);
      if (!children.contains(i)) rest.insert(rest.end(), object.begin(), object.end());
    }
    std::vector<YamlNode>& kept = kept_[section];
    kept = std::move(rest);
    value.children = kept;
  }

 private:
  YamlNode root_;
  std::vector<YamlNode> sections_;
  std::map<std::size_t, std::vector<YamlNode>> kept_;  // by section: its children
};

/// False where a diagnostic is about no object: then nothing is taken out.
bool take_out(Remainder& tree, const std::vector<Diagnostic>& diagnostics,
              std::vector<LeftOut>& left_out) {
  std::map<Place, std::vector<Diagnostic>> by_place;
  const Places places{tree.root()};
  for (const Diagnostic& diagnostic : diagnostics) {
    const std::optional<Place> place = places.of(diagnostic);
    if (!place) return false;
    by_place[*place].push_back(diagnostic);
  }
  std::map<std::size_t, std::set<std::size_t>> by_section;
  for (auto& [place, reasons] : by_place) {
    left_out.push_back({name_of(tree.root(), place), std::move(reasons)});
    by_section[place.section].insert(place.child);
  }
  for (const auto& [section, children] : by_section)
    tree.take_out(section, children);
  return true;
}

}  // namespace

PartialOutcome parse_config_partially(std::string_view text, const std::string& file,
                                      const Objections& objections) {
  // Too large, or no YAML: there is nothing to take apart.
  if (text.size() > kConfigBytesMax) return {parse_config(text, file), {}};
  const auto parsed = parse_yaml(text);
  const auto* whole = std::get_if<YamlTree>(&parsed);
  if (whole == nullptr) return {parse_config(text, file), {}};
  Remainder tree{whole->root};
  PartialOutcome result;
  std::vector<Diagnostic> diagnostics;
  for (int round = 0; round < kRoundsMax; ++round) {
    result.outcome = {};
    result.outcome.source.file = file;
    ConfigReader reader{file, kPartialCollectedMax};
    ConfigParser{reader, result.outcome}.parse_document(tree.root());
    result.outcome.warnings = reader.take_warnings();
    diagnostics = reader.take_diagnostics();
    if (diagnostics.empty()) diagnostics = objections(result.outcome.model, result.outcome.source);
    if (diagnostics.empty()) return result;
    if (!take_out(tree, diagnostics, result.left_out)) break;
  }
  set_diagnostics(result.outcome, std::move(diagnostics));
  return {std::move(result.outcome), {}};
}

}  // namespace weir::control
