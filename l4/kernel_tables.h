#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "l4/bpf_map.h"
#include "l4/tables.h"

namespace weir::l4 {

/// Names of the maps' pins, below <pin directory>/maps.
inline constexpr const char* kOwnersMap = "weir_backend_owners";

/// The pinned maps of a loaded datapath, typed.
class KernelTables final : public Tables {
 public:
  /// Opens every map below `directory`.
  static Result<KernelTables> open(const std::string& directory);

  Result<std::vector<VipEntry>> read_vips() override;
  Result<void> write_vip(const weir_vip_key& key, const weir_vip& vip) override;
  Result<void> erase_vip(const weir_vip_key& key) override;
  Result<std::vector<BackendId>> read_table(VipId vip, std::uint32_t size) override;
  Result<std::vector<VipId>> list_tables() override;
  Result<void> publish_table(VipId vip, std::span<const BackendId> slots) override;
  Result<void> erase_table(VipId vip) override;
  Result<std::vector<weir_backend>> read_backends() override;
  Result<void> write_backend(BackendId id, const weir_backend& backend) override;
  Result<std::vector<VipId>> read_owners() override;
  Result<void> write_owner(BackendId id, VipId owner) override;
  Result<void> clear_vip_counters(VipId id) override;
  Result<void> clear_backend_counters(BackendId id) override;
  Result<void> forget_void_flows() override;
  Result<void> allow_device(std::uint32_t ifindex) override;

  // The hand-off to L7.
  Result<void> set_worker(std::uint32_t worker, std::uint32_t ifindex);
  Result<void> set_return_device(std::uint32_t ifindex);
  Result<void> set_l7_addresses(const std::vector<wire::IpAddress>& addresses);

  // For observe.h.
  [[nodiscard]] const PerCpuMap<std::uint32_t, weir_counter>& counters() const { return counters_; }
  [[nodiscard]] const PerCpuMap<std::uint32_t, weir_counter>& return_counters() const {
    return return_counters_;
  }
  [[nodiscard]] const PerCpuMap<std::uint32_t, weir_service_counter>& vip_counters() const {
    return vip_counters_;
  }
  [[nodiscard]] const PerCpuMap<std::uint32_t, weir_service_counter>& backend_counters() const {
    return backend_counters_;
  }

 private:
  KernelTables() = default;
  Result<std::optional<UniqueFd>> inner_table(VipId vip);

  Map<weir_vip_key, weir_vip> vips_;
  Map<std::uint32_t, std::uint32_t> tables_;  // id of the inner map when read, its fd when written
  Map<std::uint32_t, weir_backend> backends_;
  Map<std::uint32_t, std::uint32_t> owners_;
  Map<weir_flow_key, weir_flow> flows_;
  Map<std::uint32_t, std::uint32_t> workers_;
  Map<weir_address, std::uint32_t> l7_addresses_;
  Map<std::uint32_t, std::uint32_t> devices_;
  Map<std::uint32_t, std::uint32_t> return_device_;
  PerCpuMap<std::uint32_t, weir_counter> counters_;
  PerCpuMap<std::uint32_t, weir_counter> return_counters_;
  PerCpuMap<std::uint32_t, weir_service_counter> vip_counters_;
  PerCpuMap<std::uint32_t, weir_service_counter> backend_counters_;
};

}  // namespace weir::l4
