#include "l4/kernel_objects.h"

#include <linux/if_link.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <array>
#include <charconv>
#include <filesystem>

#include "l4/base/log.h"

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

/// The last words of libbpf, the verifier's among them, for the error that follows.
std::string& libbpf_words() {
  thread_local std::string words;
  return words;
}

int keep_libbpf_words(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  std::array<char, 4096> line{};
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  constexpr std::size_t kWordsMax = 4096;
  std::string& words = libbpf_words();
  words += line.data();
  if (words.size() > kWordsMax) words.erase(0, words.size() - kWordsMax);
  return size;
}

std::string program_text(std::uint32_t id) {
  const UniqueFd fd{::bpf_prog_get_fd_by_id(id)};
  const Result<bpf_prog_info> info = fd ? program_info(fd.get()) : bpf_prog_info{};
  const std::string name = info ? info->name : "";
  return fmt::format("the XDP program {} (id {})", name.empty() ? "without a name" : name, id);
}

Result<UniqueFd> create_link(int program, std::uint32_t ifindex, std::uint32_t flags) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);
  UniqueFd link{::bpf_link_create(program, static_cast<int>(ifindex), BPF_XDP, &options)};
  if (!link) return Error::from_errno("attaching");
  return link;
}

bool is_bpf_file_system(const std::string& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

}  // namespace

void collect_libbpf_words() {
  ::libbpf_set_print(keep_libbpf_words);
  libbpf_words().clear();
}

Error libbpf_error(std::string_view doing, int error) {
  Error out = Error::from_errno(doing, error < 0 ? -error : error);
  if (libbpf_words().empty()) return out;
  std::string message = fmt::format("{}: {}", out.message(), libbpf_words());
  libbpf_words().clear();
  return Error{out.code(), std::move(message)};
}

Result<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), S_IRWXU) == 0 || errno == EEXIST) return {};
  return Error::from_errno(fmt::format("creating {}", path));
}

Result<void> pin(int fd, const std::string& path) {
  if (::bpf_obj_pin(fd, path.c_str()) == 0) return {};
  return Error::from_errno(fmt::format("pinning {}", path));
}

Result<bpf_prog_info> program_info(int fd) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
    return Error::from_errno("examining a program");
  return info;
}

Result<bpf_link_info> link_info(int fd) {
  bpf_link_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) != 0) return Error::from_errno("examining a link");
  return info;
}

std::string device_name(std::uint32_t ifindex) {
  std::array<char, IF_NAMESIZE> name{};
  return ::if_indextoname(ifindex, name.data()) == nullptr ? std::string{} : name.data();
}

Result<std::uint32_t> device_index(const std::string& device) {
  const unsigned ifindex = ::if_nametoindex(device.c_str());
  if (ifindex == 0)
    return Error{ErrorCode::kNotFound, fmt::format("there is no network device {}", device),
                 "see 'ip link' for the names in this network namespace"};
  return ifindex;
}

Result<void> check_free(const std::string& device, std::uint32_t ifindex,
                        std::string_view alternative) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (const int error = ::bpf_xdp_query(static_cast<int>(ifindex), 0, &query); error != 0)
    return Error::from_errno(fmt::format("{}: asking for XDP programs", device), -error);
  if (query.attach_mode == XDP_ATTACHED_NONE) return {};
  std::uint32_t id = query.prog_id;
  for (const std::uint32_t other : {query.drv_prog_id, query.skb_prog_id, query.hw_prog_id}) {
    if (id == 0) id = other;
  }
  return Error{
      ErrorCode::kConflict, fmt::format("{} carries {}", device, program_text(id)),
      fmt::format("detach it by its owner's command, with 'ip link set dev {} xdp off', "
                  "or where a link holds it (bpftool link) by removing the link's pin; or {}",
                  device, alternative)};
}

Result<CreatedLink> create_link_in_mode(int program, const std::string& device,
                                        std::uint32_t ifindex, control::XdpMode mode) {
  CreatedLink created;
  if (mode != control::XdpMode::kGeneric) {
    Result<UniqueFd> link = create_link(program, ifindex, XDP_FLAGS_DRV_MODE);
    if (link) {
      created.fd = *std::move(link);
      return created;
    }
    created.reason =
        fmt::format("{}: the driver refused native mode: {}", device, std::strerror(errno));
    if (mode == control::XdpMode::kNative)
      return std::move(link)
          .error()
          .while_doing(fmt::format("{}: native XDP", device))
          .with_remedy(
              "the driver may not support it, or the MTU may be too large for it; "
              "load with mode generic or auto");
  }
  Result<UniqueFd> link = create_link(program, ifindex, XDP_FLAGS_SKB_MODE);
  if (!link) return std::move(link).error().while_doing(fmt::format("{}: generic XDP", device));
  created.fd = *std::move(link);
  created.mode = control::XdpMode::kGeneric;
  return created;
}

control::XdpMode mode_on(std::uint32_t ifindex) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  const int error = ::bpf_xdp_query(static_cast<int>(ifindex), 0, &query);
  if (error == 0 && query.attach_mode == XDP_ATTACHED_SKB) return control::XdpMode::kGeneric;
  return control::XdpMode::kNative;
}

Result<std::vector<std::uint32_t>> pinned_indexes(const std::string& directory) {
  std::vector<std::uint32_t> indexes;
  std::error_code error;
  for (fs::directory_iterator entry{directory, error}, end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::uint32_t ifindex = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), ifindex);
    if (parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size())
      indexes.push_back(ifindex);
  }
  if (error) return Error::from_errno(fmt::format("listing {}", directory), error.value());
  return indexes;
}

Result<void> ensure_bpf_file_system(const std::string& pin_directory) {
  const std::string parent = fs::path{pin_directory}.parent_path();
  if (is_bpf_file_system(parent)) return {};
  constexpr const char* kMountPoint = "/sys/fs/bpf";
  if (parent == kMountPoint &&
      ::mount("bpf", kMountPoint, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0) {
    std::error_code error;
    if (fs::read_symlink("/proc/self/ns/mnt", error) != fs::read_symlink("/proc/1/ns/mnt", error))
      log_warning(
          "{} was not mounted and is now, but in a mount namespace of this process's own; pins, "
          "and traffic with them, end with the namespace. Enter network namespaces with 'nsenter "
          "--net=…', not 'ip netns exec'",
          kMountPoint);
    return {};
  }
  return Error{ErrorCode::kUnavailable, fmt::format("{} is no BPF file system", parent),
               fmt::format("mount -t bpf bpf {}", parent)};
}

}  // namespace weir::l4
