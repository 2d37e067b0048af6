#include "tools/weir/top_view.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <clocale>

namespace weir::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TopRow row(std::string label, std::string name, double packets, double drops = 0) {
  return {.label = std::move(label),
          .name = std::move(name),
          .values = {packets, packets * 800, packets / 10, drops}};
}

class TopViews : public ::testing::Test {
 protected:
  TopViews() {
    std::setlocale(LC_ALL, "C.UTF-8");
    view_.take({.rows = {row("10.0.0.1:80/tcp", "web", 100), row("10.0.0.2:53/udp", "dns", 300, 7),
                         row("10.0.0.3:25/tcp", "mail", 200)},
                .summary = "all of it",
                .has_rates = true},
               "");
  }

  void type(std::string_view keys) {
    for (const char c : keys)
      view_.press(TopKey::kCharacter, c, 10);
  }
  void press(TopKey key) { view_.press(key, 0, 10); }

  /// First words of the rows of a screen of 80 × 24.
  std::vector<std::string> labels() {
    std::vector<std::string> out;
    const auto lines = view_.lines(24, 80, "");
    for (std::size_t i = 3; i + 1 < lines.size(); ++i) {
      const std::string word = lines[i].text.substr(0, lines[i].text.find(' '));
      if (!word.empty()) out.push_back(word);
    }
    return out;
  }
  std::string selected() {
    for (const TopLine& line : view_.lines(24, 80, ""))
      if (line.style == TopStyle::kSelected) return line.text.substr(0, line.text.find(' '));
    return {};
  }

  TopView view_{top_of_l4()};
};

TEST_F(TopViews, SortByPacketsUnlessToldOtherwise) {
  EXPECT_THAT(labels(),
              testing::ElementsAre("10.0.0.2:53/udp", "10.0.0.3:25/tcp", "10.0.0.1:80/tcp"));
}

TEST_F(TopViews, SortByTheColumnWhoseKeyIsPressedAndReverse) {
  type("a");
  EXPECT_THAT(labels(),
              testing::ElementsAre("10.0.0.1:80/tcp", "10.0.0.2:53/udp", "10.0.0.3:25/tcp"));
  type("r");
  EXPECT_EQ(labels().front(), "10.0.0.3:25/tcp");
  type("rd");
  EXPECT_EQ(labels().front(), "10.0.0.2:53/udp");
  type("k");
  EXPECT_THAT(view_.lines(24, 80, "")[2].text, HasSubstr("*PACKETS/S"));
  type("s");
  EXPECT_THAT(view_.lines(24, 80, "")[2].text, HasSubstr("*BITS/S"));
}

TEST_F(TopViews, KeepWhatIsNotKnownLast) {
  TopRow unknown = row("10.0.0.9:80/tcp", "", 0);
  unknown.values[0].reset();
  view_.take({.rows = {unknown, row("10.0.0.1:80/tcp", "web", 0)}}, "");
  EXPECT_THAT(labels(), testing::ElementsAre("10.0.0.1:80/tcp", "10.0.0.9:80/tcp"));
}

TEST_F(TopViews, FilterByAddressOrNameWhileOneTypes) {
  type("/WE");
  EXPECT_THAT(labels(), testing::ElementsAre("10.0.0.1:80/tcp"));
  EXPECT_THAT(view_.lines(24, 80, "")[0].text, HasSubstr("1 match 'WE_'"));
  press(TopKey::kBackspace);
  press(TopKey::kBackspace);
  type("/tcp");
  press(TopKey::kEnter);
  EXPECT_EQ(labels().size(), 2U);
  type("/");
  press(TopKey::kEscape);
  EXPECT_EQ(labels().size(), 3U);
}

TEST_F(TopViews, TakeEveryLetterIntoTheFilterEvenThatWhichQuits) {
  type("/q");
  EXPECT_FALSE(view_.is_over());
  EXPECT_TRUE(labels().empty());
  press(TopKey::kEnter);
  press(TopKey::kDown);
  press(TopKey::kEnter);  // there is nothing to open
  EXPECT_EQ(view_.open(), "");
  type("q");
  EXPECT_TRUE(view_.is_over());
}

TEST_F(TopViews, KeepTheSelectedRowWhenTheOrderChanges) {
  press(TopKey::kDown);
  EXPECT_EQ(selected(), "10.0.0.3:25/tcp");
  type("a");
  EXPECT_EQ(selected(), "10.0.0.3:25/tcp");
  press(TopKey::kDown);
  EXPECT_EQ(selected(), "10.0.0.3:25/tcp");
  press(TopKey::kHome);
  press(TopKey::kUp);
  EXPECT_EQ(selected(), "10.0.0.1:80/tcp");
  press(TopKey::kEnd);
  EXPECT_EQ(selected(), "10.0.0.3:25/tcp");
  press(TopKey::kPageUp);
  EXPECT_EQ(selected(), "10.0.0.1:80/tcp");
}

TEST_F(TopViews, OpenAVipAndComeBackToItsRow) {
  press(TopKey::kDown);
  press(TopKey::kEnter);
  EXPECT_EQ(view_.open(), "10.0.0.3:25/tcp");
  EXPECT_TRUE(labels().empty());
  view_.take({.rows = {row("10.1.0.1", "late", 1)}}, "");  // of the list, asked for before
  EXPECT_TRUE(labels().empty());
  view_.take({.rows = {row("10.1.0.1", "mx", 1)}}, "10.0.0.3:25/tcp");
  EXPECT_THAT(labels(), testing::ElementsAre("10.1.0.1"));
  EXPECT_THAT(view_.lines(24, 80, "")[0].text, StartsWith("weir top   10.0.0.3:25/tcp"));
  EXPECT_THAT(view_.lines(24, 80, "")[2].text, StartsWith("BACKEND"));
  press(TopKey::kEnter);  // a backend cannot be opened
  EXPECT_EQ(view_.open(), "10.0.0.3:25/tcp");
  press(TopKey::kEscape);
  EXPECT_EQ(view_.open(), "");
  view_.take({.rows = {row("10.0.0.1:80/tcp", "web", 9), row("10.0.0.3:25/tcp", "mail", 1)}}, "");
  EXPECT_EQ(selected(), "10.0.0.3:25/tcp");
}

TEST_F(TopViews, StandStillWhilePaused) {
  type("p");
  view_.take({.rows = {}, .has_rates = true}, "");
  EXPECT_EQ(labels().size(), 3U);
  EXPECT_THAT(view_.lines(24, 80, "")[0].text, HasSubstr("paused"));
  type(" ");
  view_.take({.rows = {}, .has_rates = true}, "");
  EXPECT_TRUE(labels().empty());
}

TEST_F(TopViews, SayThatTheDaemonIsGoneAndKeepWhatItSaid) {
  view_.set_trouble("reconnecting: cannot reach weir-l4");
  auto lines = view_.lines(24, 80, "");
  EXPECT_THAT(lines[1].text, StartsWith("reconnecting: cannot reach weir-l4"));
  EXPECT_EQ(lines[1].style, TopStyle::kAlarm);
  EXPECT_EQ(labels().size(), 3U);
  view_.take({.rows = {row("a", "", 1)}, .summary = "new", .has_rates = true}, "");
  EXPECT_THAT(view_.lines(24, 80, "")[1].text, StartsWith("new "));
}

TEST_F(TopViews, MarkRowsThatDropPackets) {
  press(TopKey::kEnd);
  EXPECT_EQ(view_.lines(24, 80, "")[3].style, TopStyle::kAlarm);
}

TEST_F(TopViews, FillTheScreenExactlyWhateverItsSize) {
  for (std::size_t height = 0; height < 30; ++height) {
    for (std::size_t width = 0; width < 100; ++width) {
      const auto lines = view_.lines(height, width, "12:00:00");
      ASSERT_EQ(lines.size(), height);
      for (const TopLine& line : lines)
        ASSERT_LE(line.text.size(), width) << height << " x " << width;
    }
  }
}

TEST_F(TopViews, LeaveColumnsOutBeforeTheAddress) {
  EXPECT_THAT(view_.lines(24, 80, "")[2].text, HasSubstr("DROPS/S"));
  EXPECT_THAT(view_.lines(24, 40, "")[2].text, HasSubstr("PACKETS/S"));
  EXPECT_EQ(view_.lines(24, 20, "")[3].text, "10.0.0.2:53/udp     ");
}

TEST_F(TopViews, ScrollOnlyAsFarAsTheSelectedRowNeeds) {
  TopReading many{.has_rates = true};
  for (int i = 0; i < 100; ++i)
    many.rows.push_back(row(fmt::format("10.0.0.{:03}:80/tcp", i), "", 1));
  view_.take(std::move(many), "");
  type("a");
  press(TopKey::kEnd);
  EXPECT_EQ(labels().size(), 20U);
  EXPECT_EQ(labels().back(), "10.0.0.099:80/tcp");
  press(TopKey::kUp);
  EXPECT_EQ(labels().back(), "10.0.0.099:80/tcp");
  press(TopKey::kHome);
  EXPECT_EQ(labels().front(), "10.0.0.000:80/tcp");
}

TEST_F(TopViews, AreTextForAReaderThatIsNoTerminal) {
  const std::string text = view_.text(80);
  EXPECT_THAT(text, StartsWith("weir top   3 VIPs\nall of it\nVIP "));
  EXPECT_THAT(text, HasSubstr("\n10.0.0.1:80/tcp"));
  EXPECT_EQ(std::ranges::count(text, '\n'), 6);
}

/// A screen of rules and one of their endpoints.
class TopViewsOfL7 : public ::testing::Test {
 protected:
  TopViewsOfL7() {
    std::setlocale(LC_ALL, "C.UTF-8");
    take_rules();
  }
  void take_rules() {
    view_.take({.rows = {{.label = "shop/cart", .name = "cart", .values = {30, 3, 0, 0, 8, 0}},
                         {.label = "shop/users", .name = "users", .values = {10, 0, 2, 1, 900, 1}}},
                .has_rates = true},
               "");
  }
  void open_cart() {
    view_.press(TopKey::kEnter, 0, 10);
    view_.take({.rows = {{.label = "10.0.0.1:80", .name = "cart", .values = {20, 0, 1, 2, 1}},
                         {.label = "10.0.0.1:80", .name = "other", .values = {10, 5, 3, 4, 0}}},
                .has_rates = true},
               "shop/cart");
  }
  std::string line(std::size_t number) { return view_.lines(24, 100, "")[number].text; }

  TopView view_{top_of_l7()};
};

TEST_F(TopViewsOfL7, AreOfRulesAndThenOfTheirEndpoints) {
  EXPECT_THAT(line(0), StartsWith("weir top l7   2 rules"));
  EXPECT_THAT(line(2), StartsWith("RULE "));
  EXPECT_THAT(line(2), HasSubstr("*REQUESTS/S  4XX/S  5XX/S  FAILED/S  MEAN MS  OVER 1S/S"));
  EXPECT_THAT(line(3), StartsWith("shop/cart "));
  EXPECT_THAT(line(23), StartsWith("Enter endpoints "));
  open_cart();
  EXPECT_THAT(line(0), StartsWith("weir top l7   shop/cart"));
  EXPECT_THAT(line(2), HasSubstr("*REQUESTS/S  FAILED/S  ACTIVE   CONNS  USABLE"));
  EXPECT_THAT(line(3), testing::MatchesRegex("10.0.0.1:80 +cart +20 +0 +1 +2 +yes"));
  EXPECT_THAT(line(4), testing::MatchesRegex("10.0.0.1:80 +other +10 +5 +3 +4 +no"));
}

TEST_F(TopViewsOfL7, KeepWhatTheyAreSortedByWhereBothPagesHaveIt) {
  view_.press(TopKey::kCharacter, '5', 10);
  EXPECT_THAT(line(3), StartsWith("shop/users "));
  view_.press(TopKey::kEnd, 0, 10);
  open_cart();
  EXPECT_THAT(line(2), HasSubstr("*REQUESTS/S")) << "endpoints have no 5XX/S";
  view_.press(TopKey::kEscape, 0, 10);
  EXPECT_THAT(line(2), HasSubstr("*5XX/S"));
  view_.press(TopKey::kCharacter, 'f', 10);
  view_.press(TopKey::kCharacter, 's', 10);
  EXPECT_THAT(line(2), HasSubstr("*MEAN MS"));
  view_.sort_by("failed");
  take_rules();
  EXPECT_THAT(line(3), StartsWith("shop/users "));
  view_.press(TopKey::kEnd, 0, 10);
  open_cart();
  EXPECT_THAT(line(2), HasSubstr("*FAILED/S"));
  EXPECT_THAT(line(3), testing::MatchesRegex("10.0.0.1:80 +other .*"));
}

TEST_F(TopViewsOfL7, TellAnEndpointOfTwoServicesApart) {
  open_cart();
  view_.press(TopKey::kDown, 0, 10);
  EXPECT_EQ(view_.lines(24, 100, "")[4].style, TopStyle::kSelected);
  view_.press(TopKey::kUp, 0, 10);
  EXPECT_EQ(view_.lines(24, 100, "")[3].style, TopStyle::kSelected);
  EXPECT_EQ(view_.lines(24, 100, "")[4].style, TopStyle::kAlarm) << "it is not usable";
}

TEST(TopColumns, HaveRoomForTheirHeadingsAndKeysOfTheirOwn) {
  for (const TopSubject* subject : {&top_of_l4(), &top_of_l7()})
    for (const TopPage& page : {subject->list, subject->opened}) {
      std::string keys = "srpq/ ";
      for (std::size_t i = 0; i < page.columns.size(); ++i) {
        const TopColumn& column = page.columns[i];
        EXPECT_EQ(keys.find(column.key), std::string::npos) << column.heading;
        keys += column.key;
        if (i > 0) {
          EXPECT_GE(column.width, column.heading.size() + 2) << column.heading;
        }
      }
    }
}

TEST(FittedText, IsCutAndPaddedByColumnsNotBytes) {
  std::setlocale(LC_ALL, "C.UTF-8");
  EXPECT_EQ(fitted("abc", 5), "abc  ");
  EXPECT_EQ(fitted("abc", 5, true), "  abc");
  EXPECT_EQ(fitted("abcdef", 3), "abc");
  EXPECT_EQ(fitted("größe", 4), "größ");
  EXPECT_EQ(fitted("漢字", 3), "漢 ");
  EXPECT_EQ(fitted("x", 0), "");
}

TEST(FittedText, CannotSteerTheTerminal) {
  std::setlocale(LC_ALL, "C.UTF-8");
  EXPECT_EQ(fitted("a\x1b[2Jb\n\xff", 9), "a?[2Jb?? ");
  EXPECT_EQ(fitted("a\xe2\x82", 4), "a?? ");
}

}  // namespace
}  // namespace weir::cli
