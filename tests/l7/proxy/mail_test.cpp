#include "l7/proxy/mail.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <thread>

#include "l4/base/bytes.h"
#include "l4/base/fd.h"

namespace weir::proxy {
namespace {

constexpr std::size_t kBytesMax = 100;

SegmentLetter numbered(std::uint32_t number) {
  return {.source = {}, .destination = {}, .seen = number};
}

std::uint32_t number_of(const Letter& letter) { return std::get<SegmentLetter>(letter).seen; }

TEST(Postbox, GivesLettersWithTheirBytesInTheOrderOfPosting) {
  Postbox box{kBytesMax};
  EXPECT_TRUE(box.empty());
  // More than it holds at once, so that places are used again.
  std::uint32_t posted = 0;
  std::uint32_t read = 0;
  while (read < 3 * Postbox::kLetters) {
    for (int i = 0; i < 7; ++i) {
      ASSERT_TRUE(box.post(numbered(posted), as_bytes(std::to_string(posted))));
      ++posted;
    }
    for (int i = 0; i < 7; ++i) {
      ASSERT_EQ(number_of(*box.front()), read);
      ASSERT_EQ(as_text(box.front_bytes()), std::to_string(read));
      box.drop_front();
      ++read;
    }
  }
  EXPECT_EQ(box.front(), nullptr);
}

TEST(Postbox, RefusesWhatDoesNotFitAndKeepsWhatIsThere) {
  Postbox box{kBytesMax};
  EXPECT_FALSE(box.post(numbered(0), as_bytes(std::string(kBytesMax + 1, 'x'))));
  EXPECT_TRUE(box.empty());
  for (std::uint32_t i = 0; i < Postbox::kLetters; ++i)
    ASSERT_TRUE(box.post(numbered(i), as_bytes(std::string(kBytesMax, 'y'))));
  EXPECT_FALSE(box.post(numbered(9999), as_bytes("z")));
  EXPECT_EQ(number_of(*box.front()), 0U);
  EXPECT_EQ(as_text(box.front_bytes()), std::string(kBytesMax, 'y'));
  // One is read and one fits, which does not disturb the second.
  box.drop_front();
  EXPECT_TRUE(box.post(numbered(9999), as_bytes("z")));
  EXPECT_FALSE(box.post(numbered(10000), as_bytes("z")));
  EXPECT_EQ(number_of(*box.front()), 1U);
  EXPECT_EQ(as_text(box.front_bytes()), std::string(kBytesMax, 'y'));
}

class AlarmClocks : public ::testing::Test {
 protected:
  AlarmClocks() { room_.attach(1, wake_fd_.get()); }

  bool is_rung(int patience_ms = 0) {
    pollfd awaited{wake_fd_.get(), POLLIN, 0};
    return ::poll(&awaited, 1, patience_ms) == 1;
  }
  void clear() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wake_fd_.get(), &count, sizeof(count));
  }

  UniqueFd wake_fd_{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  MailRoom room_{2, kBytesMax};
};

TEST_F(AlarmClocks, RingForASleeperOnceAndForNobodyElse) {
  room_.ring(1);
  EXPECT_FALSE(is_rung()) << "it was awake";
  ASSERT_TRUE(room_.may_sleep(1));
  room_.ring(1);
  EXPECT_TRUE(is_rung());
  clear();
  room_.ring(1);
  EXPECT_FALSE(is_rung()) << "it has been told";
  room_.woke(1);
  room_.ring(1);
  EXPECT_FALSE(is_rung());
}

TEST_F(AlarmClocks, LetNobodySleepOnALetter) {
  ASSERT_TRUE(room_.box(0, 1).post(NeighborLetter{}, {}));
  EXPECT_FALSE(room_.may_sleep(1));
  room_.ring(1);
  EXPECT_FALSE(is_rung()) << "who was not let sleep is awake";
  EXPECT_TRUE(room_.may_sleep(0)) << "letters to others keep nobody awake";
}

// The race that the exchanges are for. A wake-up that is lost costs this test the patience of one
// poll, and fails it; under the thread sanitizer, the bytes' order is checked too.
TEST_F(AlarmClocks, NeverLeaveASleeperWithALetter) {
  constexpr std::uint32_t kLetters = 20'000;
  constexpr int kPatienceMs = 2'000;
  std::thread sender{[&] {
    for (std::uint32_t i = 0; i < kLetters;) {
      if (!room_.box(0, 1).post(numbered(i), as_bytes(std::to_string(i)))) {
        std::this_thread::yield();
        continue;
      }
      room_.ring(1);
      // Some alone and some in rows, so that the addressee is asleep, awake and in between.
      if (++i % 3 == 0) std::this_thread::yield();
    }
  }};
  std::uint32_t read = 0;
  std::uint32_t overslept = 0;
  std::uint32_t wrong = 0;
  Postbox& box = room_.box(0, 1);
  while (read < kLetters && overslept == 0) {
    while (!box.empty()) {
      if (number_of(*box.front()) != read || as_text(box.front_bytes()) != std::to_string(read))
        ++wrong;
      box.drop_front();
      ++read;
    }
    if (read == kLetters || !room_.may_sleep(1)) continue;
    if (!is_rung(kPatienceMs)) ++overslept;
    room_.woke(1);
    clear();
  }
  while (read < kLetters)  // only after a failure: the sender must end
    for (; !box.empty(); ++read)
      box.drop_front();
  sender.join();
  EXPECT_EQ(overslept, 0U);
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace weir::proxy
