#include "l4/control/admin_socket.h"

#include <grp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "l4/control/admin.h"

namespace weir::control {
namespace {

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error{ErrorCode::kInvalid,
                 fmt::format("socket path '{}' is {} bytes long", path, path.size()),
                 fmt::format("use 1 to {} bytes", sizeof(address.sun_path) - 1)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

/// Makes the path free for bind(): removes a socket file that nobody listens on.
Result<void> clear_stale_socket(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return Error::from_errno(fmt::format("looking at {}", path));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return Error{ErrorCode::kConflict, fmt::format("{} exists and is not a socket", path),
                 "remove it or choose another path"};
  }
  if (try_to_connect(path)) {
    return Error{ErrorCode::kConflict, fmt::format("somebody already listens on {}", path),
                 "stop the other daemon or choose another socket"};
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return Error::from_errno(fmt::format("removing the stale socket {}", path));
  return {};
}

Result<void> make_directory_of(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path{path}.parent_path();
  std::error_code error;
  if (directory.empty() || std::filesystem::is_directory(directory, error)) return {};
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
    return Error::from_errno(fmt::format("making the directory {}", directory.string()));
  return {};
}

Result<gid_t> group_id(const std::string& name) {
  gid_t id = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
  if (!name.empty() && parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size())
    return id;
  std::vector<char> buffer(1 << 16);  // a group's members are in it, which may be many
  group entry{};
  group* found = nullptr;
  const int failed = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0) return Error::from_errno(fmt::format("looking for the group {}", name), failed);
  if (found == nullptr) {
    return Error{ErrorCode::kNotFound, fmt::format("there is no group '{}'", name),
                 fmt::format("make it: groupadd --system {}", name)};
  }
  return entry.gr_gid;
}

/// Who may connect is who may write the file (unix(7)).
Result<void> give_to(const std::string& path, unsigned mode, const std::string& group) {
  if (!group.empty()) {
    Result<gid_t> id = group_id(group);
    if (!id) return std::move(id).error();
    if (::chown(path.c_str(), static_cast<uid_t>(-1), *id) != 0)
      return Error::from_errno(fmt::format("giving {} to the group {}", path, group))
          .with_remedy("start the daemon as root, or as a member of the group");
  }
  if (::chmod(path.c_str(), mode & 0777U) != 0)
    return Error::from_errno(fmt::format("setting the mode of {}", path));
  return {};
}

}  // namespace

Result<void> join_socket_group(const std::string& group) {
  Result<gid_t> id = group_id(group);
  if (!id) return std::move(id).error();
  std::array<gid_t, 65536 / sizeof(gid_t)> groups{};
  const int count = ::getgroups(static_cast<int>(groups.size()) - 1, groups.data());
  if (count < 0) return Error::from_errno("reading this process's groups");
  const auto last = groups.begin() + count;
  if (::getegid() == *id || std::find(groups.begin(), last, *id) != last) return {};
  groups.at(static_cast<std::size_t>(count)) = *id;
  if (::setgroups(static_cast<std::size_t>(count) + 1, groups.data()) != 0)
    return Error::from_errno(fmt::format("joining the group {}", group))
        .with_remedy("start the daemon as root, or as a member of the group");
  return {};
}

Result<void> try_to_connect(const std::string& path) {
  const Result<sockaddr_un> address = socket_address(path);
  if (!address) return address.error();
  const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return Error::from_errno("opening a unix socket");
  // Connecting waits while as many wait already as the other side has room for (unix(7)).
  constexpr timeval kLongest{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kLongest, sizeof(kLongest));
  // The socket interface takes every address family through the generic type.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0)
    return Error::from_errno("connect");
  return {};
}

Result<UniqueFd> listen_on_unix_socket(const std::string& path, unsigned mode,
                                       const std::string& group, int backlog) {
  const Result<sockaddr_un> address = socket_address(path);
  if (!address) return address.error();
  if (Result<void> made = make_directory_of(path); !made) return std::move(made).error();
  if (Result<void> cleared = clear_stale_socket(path); !cleared) return std::move(cleared).error();
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return Error::from_errno("opening a unix socket");
  // Nobody but this user can connect before mode and group are what they should be.
  const mode_t old_mask = ::umask(0177);
  // As above.
  const int bound =
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  const int bind_error = errno;
  ::umask(old_mask);
  if (bound != 0) return Error::from_errno(fmt::format("listening on {}", path), bind_error);
  Result<void> given = give_to(path, mode, group);
  if (given && ::listen(fd.get(), backlog) != 0)
    given = Error::from_errno(fmt::format("listening on {}", path));
  if (given) return fd;
  ::unlink(path.c_str());
  return std::move(given).error();
}

Result<UniqueFd> listen_on_tcp(const wire::Endpoint& where, int backlog) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const bool is_v4 = where.address.is_v4();
  if (is_v4) {
    // The storage is large enough and aligned for every family (POSIX).
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(where.port.value());
    std::memcpy(&v4->sin_addr, where.address.bytes.data() + 12, sizeof(v4->sin_addr));
    size = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);  // as above
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(where.port.value());
    std::memcpy(&v6->sin6_addr, where.address.bytes.data(), sizeof(v6->sin6_addr));
    size = sizeof(*v6);
  }
  const int family = is_v4 ? AF_INET : AF_INET6;
  UniqueFd fd{::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return Error::from_errno("opening a TCP socket");
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (!is_v4) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  // As above.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      ::listen(fd.get(), backlog) != 0)
    return Error::from_errno(fmt::format("listening on {}", where.text()))
        .with_remedy("name an address of this host and a port that nobody has");
  return fd;
}

}  // namespace weir::control
