#include "l4/control/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

namespace weir::control {
namespace {

/// Thrown through the library by the handler below and caught in parse_yaml(): its interface has no
/// other way to stop early.
struct Stop {
  YamlProblem problem;
};

Position position_of(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {static_cast<std::size_t>(mark.line) + 1, static_cast<std::size_t>(mark.column) + 1};
}

/// Builds the tree from parser events. Finished containers move into their parent.
class TreeBuilder : public YAML::EventHandler {
 public:
  [[nodiscard]] YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    finish(new_node(YamlKind::kNull, mark), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw Stop{{position_of(mark), "the alias refers to something that contains it",
                  "an anchor that ends before its alias", ""}};
    }
    if (open_.size() + found->second.height > kYamlDepthMax) stop_for_depth(mark);
    count(found->second, mark);
    attach(found->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    YamlNode node = new_node(YamlKind::kScalar, mark);
    node.text = value;
    node.text_bytes = value.size();
    finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlKind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlKind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor;
  };

  static YamlNode new_node(YamlKind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.at = position_of(mark);
    return node;
  }

  [[noreturn]] static void stop_for_depth(const YAML::Mark& mark) {
    throw Stop{
        {position_of(mark), fmt::format("nested deeper than {} levels", kYamlDepthMax), "", ""}};
  }

  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    // "?" and "!" are the library's names for plain and quoted scalars without a tag.
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Stop{{position_of(mark), fmt::format("tag '{}' means nothing here", tag),
                "plain values without tags", ""}};
  }

  void count(const YamlNode& node, const YAML::Mark& mark) {
    nodes_ += node.nodes;
    text_bytes_ += node.text_bytes;
    if (nodes_ <= kYamlNodesMax && text_bytes_ <= kYamlTextBytesMax) return;
    throw Stop{{position_of(mark),
                fmt::format("the file has more than {} values or {} bytes of text once aliases are "
                            "expanded",
                            kYamlNodesMax, kYamlTextBytesMax),
                "", ""}};
  }

  void open(YamlKind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_tag(mark, tag);
    if (open_.size() + 1 > kYamlDepthMax) stop_for_depth(mark);
    open_.push_back({new_node(kind, mark), anchor});
    ++nodes_;
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    remember(done.node, done.anchor);
    attach(std::move(done.node));
  }

  void finish(YamlNode node, YAML::anchor_t anchor) {
    YAML::Mark mark;
    mark.line = static_cast<int>(node.at.line) - 1;
    mark.column = static_cast<int>(node.at.column) - 1;
    count(node, mark);
    remember(node, anchor);
    attach(std::move(node));
  }

  void remember(const YamlNode& node, YAML::anchor_t anchor) {
    if (anchor == YAML::NullAnchor) return;
    // The copy counts as well: anchors inside anchors would otherwise multiply for free.
    nodes_ += node.nodes;
    anchors_[anchor] = node;
  }

  void attach(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    YamlNode& parent = open_.back().node;
    // The library places a value that is not there at whatever comes next; its key is better.
    const bool is_value = parent.kind == YamlKind::kMap && parent.children.size() % 2 == 1;
    if (node.kind == YamlKind::kNull && is_value) node.at = parent.children.back().at;
    parent.nodes += node.nodes;
    parent.text_bytes += node.text_bytes;
    parent.height = std::max(parent.height, node.height + 1);
    parent.children.push_back(std::move(node));
  }

  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  std::size_t nodes_ = 0;
  std::size_t text_bytes_ = 0;
};

/// The first tab that stands where only blanks may indent, for a text that could not be parsed.
std::optional<Position> find_tab_indent(std::string_view text) {
  std::size_t line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::size_t first = std::min(text.find_first_not_of(' ', begin), end);
    if (first < end && text[first] == '\t') return Position{line, first - begin + 1};
    begin = end + 1;
  }
  return std::nullopt;
}

/// The first byte that no text file has; the library would end its input there or pass it on.
std::optional<YamlProblem> find_binary(std::string_view text) {
  Position at{1, 1};
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\n') {
      ++at.line;
      at.column = 1;
      continue;
    }
    if (byte == 0x7f || (byte < 0x20 && byte != '\t' && byte != '\r')) {
      return YamlProblem{at, fmt::format("byte 0x{:02x} is not text", byte), "UTF-8 text",
                         "is this the right file?"};
    }
    ++at.column;
  }
  return std::nullopt;
}

}  // namespace

std::variant<YamlNode, YamlProblem> parse_yaml(std::string_view text) {
  if (std::optional<YamlProblem> binary = find_binary(text)) return std::move(*binary);
  try {
    std::istringstream stream{std::string{text}};
    YAML::Parser parser{stream};
    TreeBuilder builder;
    parser.HandleNextDocument(builder);
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      return YamlProblem{second.take_root().at, "a second YAML document begins here",
                         "one document in a file", "remove the line '---'"};
    }
    return builder.take_root();
  } catch (const Stop& stop) {
    return stop.problem;
  } catch (const YAML::Exception& error) {
    if (const std::optional<Position> tab = find_tab_indent(text))
      return YamlProblem{*tab, "not valid YAML: a tab in the indentation", "blanks", ""};
    return YamlProblem{position_of(error.mark), fmt::format("not valid YAML: {}", error.msg), "",
                       ""};
  }
}

}  // namespace weir::control
