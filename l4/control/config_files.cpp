#include "l4/control/config_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "l4/base/fd.h"
#include "l4/control/config.h"

namespace weir::control {
namespace {

constexpr std::size_t kReadChunk = 64 * 1024;

/// Everything from a descriptor, at most `limit` bytes of it.
Result<std::string> read_all(const UniqueFd& fd, std::size_t limit, std::string_view doing) {
  std::string text;
  for (;;) {
    const std::size_t have = text.size();
    text.resize(have + kReadChunk);
    const ssize_t count = ::read(fd.get(), text.data() + have, kReadChunk);
    if (count < 0 && errno == EINTR) {
      text.resize(have);
      continue;
    }
    if (count < 0) return Error::from_errno(doing);
    text.resize(have + static_cast<std::size_t>(count));
    if (count == 0) return text;
    if (text.size() > limit)
      return Error{ErrorCode::kInvalid, fmt::format("{}: larger than {} bytes", doing, limit)};
  }
}

Result<UniqueFd> open_regular(const std::string& path) {
  // Without O_NONBLOCK a FIFO would hold us up for ever.
  UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return Error::from_errno(path);
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::kInvalid, fmt::format("{}: not a regular file", path)};
  return fd;
}

}  // namespace

Result<std::string> read_regular_file(const std::string& path, std::size_t limit) {
  const Result<UniqueFd> fd = open_regular(path);
  return fd ? read_all(*fd, limit, path) : Result<std::string>{fd.error()};
}

Result<void> check_readable(const std::string& path) {
  const Result<UniqueFd> fd = open_regular(path);
  return fd ? Result<void>{} : Result<void>{fd.error()};
}

Result<std::string> read_config_file(const std::string& path) {
  if (path == "-") {
    // A copy, so that its owner may close it.
    const UniqueFd input{::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)};
    if (!input) return Error::from_errno("standard input");
    return read_all(input, kConfigBytesMax, "standard input");
  }
  Result<std::string> text = read_regular_file(path, kConfigBytesMax);
  return text ? std::move(text) : std::move(text).error().while_doing("reading the configuration");
}

}  // namespace weir::control
