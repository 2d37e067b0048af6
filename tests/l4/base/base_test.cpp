#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/base/mailbox.h"
#include "l4/base/random.h"
#include "l4/base/result.h"
#include "l4/base/slab.h"
#include "l4/base/timer_wheel.h"

namespace weir {
namespace {

constexpr std::uint64_t kSeed = 7;
constexpr Instant kStart{std::chrono::seconds{1000}};

/// Deadlines near and far, on every level of the wheel and beyond its range.
Duration random_delay(Random& random) {
  constexpr std::array<std::uint64_t, 6> kScales_us{50,          20'000,         3'000'000,
                                                    600'000'000, 90'000'000'000, 900'000'000'000};
  const std::uint64_t scale = kScales_us[random.below(kScales_us.size())];
  return std::chrono::microseconds{random.next() % scale};
}

/// The wheel beside a map of deadlines that is asked the slow way.
TEST(TimerWheel, FiresWhatANaiveListOfDeadlinesFires) {
  constexpr std::size_t kTimers = 64;
  Random random{kSeed};
  TimerWheel wheel{kStart};
  std::vector<std::unique_ptr<Timer>> timers;
  for (std::size_t i = 0; i < kTimers; ++i) {
    timers.push_back(std::make_unique<Timer>());
    timers.back()->user = i;
  }
  std::map<std::uint64_t, Instant> armed;
  Instant now = kStart;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t index = random.below(kTimers);
    if (random.chance(0.5)) {
      const Instant deadline = now + random_delay(random);
      wheel.arm(*timers[index], deadline);
      armed[index] = deadline;
    } else if (random.chance(0.2)) {
      TimerWheel::cancel(*timers[index]);
      armed.erase(index);
    } else {
      // Mostly short steps: a jump passes many ticks one by one.
      now += random.chance(0.01) ? Duration{std::chrono::seconds{2}}
                                 : Duration{std::chrono::microseconds{random.below(2000)}};
      wheel.advance(now, [&](Timer& timer) {
        const auto found = armed.find(timer.user);
        ASSERT_NE(found, armed.end()) << "fired though not armed, seed " << kSeed;
        EXPECT_LE(found->second, now) << "fired early, seed " << kSeed << ", step " << step;
        armed.erase(found);
      });
      for (const auto& [late, deadline] : armed) {
        ASSERT_GT(deadline + 2 * TimerWheel::kTick, now)
            << "timer " << late << " is late, seed " << kSeed << ", step " << step;
      }
    }
    for (const auto& [user, deadline] : armed)
      ASSERT_TRUE(timers[user]->armed()) << user;
    if (step % 64 == 0 && !armed.empty()) {
      Instant first = kNever;
      for (const auto& [user, deadline] : armed)
        first = std::min(first, deadline);
      ASSERT_LE(wheel.next_deadline(), first + 2 * TimerWheel::kTick) << "seed " << kSeed;
    }
  }
}

TEST(TimerWheel, HasNoDeadlineWhenItIsEmpty) {
  TimerWheel wheel{kStart};
  EXPECT_EQ(wheel.next_deadline(), kNever);
  Timer timer;
  wheel.arm(timer, kStart + std::chrono::seconds{1});
  EXPECT_LE(wheel.next_deadline(), kStart + std::chrono::seconds{1} + TimerWheel::kTick);
  TimerWheel::cancel(timer);
  EXPECT_EQ(wheel.next_deadline(), kNever);
}

TEST(TimerWheel, KnowsOfADeadlineBehindTheBlockThatItIsAboutToEnter) {
  constexpr int kTicksOfABlock = 256;
  TimerWheel wheel{kStart};
  Timer timer;
  const Instant deadline = kStart + TimerWheel::kTick * (kTicksOfABlock + 3);
  wheel.arm(timer, deadline);
  const auto fire = [](Timer&) { FAIL() << "early"; };
  wheel.advance(kStart + TimerWheel::kTick * (kTicksOfABlock - 1), fire);
  EXPECT_LE(wheel.next_deadline(), deadline);
}
TEST(TimerWheel, LetsATimerBeArmedAgainAndDestroyedWhileItFires) {
  TimerWheel wheel{kStart};
  auto victim = std::make_unique<Timer>();
  Timer repeating;
  wheel.arm(repeating, kStart);
  wheel.arm(*victim, kStart);
  int fired = 0;
  for (int turn = 1; turn <= 5; ++turn) {
    const Instant now = kStart + turn * std::chrono::milliseconds{1};
    wheel.advance(now, [&](Timer& timer) {
      if (&timer != &repeating) return;
      ++fired;
      victim.reset();
      wheel.arm(repeating, now + std::chrono::milliseconds{1});
    });
  }
  EXPECT_EQ(fired, 5);
}

TEST(Slab, NeverMistakesAnObjectForItsSuccessor) {
  constexpr std::uint32_t kCapacity = 300;  // more than one page, and not a multiple of it
  Random random{kSeed};
  Slab<std::uint64_t> slab{kCapacity};
  std::map<std::uint64_t, Handle<std::uint64_t>> live;
  std::vector<Handle<std::uint64_t>> dead;
  std::uint64_t next = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (random.chance(0.55)) {
      const auto id = slab.emplace(next);
      ASSERT_EQ(static_cast<bool>(id), live.size() < kCapacity) << "seed " << kSeed;
      if (id) live.emplace(next, id);
      ++next;
    } else if (!live.empty()) {
      const auto victim =
          std::next(live.begin(), random.below(static_cast<std::uint32_t>(live.size())));
      slab.erase(victim->second);
      dead.push_back(victim->second);
      live.erase(victim);
    }
    ASSERT_EQ(slab.size(), live.size());
  }
  for (const auto& [value, id] : live) {
    ASSERT_NE(slab.get(id), nullptr);
    EXPECT_EQ(*slab.get(id), value);
    EXPECT_EQ(Handle<std::uint64_t>::from_raw(id.raw()), id);
  }
  for (const auto& id : dead)
    EXPECT_EQ(slab.get(id), nullptr);
  EXPECT_EQ(slab.get({}), nullptr);
  std::size_t visited = 0;
  slab.for_each([&](auto id, auto&) {
    ++visited;
    slab.erase(id);
  });
  EXPECT_EQ(visited, live.size());
  EXPECT_EQ(slab.size(), 0U);
}

TEST(Mailbox, RefusesWhenFullAndLeavesTheValueAlone) {
  Mailbox<std::unique_ptr<int>> mailbox{2};
  EXPECT_TRUE(mailbox.push(std::make_unique<int>(1)));
  EXPECT_TRUE(mailbox.push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(mailbox.push(std::move(third)));
  ASSERT_NE(third, nullptr);
  EXPECT_EQ(**mailbox.pop(), 1);
  EXPECT_TRUE(mailbox.push(std::move(third)));
  EXPECT_EQ(**mailbox.pop(), 2);
  EXPECT_EQ(**mailbox.pop(), 3);
  EXPECT_FALSE(mailbox.pop().has_value());
}

TEST(Mailbox, CarriesEverythingInOrderBetweenTwoThreads) {
  constexpr std::uint64_t kCount = 100'000;
  Mailbox<std::uint64_t> mailbox{64};
  std::thread producer{[&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      std::uint64_t value = i;
      while (!mailbox.push(std::move(value)))
        std::this_thread::yield();
    }
  }};
  // All of them are taken even when one is wrong: the producer must come to its end.
  std::uint64_t in_order = 0;
  for (std::uint64_t taken = 0; taken < kCount;) {
    const auto value = mailbox.pop();
    if (!value) {
      std::this_thread::yield();
      continue;
    }
    if (*value == taken) ++in_order;
    ++taken;
  }
  producer.join();
  EXPECT_EQ(in_order, kCount);
  EXPECT_FALSE(mailbox.pop());
}

TEST(ByteReader, LeavesItsPlaceWhenThereIsTooLittle) {
  const std::string text = "abc";
  ByteReader reader{as_bytes(text)};
  struct Two {
    std::array<char, 2> letters;
  };
  const auto two = reader.take<Two>();
  ASSERT_TRUE(two);
  EXPECT_EQ(two->letters, (std::array{'a', 'b'}));
  EXPECT_FALSE(reader.take<Two>());
  EXPECT_FALSE(reader.take_bytes(2));
  EXPECT_EQ(reader.remaining(), 1U);
  const auto last = reader.take_bytes(1);
  ASSERT_TRUE(last);
  EXPECT_EQ(as_text(*last), "c");
  EXPECT_TRUE(reader.take_bytes(0));
}

TEST(Random, RepeatsItselfFromTheSameSeedAndStaysInItsBounds) {
  Random a{kSeed};
  Random b{kSeed};
  for (int i = 0; i < 1000; ++i) {
    const std::uint32_t bound = 1 + static_cast<std::uint32_t>(i);
    const std::uint32_t value = a.below(bound);
    EXPECT_EQ(value, b.below(bound));
    EXPECT_LT(value, bound);
  }
  EXPECT_FALSE(a.chance(0));
  EXPECT_TRUE(a.chance(1));
}

TEST(Error, ReadsFromTheOutsideIn) {
  const Error error =
      Error::from_errno("opening /x", ENOENT).while_doing("loading eth0").with_remedy("create it");
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_EQ(error.text(), "loading eth0: opening /x: No such file or directory; create it");
}

}  // namespace
}  // namespace weir
