#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l7/proxy/values.h"

namespace weir::proxy {

/// A line of the access log as a gateway wants it, compiled.
///
/// Whatever a variable holds, it ends neither the line nor the place that it stands in: quotes,
/// backslashes and bytes that are no visible ASCII are written as JSON has it (\" and \u001b), and
/// so are blanks where the variable stands outside of quotes. There "-" stands for nothing at all.
class LogFormat {
 public:
  /// A line that is longer is dropped. Each variable has 1 KiB at most of what it holds.
  static constexpr std::size_t kLineMax = 24 * 1024;
  static constexpr std::size_t kValueMax = 1024;

  /// The model's text has been read once before, so this cannot fail.
  explicit LogFormat(std::string_view text);

  /// With its end, in `out`; empty when it does not fit.
  [[nodiscard]] std::string_view write(const ValueSource& source, std::span<char> out) const;
  [[nodiscard]] bool tells_request_id() const { return tells_request_id_; }

 private:
  struct Part {
    control::TemplatePart part;
    bool quoted = false;  // the variable stands between double quotes
  };
  std::vector<Part> parts_;
  bool tells_request_id_ = false;
};

}  // namespace weir::proxy
