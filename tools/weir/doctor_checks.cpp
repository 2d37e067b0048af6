#include "tools/weir/doctor_checks.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir::cli {
namespace {

constexpr std::uint64_t kMegabyte = 1ULL << 20;

/// What weir-l7 asks DPDK for, per process (tools/setup reserves it twice).
constexpr std::uint64_t kL7Bytes = 256 * kMegabyte;

/// A revision of 10,000 VIPs is some 20 MB, and the one before it stays.
constexpr std::uint64_t kStateBytesMin = 64 * kMegabyte;

constexpr std::string_view kUnseen = "not seen, for want of rights";
constexpr std::string_view kAsRoot = "sudo weir doctor";

bool is_before(const KernelFacts& kernel, unsigned major, unsigned minor) {
  return kernel.major != major ? kernel.major < major : kernel.minor < minor;
}

Finding rights(const RightsFacts& rights) {
  const std::string why = "loading, attaching and asking the kernel take them";
  if (rights.missing.empty()) return {Verdict::kOk, "rights", "all that the daemons need", why, ""};
  return {Verdict::kWarn, "rights", fmt::format("missing: {}", fmt::join(rights.missing, ", ")),
          "what takes them was not looked at; the daemons refuse to start without them",
          std::string{kAsRoot}};
}

Finding kernel_version(const KernelFacts& kernel) {
  const std::string check = "kernel";
  if (is_before(kernel, 5, 15))
    return {
        Verdict::kFail, check, kernel.release,
        "links of XDP programs and the maps that the balancer uses are not complete before 5.15",
        "apt-get install linux-image-amd64   # 6.1 on Debian 12; then reboot"};
  if (is_before(kernel, 6, 1))
    return {Verdict::kWarn, check, kernel.release, "Weir is tested on 6.1 and later",
            "apt-get install linux-image-amd64   # 6.1 on Debian 12; then reboot"};
  return {Verdict::kOk, check, kernel.release, "Weir is tested on 6.1 and later", ""};
}

/// A feature that the kernel has, has not, or hides from whoever has no rights.
Finding feature(std::string check, std::optional<bool> has, Verdict without, std::string why,
                std::string remedy) {
  if (!has)
    return {Verdict::kWarn, std::move(check), std::string{kUnseen}, std::move(why),
            std::string{kAsRoot}};
  if (*has) return {Verdict::kOk, std::move(check), "yes", std::move(why), ""};
  return {without, std::move(check), "no", std::move(why), without == Verdict::kOk ? "" : remedy};
}

Finding map_types(const KernelFacts& kernel) {
  const std::string why = "VIPs, flows and lists are kept in them";
  if (!kernel.maps_seen)
    return {Verdict::kWarn, "bpf maps", std::string{kUnseen}, why, std::string{kAsRoot}};
  if (kernel.maps_missing.empty())
    return {Verdict::kOk, "bpf maps", "every type that is used", why, ""};
  return {Verdict::kFail, "bpf maps",
          fmt::format("refused: {}", fmt::join(kernel.maps_missing, ", ")), why,
          "run a kernel with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS, such as Debian's"};
}

Finding program_extension(const KernelFacts& kernel) {
  const std::string check = "program extension";
  const std::string why = "only 'weir load --chain', beside other XDP programs, needs it";
  if (kernel.extends_programs.value_or(false) && !is_before(kernel, 6, 12))
    return {Verdict::kOk, check, "yes, but not for the dispatcher of libxdp 1.3",
            "from 6.12 on the kernel refuses programs that change packets there; " + why, ""};
  return feature(check, kernel.extends_programs, Verdict::kOk, why, "");
}

Finding jit(const KernelFacts& kernel) {
  const std::string why = "without the compiler every packet costs several times as much";
  if (!kernel.jit)
    return {Verdict::kOk, "bpf jit", "no switch to read: always on, or hidden", why, ""};
  if (*kernel.jit == 0)
    return {Verdict::kWarn, "bpf jit", "off", why, "sysctl -w net.core.bpf_jit_enable=1"};
  return {Verdict::kOk, "bpf jit", "on", why, ""};
}

Finding bpffs(const DoctorFacts& facts) {
  const std::string why = "what carries traffic is pinned there and outlives the daemon";
  if (facts.has_bpffs) return {Verdict::kOk, "bpffs", "at /sys/fs/bpf", why, ""};
  return {Verdict::kFail, "bpffs", "none at /sys/fs/bpf", why, "mount -t bpf bpf /sys/fs/bpf"};
}

Finding locked_memory(const DoctorFacts& facts) {
  if (!is_before(facts.kernel, 5, 11))
    return {Verdict::kOk, "memlock", "does not count", "from 5.11 on maps are not locked memory",
            ""};
  const std::string why = "before 5.11 maps count as locked memory";
  if (!facts.memory.locked_bytes_max) return {Verdict::kOk, "memlock", "unlimited", why, ""};
  return {Verdict::kWarn, "memlock", fmt::format("{} KiB", *facts.memory.locked_bytes_max / 1024),
          why, "ulimit -l unlimited"};
}

Finding huge_pages(const DoctorFacts& facts) {
  const MemoryFacts& memory = facts.memory;
  const std::uint64_t free_bytes = memory.huge_pages_free * memory.huge_page_bytes;
  const std::string found = fmt::format("{} of {} free, {} MiB", memory.huge_pages_free,
                                        memory.huge_pages_total, free_bytes / kMegabyte);
  if (facts.l7.answers)
    return {Verdict::kOk, "huge pages", found + "; weir-l7 has its own", "DPDK's packets lie there",
            ""};
  if (free_bytes >= kL7Bytes)
    return {Verdict::kOk, "huge pages", found, "DPDK's packets lie there", ""};
  if (!facts.wants_l7)
    return {Verdict::kOk, "huge pages", found, "only weir-l7 needs them, and nothing is for it",
            ""};
  const std::uint64_t page = memory.huge_page_bytes == 0 ? 2 * kMegabyte : memory.huge_page_bytes;
  const std::uint64_t wanted = memory.huge_pages_total + (kL7Bytes - free_bytes + page - 1) / page;
  return {Verdict::kFail, "huge pages", found,
          fmt::format("weir-l7 starts with {} MiB of them", kL7Bytes / kMegabyte),
          fmt::format("sysctl -w vm.nr_hugepages={}", wanted)};
}

Finding hugetlbfs(const DoctorFacts& facts) {
  const std::string why = "weir-l7 goes without; other DPDK programs on this host want it";
  return {Verdict::kOk, "hugetlbfs", facts.memory.has_hugetlbfs ? "mounted" : "not mounted", why,
          ""};
}

Finding af_xdp(const DoctorFacts& facts) {
  return feature("af_xdp", facts.kernel.has_af_xdp, facts.wants_l7 ? Verdict::kFail : Verdict::kOk,
                 facts.wants_l7
                     ? "weir-l7 receives through it (DPDK's net_af_xdp)"
                     : "only weir-l7 needs it (DPDK's net_af_xdp), and nothing is for it",
                 "run a kernel with CONFIG_XDP_SOCKETS, such as Debian's");
}

Finding directory(const DirectoryFacts& directory, bool is_root) {
  const std::string why = "the daemons keep sockets and state there";
  if (!directory.exists)
    return {Verdict::kOk, directory.path, "not there yet", "a daemon makes it when it starts", ""};
  if (directory.is_read_only)
    return {Verdict::kFail, directory.path, "on a read-only file system",
            "every change is refused, because it cannot be kept",
            fmt::format("mount -o remount,rw $(findmnt -nro TARGET -T {})", directory.path)};
  if (directory.free_bytes < kStateBytesMin)
    return {Verdict::kWarn, directory.path,
            fmt::format("{} MiB free", directory.free_bytes / kMegabyte),
            "a change that cannot be stored is refused",
            fmt::format("make room: du -xsh $(findmnt -nro TARGET -T {})/*", directory.path)};
  if (!directory.is_writable && is_root)
    return {Verdict::kFail, directory.path, "not writable", why,
            fmt::format("chmod u+rwx {}", directory.path)};
  return {Verdict::kOk, directory.path,
          fmt::format("{} MiB free", directory.free_bytes / kMegabyte), why, ""};
}

Finding synchronised(const ClockFacts& clock) {
  const std::string why = "certificates and logs go by the time of day";
  if (!clock.is_synchronised) return {Verdict::kOk, "clock", "cannot be asked", why, ""};
  if (*clock.is_synchronised) return {Verdict::kOk, "clock", "synchronised", why, ""};
  return {Verdict::kWarn, "clock", "not synchronised", why,
          "apt-get install chrony   # or: timedatectl set-ntp true"};
}

Finding clock_source(const ClockFacts& clock) {
  const std::string why = "limits, affinity and L7's timers read the clock";
  const bool is_slow = clock.source == "hpet" || clock.source == "acpi_pm" ||
                       clock.source == "refined-jiffies" || clock.source == "jiffies";
  if (!is_slow)
    return {Verdict::kOk, "clock source", clock.source.empty() ? "not shown" : clock.source, why,
            ""};
  return {Verdict::kWarn, "clock source", clock.source,
          "reading it leaves the CPU and takes a microsecond; " + why,
          "echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource"};
}

}  // namespace

std::string_view text_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarn:
      return "warn";
    case Verdict::kFail:
      return "fail";
  }
  return "";
}

std::vector<Finding> examine_machine(const DoctorFacts& facts) {
  const KernelFacts& kernel = facts.kernel;
  std::vector<Finding> findings{
      rights(facts.rights),
      kernel_version(kernel),
      feature("xdp", kernel.loads_xdp, Verdict::kFail, "the balancer is an XDP program",
              "run a kernel with CONFIG_BPF_SYSCALL, and without lockdown=confidentiality"),
      map_types(kernel),
      feature("btf", kernel.has_btf, Verdict::kWarn,
              "libxdp's chains and bpftool's output of maps go by it",
              "run a kernel with CONFIG_DEBUG_INFO_BTF, such as Debian's"),
      feature("tcx", kernel.has_tcx, Verdict::kOk,
              "weir decap --mode tc attaches by it from 6.6 on, and by a filter elsewhere", ""),
      program_extension(kernel),
      jit(kernel),
      bpffs(facts),
      locked_memory(facts),
      af_xdp(facts),
      huge_pages(facts),
      hugetlbfs(facts)};
  for (const DirectoryFacts& found : facts.directories)
    findings.push_back(directory(found, facts.rights.is_root));
  findings.push_back(synchronised(facts.clock));
  findings.push_back(clock_source(facts.clock));
  return findings;
}

std::vector<Finding> examine(const DoctorFacts& facts) {
  std::vector<Finding> findings = examine_machine(facts);
  for (const DeviceFacts& device : facts.devices) {
    const std::vector<Finding> of_device = examine_device(device, facts);
    findings.insert(findings.end(), of_device.begin(), of_device.end());
  }
  for (const auto& part : {examine_services(facts), examine_daemons(facts)})
    findings.insert(findings.end(), part.begin(), part.end());
  return findings;
}

int exit_status_of(const std::vector<Finding>& findings) {
  int status = 0;
  for (const Finding& finding : findings)
    status = std::max(status, static_cast<int>(finding.verdict));
  return status;
}

}  // namespace weir::cli
