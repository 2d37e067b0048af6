#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "l4/base/capabilities.h"
#include "tools/weir/doctor_facts.h"

namespace weir::cli {
namespace {

/// The first word or number of a file of /proc or /sys.
template <typename T>
std::optional<T> first_of(const std::string& path) {
  std::ifstream file{path};
  T value{};
  if (file >> value) return value;
  return std::nullopt;
}

RightsFacts read_rights() {
  struct Right {
    int capability;
    const char* name;
  };
  constexpr std::array<Right, 5> kRights{{{CAP_BPF, "CAP_BPF"},
                                          {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
                                          {CAP_PERFMON, "CAP_PERFMON"},
                                          {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                          {CAP_NET_RAW, "CAP_NET_RAW"}}};
  RightsFacts rights;
  rights.is_root = ::geteuid() == 0;
  for (const Right& right : kRights) {
    if (!has_capability(right.capability)) rights.missing.emplace_back(right.name);
  }
  return rights;
}

void read_kernel(KernelFacts& kernel) {
  utsname name{};
  if (::uname(&name) == 0) kernel.release = name.release;
  // What is not there stays 0, and is then too old.
  std::sscanf(kernel.release.c_str(), "%u.%u", &kernel.major, &kernel.minor);
  kernel.has_btf = std::filesystem::exists("/sys/kernel/btf/vmlinux");
  kernel.jit = first_of<unsigned>("/proc/sys/net/core/bpf_jit_enable");
  read_bpf_features(kernel);
}

MemoryFacts read_memory() {
  MemoryFacts memory;
  std::ifstream file{"/proc/meminfo"};
  std::string key;
  std::uint64_t value = 0;
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    key = line.substr(0, colon);
    if (std::sscanf(line.c_str() + colon + 1, "%lu", &value) != 1) continue;
    if (key == "HugePages_Total") memory.huge_pages_total = value;
    if (key == "HugePages_Free") memory.huge_pages_free = value;
    if (key == "Hugepagesize") memory.huge_page_bytes = value * 1024;
  }
  std::ifstream mounts{"/proc/mounts"};
  for (std::string line; std::getline(mounts, line);)
    memory.has_hugetlbfs |= line.find(" hugetlbfs ") != std::string::npos;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    memory.locked_bytes_max = limit.rlim_cur;
  return memory;
}

DirectoryFacts read_directory(const std::string& path) {
  DirectoryFacts directory{.path = path};
  struct statvfs found {};
  if (::statvfs(path.c_str(), &found) != 0) return directory;
  directory.exists = true;
  directory.is_read_only = (found.f_flag & ST_RDONLY) != 0;
  directory.is_writable = ::access(path.c_str(), W_OK) == 0;
  directory.free_bytes = std::uint64_t{found.f_bavail} * found.f_frsize;
  return directory;
}

ClockFacts read_clock() {
  ClockFacts clock;
  timex state{};  // modes 0: reads only
  const int status = ::adjtimex(&state);
  if (status >= 0) clock.is_synchronised = (state.status & STA_UNSYNC) == 0;
  clock.source =
      first_of<std::string>("/sys/devices/system/clocksource/clocksource0/current_clocksource")
          .value_or("");
  return clock;
}

bool is_bpffs(const char* path) {
  struct statfs found {};
  return ::statfs(path, &found) == 0 && found.f_type == BPF_FS_MAGIC;
}

}  // namespace

void read_host(DoctorFacts& facts) {
  facts.rights = read_rights();
  read_kernel(facts.kernel);
  facts.memory = read_memory();
  facts.clock = read_clock();
  facts.has_bpffs = is_bpffs("/sys/fs/bpf");
  for (const char* path : {"/run/weir", "/var/lib/weir"})
    facts.directories.push_back(read_directory(path));
  if (const auto forwards = first_of<int>("/proc/sys/net/ipv4/ip_forward"))
    facts.forwards_ipv4 = *forwards != 0;
  const long cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (cpus > 0) facts.cpus = static_cast<std::uint32_t>(cpus);
}

}  // namespace weir::cli
