#include "l7/tcp/flow_table.h"

#include <gtest/gtest.h>

#include <set>
#include <unordered_map>
#include <vector>

#include "l4/base/random.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/time_wait.h"

namespace weir::tcp {
namespace {

FlowKey key_of(std::uint16_t remote_port) {
  return FlowKey{{*wire::IpAddress::parse("192.0.2.1"), wire::Port{80}},
                 {*wire::IpAddress::parse("198.51.100.1"), wire::Port{remote_port}}};
}

TEST(FlowTable, AgreesWithAMapEvenWhenHashesCollide) {
  constexpr std::uint32_t kObjects = 200;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random{seed};
    // Few different hashes, so that runs are long, wrap around the end and share tags.
    std::vector<std::uint64_t> hash(kObjects);
    for (auto& value : hash)
      value = random.chance(0.5) ? random.below(8) : 0xfffffff8 + random.below(8);
    FlowTable table{kObjects};
    std::set<std::uint32_t> model;
    for (int step = 0; step < 4000; ++step) {
      const std::uint32_t object = random.below(kObjects);
      if (model.contains(object)) {
        table.erase(hash[object], object);
        model.erase(object);
      } else {
        table.insert(hash[object], object);
        model.insert(object);
      }
      ASSERT_EQ(table.size(), model.size());
      const std::uint32_t sought = random.below(kObjects);
      const auto found =
          table.find(hash[sought], [&](std::uint32_t candidate) { return candidate == sought; });
      ASSERT_EQ(found.has_value(), model.contains(sought)) << "seed " << seed << " step " << step;
    }
  }
}

TEST(FlowHash, DependsOnEveryFieldAndOnTheSecret) {
  const FlowHash hash{{1, 2}};
  const FlowKey base = key_of(1000);
  std::set<std::uint64_t> values{hash(base), FlowHash{{1, 3}}(base), FlowHash{{2, 2}}(base)};
  FlowKey changed = base;
  changed.local_port = 81;
  values.insert(hash(changed));
  values.insert(hash(key_of(1001)));
  for (std::size_t i = 0; i < 16; ++i) {
    changed = base;
    changed.local_address.bytes[i] ^= 1;
    values.insert(hash(changed));
    changed = base;
    changed.remote_address.bytes[i] ^= 1;
    values.insert(hash(changed));
  }
  EXPECT_EQ(values.size(), 3U + 2 + 32);
  EXPECT_EQ(hash(base), hash(key_of(1000)));
}

TEST(TimeWaitTable, ExpiresInOrderAndARestartMovesARecordToTheEnd) {
  TimeWaitTable table{8, std::chrono::seconds{60}};
  const Instant start{std::chrono::seconds{1000}};
  const FlowHash hash{{5, 6}};
  const auto add = [&](std::uint16_t port, int second) {
    return table.add(hash(key_of(port)), {key_of(port), Seq{port}, Seq{7}},
                     start + std::chrono::seconds{second});
  };
  EXPECT_EQ(table.next_expiry(), kNever);
  EXPECT_FALSE(add(1, 0));
  EXPECT_FALSE(add(2, 10));
  EXPECT_FALSE(add(3, 20));
  table.restart(hash(key_of(1)), key_of(1), start + std::chrono::seconds{30});
  EXPECT_EQ(table.next_expiry(), start + std::chrono::seconds{70});
  table.expire(start + std::chrono::seconds{80});
  EXPECT_EQ(table.size(), 1U);
  ASSERT_NE(table.find(hash(key_of(1)), key_of(1)), nullptr);
  EXPECT_EQ(table.find(hash(key_of(1)), key_of(1))->send_next, Seq{1});
  EXPECT_EQ(table.find(hash(key_of(2)), key_of(2)), nullptr);
  table.remove(hash(key_of(1)), key_of(1));
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.next_expiry(), kNever);
}

TEST(TimeWaitTable, WhenFullTheOldestIsEvictedAndItsPlaceIsUsedAgain) {
  TimeWaitTable table{4, std::chrono::seconds{60}};
  const FlowHash hash{{5, 6}};
  for (std::uint16_t port = 1; port <= 100; ++port)
    EXPECT_EQ(table.add(hash(key_of(port)), {key_of(port), Seq{}, Seq{}}, Instant{}), port > 4);
  EXPECT_EQ(table.size(), 4U);
  for (std::uint16_t port = 97; port <= 100; ++port)
    EXPECT_NE(table.find(hash(key_of(port)), key_of(port)), nullptr);
}

}  // namespace
}  // namespace weir::tcp
