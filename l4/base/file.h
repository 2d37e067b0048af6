#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

#include "l4/base/result.h"

namespace weir {

/// Replaces the file at `path` whole, with exactly `mode`: whoever reads it after a crash or a
/// power failure at any moment finds the old text or the new one. Written beside its place as
/// `<path>.new`, flushed, renamed. One writer per path; its directory exists.
///
/// The rename is the point of no return. An error means that the old text stands; success means
/// that the new one does. That the rename itself could not be flushed is logged and no error:
/// readers have the new text, so that the caller must not act as if they had the old one.
Result<void> write_file_durably(const std::string& path, std::string_view text, mode_t mode);

/// The same in two steps, for whoever has to do something in between that he would rather not do
/// for nothing: what takes room on the disk is done by stage(), the rename by commit(). Without
/// that the new text is removed again.
class StagedFile {
 public:
  static Result<StagedFile> stage(const std::string& path, std::string_view text, mode_t mode);
  Result<void> commit();

  StagedFile(StagedFile&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  StagedFile& operator=(StagedFile&&) = delete;
  ~StagedFile();

 private:
  explicit StagedFile(std::string path) : path_{std::move(path)} {}
  std::string path_;  ///< empty: nothing is staged
};

}  // namespace weir
