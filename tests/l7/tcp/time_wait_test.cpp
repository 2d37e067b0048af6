#include "l7/tcp/time_wait.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "tests/support/alloc_guard.h"

namespace weir::tcp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Instant kStart{seconds{1000}};
constexpr Duration kLifetime = seconds{60};
const FlowHash kHash{{5, 6}};

FlowKey key_of(std::uint32_t number) {
  return FlowKey{{wire::IpAddress::v4(192, 0, 2, 1), wire::Port{80}},
                 {wire::IpAddress::v4(198, 51, static_cast<std::uint8_t>(number >> 24),
                                      static_cast<std::uint8_t>(number >> 16)),
                  wire::Port{static_cast<std::uint16_t>(number)}}};
}

// ---- RFC 6191, section 2 ------------------------------------------------------------------------

constexpr Seq kLast{0xffffff00};             // receive_next of the old connection, about to wrap
constexpr std::uint32_t kSeen = 0xfffffff0;  // TS.Recent of the old connection, likewise

struct SynCase {
  std::string_view name;
  bool old_stamps = false;
  std::optional<std::uint32_t> stamp;  // TSval of the SYN
  Seq seq;
  bool may = false;
};

class MayReuseForSyn : public ::testing::TestWithParam<SynCase> {};

TEST_P(MayReuseForSyn, FollowsTheBullets) {
  TimeWaitRecord record{key_of(1), Seq{1}, kLast};
  if (GetParam().old_stamps) record.stamps = TimeWaitStamps{kSeen, 7};
  std::optional<Timestamps> stamps;
  if (GetParam().stamp) stamps = Timestamps{*GetParam().stamp, 0};
  EXPECT_EQ(may_reuse_for_syn(record, GetParam().seq, stamps), GetParam().may);
}

constexpr Seq kBefore = kLast - 1;
constexpr Seq kBeyond = kLast + 1;
constexpr Seq kFarBehind = kLast - 0x7fffffff;
constexpr Seq kFarBeyond = kLast + 0x7fffffff;

INSTANTIATE_TEST_SUITE_P(
    , MayReuseForSyn,
    ::testing::Values(
        // The old connection used time stamps, the new one would too.
        SynCase{"ANewerStampDoesWhateverTheSequence", true, kSeen + 1, kFarBehind, true},
        SynCase{"ANewerStampMayHaveWrapped", true, 5, kBefore, true},
        SynCase{"AStampIsNewerByLessThanHalfTheCircle", true, kSeen + 0x7fffffff, kBefore, true},
        SynCase{"AnEqualStampNeedsASequenceBeyond", true, kSeen, kBeyond, true},
        SynCase{"AnEqualStampAndTheSameSequenceDoNotDo", true, kSeen, kLast, false},
        SynCase{"AnEqualStampAndASequenceBehindDoNotDo", true, kSeen, kBefore, false},
        SynCase{"AnOlderStampDoesNotDoWhateverTheSequence", true, kSeen - 1, kBeyond, false},
        SynCase{"AMuchOlderStampDoesNotDo", true, kSeen - 0x7fffffff, kFarBeyond, false},
        // It used them, the new one would not.
        SynCase{"WithoutAStampASequenceBeyondDoes", true, std::nullopt, kBeyond, true},
        SynCase{"WithoutAStampTheSameSequenceDoesNotDo", true, std::nullopt, kLast, false},
        SynCase{"WithoutAStampASequenceBehindDoesNotDo", true, std::nullopt, kFarBehind, false},
        // It did not use them.
        SynCase{"StampsThatAreNewDoWhateverTheSequence", false, 0, kFarBehind, true},
        SynCase{"WithNoStampsAtAllASequenceBeyondDoes", false, std::nullopt, kFarBeyond, true},
        SynCase{"WithNoStampsAtAllTheSameDoesNotDo", false, std::nullopt, kLast, false},
        SynCase{"WithNoStampsAtAllOneBehindDoesNotDo", false, std::nullopt, kBefore, false}),
    [](const auto& test) { return std::string{test.param.name}; });

// ---- our own opens ------------------------------------------------------------------------------

struct ConnectCase {
  std::string_view name;
  bool old_stamps = false;
  Duration age;
  std::uint32_t tsval = 0;
  bool may = false;
};

class MayReuseForConnect : public ::testing::TestWithParam<ConnectCase> {};

TEST_P(MayReuseForConnect, NeedsStampsASecondAndAClockThatHasMoved) {
  TimeWaitRecord record{key_of(1), Seq{1}, kLast};
  record.since = kStart;
  if (GetParam().old_stamps) record.stamps = TimeWaitStamps{7, 0xffffffff};
  EXPECT_EQ(may_reuse_for_connect(record, kStart + GetParam().age, GetParam().tsval),
            GetParam().may);
}

INSTANTIATE_TEST_SUITE_P(
    , MayReuseForConnect,
    ::testing::Values(ConnectCase{"AfterASecondItMay", true, seconds{1}, 999, true},
                      ConnectCase{"BeforeThatItMayNot", true, milliseconds{999}, 999, false},
                      ConnectCase{"WithoutStampsItNeverMay", false, seconds{59}, 58999, false},
                      ConnectCase{"TheSameStampWillNotDo", true, seconds{2}, 0xffffffff, false},
                      ConnectCase{"AStampFromBeforeWillNotDo", true, seconds{2}, 0xfffffff0, false},
                      ConnectCase{"OneTickIsEnough", true, seconds{2}, 0, true}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(SequenceAfter, IsTheFreshNumberUnlessTheOldConnectionComesTooClose) {
  TimeWaitRecord record;
  record.send_next = Seq{0xffffffff};
  const Seq nearest{0xffff};
  EXPECT_EQ(sequence_after(record, nearest), nearest);
  EXPECT_EQ(sequence_after(record, nearest + 1), nearest + 1);
  EXPECT_EQ(sequence_after(record, nearest - 1), nearest);
  EXPECT_EQ(sequence_after(record, record.send_next), nearest);
  EXPECT_EQ(sequence_after(record, nearest - 0x7fffffff), nearest);
}

// ---- the table ----------------------------------------------------------------------------------

TEST(TimeWaitTable, ARepeatedFinMovesTheBeginningAndNewerStampsOnly) {
  TimeWaitTable table{4, kLifetime};
  const FlowKey key = key_of(1);
  table.add(kHash(key), {key, Seq{1}, Seq{2}, TimeWaitStamps{100, 200}}, kStart);
  const auto stamps = [&] { return *table.find(kHash(key), key)->stamps; };
  EXPECT_EQ(table.find(kHash(key), key)->since, kStart);

  table.restart(kHash(key), key, kStart + seconds{5}, TimeWaitStamps{101, 205});
  EXPECT_EQ(table.find(kHash(key), key)->since, kStart + seconds{5});
  EXPECT_EQ(table.next_expiry(), kStart + seconds{65});
  EXPECT_EQ(stamps(), (TimeWaitStamps{101, 205}));

  table.restart(kHash(key), key, kStart + seconds{6}, TimeWaitStamps{99, 206});  // out of order
  EXPECT_EQ(stamps(), (TimeWaitStamps{101, 206}));
  table.restart(kHash(key), key, kStart + seconds{7});
  EXPECT_EQ(stamps(), (TimeWaitStamps{101, 206}));
}

TEST(TimeWaitTable, AConnectionWithoutStampsGetsNoneFromAFin) {
  TimeWaitTable table{4, kLifetime};
  const FlowKey key = key_of(1);
  table.add(kHash(key), {key, Seq{1}, Seq{2}}, kStart);
  table.restart(kHash(key), key, kStart, TimeWaitStamps{100, 200});
  EXPECT_FALSE(table.find(kHash(key), key)->stamps.has_value());
}

TEST(TimeWaitTable, WhatStoodInAPlaceBeforeDoesNotShowInTheNextRecord) {
  TimeWaitTable table{1, kLifetime};
  table.add(kHash(key_of(1)), {key_of(1), Seq{1}, Seq{2}, TimeWaitStamps{100, 200}}, kStart);
  EXPECT_TRUE(table.add(kHash(key_of(2)), {key_of(2), Seq{3}, Seq{4}}, kStart + seconds{1}));
  EXPECT_EQ(table.find(kHash(key_of(1)), key_of(1)), nullptr);
  const TimeWaitRecord* record = table.find(kHash(key_of(2)), key_of(2));
  ASSERT_NE(record, nullptr);
  EXPECT_FALSE(record->stamps.has_value());
  EXPECT_EQ(record->since, kStart + seconds{1});
}

TEST(TimeWaitTable, AMillionRecordsComeAndGoAndLeaveNothingBehind) {
  constexpr std::uint32_t kCycles = 1'000'000;
  constexpr Duration kStep = milliseconds{100};  // so about 600 live at a time
  TimeWaitTable table{1024, kLifetime};
  const testing::AllocationGuard guard;
  std::uint32_t evicted = 0;
  std::uint32_t most = 0;
  for (std::uint32_t i = 0; i < kCycles; ++i) {
    const Instant now = kStart + kStep * i;
    table.expire(now);
    // The hash is the caller's, and here only has to differ.
    evicted += table.add(i * 0x9e3779b9U, {key_of(i), Seq{i}, Seq{}}, now) ? 1U : 0U;
    most = std::max(most, table.size());
  }
  EXPECT_EQ(evicted, 0U);
  EXPECT_EQ(most, kLifetime / kStep);
  EXPECT_EQ(guard.allocations(), 0U);
  const Instant last = kStart + kStep * (kCycles - 1);
  table.expire(last + kLifetime - Duration{1});
  EXPECT_EQ(table.size(), 1U);
  table.expire(last + kLifetime);
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.next_expiry(), kNever);
}

}  // namespace
}  // namespace weir::tcp
