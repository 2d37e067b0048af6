#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "l4/bpf_map.h"
#include "l4/flow_table.h"
#include "l4/nat_table.h"
#include "l4/table_store.h"
#include "l4/tables.h"

namespace weir::l4 {

/// What a VIP id was given out for. Only user space reads it: it is no part of the ABI, but pinned.
struct KeyRecord {
  weir_address address;
  std::uint8_t prefix_length;
  std::uint8_t is_udp;
  std::uint16_t first_port;
  std::uint16_t last_port;
  std::uint16_t reserved;
};
static_assert(sizeof(KeyRecord) == 24);

/// The map of them, besides those of the program: array by VIP id.
inline constexpr const char* kKeysMap = "weir_vip_keys";

/// The pinned maps of a loaded datapath, typed.
class KernelTables final : public Tables {
 public:
  /// Opens every map below `directory`.
  static Result<KernelTables> open(const std::string& directory);

  Result<std::vector<weir_vip>> read_vips() override;
  Result<void> write_vip(VipId id, const weir_vip& vip) override;
  Result<std::vector<control::VipKey>> read_keys() override;
  Result<void> write_key(VipId id, const control::VipKey& key) override;
  Result<Entries<weir_vip_key, VipId>> read_services() override;
  Result<void> write_service(const weir_vip_key& key, VipId id) override;
  Result<void> erase_service(const weir_vip_key& key) override;
  Result<Entries<weir_range_key, VipId>> read_ranges() override;
  Result<void> write_range(const weir_range_key& key, VipId id) override;
  Result<void> erase_range(const weir_range_key& key) override;
  Result<Entries<weir_address, std::uint32_t>> read_addresses() override;
  Result<void> write_address(const weir_address& address, std::uint32_t flags) override;
  Result<void> erase_address(const weir_address& address) override;
  Result<Entries<weir_prefix_key, weir_address>> read_prefixes() override;
  Result<void> write_prefix(const weir_prefix_key& key, const weir_address& first) override;
  Result<void> erase_prefix(const weir_prefix_key& key) override;
  Result<AddressFilter> read_filter() override;
  Result<void> write_filter_word(std::uint32_t index, std::uint64_t word) override;
  Result<std::vector<VipId>> list(PerVip kind) override;
  Result<Table> read_table(VipId vip) override;
  Result<void> stage_table(VipId vip, const Table& table) override;
  Result<std::vector<ListEntry>> read_list(VipId vip) override;
  Result<void> stage_list(VipId vip, std::span<const ListEntry> entries) override;
  Result<std::vector<QuicEntry>> read_quic(VipId vip) override;
  Result<void> stage_quic(VipId vip, std::span<const QuicEntry> entries) override;
  Result<void> stage_sources(VipId vip) override;
  Result<void> stage_erasure(PerVip kind, VipId id) override;
  Result<void> publish() override;
  Result<std::vector<BackendId>> read_members() override;
  Result<void> write_member(std::uint32_t index, BackendId backend) override;
  Result<std::vector<weir_backend>> read_backends() override;
  Result<void> write_backend(BackendId id, const weir_backend& backend) override;
  Result<void> clear_vip_counters(VipId id) override;
  Result<void> clear_backend_counters(BackendId id) override;
  Result<void> forget_void_flows() override;
  Result<void> allow_device(std::uint32_t ifindex) override;

  // The hand-off to L7.
  Result<void> set_worker(std::uint32_t worker, std::uint32_t ifindex);
  [[nodiscard]] Result<std::optional<std::uint32_t>> worker(std::uint32_t worker);
  Result<void> set_return_device(std::uint32_t ifindex);
  /// Both are balancer's ends of the same worker's veths.
  Result<void> set_other_lane(std::uint32_t ifindex, std::uint32_t other);

  /// After a NAT table was made, see Datapath::reload().
  Result<void> reopen_nat_flows(const std::string& directory);

  // For trace.h.
  /// A map of sources for a VIP, in none yet.
  static Result<UniqueFd> make_sources();
  [[nodiscard]] Result<std::optional<UniqueFd>> open_sources(VipId vip) const {
    return inner(PerVip::kSources, vip);
  }

  // For monitor.h.
  /// Slot 0: the ring that events go to. Id of the ring when read, its descriptor when written.
  [[nodiscard]] const Map<std::uint32_t, std::uint32_t>& monitor() const { return monitor_; }
  [[nodiscard]] const Map<std::uint32_t, weir_monitor_filter>& monitor_filter() const {
    return monitor_filter_;
  }

  // For flow_reader.h, which maps them.
  [[nodiscard]] int flows_fd() const { return flows_.fd(); }
  [[nodiscard]] int nat_flows_fd() const { return nat_flows_.fd(); }

  // For observe.h.
  [[nodiscard]] Result<FlowCount> count_flows() const;
  [[nodiscard]] Result<NatCount> count_nat_flows(std::uint32_t stamp) const;
  /// Of one backend: in the flow table, and in the NAT table, which must be there.
  [[nodiscard]] Result<BackendFlows> count_flows_of(BackendId id, bool is_tcp,
                                                    std::uint32_t stamp) const;
  [[nodiscard]] Result<BackendFlows> count_nat_flows_of(BackendId id, std::uint32_t stamp) const;
  [[nodiscard]] const PerCpuMap<std::uint32_t, std::uint64_t>& nat_counters() const {
    return nat_counters_;
  }
  [[nodiscard]] const PerCpuMap<std::uint32_t, std::uint64_t>& flow_counters() const {
    return flow_counters_;
  }
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
  /// Id of the inner map when read, its descriptor when written.
  using OuterMap = Map<std::uint32_t, std::uint32_t>;

  struct Staged {
    VipId vip;
    TableStore::SharedFd map;  // none: the slot is emptied
  };

  KernelTables() = default;
  [[nodiscard]] const OuterMap& outer(PerVip kind) const {
    return outer_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] Result<std::optional<UniqueFd>> inner(PerVip kind, VipId vip) const;
  Result<void> stage(PerVip kind, VipId vip, TableStore::SharedFd map);
  Result<void> stage(PerVip kind, VipId vip, UniqueFd map) {
    return stage(kind, vip, std::make_shared<const UniqueFd>(std::move(map)));
  }
  Result<void> publish(PerVip kind);

  Map<std::uint32_t, weir_vip> vips_;
  Map<std::uint32_t, KeyRecord> keys_;
  Map<weir_vip_key, std::uint32_t> services_;
  Map<weir_range_key, std::uint32_t> ranges_;
  Map<weir_address, std::uint32_t> addresses_;
  Map<weir_prefix_key, weir_address> prefixes_;
  Map<std::uint32_t, std::uint64_t> filter_;
  std::array<OuterMap, kPerVip.size()> outer_;
  Map<std::uint32_t, std::uint32_t> members_;
  TableStore table_store_;
  std::array<std::vector<Staged>, kPerVip.size()> staged_;
  Map<std::uint32_t, weir_backend> backends_;
  Map<std::uint32_t, weir_flow_set> flows_;
  Map<std::uint32_t, weir_nat_flow> nat_flows_;
  Map<std::uint32_t, std::uint32_t> workers_;
  Map<std::uint32_t, std::uint32_t> devices_;
  Map<std::uint32_t, std::uint32_t> return_device_;
  Map<std::uint32_t, std::uint32_t> other_lane_;
  OuterMap monitor_;
  Map<std::uint32_t, weir_monitor_filter> monitor_filter_;
  PerCpuMap<std::uint32_t, std::uint64_t> flow_counters_;
  PerCpuMap<std::uint32_t, std::uint64_t> nat_counters_;
  PerCpuMap<std::uint32_t, weir_counter> counters_;
  PerCpuMap<std::uint32_t, weir_counter> return_counters_;
  PerCpuMap<std::uint32_t, weir_service_counter> vip_counters_;
  PerCpuMap<std::uint32_t, weir_service_counter> backend_counters_;
};

}  // namespace weir::l4
