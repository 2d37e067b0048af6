#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/maglev.h"

namespace weir::l4 {

/// Index of the maps weir_tables and weir_vip_counters; 0 is "none".
using VipId = Strong<std::uint32_t, struct VipIdTag>;

/// What the programmer reads and writes, one kernel operation per call, so that a test can stop
/// after any of them. Implemented over pinned maps by KernelTables and over plain memory by tests.
class Tables {
 public:
  using VipEntry = std::pair<weir_vip_key, weir_vip>;

  virtual ~Tables() = default;

  virtual Result<std::vector<VipEntry>> read_vips() = 0;
  virtual Result<void> write_vip(const weir_vip_key& key, const weir_vip& vip) = 0;
  virtual Result<void> erase_vip(const weir_vip_key& key) = 0;

  /// The slots of a VIP's table; empty if it has none.
  virtual Result<std::vector<BackendId>> read_table(VipId vip, std::uint32_t size) = 0;
  virtual Result<std::vector<VipId>> list_tables() = 0;
  /// Swaps the whole table. When it returns, no packet is at work with the old one.
  virtual Result<void> publish_table(VipId vip, std::span<const BackendId> slots) = 0;
  virtual Result<void> erase_table(VipId vip) = 0;

  /// All backends, the index is the id.
  virtual Result<std::vector<weir_backend>> read_backends() = 0;
  virtual Result<void> write_backend(BackendId id, const weir_backend& backend) = 0;

  /// Which VIP a backend id was given out for. Only user space reads it, after a restart.
  virtual Result<std::vector<VipId>> read_owners() = 0;
  virtual Result<void> write_owner(BackendId id, VipId owner) = 0;

  virtual Result<void> clear_vip_counters(VipId id) = 0;
  virtual Result<void> clear_backend_counters(BackendId id) = 0;

  /// Removes the flow entries that name a backend which is not in use, so that its id may be
  /// given out again.
  virtual Result<void> forget_void_flows() = 0;

  /// Lets the program send frames out of the device.
  virtual Result<void> allow_device(std::uint32_t ifindex) = 0;
};

}  // namespace weir::l4
