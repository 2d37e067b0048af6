#include "l4/control/exposition.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "l4/base/assert.h"
#include "l4/base/json_text.h"

namespace weir::control {
namespace {

/// Names are constants of ours, so that a wrong one is a mistake in the program.
bool is_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::string help_text(std::string_view help) {
  std::string out;
  for (const char c : help) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string metric_label_text(std::string_view value) {
  std::string out;
  while (!value.empty()) {
    const std::size_t length = utf8_character_bytes(value);
    const char c = value.front();
    if (length == 0) {
      fmt::format_to(std::back_inserter(out), "\\\\x{:02x}", static_cast<unsigned char>(c));
    } else if (c == '\\' || c == '"') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += value.substr(0, length);
    }
    value.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

void Exposition::family(std::string_view name, MetricType type, std::string_view help) {
  WEIR_ASSERT(is_name(name));  // callers pass literals
  WEIR_ASSERT((type == MetricType::kCounter) == name.ends_with("_total"));
  name_ = name;
  text_ += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help_text(help),
                       type == MetricType::kCounter ? "counter" : "gauge");
}

void Exposition::begin_sample(std::span<const MetricLabel> labels) {
  WEIR_ASSERT(!name_.empty());  // callers begin with a family
  text_ += name_;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    WEIR_ASSERT(is_name(labels[i].name));  // literals too
    text_ += i == 0 ? '{' : ',';
    text_ += labels[i].name;
    text_ += "=\"";
    text_ += metric_label_text(labels[i].value);
    text_ += '"';
  }
  if (!labels.empty()) text_ += '}';
}

void Exposition::sample(std::span<const MetricLabel> labels, std::uint64_t value) {
  begin_sample(labels);
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
}

void Exposition::sample(std::span<const MetricLabel> labels, double value) {
  begin_sample(labels);
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
}

}  // namespace weir::control
