#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/wire/address.h"

/// What `weir doctor` looks at, as plain values: read in one go, judged by doctor_checks.h. A value
/// that could not be read, for want of rights or of the thing itself, is a std::nullopt.
namespace weir::cli {

struct KernelFacts {
  unsigned major = 0;
  unsigned minor = 0;
  std::string release;                    ///< as of uname -r
  std::optional<bool> loads_xdp;          ///< a program of two instructions was taken
  std::vector<std::string> maps_missing;  ///< types of maps that the balancer uses, and cannot have
  bool maps_seen = false;                 ///< whether maps_missing says anything
  bool has_btf = false;                   ///< /sys/kernel/btf/vmlinux
  std::optional<bool> has_tcx;
  std::optional<bool> extends_programs;  ///< BPF_PROG_TYPE_EXT, which chains of programs stand on
  std::optional<bool> has_af_xdp;
  std::optional<unsigned> jit;  ///< net.core.bpf_jit_enable
};

struct RightsFacts {
  bool is_root = false;
  std::vector<std::string> missing;  ///< "CAP_BPF", …: of those that Weir's daemons start with
};

/// A directory that a daemon writes to.
struct DirectoryFacts {
  std::string path;
  bool exists = false;
  bool is_writable = false;   ///< for whoever runs this
  bool is_read_only = false;  ///< the file system is mounted so
  std::uint64_t free_bytes = 0;
};

struct MemoryFacts {
  std::uint64_t huge_page_bytes = 0;
  std::uint64_t huge_pages_total = 0;
  std::uint64_t huge_pages_free = 0;
  bool has_hugetlbfs = false;
  std::optional<std::uint64_t> locked_bytes_max;  ///< RLIMIT_MEMLOCK; nothing: unlimited
};

struct ClockFacts {
  std::optional<bool> is_synchronised;
  std::string source;  ///< "tsc"; empty where it cannot be read
};

/// How an XDP program sits on a device.
struct AttachedProgram {
  std::uint32_t id = 0;
  std::string mode;  ///< "native", "generic" or "offloaded"
  std::string name;  ///< empty: not to be seen without rights
};

struct DeviceFacts {
  std::string name;
  std::uint32_t ifindex = 0;
  std::uint32_t mtu = 0;
  bool is_up = false;
  bool has_carrier = false;
  bool is_ethernet = true;
  bool carries_vlans = false;  ///< another device is a VLAN of this one
  std::string driver;          ///< of ethtool; empty: none told
  std::optional<std::uint32_t> queues;
  std::optional<std::uint32_t> queues_max;
  std::optional<bool> hashes_udp_ports;   ///< whether RSS looks at ports of UDP over IPv4
  std::map<std::string, bool> offloads;   ///< by ethtool's long names: "rx-lro"
  std::optional<int> rp_filter;           ///< the larger of the device's and of all
  std::vector<AttachedProgram> programs;  ///< one, or one per mode
};

/// A daemon's answer to GET /v1/status, as far as it matters here.
struct DaemonFacts {
  bool answers = false;
  std::string reason;  ///< why it does not
  std::vector<std::string> warnings;
};

struct WantedBackend {
  wire::IpAddress address;
  std::string next_hop;  ///< "resolved", "resolving", …; empty: not known
  std::string reason;
};

/// A service as the daemon or a file describes it.
struct WantedVip {
  std::string vip;
  std::string mode;  ///< "ipip", "gue", "l2", "nat", "l7"
  std::vector<WantedBackend> backends;
};

struct DoctorFacts {
  RightsFacts rights;
  KernelFacts kernel;
  MemoryFacts memory;
  ClockFacts clock;
  bool has_bpffs = false;  ///< at /sys/fs/bpf
  std::vector<DirectoryFacts> directories;
  std::optional<bool> forwards_ipv4;        ///< net.ipv4.ip_forward
  std::uint32_t cpus = 1;                   ///< online
  std::vector<DeviceFacts> devices;         ///< those to be judged
  std::vector<std::string> absent_devices;  ///< were asked for, and are not there
  std::vector<std::uint32_t> own_programs;  ///< ids of programs that weir-l4 says are its own
  DaemonFacts l4;
  DaemonFacts l7;
  bool wants_l7 = false;  ///< something is for weir-l7, or it runs
  std::vector<WantedVip> vips;
};

/// The kernel, rights, memory, clock, directories.
void read_host(DoctorFacts& facts);

/// What bpf(2) and AF_XDP can do here. Makes small objects and lets go of them at once; nothing is
/// attached to anything. Without rights the facts stay unknown.
void read_bpf_features(KernelFacts& kernel);

/// The name of a loaded program; empty where it cannot be seen.
std::string program_name(std::uint32_t id);

/// Every Ethernet device of this network namespace but loopback and Weir's own veths, by netlink
/// and ethtool's ioctls, since /sys may show another namespace. Fails only where there is no
/// netlink.
Result<std::vector<DeviceFacts>> read_devices();

}  // namespace weir::cli
