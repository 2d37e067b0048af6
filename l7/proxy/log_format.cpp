#include "l7/proxy/log_format.h"

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"

namespace weir::proxy {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";

/// Writes into a fixed place and remembers whether it fitted.
class Line {
 public:
  explicit Line(std::span<char> out) : out_{out} {}

  void put(char c) {
    if (length_ < out_.size())
      out_[length_++] = c;
    else
      fits_ = false;
  }
  void put(std::string_view text) {
    for (const char c : text)
      put(c);
  }
  void put_value(std::string_view value, bool quoted) {
    if (value.empty() && !quoted) return put('-');
    for (const char c : value.substr(0, LogFormat::kValueMax)) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        put('\\');
        put(c);
      } else if (byte < 0x20 || byte >= 0x7f || (c == ' ' && !quoted)) {
        // Bytes that need not be UTF-8 are written as the code point of the same number.
        put("\\u00");
        put(kHex[byte >> 4]);
        put(kHex[byte & 15]);
      } else {
        put(c);
      }
    }
    if (value.size() > LogFormat::kValueMax) put("\\u2026");
  }
  [[nodiscard]] std::string_view view() const {
    return fits_ ? std::string_view{out_.data(), length_} : std::string_view{};
  }

 private:
  std::span<char> out_;
  std::size_t length_ = 0;
  bool fits_ = true;
};

}  // namespace

LogFormat::LogFormat(std::string_view text) {
  control::ParsedTemplate parsed = control::parse_template(text, control::TemplateUse::kLog);
  WEIR_ASSERT(parsed.ok());  // checked when the model was made
  bool quoted = false;
  for (control::TemplatePart& part : parsed.parts) {
    if (!part.variable && std::ranges::count(part.text, '"') % 2 != 0) quoted = !quoted;
    tells_request_id_ = tells_request_id_ || part.variable == control::Variable::kRequestId;
    parts_.push_back({std::move(part), quoted});
  }
}

std::string_view LogFormat::write(const ValueSource& source, std::span<char> out) const {
  Line line{out};
  ValueScratch scratch;
  for (const auto& [part, quoted] : parts_) {
    if (part.variable)
      line.put_value(value_of(source, part, scratch), quoted);
    else
      line.put(part.text);
  }
  line.put('\n');
  return line.view();
}

}  // namespace weir::proxy
