#include "l7/tcp/syn_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <numeric>
#include <vector>

#include "l4/base/random.h"
#include "tests/support/alloc_guard.h"

namespace weir::tcp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Instant kStart{seconds{1000}};
const FlowHash kHash{{5, 6}};

FlowKey key_of(const wire::IpAddress& remote, std::uint16_t port) {
  return FlowKey{{wire::IpAddress::v4(192, 0, 2, 1), wire::Port{80}}, {remote, wire::Port{port}}};
}

FlowKey key_of(std::uint16_t port) { return key_of(wire::IpAddress::v4(198, 51, 100, 1), port); }

FlowKey key_of(std::string_view remote, std::uint16_t port = 1) {
  return key_of(*wire::IpAddress::parse(remote), port);
}

HalfOpen record_of(const FlowKey& key) {
  HalfOpen record;
  record.key = key;
  record.iss = Seq{key.remote_port};
  return record;
}

SynQueue queue_of(std::uint32_t capacity) { return SynQueue{capacity, {7, 8}}; }

HalfOpen& add(SynQueue& queue, const FlowKey& key, Instant now = kStart) {
  return queue.add(kHash(key), record_of(key), now);
}

/// Advances and returns the ports of what was sent again, in order.
std::vector<std::uint16_t> resent(SynQueue& queue, Instant now, std::uint32_t expired = 0) {
  std::vector<std::uint16_t> ports;
  const std::uint32_t dropped =
      queue.advance(now, [&](const HalfOpen& record) { ports.push_back(record.key.remote_port); });
  EXPECT_EQ(dropped, expired);
  return ports;
}

using Ports = std::vector<std::uint16_t>;

// ---- records ------------------------------------------------------------------------------------

TEST(SynQueue, ARecordIsFoundAsItWasAddedUntilItIsRemoved) {
  SynQueue queue = queue_of(8);
  HalfOpen wanted = record_of(key_of(1));
  wanted.user = 77;
  wanted.irs = Seq{5};
  wanted.ts_recent = 9;
  wanted.window = 1000;
  wanted.peer = {
      .mss = 1400, .window_scale = 3, .sack_permitted = true, .timestamps = true, .ecn = true};
  queue.add(kHash(key_of(1)), wanted, kStart);
  add(queue, key_of(2));

  const HalfOpen* found = queue.find(kHash(key_of(1)), key_of(1));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->key, wanted.key);
  EXPECT_EQ(found->user, 77U);
  EXPECT_EQ(found->iss, wanted.iss);
  EXPECT_EQ(found->irs, Seq{5});
  EXPECT_EQ(found->ts_recent, 9U);
  EXPECT_EQ(found->window, 1000);
  EXPECT_EQ(found->peer, wanted.peer);
  EXPECT_EQ(queue.find(kHash(key_of(3)), key_of(3)), nullptr);

  queue.remove(kHash(key_of(1)), key_of(1));
  EXPECT_EQ(queue.find(kHash(key_of(1)), key_of(1)), nullptr);
  EXPECT_NE(queue.find(kHash(key_of(2)), key_of(2)), nullptr);
  EXPECT_EQ(queue.size(), 1U);
}

TEST(SynQueue, IsFullAtItsCapacityAndNobodyIsPushedOut) {
  SynQueue queue = queue_of(3);
  for (std::uint16_t port = 1; port <= 3; ++port) {
    EXPECT_FALSE(queue.full());
    add(queue, key_of(port));
  }
  EXPECT_TRUE(queue.full());
  for (std::uint16_t port = 1; port <= 3; ++port)
    EXPECT_NE(queue.find(kHash(key_of(port)), key_of(port)), nullptr);
  queue.remove(kHash(key_of(2)), key_of(2));
  EXPECT_FALSE(queue.full());
}

TEST(SynQueue, PlacesAreUsedAgain) {
  SynQueue queue = queue_of(3);
  const testing::AllocationGuard guard;
  for (std::uint16_t port = 1; port <= 100; ++port) {
    add(queue, key_of(port), kStart + seconds{port});
    if (port > 2) {
      const auto oldest = static_cast<std::uint16_t>(port - 2);
      queue.remove(kHash(key_of(oldest)), key_of(oldest));
    }
  }
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(queue.size(), 2U);
  EXPECT_NE(queue.find(kHash(key_of(99)), key_of(99)), nullptr);
  EXPECT_NE(queue.find(kHash(key_of(100)), key_of(100)), nullptr);
}

TEST(SynQueue, TheCapacityHasLimits) {
  EXPECT_EQ(queue_of(0).capacity(), 1U);
  EXPECT_EQ(queue_of(1'000'000).capacity(), 65535U);
}

// ---- time ---------------------------------------------------------------------------------------

TEST(SynQueue, ARepeatedSynBeginsTheWaitAnew) {
  SynQueue queue = queue_of(8);
  add(queue, key_of(1));
  queue.renew(kHash(key_of(1)), key_of(1), kStart + std::chrono::milliseconds{900});
  EXPECT_EQ(resent(queue, kStart + std::chrono::milliseconds{2800}), Ports{});
  EXPECT_EQ(resent(queue, kStart + std::chrono::milliseconds{2900}), Ports{1});
  EXPECT_EQ(queue.find(kHash(key_of(1)), key_of(1))->retransmissions, 2);
  queue.remove(kHash(key_of(1)), key_of(1));
  EXPECT_EQ(queue.next_deadline(), kNever);
}

TEST(SynQueue, WhoRepeatsASynForEverHoldsNoPlaceForEver) {
  SynQueue queue = queue_of(8);
  add(queue, key_of(1));
  Instant now = kStart;
  for (; queue.size() > 0 && now < kStart + std::chrono::minutes{5}; now += seconds{1}) {
    queue.renew(kHash(key_of(1)), key_of(1), now);
    queue.advance(now, [](const HalfOpen&) {});
  }
  EXPECT_LE(now, kStart + seconds{64});
}

TEST(SynQueue, SendsAgainAfterOneTwoFourEightAndSixteenSecondsAndThenGivesUp) {
  SynQueue queue = queue_of(8);
  EXPECT_EQ(queue.next_deadline(), kNever);
  EXPECT_EQ(SynQueue::last_sent(add(queue, key_of(1))), kStart);
  int sent = 0;
  for (const int due : {1, 3, 7, 15, 31}) {
    const Instant deadline = kStart + seconds{due};
    EXPECT_EQ(queue.next_deadline(), deadline);
    EXPECT_EQ(resent(queue, deadline - Duration{1}), Ports{});
    EXPECT_EQ(resent(queue, deadline), Ports{1});
    const HalfOpen* record = queue.find(kHash(key_of(1)), key_of(1));
    ASSERT_NE(record, nullptr);
    EXPECT_EQ(record->retransmissions, ++sent);
    EXPECT_EQ(SynQueue::last_sent(*record), deadline);
  }
  EXPECT_EQ(queue.next_deadline(), kStart + seconds{63});
  EXPECT_EQ(resent(queue, kStart + seconds{63} - Duration{1}), Ports{});
  EXPECT_EQ(resent(queue, kStart + seconds{63}, 1), Ports{});
  EXPECT_EQ(queue.size(), 0U);
  EXPECT_EQ(queue.next_deadline(), kNever);
  EXPECT_EQ(queue.held_by(queue.prefix_bucket(key_of(1))), 0);
}

TEST(SynQueue, WhatIsLateWaitsItsFullTimeAfterItWasSent) {
  SynQueue queue = queue_of(8);
  add(queue, key_of(1));
  EXPECT_EQ(resent(queue, kStart + seconds{10}), Ports{1});
  EXPECT_EQ(queue.next_deadline(), kStart + seconds{12});
}

TEST(SynQueue, RecordsOfAllAgesAreServedInTheOrderOfTheirDeadlines) {
  SynQueue queue = queue_of(8);
  add(queue, key_of(1));                                    // 1 s, then 3 s, then 7 s
  EXPECT_EQ(resent(queue, kStart + seconds{1}), Ports{1});  // and now waits two
  add(queue, key_of(2), kStart + milliseconds{1500});       // 2.5 s
  add(queue, key_of(3), kStart + milliseconds{2500});       // 3.5 s
  EXPECT_EQ(queue.next_deadline(), kStart + milliseconds{2500});
  EXPECT_EQ(resent(queue, kStart + seconds{4}), (Ports{2, 1, 3}));
}

TEST(SynQueue, ARecordThatIsRemovedIsNotSentAgain) {
  SynQueue queue = queue_of(8);
  for (std::uint16_t port = 1; port <= 3; ++port)
    add(queue, key_of(port));
  queue.remove(kHash(key_of(2)), key_of(2));
  EXPECT_EQ(resent(queue, kStart + seconds{1}), (Ports{1, 3}));
  queue.remove(kHash(key_of(3)), key_of(3));  // now in the second list
  EXPECT_EQ(resent(queue, kStart + seconds{3}), Ports{1});
}

TEST(SynQueue, WhatTheCallbackChangesStaysInTheRecord) {
  SynQueue queue = queue_of(8);
  add(queue, key_of(1)).peer.ecn = true;
  queue.advance(kStart + seconds{1}, [](HalfOpen& record) { record.peer.ecn = false; });
  EXPECT_FALSE(queue.find(kHash(key_of(1)), key_of(1))->peer.ecn);
}

TEST(SynQueue, OneCallDoesABoundedAmountAndTheRestIsDueAtOnce) {
  constexpr std::uint16_t kRecords = SynQueue::kAdvanceMax + 100;
  SynQueue queue = queue_of(kRecords);
  for (std::uint16_t port = 1; port <= kRecords; ++port)
    add(queue, key_of(port));
  const Instant due = kStart + seconds{1};
  EXPECT_EQ(resent(queue, due).size(), SynQueue::kAdvanceMax);
  EXPECT_EQ(queue.next_deadline(), due);
  EXPECT_EQ(resent(queue, due).size(), 100U);
  EXPECT_EQ(queue.next_deadline(), due + seconds{2});
}

// ---- shares -------------------------------------------------------------------------------------

TEST(SynQueue, ANetworkThatHoldsMoreThanAQuarterIsOverAndOthersAreNot) {
  SynQueue queue = queue_of(64);
  const FlowKey other = key_of("203.0.113.1");
  ASSERT_NE(queue.prefix_bucket(other), queue.prefix_bucket(key_of(1)));
  for (std::uint16_t port = 1; port <= 17; ++port) {
    EXPECT_FALSE(queue.prefix_is_over(key_of(port))) << port;
    add(queue, key_of(port));
  }
  EXPECT_TRUE(queue.prefix_is_over(key_of(99)));
  EXPECT_TRUE(queue.prefix_is_over(key_of("198.51.100.255")));
  EXPECT_FALSE(queue.prefix_is_over(other));
  EXPECT_FALSE(queue.full());
  queue.remove(kHash(key_of(9)), key_of(9));
  EXPECT_FALSE(queue.prefix_is_over(key_of(99)));
}

TEST(SynQueue, ASmallQueueHasNoShares) {
  SynQueue queue = queue_of(63);
  for (std::uint16_t port = 1; port <= 63; ++port)
    add(queue, key_of(port));
  EXPECT_FALSE(queue.prefix_is_over(key_of(99)));
}

TEST(SynQueue, ANetworkIsASlash24OfIpv4AndASlash64OfIpv6) {
  const SynQueue queue = queue_of(64);
  const auto bucket = [&](std::string_view address) {
    return queue.prefix_bucket(key_of(address));
  };
  EXPECT_EQ(bucket("198.51.100.0"), bucket("198.51.100.255"));
  EXPECT_NE(bucket("198.51.100.0"), bucket("198.51.101.0"));
  EXPECT_NE(bucket("198.51.100.0"), bucket("199.51.100.0"));
  EXPECT_EQ(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:1:ffff:ffff:ffff:ffff"));
  EXPECT_NE(bucket("2001:db8:0:1::1"), bucket("2001:db8:0:2::1"));
  EXPECT_NE(bucket("2001:db8:0:1::1"), bucket("2001:db9:0:1::1"));
  EXPECT_NE(bucket("::"), bucket("0.0.0.0"));
  EXPECT_EQ(queue.prefix_bucket(key_of("198.51.100.1", 1)),
            queue.prefix_bucket(key_of("198.51.100.1", 2)));
}

TEST(SynQueue, WhoSharesABucketWithWhomDependsOnTheSecret) {
  const SynQueue one{64, {7, 8}};
  const SynQueue other{64, {7, 9}};
  int same = 0;
  for (int i = 0; i < 256; ++i) {
    const FlowKey key = key_of(wire::IpAddress::v4(10, 0, static_cast<std::uint8_t>(i), 1), 1);
    same += one.prefix_bucket(key) == other.prefix_bucket(key) ? 1 : 0;
  }
  EXPECT_LE(same, 4);  // of 256 draws from 4096
}

// ---- against a model ----------------------------------------------------------------------------

/// The queue beside a map, with networks few enough to meet again.
class Model {
 public:
  explicit Model(std::uint64_t seed) : random_{seed} {}

  void step() {
    now_ += milliseconds{random_.below(40)};
    const FlowKey key =
        key_of(wire::IpAddress::v4(10, 0, static_cast<std::uint8_t>(random_.below(8)), 1),
               static_cast<std::uint16_t>(random_.below(64)));
    const bool known = records_.contains(name(key));
    ASSERT_EQ(queue_.find(kHash(key), key) != nullptr, known);
    if (known) {
      queue_.remove(kHash(key), key);
      records_.erase(name(key));
    } else if (!queue_.full()) {
      add(queue_, key, now_);
      records_[name(key)] = {key, now_ + seconds{1}, 0};
    }
    if (random_.chance(0.1)) advance();
    if (random_.chance(0.1)) check();
  }

  void advance() {
    std::uint32_t expired = 0;
    for (auto it = records_.begin(); it != records_.end();) {
      Expected& expected = it->second;
      const bool due = expected.deadline <= now_;
      const bool dead = due && expected.retransmissions == SynQueue::kRetransmissionsMax;
      if (due && !dead) {
        expected.deadline = now_ + seconds{1U << ++expected.retransmissions};
        ++sent_expected_;
      }
      expired += dead ? 1U : 0U;
      it = dead ? records_.erase(it) : std::next(it);
    }
    EXPECT_EQ(queue_.advance(now_, [&](const HalfOpen&) { ++sent_; }), expired);
    expired_ += expired;
  }

  void check() {
    std::map<std::uint16_t, int> held;
    Instant first = kNever;
    for (const auto& [unused, expected] : records_) {
      ++held[queue_.prefix_bucket(expected.key)];
      first = std::min(first, expected.deadline);
    }
    ASSERT_EQ(queue_.size(), records_.size());
    ASSERT_EQ(queue_.next_deadline(), first);
    ASSERT_EQ(sent_, sent_expected_);
    for (const auto& [bucket, count] : held)
      ASSERT_EQ(queue_.held_by(bucket), count);
  }

  void let_all_expire() {
    for (int i = 0; i < 6; ++i) {
      now_ += seconds{32};
      advance();
    }
    check();
  }

  [[nodiscard]] int held_in_all() const {
    int sum = 0;
    for (std::uint32_t bucket = 0; bucket < SynQueue::kPrefixBuckets; ++bucket)
      sum += queue_.held_by(static_cast<std::uint16_t>(bucket));
    return sum;
  }
  [[nodiscard]] std::uint32_t size() const { return queue_.size(); }
  [[nodiscard]] std::uint32_t expired() const { return expired_; }

 private:
  struct Expected {
    FlowKey key;
    Instant deadline;
    unsigned retransmissions = 0;
  };
  using Name = std::pair<wire::IpAddress, std::uint16_t>;
  static Name name(const FlowKey& key) { return {key.remote_address, key.remote_port}; }

  Random random_;
  SynQueue queue_ = queue_of(200);
  std::map<Name, Expected> records_;
  Instant now_ = kStart;
  int sent_ = 0;
  int sent_expected_ = 0;
  std::uint32_t expired_ = 0;
};

TEST(SynQueue, AgreesWithAMapAndItsCountersWithItsContents) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    Model model{seed};
    for (int i = 0; i < 2000 && !::testing::Test::HasFatalFailure(); ++i)
      model.step();
    EXPECT_GT(model.size(), 50U);
    EXPECT_EQ(model.held_in_all(), static_cast<int>(model.size()));
    model.let_all_expire();
    EXPECT_GT(model.expired(), 50U);
    EXPECT_EQ(model.size(), 0U);
    EXPECT_EQ(model.held_in_all(), 0);
  }
}

// ---- a flood ------------------------------------------------------------------------------------

struct FloodResult {
  std::uint32_t records = 0;
  std::uint32_t cookies = 0;
  std::uint32_t resent = 0;
  std::uint32_t expired = 0;
};

/// A SYN every 100 µs for ten seconds, each from another source, as the stack would take them.
FloodResult flood(SynQueue& queue, SynCookie& cookie, std::uint32_t count) {
  Random random{9};
  FloodResult result;
  const PeerOptions peer{.mss = 1460, .sack_permitted = true, .timestamps = true};
  for (std::uint32_t i = 0; i < count; ++i) {
    const Instant now = kStart + std::chrono::microseconds{100} * i;
    const std::uint64_t drawn = random.next();
    FlowKey key = key_of(static_cast<std::uint16_t>(drawn));
    for (std::size_t byte = 12; byte < 16; ++byte)
      key.remote_address.bytes[byte] = static_cast<std::uint8_t>(drawn >> (8 * byte - 80));
    const std::uint64_t hash = kHash(key);
    if (queue.find(hash, key) != nullptr) continue;
    if (queue.full() || queue.prefix_is_over(key)) {
      (void)cookie.make(key, Seq{static_cast<std::uint32_t>(drawn >> 48)}, peer, now);
      ++result.cookies;
    } else {
      HalfOpen record = record_of(key);
      record.peer = peer;
      queue.add(hash, record, now);
      ++result.records;
    }
    if (i % 64 == 0)
      result.expired += queue.advance(now, [&](const HalfOpen&) { ++result.resent; });
  }
  return result;
}

TEST(SynQueue, AFloodAllocatesNothingAndDisturbsNoRecord) {
  constexpr std::uint32_t kSyns = 100'000;
  constexpr std::uint32_t kCapacity = 4096;
  SynQueue queue = queue_of(kCapacity);
  SynCookie cookie{{1, 2}, {3, 4}};
  const testing::AllocationGuard guard;
  const Instant begin = monotonic_now();
  const FloodResult result = flood(queue, cookie, kSyns);
  const Duration taken = monotonic_now() - begin;
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(result.records, kCapacity);
  EXPECT_NEAR(result.cookies, kSyns - kCapacity, 5);  // but for sources that were drawn twice
  EXPECT_EQ(result.resent, 3 * kCapacity);            // after 1, 3 and 7 seconds
  EXPECT_EQ(result.expired, 0U);
  std::printf("%.0f ns per SYN\n", static_cast<double>(taken.count()) / kSyns);
}

}  // namespace
}  // namespace weir::tcp
