#include "l4/programmer.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>

#include "l4/base/random.h"

namespace weir::l4 {
namespace {

using control::ForwardMode;
using control::Protocol;
using control::Vip;

constexpr SipKey kSeed{{1, 2}};

struct KeyLess {
  bool operator()(const weir_vip_key& left, const weir_vip_key& right) const {
    return std::memcmp(&left, &right, sizeof(left)) < 0;
  }
};

/// The kernel's maps in memory. Fails for good after a given number of writes, as a killed daemon
/// does; and looks after each write at what a packet could meet.
class FakeTables final : public Tables {
 public:
  int writes_left = std::numeric_limits<int>::max();
  int writes = 0;
  int tables_published = 0;
  int sweeps = 0;
  std::map<weir_vip_key, weir_vip, KeyLess> vips;
  std::map<VipId, std::vector<BackendId>> tables;
  std::vector<weir_backend> backends = std::vector<weir_backend>(WEIR_BACKENDS_MAX);
  std::vector<VipId> owners = std::vector<VipId>(WEIR_BACKENDS_MAX);
  std::map<int, BackendId> flows;

  Result<std::vector<VipEntry>> read_vips() override {
    return std::vector<VipEntry>{vips.begin(), vips.end()};
  }
  Result<void> write_vip(const weir_vip_key& key, const weir_vip& vip) override {
    return step([&] { vips[key] = vip; });
  }
  Result<void> erase_vip(const weir_vip_key& key) override {
    return step([&] { vips.erase(key); });
  }
  Result<std::vector<BackendId>> read_table(VipId vip, std::uint32_t /*size*/) override {
    return tables.contains(vip) ? tables.at(vip) : std::vector<BackendId>{};
  }
  Result<std::vector<VipId>> list_tables() override {
    std::vector<VipId> ids;
    for (const auto& [id, table] : tables)
      ids.push_back(id);
    return ids;
  }
  Result<void> publish_table(VipId vip, std::span<const BackendId> slots) override {
    ++tables_published;
    return step([&] { tables[vip].assign(slots.begin(), slots.end()); });
  }
  Result<void> erase_table(VipId vip) override {
    return step([&] { tables.erase(vip); });
  }
  Result<std::vector<weir_backend>> read_backends() override { return backends; }
  Result<void> write_backend(BackendId id, const weir_backend& backend) override {
    return step([&] { backends.at(id.value()) = backend; });
  }
  Result<std::vector<VipId>> read_owners() override { return owners; }
  Result<void> write_owner(BackendId id, VipId owner) override {
    return step([&] { owners.at(id.value()) = owner; });
  }
  Result<void> clear_vip_counters(VipId /*id*/) override { return {}; }
  Result<void> clear_backend_counters(BackendId /*id*/) override { return {}; }
  Result<void> forget_void_flows() override {
    ++sweeps;
    std::erase_if(flows, [&](const auto& flow) { return !in_use(flow.second); });
    return {};
  }
  Result<void> allow_device(std::uint32_t /*ifindex*/) override { return {}; }

  [[nodiscard]] bool in_use(BackendId id) const {
    return (backends.at(id.value()).flags & WEIR_BACKEND_IN_USE) != 0;
  }

  /// What the packet path relies on, at any moment.
  void expect_sound() const {
    for (const auto& [key, vip] : vips) {
      if (key.port_be == 0 || vip.mode == WEIR_MODE_L7) continue;
      ASSERT_TRUE(tables.contains(VipId{vip.id})) << "a VIP entry without a table";
      const auto& table = tables.at(VipId{vip.id});
      ASSERT_EQ(table.size(), vip.table_size);
      for (const BackendId id : table)
        ASSERT_TRUE(id == BackendId{} || in_use(id)) << "a slot names a free backend";
    }
  }

 private:
  template <typename Write>
  Result<void> step(Write write) {
    if (writes_left == 0) return Error{ErrorCode::kInternal, "the daemon was killed"};
    --writes_left;
    ++writes;
    write();
    expect_sound();
    return {};
  }
};

Result<NextHop> resolved(const wire::IpAddress&, ForwardMode) {
  NextHop hop;
  hop.state = NextHopState::kResolved;
  hop.ifindex = 7;
  hop.mac = {{2, 0, 0, 0, 0, 1}};
  hop.source = wire::IpAddress::v4(10, 0, 0, 1);
  hop.mtu = 1500;
  return hop;
}

Vip vip(std::uint8_t last, std::uint16_t port, std::vector<std::uint8_t> backends,
        ForwardMode mode = ForwardMode::kIpip) {
  Vip out;
  out.address = wire::IpAddress::v4(203, 0, 113, last);
  out.ports = control::PortRange::only(wire::Port{port});
  out.mode = mode;
  out.table_size = 251;
  for (const std::uint8_t backend : backends)
    out.backends.push_back(
        {.name = {}, .address = wire::IpAddress::v4(10, 0, 0, backend), .port = {}});
  return out;
}

Programmer adopted(Tables& tables) {
  Result<Programmer> programmer = Programmer::adopt(tables, kSeed, resolved);
  EXPECT_TRUE(programmer) << (programmer ? "" : programmer.error().text());
  return *std::move(programmer);
}

Result<void> bring_to(Programmer& programmer, const std::vector<Vip>& want) {
  return programmer.apply(control::diff_vips(programmer.installed(), want));
}

weir_vip_key address_key(std::uint8_t last) {
  weir_vip_key key{};
  key.address = abi_address(wire::IpAddress::v4(203, 0, 113, last));
  return key;
}

/// What packets see, without the ids: VIP → slots as addresses.
std::map<std::string, std::vector<std::string>> visible(const FakeTables& tables) {
  std::map<std::string, std::vector<std::string>> out;
  for (const auto& [key, entry] : tables.vips) {
    std::vector<std::string>& slots = out[fmt::format(
        "{} {} mode {}", address_of(key.address).text(), ntohs(key.port_be), entry.mode)];
    if (!tables.tables.contains(VipId{entry.id})) continue;
    for (const BackendId id : tables.tables.at(VipId{entry.id}))
      slots.push_back(address_of(tables.backends.at(id.value()).address).text());
  }
  return out;
}

std::size_t backends_in_use(const FakeTables& tables) {
  return static_cast<std::size_t>(std::ranges::count_if(
      tables.backends, [](const auto& entry) { return (entry.flags & WEIR_BACKEND_IN_USE) != 0; }));
}

TEST(Programmer, AVipIsReachableOnlyWhenEverythingItNeedsIsThere) {
  FakeTables tables;  // expect_sound() runs after each write
  Programmer programmer = adopted(tables);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1, 2, 3})}));
  EXPECT_EQ(backends_in_use(tables), 3U);
  EXPECT_TRUE(tables.vips.contains(address_key(1)));
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {2, 4})}));
  EXPECT_EQ(backends_in_use(tables), 2U);
  ASSERT_TRUE(bring_to(programmer, {}));
  EXPECT_TRUE(tables.vips.empty());
  EXPECT_TRUE(tables.tables.empty());
  EXPECT_EQ(backends_in_use(tables), 0U);
}

TEST(Programmer, TheAddressEntryLivesAsLongAsAnyServiceOfTheAddress) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1}), vip(1, 443, {}, ForwardMode::kL7)}));
  EXPECT_EQ(tables.vips.at(address_key(1)).mode, WEIR_MODE_L7);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1})}));
  EXPECT_EQ(tables.vips.at(address_key(1)).mode, WEIR_MODE_IPIP);
  ASSERT_TRUE(bring_to(programmer, {}));
  EXPECT_FALSE(tables.vips.contains(address_key(1)));
}

TEST(Programmer, ARestartPublishesNoTableThatIsThereAlready) {
  FakeTables tables;
  const std::vector<Vip> want{vip(1, 80, {1, 2, 3}), vip(2, 80, {1, 2})};
  Programmer first = adopted(tables);
  ASSERT_TRUE(bring_to(first, want));
  const int published = tables.tables_published;
  Programmer second = adopted(tables);
  ASSERT_TRUE(bring_to(second, want));
  EXPECT_EQ(tables.tables_published, published);
  EXPECT_EQ(second.installed(), first.installed());
}

TEST(Programmer, ADrainingBackendKeepsItsIdAndTakesNoSlot) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  Vip service = vip(1, 80, {1, 2});
  ASSERT_TRUE(bring_to(programmer, {service}));
  const BackendId id = programmer.vips().at(service.key()).backends[0].id;
  service.backends[0].draining = true;
  ASSERT_TRUE(bring_to(programmer, {service}));
  const InstalledBackend& drained = programmer.vips().at(service.key()).backends[0];
  EXPECT_EQ(drained.id, id);
  EXPECT_EQ(drained.slots, 0U);
  EXPECT_TRUE(tables.in_use(id));
  // Also after a restart, where no table names it any more.
  Programmer second = adopted(tables);
  ASSERT_TRUE(bring_to(second, {service}));
  EXPECT_EQ(second.vips().at(service.key()).backends[0].id, id);
}

TEST(Programmer, AnIdIsGivenOutAgainOnlyWhenNoFlowNamesIt) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1})}));
  const BackendId first = programmer.installed().empty()
                              ? BackendId{}
                              : programmer.vips().begin()->second.backends[0].id;
  tables.flows[1] = first;
  // Each round gives a backend up and takes another, until the fresh ids are used up.
  for (std::uint32_t round = 0; round < WEIR_BACKENDS_MAX + 10; ++round) {
    ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {static_cast<std::uint8_t>(2 + round % 2)})}));
    const BackendId id = programmer.vips().begin()->second.backends[0].id;
    if (id == first) {
      ASSERT_TRUE(tables.flows.empty()) << "the flow would be sent to another backend";
      ASSERT_EQ(tables.sweeps, 1);
      return;
    }
  }
  FAIL() << "the id never came back";
}

TEST(Programmer, ANextHopThatWorkedStaysWhileTheKernelAsksAgain) {
  FakeTables tables;
  NextHopState state = NextHopState::kResolved;
  const auto resolve = [&](const wire::IpAddress& address, ForwardMode mode) {
    Result<NextHop> hop = resolved(address, mode);
    hop->state = state;
    if (state != NextHopState::kResolved) hop->mac = {};
    return hop;
  };
  Result<Programmer> programmer = Programmer::adopt(tables, kSeed, resolve);
  ASSERT_TRUE(programmer);
  ASSERT_TRUE(bring_to(*programmer, {vip(1, 80, {1})}));
  state = NextHopState::kResolving;
  ASSERT_TRUE(programmer->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 7U);
  // A daemon that starts anew knows only what the map says.
  Result<Programmer> second = Programmer::adopt(tables, kSeed, resolve);
  ASSERT_TRUE(second);
  ASSERT_TRUE(second->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 7U);
  state = NextHopState::kUnreachable;
  ASSERT_TRUE(second->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 0U);
}

TEST(Programmer, MoreThanTheMapsHoldIsRefusedBeforehand) {
  std::vector<Vip> many;
  for (std::uint32_t i = 0; i < WEIR_VIPS_MAX; ++i)
    many.push_back(vip(1, static_cast<std::uint16_t>(i + 1), {}));
  const Result<void> checked = Programmer::check_capacity(many);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::kInvalid);
}

/// From each state to the next with a daemon that dies after every possible number of writes. The
/// next daemon must reach the same outcome as one that was never killed, and leave nothing over.
TEST(Programmer, ADaemonKilledAfterAnyWriteIsSucceededWithoutATrace) {
  Vip bigger = vip(1, 80, {2, 3});
  bigger.table_size = 257;
  const std::vector<std::vector<Vip>> states{
      {},
      {vip(1, 80, {1, 2, 3}), vip(2, 53, {1})},
      {vip(1, 80, {2, 3, 4}), vip(2, 53, {1}), vip(1, 443, {}, ForwardMode::kL7)},
      {bigger, vip(3, 25, {5})},
      {vip(1, 80, {2, 3}, ForwardMode::kL2)},
      {}};
  for (std::size_t target = 1; target < states.size(); ++target) {
    for (int survive = 0;; ++survive) {
      SCOPED_TRACE(fmt::format("to state {}, killed after {} writes", target, survive));
      auto tables = std::make_unique<FakeTables>();
      Programmer first = adopted(*tables);
      ASSERT_TRUE(bring_to(first, states[target - 1]));
      tables->writes_left = survive;
      const bool finished = bring_to(first, states[target]).has_value();
      tables->writes_left = std::numeric_limits<int>::max();

      Programmer second = adopted(*tables);
      ASSERT_TRUE(bring_to(second, states[target]));
      auto untouched = std::make_unique<FakeTables>();
      Programmer reference = adopted(*untouched);
      ASSERT_TRUE(bring_to(reference, states[target]));
      ASSERT_EQ(visible(*tables), visible(*untouched));
      ASSERT_EQ(backends_in_use(*tables), backends_in_use(*untouched));
      ASSERT_EQ(tables->tables.size(), untouched->tables.size());
      if (finished) break;
    }
  }
}

}  // namespace
}  // namespace weir::l4
