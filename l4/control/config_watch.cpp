#include "l4/control/config_watch.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "l4/base/log.h"

namespace weir::control {
namespace {

namespace fs = std::filesystem;

constexpr Duration kSettle = std::chrono::milliseconds{200};
constexpr Duration kSettleMax = std::chrono::seconds{2};
constexpr Duration kRetry = std::chrono::seconds{1};
constexpr int kLinksMax = 40;  // as many as the kernel follows

/// Not IN_MODIFY: who writes in place closes the file when it is whole. IN_CREATE only counts for
/// links, which are whole from the beginning; what goes leaves nothing to apply.
constexpr std::uint32_t kEvents =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_DELETE_SELF | IN_MOVE_SELF;
/// A directory on the way is another one now, or gone.
constexpr std::uint32_t kWayChanged = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED;

bool is_link(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

/// One step on the way to the file: a name, looked up in a directory.
struct Step {
  std::string directory;
  std::string name;
  bool is_needed;  ///< a link, or the file; others may be where nobody may look
};

/// Every name that is looked up: a directory on the way may be exchanged as well as a link.
std::vector<Step> steps_to(const std::string& path) {
  std::vector<Step> steps;
  std::vector<std::string> rest;  // components still to go, the last first
  const auto push = [&](const fs::path& way) {
    std::vector<std::string> parts;
    for (const fs::path& part : way.relative_path())
      if (!part.empty() && part != ".") parts.push_back(part.string());
    rest.insert(rest.end(), parts.rbegin(), parts.rend());
  };
  push(path);
  fs::path at = "/";
  int links = 0;
  while (!rest.empty()) {
    const std::string name = rest.back();
    rest.pop_back();
    if (name == "..") {
      at = at.parent_path();
      continue;
    }
    std::error_code error;
    const fs::path target = fs::read_symlink(at / name, error);
    const bool link = !error;
    steps.push_back({at.string(), name, link || rest.empty()});
    if (!link) {
      at /= name;
      continue;
    }
    if (++links > kLinksMax) break;
    if (target.is_absolute()) at = "/";
    push(target);
  }
  return steps;
}

}  // namespace

Result<ConfigWatch> ConfigWatch::open(std::string path) {
  UniqueFd inotify{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
  if (!inotify) return Error::from_errno("starting to watch files");
  ConfigWatch watch{std::move(path), std::move(inotify)};
  if (Result<void> followed = watch.follow_path(); !followed) return std::move(followed).error();
  return watch;
}

Result<std::optional<ConfigWatch>> ConfigWatch::open_if(bool wanted, std::string path) {
  if (!wanted) return std::optional<ConfigWatch>{};
  Result<ConfigWatch> watch = open(std::move(path));
  if (!watch) return std::move(watch).error();
  return std::optional{*std::move(watch)};
}

/// Watches the directories that the path leads through now. Anew each time: inotify watches what a
/// directory was, not what its name leads to.
Result<void> ConfigWatch::follow_path() {
  const std::vector<Step> steps = steps_to(path_);
  std::map<int, Place> watched;
  Result<void> outcome;
  for (const Step& step : steps) {
    const int watch = ::inotify_add_watch(inotify_.get(), step.directory.c_str(), kEvents);
    if (watch < 0 && !step.is_needed) continue;
    if (watch < 0) {
      outcome = Error::from_errno(fmt::format("watching {}", step.directory));
      continue;
    }
    Place& place = watched[watch];  // one watch for all names in a directory
    place.directory = step.directory;
    place.names.insert(step.name);
  }
  for (const auto& [watch, place] : watched_) {
    if (!watched.contains(watch)) ::inotify_rm_watch(inotify_.get(), watch);
  }
  watched_ = std::move(watched);
  return outcome;
}

void ConfigWatch::on_readable(Instant now) {
  alignas(inotify_event) std::array<char, 16 * 1024> buffer{};
  bool changed = false;
  for (;;) {
    const ssize_t size = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (size <= 0) break;  // EAGAIN: all is read
    for (ssize_t at = 0; at < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      const char* name_at = buffer.data() + at + sizeof(event);
      const std::string name{name_at, ::strnlen(name_at, event.len)};
      at += static_cast<ssize_t>(sizeof(event) + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) changed = true;  // anything may have happened
      const auto place = watched_.find(event.wd);
      if (place == watched_.end()) continue;
      if ((event.mask & kWayChanged) != 0) changed = true;
      if (!place->second.names.contains(name)) continue;
      if ((event.mask & IN_CREATE) != 0 && !is_link(place->second.directory + "/" + name)) continue;
      changed = changed || (event.mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE)) != 0;
    }
  }
  if (!changed) return;
  if (latest_ == kNever) latest_ = now + kSettleMax;
  settles_at_ = std::min(now + kSettle, latest_);
}

bool ConfigWatch::take_change(Instant now) {
  if (now < settles_at_) return false;
  settles_at_ = latest_ = kNever;
  Result<void> followed = follow_path();
  const bool was_lost = std::exchange(is_lost_, !followed);
  if (followed) return true;
  settles_at_ = now + kRetry;  // nothing tells of a directory that is not there
  if (!was_lost) log_warning("{}", followed.error().text());
  return !was_lost;
}

}  // namespace weir::control
