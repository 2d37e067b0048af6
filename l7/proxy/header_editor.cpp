#include "l7/proxy/header_editor.h"

#include <algorithm>
#include <array>
#include <optional>

#include "l4/base/assert.h"
#include "l7/http/semantics.h"

namespace weir::proxy {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

/// The values of one list, one behind the other in a fixed place.
class Values {
 public:
  /// Nothing where it does not fit.
  std::optional<std::string_view> write(const std::vector<control::TemplatePart>& parts,
                                        const ValueSource& source) {
    const std::size_t begin = used_;
    fits_ = true;
    ValueScratch scratch;
    for (const control::TemplatePart& part : parts) {
      if (!part.variable)
        put(part.text);
      else
        put_escaped(value_of(source, part, scratch));
    }
    if (!fits_) {
      used_ = begin;
      return std::nullopt;
    }
    return http::trim_white_space({bytes_.data() + begin, used_ - begin});
  }

 private:
  void put(char c) {
    if (used_ < bytes_.size())
      bytes_[used_++] = c;
    else
      fits_ = false;
  }
  void put(std::string_view text) {
    for (const char c : text)
      put(c);
  }
  void put_escaped(std::string_view value) {
    for (const char c : value) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x20 && byte < 0x7f) {
        put(c);
      } else {
        put('%');
        put(kHex[byte >> 4]);
        put(kHex[byte & 15]);
      }
    }
  }

  std::array<char, HeaderEditor::kWrittenBytesMax> bytes_;  // written before it is read
  std::size_t used_ = 0;
  bool fits_ = true;
};

void change(http::HeaderList& fields, bool adds, std::string_view name, std::string_view value) {
  if (adds)
    fields.add(name, value);
  else
    fields.set(name, value);
}

}  // namespace

HeaderEditor::HeaderEditor(const control::HeaderEdits& edits, control::TemplateUse use)
    : removes_{edits.remove} {
  for (const auto& field : edits.set)
    add_edit(field, false, use);
  for (const auto& field : edits.add)
    add_edit(field, true, use);
  WEIR_ASSERT(edits_.size() <= kEditsMax);  // the configuration has no more
}

void HeaderEditor::add_edit(const std::pair<std::string, std::string>& field, bool adds,
                            control::TemplateUse use) {
  control::ParsedTemplate parsed = control::parse_template(field.second, use);
  WEIR_ASSERT(parsed.ok());  // checked when the model was made
  Edit edit{field.first, {}, std::move(parsed.parts), adds};
  const bool is_text =
      std::ranges::none_of(edit.parts, [](const auto& part) { return part.variable.has_value(); });
  if (is_text && !edit.parts.empty()) edit.text = std::move(edit.parts.front().text);
  if (is_text) edit.parts.clear();
  has_variables_ = has_variables_ || !is_text;
  for (const control::TemplatePart& part : edit.parts)
    tells_request_id_ = tells_request_id_ || part.variable == control::Variable::kRequestId;
  edits_.push_back(std::move(edit));
}

std::uint32_t HeaderEditor::apply(http::HeaderList& fields, const ValueSource& source) const {
  if (!has_variables_) {
    for (const std::string& name : removes_)
      fields.remove(name);
    for (const Edit& edit : edits_)
      change(fields, edit.adds, edit.name, edit.text);
    return 0;
  }
  // All values first: a field may be removed and live on under another name.
  Values values;
  std::array<std::optional<std::string_view>, kEditsMax> written;
  for (std::size_t i = 0; i < edits_.size(); ++i)
    written[i] = edits_[i].parts.empty() ? std::string_view{edits_[i].text}
                                         : values.write(edits_[i].parts, source);
  for (const std::string& name : removes_)
    fields.remove(name);
  std::uint32_t left_out = 0;
  for (std::size_t i = 0; i < edits_.size(); ++i) {
    const Edit& edit = edits_[i];
    if (written[i]) {
      change(fields, edit.adds, edit.name, *written[i]);
      continue;
    }
    ++left_out;
    if (!edit.adds) fields.remove(edit.name);
  }
  return left_out;
}

}  // namespace weir::proxy
