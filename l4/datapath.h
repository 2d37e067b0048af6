#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/base/siphash.h"
#include "l4/control/model.h"
#include "l4/kernel_tables.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

inline constexpr const char* kPinDirectoryDefault = "/sys/fs/bpf/weir";

/// What the programs are given before they are loaded, and cannot change afterwards.
struct DatapathSettings {
  SipKey hash_seed;
  std::uint32_t l7_workers = 0;
  std::uint32_t answers_per_s = 1000;  ///< of our own, all CPUs together
  /// Entries of the flow table, a power of two when loaded; 0: flows are not remembered.
  std::uint32_t flows_max = WEIR_FLOWS_DEFAULT;
  /// Records of the NAT table, a power of two when loaded; 0: there is none, and it takes no
  /// memory.
  std::uint32_t nat_flows_max = 0;
  control::PortRange snat_ports = control::L4Settings{}.snat_ports;
  friend bool operator==(const DatapathSettings&, const DatapathSettings&) = default;
};

/// What is found out at the first load and holds for as long as the maps do, whatever settings the
/// programs over them have.
struct DatapathConstants {
  Ticks ticks;  ///< the kernel's, measured
  /// What the keys of the flow table's hash come from: random, this node's alone, never shown. They
  /// must not follow the hash seed, or the first change of it would lose every flow there is.
  SipKey flow_secret;
};

/// One device that the balancer runs on.
struct Attachment {
  std::string device;
  std::uint32_t ifindex = 0;
  control::XdpMode mode = control::XdpMode::kNative;  ///< never kAuto
  std::string reason;  ///< why auto did not get native mode; known to whoever attached
  bool chained = false;
  std::uint32_t program_id = 0;
};

/// A handle on the running datapath: programs, maps and links, all pinned below one directory of a
/// BPF file system. The kernel keeps it alive; this class owns descriptors only, so a daemon that
/// ends leaves traffic flowing. Stopping traffic is a decision: unload().
///
///   <pin directory>/maps/<map>          every map, and two that only user space reads
///   <pin directory>/programs/<program>
///   <pin directory>/links/<ifindex>     attachments; a link dies with its device
///   <pin directory>/chained/<ifindex>   marks a device joined through libxdp's dispatcher
class Datapath {
 public:
  /// What an earlier daemon left; nothing if there is none. Refuses what was pinned under another
  /// WEIR_ABI_VERSION.
  static Result<std::optional<Datapath>> adopt(const std::string& pin_directory);

  /// Fresh and attached nowhere. Pinned as a whole: a crash leaves all of it or nothing.
  static Result<Datapath> load(const std::string& pin_directory, const DatapathSettings& settings);

  /// New programs with other settings over the same maps; links are moved to them one by one, and
  /// no packet is missed. The size of the flow table stays, and that of a NAT table that is there:
  /// its flows would be lost. One is made where there was none.
  Result<void> reload(const DatapathSettings& settings);

  [[nodiscard]] const DatapathSettings& settings() const { return settings_; }
  /// Not after a daemon was killed amid reload(): the pinned program may have other settings than
  /// settings(), which are those of the program that runs. Then reload() before all else.
  [[nodiscard]] bool settled() const { return settled_; }
  [[nodiscard]] KernelTables& tables() const { return *tables_; }
  [[nodiscard]] const DatapathConstants& constants() const { return constants_; }

  /// Whether attach() could work as far as can be seen: the device exists and, unless `chain`, is
  /// free of other XDP programs.
  static Result<void> check_device(const std::string& device, bool chain);

  /// Leaves a device alone that is attached already in a mode that fits.
  Result<Attachment> attach(const std::string& device, control::XdpMode mode, bool chain);
  Result<void> detach(const Attachment& attachment);
  [[nodiscard]] Result<std::vector<Attachment>> attachments() const;

  /// weir_l7_return on the balancer's end of a worker's veth; moves it to the mode asked for.
  Result<void> attach_return(const std::string& device, control::XdpMode mode);

  /// How often the kernel has run weir_lb; nothing unless it was told to count.
  [[nodiscard]] std::optional<std::uint64_t> program_runs() const;

  /// Detaches everywhere and removes all pins. Also of pins that adopt() refuses.
  static Result<void> unload(const std::string& pin_directory);

 private:
  Datapath(std::string pin_directory, std::unique_ptr<KernelTables> tables)
      : pin_directory_{std::move(pin_directory)}, tables_{std::move(tables)} {}
  static Result<Datapath> open(const std::string& pin_directory);
  Result<Attachment> attach_link(const std::string& device, std::uint32_t ifindex,
                                 control::XdpMode mode);
  Result<Attachment> attach_in_chain(const std::string& device, std::uint32_t ifindex,
                                     control::XdpMode mode);
  Result<void> move_links();
  Result<void> forget_dead_links() const;

  std::string pin_directory_;
  std::unique_ptr<KernelTables> tables_;  // stable address: the programmer refers to it
  DatapathSettings settings_;
  DatapathConstants constants_;
  bool settled_ = true;
};

}  // namespace weir::l4
