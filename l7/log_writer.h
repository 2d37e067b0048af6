#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l7/proxy/access_log.h"

namespace weir::l7 {

/// Empties the workers' logs into a file, opened anew on request so that it can be rotated. Another
/// process may write the same file: lines are appended whole.
class LogWriter {
 public:
  /// `path` "-" is standard output.
  static Result<LogWriter> open(const std::string& path);
  Result<void> reopen();
  /// How many bytes there were.
  std::size_t drain(proxy::AccessLog& log);

 private:
  std::string path_;
  UniqueFd file_;
  std::string buffer_;
  bool failing_ = false;
  bool cut_ = false;  // the file ends in half a line
  std::uint64_t lost_bytes_ = 0;
};

}  // namespace weir::l7
