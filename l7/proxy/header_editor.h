#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/control/model.h"
#include "l7/http/message.h"
#include "l7/proxy/values.h"

namespace weir::proxy {

/// A rule's header edits (Gateway API, HTTPHeaderFilter), compiled.
///
/// Bytes of a variable that a field's value must not have, and those above 0x7e, are
/// percent-encoded; blanks around the value go. What variables write in one list is bounded; a
/// field for whose value there is no room is left out: no half of it, and not the one that came
/// either.
class HeaderEditor {
 public:
  /// With what the list says itself, and the largest head of an endpoint, it fits kReplyRoom.
  static constexpr std::size_t kWrittenBytesMax = 3072;
  static constexpr std::size_t kEditsMax = 128;

  HeaderEditor() = default;
  /// The model's texts have been read once before, so this cannot fail.
  HeaderEditor(const control::HeaderEdits& edits, control::TemplateUse use);

  [[nodiscard]] bool empty() const { return edits_.empty() && removes_.empty(); }
  [[nodiscard]] bool tells_request_id() const { return tells_request_id_; }
  /// Removes, then sets, then adds; variables are what they were before. How many fields have been
  /// left out.
  std::uint32_t apply(http::HeaderList& fields, const ValueSource& source) const;

 private:
  struct Edit {
    std::string name;
    std::string text;                          // without variables
    std::vector<control::TemplatePart> parts;  // else
    bool adds = false;
  };
  void add_edit(const std::pair<std::string, std::string>& field, bool adds,
                control::TemplateUse use);

  std::vector<Edit> edits_;  // those that set first
  std::vector<std::string> removes_;
  bool has_variables_ = false;
  bool tells_request_id_ = false;
};

}  // namespace weir::proxy
