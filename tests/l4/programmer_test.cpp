#include "l4/programmer.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/l4/fake_tables.h"

namespace weir::l4 {
namespace {

using control::ForwardMode;
using control::Protocol;
using control::Vip;

constexpr ProgrammerSettings kSettings{.seed = {{1, 2}}, .ticks = {}};

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
  Result<Programmer> programmer = Programmer::adopt(tables, kSettings, resolved);
  EXPECT_TRUE(programmer) << (programmer ? "" : programmer.error().text());
  return *std::move(programmer);
}

Result<void> bring_to(Programmer& programmer, const std::vector<Vip>& want) {
  return programmer.apply(control::diff_vips(programmer.installed(), want));
}

weir_address address_of_vip(std::uint8_t last) {
  return abi_address(wire::IpAddress::v4(203, 0, 113, last));
}

std::string service_text(const FakeTables& tables, VipId id) {
  const weir_vip& entry = tables.vips.at(id.value());
  std::string text =
      fmt::format("mode {} flags {} limits {} affinity {} quic {}:", entry.mode, entry.flags,
                  entry.limits.new_flows_per_source, entry.affinity_s, entry.quic_id_bytes);
  if (tables.lists.contains(id)) text += fmt::format(" {} prefixes", tables.lists.at(id).size());
  if (tables.sources.contains(id)) text += " sources";
  if (tables.quic.contains(id)) text += fmt::format(" {} ids", tables.quic.at(id).size());
  if (!tables.tables.contains(id)) return text;
  for (const MemberNumber number : tables.tables.at(id).current) {
    const BackendId backend_id =
        number == MemberNumber{} ? BackendId{} : tables.backend_of(id, number);
    const weir_backend& backend = tables.backends.at(backend_id.value());
    text += fmt::format(" {}/{}", address_of(backend.address).text(), backend.flags);
  }
  return text;
}

/// What packets see, without the ids.
std::map<std::string, std::string> visible(const FakeTables& tables) {
  std::map<std::string, std::string> out;
  for (const auto& [key, id] : tables.services)
    out[fmt::format("{} {} {}", address_of(key.address).text(), key.protocol, ntohs(key.port_be))] =
        service_text(tables, id);
  for (const auto& [key, id] : tables.ranges)
    out[fmt::format("{} {} {}/{}", address_of(key.address).text(), key.protocol, ntohs(key.port_be),
                    key.prefix_length)] = service_text(tables, id);
  for (const auto& [address, flags] : tables.addresses)
    out[address_of(address).text()] = fmt::format("flags {}", flags);
  for (const auto& [prefix, first] : tables.prefixes)
    out[fmt::format("{}/{}", address_of(prefix.address).text(), prefix.prefix_length)] = "prefix";
  std::uint64_t bits = 0;
  for (const std::uint64_t word : tables.filter)
    bits += static_cast<std::uint64_t>(std::popcount(word));
  out["filter"] = fmt::format("{} bits", bits);
  out["block list"] =
      fmt::format("{} prefixes", tables.lists.contains(kNode) ? tables.lists.at(kNode).size() : 0);
  out["maps"] = fmt::format("{} tables, {} lists, {} sources, {} quic", tables.tables.size(),
                            tables.lists.size(), tables.sources.size(), tables.quic.size());
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
  EXPECT_EQ(tables.addresses.at(address_of_vip(1)),
            WEIR_ADDRESS_VIP | WEIR_ADDRESS_REFUSE | WEIR_ADDRESS_ECHO);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {2, 4})}));
  EXPECT_EQ(backends_in_use(tables), 2U);
  ASSERT_TRUE(bring_to(programmer, std::vector<Vip>{}));
  EXPECT_TRUE(tables.services.empty());
  EXPECT_TRUE(tables.addresses.empty());
  EXPECT_EQ(tables.filter, AddressFilter{});
  EXPECT_TRUE(tables.tables.empty());
  EXPECT_EQ(backends_in_use(tables), 0U);
}

TEST(Programmer, TheAddressEntryLivesAsLongAsAnyServiceOfTheAddress) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1}), vip(1, 443, {}, ForwardMode::kL7)}));
  EXPECT_NE(tables.addresses.at(address_of_vip(1)) & WEIR_ADDRESS_L7, 0U);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1})}));
  EXPECT_EQ(tables.addresses.at(address_of_vip(1)) & WEIR_ADDRESS_L7, 0U);
  ASSERT_TRUE(bring_to(programmer, std::vector<Vip>{}));
  EXPECT_FALSE(tables.addresses.contains(address_of_vip(1)));
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
  service.backends[0].state = control::BackendState::kDraining;
  ASSERT_TRUE(bring_to(programmer, {service}));
  const InstalledBackend& drained = programmer.vips().at(service.key()).backends[0];
  EXPECT_EQ(drained.id, id);
  EXPECT_EQ(drained.slots, 0U);
  EXPECT_TRUE(tables.in_use(id));
  EXPECT_TRUE(tables.is_draining(id));
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
  for (std::uint32_t round = 0; round < FakeTables::kBackends + 10; ++round) {
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
  Result<Programmer> programmer = Programmer::adopt(tables, kSettings, resolve);
  ASSERT_TRUE(programmer);
  ASSERT_TRUE(bring_to(*programmer, {vip(1, 80, {1})}));
  state = NextHopState::kResolving;
  ASSERT_TRUE(programmer->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 7U);
  // A daemon that starts anew knows only what the map says.
  Result<Programmer> second = Programmer::adopt(tables, kSettings, resolve);
  ASSERT_TRUE(second);
  ASSERT_TRUE(second->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 7U);
  state = NextHopState::kUnreachable;
  ASSERT_TRUE(second->refresh_next_hops());
  EXPECT_EQ(tables.backends[1].egress_ifindex, 0U);
}

Result<void> check_capacity(const std::vector<Vip>& want) {
  std::vector<const Vip*> all;
  for (const Vip& vip : want)
    all.push_back(&vip);
  return Programmer::check_capacity(all);
}

TEST(Programmer, MoreThanTheMapsHoldIsRefusedBeforehand) {
  std::vector<Vip> many;
  for (std::uint32_t i = 0; i < WEIR_VIPS_MAX; ++i)
    many.push_back(vip(1, static_cast<std::uint16_t>(i + 1), {}));
  const Result<void> checked = check_capacity(many);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::kInvalid);
}

/// A desired state of everything that a programmer brings about.
struct Wanted {
  std::vector<Vip> vips;
  NodeRules node;
};

Result<void> bring_to(Programmer& programmer, const Wanted& want) {
  if (Result<void> set = programmer.set_node(want.node); !set) return set;
  return bring_to(programmer, want.vips);
}

/// From each state to the next with a daemon that dies after every possible number of writes. The
/// next daemon must reach the same outcome as one that was never killed, and leave nothing over.
void expect_succession(const std::vector<Wanted>& states, bool publishes_at_once) {
  for (std::size_t target = 1; target < states.size(); ++target) {
    auto untouched = std::make_unique<FakeTables>();
    Programmer reference = adopted(*untouched);
    ASSERT_TRUE(bring_to(reference, states[target]));
    for (int survive = 0;; ++survive) {
      SCOPED_TRACE(fmt::format("to state {}, killed after {} writes", target, survive));
      auto tables = std::make_unique<FakeTables>();
      tables->publishes_at_once = publishes_at_once;
      Programmer first = adopted(*tables);
      ASSERT_TRUE(bring_to(first, states[target - 1]));
      tables->writes_left = survive;
      const bool finished = bring_to(first, states[target]).has_value();
      tables->kill();

      Programmer second = adopted(*tables);
      ASSERT_TRUE(bring_to(second, states[target]));
      ASSERT_EQ(visible(*tables), visible(*untouched));
      ASSERT_EQ(backends_in_use(*tables), backends_in_use(*untouched));
      if (finished) break;
    }
  }
}

/// Whether maps that were staged are there before all are published is up to how many there are.
void expect_succession(const std::vector<Wanted>& states) {
  expect_succession(states, false);
  expect_succession(states, true);
}

TEST(Programmer, ADaemonKilledAfterAnyWriteIsSucceededWithoutATrace) {
  Vip bigger = vip(1, 80, {2, 3});
  bigger.table_size = 257;
  Vip draining = vip(1, 80, {2, 3, 4});
  draining.backends[0].state = control::BackendState::kDraining;
  expect_succession(
      {{{}, {}},
       {{vip(1, 80, {1, 2, 3}), vip(2, 53, {1})}, {}},
       {{draining, vip(2, 53, {1}), vip(1, 443, {}, ForwardMode::kL7)}, {}},
       {{bigger, vip(3, 25, {5})}, {.l7_addresses = {wire::IpAddress::v4(10, 0, 0, 9)}}},
       {{vip(1, 80, {2, 3}, ForwardMode::kL2)}, {}},
       {{}, {}}});
}

TEST(Programmer, RangesAndPrefixesAreSucceededToo) {
  Vip wide = vip(1, 0, {1, 2});
  wide.ports = {wire::Port{5000}, wire::Port{5999}};
  Vip narrow = vip(1, 0, {3});
  narrow.ports = {wire::Port{5000}, wire::Port{5007}};
  Vip all = vip(1, 0, {1});
  all.ports = control::PortRange::any();
  Vip network = vip(16, 80, {1});
  network.prefix_length = 124;
  Vip longer = network;
  longer.prefix_length = 126;
  Vip slow = wide;
  slow.limits.packets = 1000;
  Vip other = wide;
  other.table_size = 257;
  expect_succession({{{}, {}},
                     {{wide, network}, {}},
                     {{wide, narrow, network}, {}},
                     {{slow, longer}, {.answers_echo = false}},
                     {{other, all}, {}},
                     {{}, {}}});
}

TEST(Programmer, ModeNatIsSucceededToo) {
  Vip full = vip(1, 80, {1, 2}, ForwardMode::kNat);
  full.backends[0].port = wire::Port{8080};
  Vip kept = full;
  kept.snat = control::Snat::kNever;
  Vip fewer = vip(1, 80, {2}, ForwardMode::kNat);
  const NodeRules chosen{.snat_addresses = {wire::IpAddress::v4(10, 0, 0, 77)}};
  expect_succession({{{}, {}},
                     {{full, vip(2, 53, {3}, ForwardMode::kNat)}, {}},
                     {{full, vip(2, 53, {1})}, chosen},
                     {{kept}, {}},
                     {{fewer}, chosen},
                     {{vip(1, 80, {2})}, {}},
                     {{}, {}}});
}

TEST(Programmer, AutoRewritesTheSourceAndNeverKeepsIt) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  Vip nat = vip(1, 80, {1}, ForwardMode::kNat);
  const weir_address source = abi_address(wire::IpAddress::v4(10, 0, 0, 1));
  ASSERT_TRUE(bring_to(programmer, {nat}));
  EXPECT_EQ(tables.addresses.at(source), std::uint32_t{WEIR_ADDRESS_SNAT});
  nat.snat = control::Snat::kNever;
  ASSERT_TRUE(bring_to(programmer, {nat}));
  EXPECT_FALSE(tables.addresses.contains(source));
  EXPECT_EQ(adopted(tables).installed().at(0).snat, control::Snat::kNever);
}

TEST(Programmer, EachBackendHasOneOfTheSourcesOfItsFamily) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  NodeRules node{.snat_addresses = {*wire::IpAddress::parse("2001:db8::7"),
                                    wire::IpAddress::v4(10, 0, 0, 77),
                                    wire::IpAddress::v4(10, 0, 0, 78)}};
  ASSERT_TRUE(bring_to(programmer, {{vip(1, 80, {1, 2}, ForwardMode::kNat)}, node}));
  std::set<std::string> sources;
  for (const weir_backend& backend : tables.backends)
    if ((backend.flags & WEIR_BACKEND_IN_USE) != 0)
      sources.insert(address_of(backend.outer_source).text());
  EXPECT_EQ(sources, (std::set<std::string>{"10.0.0.77", "10.0.0.78"}));
  node.snat_addresses.clear();
  ASSERT_TRUE(programmer.set_node(node));
  EXPECT_FALSE(tables.addresses.contains(abi_address(wire::IpAddress::v4(10, 0, 0, 77))));
  EXPECT_TRUE(tables.addresses.contains(abi_address(wire::IpAddress::v4(10, 0, 0, 1))));
}

TEST(Programmer, WhatAVipHasForItselfIsSucceededToo) {
  Vip guarded = vip(1, 443, {1, 2});
  guarded.protocol = Protocol::kUdp;
  guarded.sources.deny = {*wire::Prefix::parse("198.51.100.0/24")};
  guarded.limits.new_flows_per_source = 5;
  guarded.quic = {.server_id_bytes = 2, .config_rotation = 1};
  guarded.backends[0].server_id = "aa";
  guarded.backends[1].server_id = "bb";
  Vip changed = guarded;
  changed.sources = {.allow = {*wire::Prefix::parse("192.0.2.0/24")}, .deny = {}};
  changed.quic.server_id_bytes = 3;
  changed.backends[0].server_id = "aaa";
  changed.backends.pop_back();
  Vip plain = guarded;
  plain.sources = {};
  plain.limits = {};
  plain.quic = {};
  for (control::Backend& backend : plain.backends)
    backend.server_id.clear();
  const NodeRules blocking{.block_list = {*wire::Prefix::parse("203.0.113.128/25"),
                                          *wire::Prefix::parse("2001:db8::/32")}};
  const NodeRules blocking_less{.block_list = {*wire::Prefix::parse("203.0.113.128/25")}};
  expect_succession({{{plain}, {}},
                     {{guarded, vip(2, 80, {1})}, blocking},
                     {{changed, vip(2, 80, {1})}, blocking_less},
                     {{plain, vip(2, 80, {1})}, {}},
                     {{guarded}, {}},
                     {{}, {}}});
}

Vip range(std::uint8_t last, std::uint16_t first_port, std::uint16_t last_port) {
  Vip out = vip(last, 0, {1});
  out.ports = {wire::Port{first_port}, wire::Port{last_port}};
  return out;
}

/// The id of the service that takes a port, as the program finds it.
std::uint32_t id_at(const FakeTables& tables, std::uint8_t last, std::uint16_t port) {
  std::uint32_t best = 0;
  std::uint32_t id = 0;
  for (const auto& [key, vip_id] : tables.ranges) {
    const std::uint32_t bits = key.prefix_length - WEIR_RANGE_PREFIX_BITS;
    const std::uint32_t mask = bits == 0 ? 0 : 0xffffU << (16 - bits) & 0xffffU;
    const weir_address address = address_of_vip(last);
    if (!same_bytes(key.address, address) || (port & mask) != ntohs(key.port_be)) continue;
    if (id != 0 && bits < best) continue;
    best = bits;
    id = vip_id.value();
  }
  return id;
}

TEST(Programmer, OfNestedRangesTheNarrowestTakesAPort) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  // 5000…5007 is one of the blocks that 5000…5999 is made of.
  const Vip wide = range(1, 5000, 5999);
  const Vip narrow = range(1, 5000, 5007);
  const auto id_of = [&](const Vip& of) { return programmer.vips().at(of.key()).id.value(); };
  const auto expect_narrow = [&](std::uint16_t from, std::uint16_t to) {
    for (std::uint32_t port = 4990; port <= 6010; ++port) {
      const auto at = static_cast<std::uint16_t>(port);
      const std::uint32_t expected = at < 5000 || at > 5999  ? 0
                                     : at >= from && at < to ? id_of(narrow)
                                                             : id_of(wide);
      ASSERT_EQ(id_at(tables, 1, at), expected) << port;
    }
  };
  ASSERT_TRUE(bring_to(programmer, {wide}));
  expect_narrow(0, 0);
  ASSERT_TRUE(bring_to(programmer, {wide, narrow}));
  expect_narrow(5000, 5008);
  Programmer second = adopted(tables);
  EXPECT_EQ(second.vips().size(), 2U) << "the wide one lost its first entry to the narrow one";
  ASSERT_TRUE(bring_to(programmer, {wide}));
  expect_narrow(0, 0);
}

TEST(Programmer, ANewTableKeepsTheOneBeforeAndNoOlder) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  const auto slots = [&] { return tables.tables.begin()->second; };
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1})}));
  EXPECT_TRUE(slots().previous.empty());
  const auto first = slots();
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1, 2, 3})}));
  const auto second = slots();
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {2, 3})}));
  const auto third = slots();
  EXPECT_EQ(second.previous, first.current);
  EXPECT_EQ(third.previous, second.current);
  Vip renamed = vip(1, 80, {2, 3});
  renamed.name = "another";
  ASSERT_TRUE(bring_to(programmer, {renamed}));
  Programmer successor = adopted(tables);
  ASSERT_TRUE(bring_to(successor, {renamed}));
  EXPECT_EQ(slots(), third) << "an equal table pushed the one before out";
}

TEST(Programmer, ATableThatChangesItsSizeKeepsIdsAndTheOneBefore) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  Vip service = vip(1, 80, {1, 2});
  ASSERT_TRUE(bring_to(programmer, {service}));
  const InstalledVip before = programmer.vips().at(service.key());
  const Table first = tables.tables.at(before.id);
  service.table_size = 509;
  ASSERT_TRUE(bring_to(programmer, {service}));
  const InstalledVip& after = programmer.vips().at(service.key());
  EXPECT_EQ(after.id, before.id);
  EXPECT_EQ(after.backends[0].id, before.backends[0].id);
  EXPECT_EQ(tables.tables.at(after.id).current.size(), 509U);
  EXPECT_EQ(tables.tables.at(after.id).previous, first.current);
}

TEST(Programmer, VipsWithTheSameBackendsHaveTheSameTables) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1, 2, 3}), vip(2, 443, {3, 1, 2})}));
  const auto table_of = [&](const Vip& of) {
    return tables.tables.at(programmer.vips().at(of.key()).id);
  };
  EXPECT_EQ(table_of(vip(1, 80, {})), table_of(vip(2, 443, {})));
  ASSERT_TRUE(bring_to(programmer, {vip(1, 80, {1, 4, 3}), vip(2, 443, {4, 3, 1})}));
  EXPECT_EQ(table_of(vip(1, 80, {})), table_of(vip(2, 443, {})));
}

TEST(Programmer, AVipThatGrowsOutOfItsRoomKeepsNumbersAndIds) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  std::vector<std::uint8_t> backends{1, 2};
  ASSERT_TRUE(bring_to(programmer, std::vector{vip(1, 80, backends), vip(2, 80, {1})}));
  const InstalledVip before = programmer.vips().at(vip(1, 80, {}).key());
  for (std::uint8_t more = 3; more <= 40; ++more)
    backends.push_back(more);
  ASSERT_TRUE(bring_to(programmer, std::vector{vip(1, 80, backends), vip(2, 80, {1})}));
  const InstalledVip& after = programmer.vips().at(before.vip.key());
  EXPECT_NE(after.first_member, before.first_member);
  for (std::size_t i = 0; i < before.backends.size(); ++i) {
    EXPECT_EQ(after.backends[i].number, before.backends[i].number);
    EXPECT_EQ(tables.backend_of(after.id, after.backends[i].number), before.backends[i].id);
  }
}

TEST(Programmer, AllTablesOfAChangeArePublishedInOneCall) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  std::vector<Vip> want;
  for (std::uint8_t last = 1; last <= 20; ++last)
    want.push_back(vip(last, 80, {1, 2}));
  const int before = tables.publications;
  ASSERT_TRUE(bring_to(programmer, want));
  EXPECT_EQ(tables.publications - before, 1);
  for (Vip& service : want)
    service.backends.pop_back();
  ASSERT_TRUE(bring_to(programmer, want));
  EXPECT_EQ(tables.publications - before, 2);
  ASSERT_TRUE(bring_to(programmer, std::vector<Vip>{}));
  EXPECT_EQ(tables.publications - before, 3);
}

TEST(Programmer, LimitsAndListsChangeInPlace) {
  FakeTables tables;
  Programmer programmer = adopted(tables);
  Vip service = vip(1, 80, {1, 2});
  ASSERT_TRUE(bring_to(programmer, {service}));
  const std::uint32_t id = tables.services.begin()->second.value();
  const int published = tables.tables_published;
  service.limits.packets = 100;
  service.sources.deny = {*wire::Prefix::parse("198.51.100.0/24")};
  service.when_empty = control::WhenEmpty::kDrop;
  const int writes = tables.writes;
  ASSERT_TRUE(bring_to(programmer, {service}));
  EXPECT_EQ(tables.services.begin()->second.value(), id);
  const weir_vip& after = tables.vips.at(id);
  EXPECT_EQ(after.limits.packets, 100U);
  EXPECT_EQ(after.flags, WEIR_VIP_SOURCE_LIST | WEIR_VIP_LIMITS);
  EXPECT_EQ(tables.tables_published, published);
  EXPECT_EQ(tables.writes - writes, 3) << "the list, the entry, the address's flags";
}

TEST(Programmer, ALostStateDirectoryLosesNoProtection) {
  FakeTables tables;
  Programmer first = adopted(tables);
  Vip service = vip(1, 80, {1, 2});
  service.sources = {.allow = {*wire::Prefix::parse("192.0.2.0/24")},
                     .deny = {*wire::Prefix::parse("192.0.2.7")}};
  service.limits = {.new_flows_per_source = 3};
  service.hash = control::HashPolicy::kSourceIp;
  service.affinity_timeout_s = 3600;
  const NodeRules node{.answers_echo = false,
                       .block_list = {*wire::Prefix::parse("198.51.100.0/24")}};
  ASSERT_TRUE(bring_to(first, Wanted{{service}, node}));
  Programmer second = adopted(tables);
  EXPECT_EQ(second.installed(), first.installed());
  EXPECT_EQ(second.node(), node);
}

TEST(Programmer, ARestartPublishesNoListThatIsThereAlready) {
  FakeTables tables;
  Vip service = vip(1, 80, {1});
  service.sources.deny = {*wire::Prefix::parse("198.51.100.0/24")};
  const Wanted want{{service}, {.block_list = {*wire::Prefix::parse("192.0.2.0/24")}}};
  Programmer first = adopted(tables);
  ASSERT_TRUE(bring_to(first, want));
  const int writes = tables.writes;
  Programmer second = adopted(tables);
  ASSERT_TRUE(bring_to(second, want));
  EXPECT_EQ(tables.writes, writes);
}

TEST(Programmer, PrefixesThatBeginAlikeButEndElsewhereAreRefusedBeforehand) {
  Vip network = vip(16, 80, {});
  network.prefix_length = 124;
  const Result<void> checked = check_capacity({network, vip(16, 443, {})});
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message().find("203.0.113.16"), std::string::npos);
  EXPECT_TRUE(check_capacity({network, vip(17, 443, {})}));
}

}  // namespace
}  // namespace weir::l4
