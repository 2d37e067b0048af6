#include "l7/log_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "l4/base/log.h"

namespace weir::l7 {

Result<LogWriter> LogWriter::open(const std::string& path) {
  LogWriter writer;
  writer.path_ = path;
  if (auto opened = writer.reopen(); !opened) return std::move(opened).error();
  return writer;
}

Result<void> LogWriter::reopen() {
  if (path_ == "-") return {};
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path{path_}.parent_path(), error);
  UniqueFd file{::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)};
  if (!file)
    return Error::from_errno(fmt::format("opening the access log {}", path_))
        .with_remedy("name another one with --access-log, '-' for standard output");
  file_ = std::move(file);
  return {};
}

std::size_t LogWriter::drain(proxy::AccessLog& log) {
  buffer_.assign(cut_ ? 1 : 0, '\n');
  const std::size_t begun = buffer_.size();
  log.drain(buffer_);
  const std::size_t found = buffer_.size() - begun;
  if (found == 0) return found;
  cut_ = false;
  const int fd = path_ == "-" ? STDOUT_FILENO : file_.get();
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd, rest.data(), rest.size());
    if (written <= 0) {
      // A full disk must not stop traffic. What is lost is counted, and said once until it works
      // again; a line that was cut gets an end, so that the next one stands alone.
      if (!failing_) log_error("writing the access log {}: {}", path_, std::strerror(errno));
      failing_ = true;
      cut_ = cut_ || rest.size() < buffer_.size();
      lost_bytes_ += rest.size();
      log.count_lost(static_cast<std::uint64_t>(std::ranges::count(rest, '\n')));
      return found;
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (failing_) log_info("the access log is written again; {} bytes were lost", lost_bytes_);
  failing_ = false;
  return found;
}

}  // namespace weir::l7
