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

/// The last child that begins no later than there.
std::optional<std::size_t> child_at(const YamlNode& node, Position at) {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < node.children.size(); i += step_of(node)) {
    if (at < node.children[i].at) break;
    found = i;
  }
  return found;
}

/// The object that the diagnostic is about; nothing where it is about something else.
std::optional<Place> place_of(const YamlNode& root, const Diagnostic& diagnostic) {
  if (root.kind != YamlKind::kMap || diagnostic.line == 0) return std::nullopt;
  const Position at{diagnostic.line, diagnostic.column};
  const auto section = child_at(root, at);
  if (!section || kind_of(root.children[*section].text).empty()) return std::nullopt;
  const YamlNode& value = root.children[*section + 1];
  if (value.kind != YamlKind::kMap && value.kind != YamlKind::kList) return std::nullopt;
  const auto child = child_at(value, at);
  return child ? std::optional{Place{*section, *child}} : std::nullopt;
}

std::string name_of(const YamlNode& root, Place place) {
  const YamlNode& value = root.children[place.section + 1];
  const std::string_view kind = kind_of(root.children[place.section].text);
  if (value.kind == YamlKind::kMap)
    return fmt::format("{} '{}'", kind, value.children[place.child].text);
  return owner_of(kind, value.children[place.child], place.child);
}

/// False where a diagnostic is about no object: then nothing is taken out.
bool take_out(YamlTree& tree, const std::vector<Diagnostic>& diagnostics,
              std::vector<LeftOut>& left_out) {
  const YamlNode& root = tree.root;
  std::map<Place, std::vector<Diagnostic>> by_place;
  for (const Diagnostic& diagnostic : diagnostics) {
    const std::optional<Place> place = place_of(root, diagnostic);
    if (!place) return false;
    by_place[*place].push_back(diagnostic);
  }
  for (auto& [place, reasons] : by_place)
    left_out.push_back({name_of(root, place), std::move(reasons)});
  std::vector<YamlNode> sections{root.children.begin(), root.children.end()};
  for (std::size_t i = 0; i + 1 < sections.size(); i += 2) {
    YamlNode& section = sections[i + 1];
    std::vector<YamlNode> kept;
    for (std::size_t k = 0; k < section.children.size(); k += step_of(section)) {
      const auto object = section.children.subspan(k, step_of(section));
      if (!by_place.contains({i, k})) kept.insert(kept.end(), object.begin(), object.end());
    }
    section.children = tree.keep(kept);
  }
  tree.root.children = tree.keep(sections);
  return true;
}

}  // namespace

PartialOutcome parse_config_partially(std::string_view text, const std::string& file,
                                      const Objections& objections) {
  // Too large, or no YAML: there is nothing to take apart.
  if (text.size() > kConfigBytesMax) return {parse_config(text, file), {}};
  auto tree = parse_yaml(text);
  auto* whole = std::get_if<YamlTree>(&tree);
  if (whole == nullptr) return {parse_config(text, file), {}};
  PartialOutcome result;
  std::vector<Diagnostic> diagnostics;
  for (int round = 0; round < kRoundsMax; ++round) {
    result.outcome = {};
    result.outcome.source.file = file;
    ConfigReader reader{file};
    ConfigParser{reader, result.outcome}.parse_document(whole->root);
    result.outcome.warnings = reader.take_warnings();
    diagnostics = reader.take_diagnostics();
    if (diagnostics.empty()) diagnostics = objections(result.outcome.model, result.outcome.source);
    if (diagnostics.empty()) return result;
    if (!take_out(*whole, diagnostics, result.left_out)) break;
  }
  set_diagnostics(result.outcome, std::move(diagnostics));
  return {std::move(result.outcome), {}};
}

}  // namespace weir::control
