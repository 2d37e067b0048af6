#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::control {

/// Notices that a file was replaced: written and closed, renamed into its place, or reached by
/// another directory or symbolic link, as Kubernetes swaps the directory of a mounted ConfigMap.
/// One that is only opened, or half written, is not looked at. Time is an argument; wait for fd()
/// at most until deadline().
class ConfigWatch {
 public:
  /// `path` is absolute; its directory exists.
  static Result<ConfigWatch> open(std::string path);
  /// Nothing where it is not wanted.
  static Result<std::optional<ConfigWatch>> open_if(bool wanted, std::string path);

  /// Readable when something happened in one of the directories on the way to the file.
  [[nodiscard]] int fd() const { return inotify_.get(); }
  void on_readable(Instant now);

  /// True once after the file was replaced and nothing more has happened for a while: several
  /// writes that belong together are one change.
  [[nodiscard]] bool take_change(Instant now);
  /// When take_change() has something to say at the earliest; kNever: not before an event.
  [[nodiscard]] Instant deadline() const { return settles_at_; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  ConfigWatch(std::string path, UniqueFd inotify)
      : path_{std::move(path)}, inotify_{std::move(inotify)} {}
  Result<void> follow_path();

  std::string path_;
  UniqueFd inotify_;
  /// A directory on the way, and the names in it that lead on.
  struct Place {
    std::string directory;
    std::set<std::string> names;
  };
  std::map<int, Place> watched_;  // by inotify's number of the watch
  Instant settles_at_ = kNever;
  Instant latest_ = kNever;  // where events do not end, after this
  bool is_lost_ = false;     // a directory on the way is not there
};

}  // namespace weir::control
