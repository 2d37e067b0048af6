#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "l4/tables.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// The kernel's maps in memory. Fails for good after a given number of writes, as a killed daemon
/// does; and looks after each write at what a packet could meet.
class FakeTables final : public Tables {
 public:
  static constexpr std::uint32_t kBackends = 4096;  // the kernel's has more; nobody needs them here

  int writes_left = std::numeric_limits<int>::max();
  int writes = 0;
  int tables_published = 0;
  int lists_published = 0;
  int publications = 0;  // that had something to publish
  int sweeps = 0;
  std::vector<weir_vip> vips = std::vector<weir_vip>(WEIR_VIPS_MAX);
  std::vector<control::VipKey> keys = std::vector<control::VipKey>(WEIR_VIPS_MAX);
  std::map<weir_vip_key, VipId, BytesLess> services;
  std::map<weir_range_key, VipId, RangeLess> ranges;
  std::map<weir_address, std::uint32_t, BytesLess> addresses;
  std::map<weir_prefix_key, weir_address, BytesLess> prefixes;
  AddressFilter filter{};
  std::map<VipId, Table> tables;
  std::map<VipId, std::vector<ListEntry>> lists;
  std::map<VipId, std::vector<QuicEntry>> quic;
  std::set<VipId> sources;
  std::vector<BackendId> members = std::vector<BackendId>(WEIR_MEMBERS_MAX);
  /// Whether maps are there as soon as they were staged, as they are where there are many.
  bool publishes_at_once = false;
  std::vector<weir_backend> backends = std::vector<weir_backend>(kBackends);
  std::map<int, BackendId> flows;

  Result<std::vector<weir_vip>> read_vips() override { return vips; }
  Result<void> write_vip(VipId id, const weir_vip& vip) override {
    return step([&] { vips.at(id.value()) = vip; });
  }
  Result<std::vector<control::VipKey>> read_keys() override { return keys; }
  Result<void> write_key(VipId id, const control::VipKey& key) override {
    return step([&] { keys.at(id.value()) = key; });
  }
  Result<Entries<weir_vip_key, VipId>> read_services() override { return all(services); }
  Result<void> write_service(const weir_vip_key& key, VipId id) override {
    return step([&] { services[key] = id; });
  }
  Result<void> erase_service(const weir_vip_key& key) override {
    return step([&] { services.erase(key); });
  }
  Result<Entries<weir_range_key, VipId>> read_ranges() override { return all(ranges); }
  Result<void> write_range(const weir_range_key& key, VipId id) override {
    return step([&] { ranges[key] = id; });
  }
  Result<void> erase_range(const weir_range_key& key) override {
    return step([&] { ranges.erase(key); });
  }
  Result<Entries<weir_address, std::uint32_t>> read_addresses() override { return all(addresses); }
  Result<void> write_address(const weir_address& address, std::uint32_t flags) override {
    return step([&] { addresses[address] = flags; });
  }
  Result<void> erase_address(const weir_address& address) override {
    return step([&] { addresses.erase(address); });
  }
  Result<Entries<weir_prefix_key, weir_address>> read_prefixes() override { return all(prefixes); }
  Result<void> write_prefix(const weir_prefix_key& key, const weir_address& first) override {
    return step([&] { prefixes[key] = first; });
  }
  Result<void> erase_prefix(const weir_prefix_key& key) override {
    return step([&] { prefixes.erase(key); });
  }
  Result<AddressFilter> read_filter() override { return filter; }
  /// A prefix sets or clears a whole half: of those words only some are steps, for the time that it
  /// takes to be killed after each.
  Result<void> write_filter_word(std::uint32_t index, std::uint64_t word) override {
    constexpr std::uint32_t kStepOf = 256;
    const bool is_of_many = word == ~0ULL || filter.at(index) == ~0ULL;
    if (is_of_many && index % kStepOf != 0 && writes_left != 0) {
      filter[index] = word;
      return {};
    }
    return step([&] { filter.at(index) = word; });
  }
  Result<std::vector<VipId>> list(PerVip kind) override {
    std::vector<VipId> ids;
    for (std::uint32_t id = 0; id < WEIR_VIPS_MAX; ++id) {
      if (has(kind, VipId{id})) ids.emplace_back(id);
    }
    return ids;
  }
  Result<void> stage_erasure(PerVip kind, VipId id) override {
    return stage([this, kind, id] {
      switch (kind) {
        case PerVip::kTable:
          tables.erase(id);
          break;
        case PerVip::kList:
          lists.erase(id);
          break;
        case PerVip::kSources:
          sources.erase(id);
          break;
        case PerVip::kQuic:
          quic.erase(id);
          break;
      }
    });
  }
  Result<Table> read_table(VipId vip) override {
    return tables.contains(vip) ? tables.at(vip) : Table{};
  }
  Result<void> stage_table(VipId vip, const Table& table) override {
    ++tables_published;
    return stage([this, vip, table] { tables[vip] = table; });
  }
  Result<std::vector<ListEntry>> read_list(VipId vip) override {
    return lists.contains(vip) ? lists.at(vip) : std::vector<ListEntry>{};
  }
  Result<void> stage_list(VipId vip, std::span<const ListEntry> entries) override {
    ++lists_published;
    return stage(
        [this, vip, list = std::vector(entries.begin(), entries.end())] { lists[vip] = list; });
  }
  Result<std::vector<QuicEntry>> read_quic(VipId vip) override {
    return quic.contains(vip) ? quic.at(vip) : std::vector<QuicEntry>{};
  }
  Result<void> stage_quic(VipId vip, std::span<const QuicEntry> entries) override {
    return stage(
        [this, vip, ids = std::vector(entries.begin(), entries.end())] { quic[vip] = ids; });
  }
  Result<void> stage_sources(VipId vip) override {
    return stage([this, vip] { sources.insert(vip); });
  }
  Result<void> publish() override {
    publications += staged_.empty() ? 0 : 1;
    for (const auto& write : std::exchange(staged_, {})) {
      if (Result<void> done = step(write); !done) return done;
    }
    return {};
  }
  Result<std::vector<BackendId>> read_members() override { return members; }
  Result<void> write_member(std::uint32_t index, BackendId backend) override {
    return step([&] { members.at(index) = backend; });
  }
  Result<std::vector<weir_backend>> read_backends() override { return backends; }
  Result<void> write_backend(BackendId id, const weir_backend& backend) override {
    return step([&] { backends.at(id.value()) = backend; });
  }
  Result<void> clear_vip_counters(VipId /*id*/) override { return {}; }
  Result<void> clear_backend_counters(BackendId /*id*/) override { return {}; }
  Result<void> forget_void_flows() override {
    ++sweeps;
    std::erase_if(flows, [&](const auto& flow) { return !in_use(flow.second); });
    return {};
  }
  Result<void> allow_device(std::uint32_t /*ifindex*/) override { return {}; }

  /// The daemon is gone, and with it what it had not published.
  void kill() {
    staged_.clear();
    writes_left = std::numeric_limits<int>::max();
  }

  /// As the packet path finds it.
  [[nodiscard]] BackendId backend_of(VipId vip, MemberNumber number) const {
    return members.at(vips.at(vip.value()).first_member + number.value());
  }
  [[nodiscard]] bool in_use(BackendId id) const {
    return (backends.at(id.value()).flags & WEIR_BACKEND_IN_USE) != 0;
  }
  [[nodiscard]] bool is_draining(BackendId id) const {
    return (backends.at(id.value()).flags & WEIR_BACKEND_DRAINING) != 0;
  }

  /// What the packet path relies on, at any moment.
  void expect_sound() const {
    for (const auto& [key, id] : services)
      expect_service_sound(id);
    for (const auto& [key, id] : ranges)
      expect_service_sound(id);
    for (const auto& [address, flags] : addresses) {
      const std::uint32_t bit = weir_filter_bit(&address);
      ASSERT_NE(filter[bit / 64] >> (bit % 64) & 1, 0U) << "an address that the filter hides";
    }
    for (const auto& [prefix, first] : prefixes) {
      ASSERT_TRUE(addresses.contains(first)) << "a prefix without an entry";
      ASSERT_TRUE(std::ranges::all_of(std::span{filter}.first(WEIR_FILTER_WORDS),
                                      [](auto word) { return word == ~0ULL; }));
    }
  }

 private:
  void expect_service_sound(VipId id) const {
    const weir_vip& vip = vips.at(id.value());
    ASSERT_EQ(vip.id, id.value()) << "a service of no VIP";
    if ((vip.flags & WEIR_VIP_SOURCE_LIST) != 0) {
      ASSERT_TRUE(lists.contains(id));
    }
    if ((vip.flags & WEIR_VIP_BLOCK_LIST) != 0) {
      ASSERT_TRUE(lists.contains(kNode));
    }
    if (vip.limits.new_flows_per_source != 0) {
      ASSERT_TRUE(sources.contains(id));
    }
    if (vip.mode == WEIR_MODE_L7) return;
    ASSERT_TRUE(tables.contains(id)) << "a VIP entry without a table";
    for (const MemberNumber number : tables.at(id).current) {
      if (number == MemberNumber{}) continue;
      const BackendId backend = backend_of(id, number);
      ASSERT_TRUE(in_use(backend)) << "a slot names a free backend";
      const weir_backend& entry = backends.at(backend.value());
      ASSERT_EQ(entry.vip_id, vip.id);
      if (vip.mode == WEIR_MODE_NAT) expect_replies_found(vip, entry);
    }
    if (quic.contains(id)) {
      for (const QuicEntry& entry : quic.at(id))
        ASSERT_TRUE(in_use(BackendId{entry.backend})) << "a server id names a free backend";
    }
  }

  void expect_replies_found(const weir_vip& vip, const weir_backend& backend) const {
    const std::uint32_t bit = weir_filter_bit(&backend.address);
    ASSERT_NE(filter[WEIR_FILTER_WORDS + bit / 64] >> (bit % 64) & 1, 0U)
        << "replies of a backend are not looked at";
    if ((vip.flags & WEIR_VIP_SNAT) == 0 || backend.egress_ifindex == 0) return;
    const auto source = addresses.find(backend.outer_source);
    ASSERT_TRUE(source != addresses.end() && (source->second & WEIR_ADDRESS_SNAT) != 0)
        << "a source of full NAT that is no address of ours";
  }

  [[nodiscard]] bool has(PerVip kind, VipId id) const {
    switch (kind) {
      case PerVip::kTable:
        return tables.contains(id);
      case PerVip::kList:
        return lists.contains(id);
      case PerVip::kSources:
        return sources.contains(id);
      case PerVip::kQuic:
        return quic.contains(id);
    }
    return false;
  }

  template <typename Map>
  static Entries<typename Map::key_type, typename Map::mapped_type> all(const Map& map) {
    return {map.begin(), map.end()};
  }

  Result<void> stage(std::function<void()> write) {
    if (publishes_at_once) return step(write);
    staged_.push_back(std::move(write));
    return {};
  }

  template <typename Write>
  Result<void> step(Write write) {
    if (writes_left == 0) return Error{ErrorCode::kInternal, "the daemon was killed"};
    --writes_left;
    ++writes;
    write();
    expect_sound();
    return {};
  }

  std::vector<std::function<void()>> staged_;
};

}  // namespace weir::l4
