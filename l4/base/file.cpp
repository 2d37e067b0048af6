#include "l4/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "l4/base/fd.h"
#include "l4/base/log.h"

namespace weir {
namespace {

Result<void> write_and_flush(const std::string& path, std::string_view text, mode_t mode) {
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)};
  if (!file) return Error::from_errno(fmt::format("creating {}", path));
  // Neither the umask nor the mode of a file that a crash has left.
  if (::fchmod(file.get(), mode) != 0)
    return Error::from_errno(fmt::format("setting the mode of {}", path));
  while (!text.empty()) {
    const ssize_t size = ::write(file.get(), text.data(), text.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error::from_errno(fmt::format("writing {}", path));
    text.remove_prefix(static_cast<std::size_t>(size));
  }
  // The name must never lead to half a file: data first, then the name.
  if (::fsync(file.get()) != 0) return Error::from_errno(fmt::format("flushing {}", path));
  return {};
}

/// In the same directory, so that the rename stays within one file system and is atomic.
std::string staged_name(const std::string& path) { return path + ".new"; }

Result<void> flush_directory(const std::string& path) {
  const UniqueFd directory{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory) return Error::from_errno(fmt::format("opening {}", path));
  if (::fsync(directory.get()) != 0) return Error::from_errno(fmt::format("flushing {}", path));
  return {};
}

}  // namespace

Result<void> write_file_durably(const std::string& path, std::string_view text, mode_t mode) {
  Result<StagedFile> staged = StagedFile::stage(path, text, mode);
  return staged ? staged->commit() : Result<void>{std::move(staged).error()};
}

Result<StagedFile> StagedFile::stage(const std::string& path, std::string_view text, mode_t mode) {
  StagedFile staged{path};  // removes what a failure leaves: it takes room that may be short
  if (Result<void> written = write_and_flush(staged_name(path), text, mode); !written)
    return std::move(written).error();
  return staged;
}

Result<void> StagedFile::commit() {
  if (::rename(staged_name(path_).c_str(), path_.c_str()) != 0)
    return Error::from_errno(fmt::format("renaming {} to {}", staged_name(path_), path_));
  const std::string path = std::exchange(path_, {});
  const std::filesystem::path directory = std::filesystem::path{path}.parent_path();
  Result<void> flushed = flush_directory(directory.empty() ? "." : directory.string());
  if (!flushed)
    log_warning("{} is written, but may be the old one again after a power failure: {}", path,
                flushed.error().text());
  return {};
}

StagedFile::~StagedFile() {
  if (!path_.empty()) ::unlink(staged_name(path_).c_str());
}

}  // namespace weir
