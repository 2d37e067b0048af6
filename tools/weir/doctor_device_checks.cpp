#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tools/weir/doctor_checks.h"

namespace weir::cli {
namespace {

/// Drivers of Linux 6.1 that run XDP natively, by the name that ethtool -i shows.
constexpr std::array<std::string_view, 38> kNativeDrivers{"atlantic",
                                                          "bnxt_en",
                                                          "cpsw",
                                                          "cpsw-switch",
                                                          "ena",
                                                          "fec",
                                                          "fsl_dpaa2_eth",
                                                          "fsl_dpa",
                                                          "fsl_enetc",
                                                          "fun_eth",
                                                          "gve",
                                                          "hv_netvsc",
                                                          "i40e",
                                                          "ice",
                                                          "igb",
                                                          "igc",
                                                          "ixgbe",
                                                          "ixgbevf",
                                                          "lan966x-switch",
                                                          "mlx4_en",
                                                          "mlx5_core",
                                                          "mtk_soc_eth",
                                                          "mvneta",
                                                          "mvpp2",
                                                          "netsec",
                                                          "nfp",
                                                          "nicvf",
                                                          "qede",
                                                          "rvu_nicpf",
                                                          "rvu_nicvf",
                                                          "sfc",
                                                          "stmmac",
                                                          "tsnep",
                                                          "tun",
                                                          "veth",
                                                          "virtio_net",
                                                          "vif",
                                                          "vmxnet3"};

/// What a native program without multi-buffer frames can have: a page less head-room and tail-room.
constexpr std::uint32_t kNativeMtuMax = 3498;

constexpr std::uint32_t kClientMtu = 1500;  ///< of packets that come from the internet

/// Outer headers: RFC 2003, 2473, and a UDP header for GUE's variant without one of its own.
std::uint32_t outer_bytes(const WantedVip& vip, const WantedBackend& backend) {
  const std::uint32_t ip_bytes = backend.address.is_v4() ? 20 : 40;
  if (vip.mode == "ipip") return ip_bytes;
  return vip.mode == "gue" ? ip_bytes + 8 : 0;
}

class DeviceExamination {
 public:
  DeviceExamination(const DeviceFacts& device, const DoctorFacts& facts)
      : device_{device}, facts_{facts} {}

  std::vector<Finding> run() {
    link();
    driver();
    programs();
    queues();
    udp_hash();
    mtu();
    offloads();
    reverse_path();
    return std::move(findings_);
  }

 private:
  void add(Verdict verdict, std::string_view check, std::string found, std::string why,
           std::string remedy = {}) {
    findings_.push_back({verdict, fmt::format("{} {}", device_.name, check), std::move(found),
                         std::move(why), std::move(remedy)});
  }

  void link() {
    const std::string why = "packets come in by it";
    if (!device_.is_up)
      return add(Verdict::kFail, "link", "down", why,
                 fmt::format("ip link set {} up", device_.name));
    if (!device_.has_carrier)
      return add(Verdict::kFail, "link", "up, without carrier", why,
                 "connect its other end: cable, switch port or peer");
    add(Verdict::kOk, "link", "up", why);
  }

  [[nodiscard]] bool has_native_driver() const {
    return std::ranges::find(kNativeDrivers, device_.driver) != kNativeDrivers.end();
  }

  void driver() {
    if (device_.driver.empty())
      return add(Verdict::kWarn, "driver", "does not tell its name",
                 "generic mode, at a fraction of the speed, is what is sure to work",
                 fmt::format("weir load {} --mode auto   # and look what it got", device_.name));
    if (has_native_driver())
      return add(Verdict::kOk, "driver", fmt::format("{}, native XDP", device_.driver),
                 "the program runs before the kernel builds a socket buffer");
    add(Verdict::kWarn, "driver", fmt::format("{}, not known for native XDP", device_.driver),
        "in generic mode each packet becomes a socket buffer first, at several times the cost",
        "use a card of another driver: ixgbe, i40e, ice, mlx5_core, bnxt_en, virtio_net, …");
  }

  void programs() {
    const std::string why = "a device has one program, unless all of them are chained";
    if (device_.programs.empty()) return add(Verdict::kOk, "xdp", "no program on it", why);
    for (const AttachedProgram& program : device_.programs) {
      const std::string found =
          fmt::format("{} (id {}, {})", program.name.empty() ? "a program" : program.name,
                      program.id, program.mode);
      if (std::ranges::find(facts_.own_programs, program.id) != facts_.own_programs.end()) {
        own_program(program, found);
      } else if (program.name == "weir_lb") {
        add(Verdict::kWarn, "xdp", found + ", a balancer that no daemon here speaks for",
            "it goes on with its last state, and nobody changes it",
            "systemctl start weir-l4   # with the --pin-dir that it was loaded with");
      } else {
        add(Verdict::kFail, "xdp", found + ", not Weir's", why,
            fmt::format("ip link set dev {0} {1} off   # or beside it: weir load {0} --chain",
                        device_.name, program.mode == "generic" ? "xdpgeneric" : "xdpdrv"));
      }
    }
  }

  void own_program(const AttachedProgram& program, const std::string& found) {
    if (program.mode == "generic" && has_native_driver())
      return add(
          Verdict::kWarn, "xdp", found + ", ours",
          fmt::format("{} has native XDP, and generic mode costs several times as much",
                      device_.driver),
          fmt::format("weir load {} --mode native   # says what is in the way", device_.name));
    add(Verdict::kOk, "xdp", found + ", ours", "the balancer is on it");
  }

  void queues() {
    const std::string why = "one queue is one CPU's work, and only so many CPUs share the packets";
    if (!device_.queues) return add(Verdict::kOk, "queues", "the driver does not tell", why);
    const std::uint32_t best = std::min(facts_.cpus, device_.queues_max.value_or(*device_.queues));
    const std::string found = fmt::format("{} for {} CPUs", *device_.queues, facts_.cpus);
    if (*device_.queues >= best) return add(Verdict::kOk, "queues", found, why);
    // A veth has queues for each direction, not combined ones.
    const char* words = device_.driver == "veth" ? "rx {0} tx {0}" : "combined {0}";
    add(Verdict::kWarn, "queues", found, why,
        fmt::format("ethtool -L {} {}", device_.name, fmt::format(fmt::runtime(words), best)));
  }

  void udp_hash() {
    if (!device_.hashes_udp_ports || device_.queues.value_or(1) < 2) return;
    const std::string why =
        "what comes from one address to a UDP VIP ends on one CPU without ports";
    if (*device_.hashes_udp_ports)
      return add(Verdict::kOk, "rss of udp", "by addresses and ports", why);
    add(Verdict::kWarn, "rss of udp", "by addresses alone", why,
        fmt::format("ethtool -N {} rx-flow-hash udp4 sdfn", device_.name));
  }

  void mtu() {
    std::uint32_t outer = 0;
    for (const WantedVip& vip : facts_.vips) {
      for (const WantedBackend& backend : vip.backends)
        outer = std::max(outer, outer_bytes(vip, backend));
    }
    const std::string found = std::to_string(device_.mtu);
    if (device_.mtu > kNativeMtuMax)
      return add(Verdict::kWarn, "mtu", found,
                 "native XDP takes frames of one buffer, and drivers refuse it above about 3,500",
                 fmt::format("ip link set {} mtu {}", device_.name, kNativeMtuMax));
    if (outer == 0)
      return add(Verdict::kOk, "mtu", found, "nothing is encapsulated, so no head-room is needed");
    const std::string why =
        fmt::format("clients' {} bytes and {} of outer headers", kClientMtu, outer);
    if (device_.mtu >= kClientMtu + outer) return add(Verdict::kOk, "mtu", found, why);
    add(Verdict::kWarn, "mtu", found,
        why + " do not fit: clients are told to send less, and some do not listen",
        fmt::format("ip link set {} mtu {}   # on the way to backends and on them, too",
                    device_.name, kClientMtu + outer));
  }

  [[nodiscard]] bool is_on(const std::string& offload) const {
    const auto found = device_.offloads.find(offload);
    return found != device_.offloads.end() && found->second;
  }

  void offloads() {
    bool is_fine = true;
    const auto hurts = [&](const char* name, const char* word, const char* why) {
      if (!is_on(name)) return;
      is_fine = false;
      add(Verdict::kWarn, "offloads", fmt::format("{} is on", name), why,
          fmt::format("ethtool -K {} {} off", device_.name, word));
    };
    hurts("rx-lro", "lro",
          "merged packets are not those that were sent; drivers refuse XDP with it");
    hurts("rx-gro-hw", "rx-gro-hw",
          "the card merges packets before XDP sees them; drivers refuse XDP with it");
    if (device_.carries_vlans)
      hurts("rx-vlan-hw-parse", "rxvlan",
            "the card takes tags off before XDP: VIP traffic of a VLAN is answered untagged");
    if (is_fine)
      add(Verdict::kOk, "offloads", "none that hurts", "lro, rx-gro-hw, and rxvlan below VLANs");
  }

  void reverse_path() {
    constexpr int kStrict = 1;  // RFC 3704, section 2.2
    if (!device_.rp_filter) return;
    const std::string why =
        "answers to probes of VIPs, and of backends that return another way, would be dropped";
    if (*device_.rp_filter != kStrict)
      return add(Verdict::kOk, "rp_filter", *device_.rp_filter == 0 ? "off" : "loose", why);
    add(Verdict::kWarn, "rp_filter", "strict", why,
        fmt::format("sysctl -w net.ipv4.conf.{}.rp_filter=2", device_.name));
  }

  const DeviceFacts& device_;
  const DoctorFacts& facts_;
  std::vector<Finding> findings_;
};

/// Backends of mode nat whose replies pass this node's own stack.
bool has_nat(const DoctorFacts& facts) {
  return std::ranges::any_of(facts.vips, [](const WantedVip& vip) { return vip.mode == "nat"; });
}

Finding neighbours(const DoctorFacts& facts) {
  constexpr std::size_t kNamedMax = 5;
  const std::string why = "a packet for a backend without a next hop is dropped";
  std::vector<std::string> lost;
  std::string first;
  std::size_t known = 0;
  for (const WantedVip& vip : facts.vips) {
    for (const WantedBackend& backend : vip.backends) {
      if (backend.next_hop.empty()) continue;
      ++known;
      if (backend.next_hop == "resolved") continue;
      if (first.empty()) first = backend.address.text();
      lost.push_back(fmt::format("{} ({})", backend.address.text(),
                                 backend.reason.empty() ? backend.next_hop : backend.reason));
    }
  }
  if (lost.empty())
    return {Verdict::kOk, "neighbours", fmt::format("{} backends, all known", known), why, ""};
  const std::size_t count = lost.size();
  lost.resize(std::min(count, kNamedMax));
  return {Verdict::kFail, "neighbours",
          fmt::format("{} of {} backends without next hop: {}{}", count, known,
                      fmt::join(lost, "; "), count > kNamedMax ? "; …" : ""),
          why, fmt::format("ip route get {0}; ping -c1 {0}", first)};
}

Finding daemon(const std::string& name, const DaemonFacts& daemon, bool is_wanted) {
  const std::string why = "traffic goes on without it, changes and health checks do not";
  if (daemon.answers) return {Verdict::kOk, name, "answers", why, ""};
  if (!is_wanted) return {Verdict::kOk, name, "does not run", "nothing is for it", ""};
  return {Verdict::kFail, name, daemon.reason, why, fmt::format("systemctl start {}", name)};
}

}  // namespace

std::vector<Finding> examine_device(const DeviceFacts& device, const DoctorFacts& facts) {
  return DeviceExamination{device, facts}.run();
}

std::vector<Finding> examine_services(const DoctorFacts& facts) {
  std::vector<Finding> findings;
  for (const std::string& name : facts.absent_devices)
    findings.push_back({Verdict::kFail, name + " link", "there is no such device",
                        "the balancer is to be loaded on it",
                        "ip -br link   # lists what there is"});
  if (has_nat(facts) && facts.forwards_ipv4) {
    const std::string why =
        "what of a NAT VIP's traffic the program leaves to the kernel is routed by it";
    findings.push_back(*facts.forwards_ipv4 ? Finding{Verdict::kOk, "ip_forward", "on", why, ""}
                                            : Finding{Verdict::kWarn, "ip_forward", "off", why,
                                                      "sysctl -w net.ipv4.ip_forward=1"});
  }
  const bool has_next_hops = std::ranges::any_of(facts.vips, [](const WantedVip& vip) {
    return std::ranges::any_of(vip.backends,
                               [](const WantedBackend& b) { return !b.next_hop.empty(); });
  });
  if (has_next_hops) findings.push_back(neighbours(facts));
  return findings;
}

std::vector<Finding> examine_daemons(const DoctorFacts& facts) {
  std::vector<Finding> findings{daemon("weir-l4", facts.l4, true),
                                daemon("weir-l7", facts.l7, facts.wants_l7)};
  for (const auto& [name, daemon] : {std::pair{"weir-l4", &facts.l4}, {"weir-l7", &facts.l7}}) {
    for (const std::string& warning : daemon->warnings)
      findings.push_back({Verdict::kWarn, fmt::format("{} warning", name), warning,
                          "the daemon says so itself", "weir status   # shows whether it is gone"});
  }
  return findings;
}

}  // namespace weir::cli
