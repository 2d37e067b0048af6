#include "l4/control/yaml_tree.h"

#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <map>
#include <optional>
#include <type_traits>
#include <vector>

namespace weir::control {
namespace {

using MaybeProblem = std::optional<YamlProblem>;

Position position_of(const yaml_mark_t& mark) { return {mark.line + 1, mark.column + 1}; }

std::string_view text_of(const yaml_char_t* text) {
  // The library's bytes are unsigned; characters are what they are either way.
  return text == nullptr ? std::string_view{} : reinterpret_cast<const char*>(text);
}

/// YAML 1.2, section 10.3.2: what a plain scalar may say for "nothing".
bool is_null_word(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

/// The library's event, released with this.
class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  yaml_event_t* get() { return &event_; }
  const yaml_event_t* operator->() const { return &event_; }

 private:
  yaml_event_t event_{};
};

/// The library's parser over a text, which outlives it.
class Parser {
 public:
  explicit Parser(std::string_view text) {
    const bool is_ready = yaml_parser_initialize(&parser_) == 1;
    WEIR_ASSERT(is_ready);  // it fails only without memory
    // Bytes again; the library only reads them.
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
  }
  ~Parser() { yaml_parser_delete(&parser_); }
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;

  [[nodiscard]] bool next(Event& event) { return yaml_parser_parse(&parser_, event.get()) == 1; }
  [[nodiscard]] const yaml_parser_t& state() const { return parser_; }

 private:
  yaml_parser_t parser_{};
};

/// How much is to be read at a node, aliases expanded.
struct Extent {
  std::size_t nodes = 1;  ///< itself included
  std::size_t text_bytes = 0;
  std::size_t height = 1;  ///< levels
};

/// Builds the tree from parser events. The children of what is open lie one behind the other; those
/// of a container that ends move into the tree.
class TreeBuilder {
 public:
  explicit TreeBuilder(YamlTree& tree) : tree_{tree} {}

  MaybeProblem take(const Event& event) {
    const yaml_mark_t& mark = event->start_mark;
    switch (event->type) {
      case YAML_ALIAS_EVENT:
        return alias(mark, text_of(event->data.alias.anchor));
      case YAML_SCALAR_EVENT:
        return scalar(mark, event->data.scalar);
      case YAML_SEQUENCE_START_EVENT:
        return open(YamlKind::kList, mark, event->data.sequence_start);
      case YAML_MAPPING_START_EVENT:
        return open(YamlKind::kMap, mark, event->data.mapping_start);
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        close();
        return {};
      case YAML_NO_EVENT:
      case YAML_STREAM_START_EVENT:
      case YAML_STREAM_END_EVENT:
      case YAML_DOCUMENT_START_EVENT:
      case YAML_DOCUMENT_END_EVENT:
        return {};
    }
    return {};
  }

 private:
  struct Anchored {
    YamlNode node;
    Extent extent;
  };
  struct Open {
    YamlNode node;
    Extent extent;
    std::size_t first_child;
    std::string anchor;
  };

  static YamlNode new_node(YamlKind kind, const yaml_mark_t& mark) {
    return {.kind = kind, .at = position_of(mark), .text = {}, .children = {}};
  }

  static YamlProblem too_deep(const yaml_mark_t& mark) {
    return {position_of(mark), fmt::format("nested deeper than {} levels", kYamlDepthMax), "", ""};
  }

  static MaybeProblem refuse_tag(const yaml_mark_t& mark, std::string_view tag) {
    if (tag.empty() || tag == "!") return {};  // "!" alone says that a scalar is text
    return YamlProblem{position_of(mark), fmt::format("tag '{}' means nothing here", tag),
                       "plain values without tags", ""};
  }

  MaybeProblem alias(const yaml_mark_t& mark, std::string_view anchor) {
    const auto found = anchors_.find(anchor);
    if (found != anchors_.end()) {
      const auto& [node, extent] = found->second;
      if (open_.size() + extent.height > kYamlDepthMax) return too_deep(mark);
      if (MaybeProblem problem = count(extent, mark)) return problem;
      attach(node, extent);
      return {};
    }
    if (std::ranges::find(open_, anchor, &Open::anchor) != open_.end())
      return YamlProblem{position_of(mark), "the alias refers to something that contains it",
                         "an anchor that ends before its alias", ""};
    return YamlProblem{position_of(mark), fmt::format("there is no anchor '&{}'", anchor),
                       "an anchor above its alias", ""};
  }

  template <typename Scalar>
  MaybeProblem scalar(const yaml_mark_t& mark, const Scalar& event) {
    if (MaybeProblem problem = refuse_tag(mark, text_of(event.tag))) return problem;
    // Unsigned bytes again; the event outlives this view of them.
    const std::string_view text{reinterpret_cast<const char*>(event.value), event.length};
    const bool is_plain = event.style == YAML_PLAIN_SCALAR_STYLE;
    YamlNode node = new_node(YamlKind::kNull, mark);
    if (!(is_plain && event.plain_implicit != 0 && is_null_word(text))) {
      node.kind = YamlKind::kScalar;
      node.text = tree_.keep(text);
    }
    const Extent extent{.text_bytes = node.text.size()};
    if (MaybeProblem problem = count(extent, mark)) return problem;
    remember(text_of(event.anchor), node, extent);
    attach(node, extent);
    return {};
  }

  template <typename Start>
  MaybeProblem open(YamlKind kind, const yaml_mark_t& mark, const Start& event) {
    if (MaybeProblem problem = refuse_tag(mark, text_of(event.tag))) return problem;
    if (open_.size() + 1 > kYamlDepthMax) return too_deep(mark);
    if (MaybeProblem problem = count(Extent{}, mark)) return problem;
    open_.push_back(
        {new_node(kind, mark), {}, children_.size(), std::string{text_of(event.anchor)}});
    return {};
  }

  void close() {
    Open done = std::move(open_.back());  // the parser ends only what it has begun
    open_.pop_back();
    done.node.children = tree_.keep(std::span{children_}.subspan(done.first_child));
    children_.resize(done.first_child);
    remember(done.anchor, done.node, done.extent);
    attach(done.node, done.extent);
  }

  MaybeProblem count(const Extent& extent, const yaml_mark_t& mark) {
    nodes_ += extent.nodes;
    text_bytes_ += extent.text_bytes;
    if (nodes_ <= kYamlNodesMax && text_bytes_ <= kYamlTextBytesMax) return {};
    return YamlProblem{position_of(mark),
                       fmt::format("the file has more than {} values or {} bytes of text once "
                                   "aliases are expanded",
                                   kYamlNodesMax, kYamlTextBytesMax),
                       "", ""};
  }

  void remember(std::string_view anchor, const YamlNode& node, const Extent& extent) {
    if (!anchor.empty()) anchors_.insert_or_assign(std::string{anchor}, Anchored{node, extent});
  }

  void attach(YamlNode node, const Extent& extent) {
    if (open_.empty()) {
      tree_.root = node;
      return;
    }
    Open& parent = open_.back();
    // The library places a value that is not there at whatever comes next; its key is better.
    const bool is_value =
        parent.node.kind == YamlKind::kMap && (children_.size() - parent.first_child) % 2 == 1;
    if (node.kind == YamlKind::kNull && is_value) node.at = children_.back().at;
    parent.extent.nodes += extent.nodes;
    parent.extent.text_bytes += extent.text_bytes;
    parent.extent.height = std::max(parent.extent.height, extent.height + 1);
    children_.push_back(node);
  }

  YamlTree& tree_;
  std::vector<Open> open_;
  std::vector<YamlNode> children_;
  std::map<std::string, Anchored, std::less<>> anchors_;
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
MaybeProblem find_binary(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
    return YamlProblem{{1, 1},
                       "the file is UTF-16",
                       "UTF-8 text",
                       "save it as UTF-8, or: iconv -f UTF-16 -t UTF-8"};
  }
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

Position position_in(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return {static_cast<std::size_t>(std::ranges::count(before, '\n')) + 1, offset - line_start + 1};
}

/// Why the library stopped.
YamlProblem syntax_problem(std::string_view text, const yaml_parser_t& parser) {
  if (parser.error == YAML_READER_ERROR)
    return {position_in(text, parser.problem_offset), fmt::format("not UTF-8: {}", parser.problem),
            "UTF-8 text", "save the file in UTF-8"};
  if (const std::optional<Position> tab = find_tab_indent(text))
    return {*tab, "not valid YAML: a tab in the indentation", "blanks", ""};
  const std::string context =
      parser.context == nullptr ? std::string{} : fmt::format(" {}", parser.context);
  return {position_of(parser.problem_mark),
          fmt::format("not valid YAML: {}{}", parser.problem, context), "", ""};
}

}  // namespace

std::string_view YamlTree::keep(std::string_view text) {
  char* const copy = static_cast<char*>(memory_->allocate(text.size(), 1));
  std::ranges::copy(text, copy);
  return {copy, text.size()};
}

std::span<const YamlNode> YamlTree::keep(std::span<const YamlNode> nodes) {
  std::pmr::polymorphic_allocator<YamlNode> allocator{memory_.get()};
  YamlNode* const copy = allocator.allocate(nodes.size());
  std::ranges::uninitialized_copy(nodes, std::span{copy, nodes.size()});
  static_assert(std::is_trivially_destructible_v<YamlNode>);  // nobody will
  return {copy, nodes.size()};
}

std::variant<YamlTree, YamlProblem> parse_yaml(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf"))
    text.remove_prefix(3);  // what some editors begin UTF-8 with
  if (MaybeProblem binary = find_binary(text)) return *std::move(binary);
  Parser parser{text};
  YamlTree tree{text.size()};
  TreeBuilder builder{tree};
  for (int documents = 0;;) {
    Event event;
    if (!parser.next(event)) return syntax_problem(text, parser.state());
    if (event->type == YAML_STREAM_END_EVENT) return tree;
    if (event->type == YAML_DOCUMENT_START_EVENT && ++documents == 2)
      return YamlProblem{position_of(event->start_mark), "a second YAML document begins here",
                         "one document in a file", "remove the line '---'"};
    if (MaybeProblem problem = builder.take(event)) return *std::move(problem);
  }
}

}  // namespace weir::control
