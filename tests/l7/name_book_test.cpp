#include "l7/name_book.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace weir::l7 {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

std::vector<std::string> texts_of(const std::vector<wire::IpAddress>& addresses) {
  std::vector<std::string> texts;
  for (const wire::IpAddress& each : addresses)
    texts.push_back(each.text());
  return texts;
}

class Names : public ::testing::Test {
 protected:
  Names() { book_.set_names({"a.test"}, {.v4 = true, .v6 = true}, now_); }

  std::vector<std::string> addresses(const std::string& name = "a.test") const {
    return texts_of(book_.addresses_of(name));
  }
  static FamilyAnswer found(const std::vector<std::string_view>& texts, Duration ttl = 60s) {
    FamilyAnswer answer{.result = LookupResult::kFound, .ttl = ttl};
    for (const std::string_view text : texts)
      answer.addresses.push_back(address(text));
    return answer;
  }
  static FamilyAnswer nothing(LookupResult result = LookupResult::kNoAddress) { return {result}; }

  /// One lookup of one name, which must be due, IPv4 answered first.
  void look_up(const FamilyAnswer& v4, const FamilyAnswer& v6) {
    const std::vector<Question> asked = book_.take_due(now_);
    ASSERT_EQ(asked.size(), 2U);
    book_.answer(asked[0], v4, now_);
    book_.answer(asked[1], v6, now_);
  }
  NameView view() const { return book_.views(now_).at(0); }
  std::uint64_t answers(LookupResult result) const {
    return book_.counters().answers.at(static_cast<std::size_t>(result));
  }

  Instant now_{1000s};
  NameBook book_;
};

TEST_F(Names, HaveTheAddressesOfBothFamiliesInOrderAndEachOnce) {
  look_up(found({"10.0.0.9", "10.0.0.1", "10.0.0.9"}), found({"2001:db8::2", "2001:db8::1"}));
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.1", "10.0.0.9", "2001:db8::1", "2001:db8::2"));
  EXPECT_EQ(book_.levels().addresses, 4U);
  EXPECT_EQ(book_.counters().changes, 1U);
  EXPECT_THAT(addresses("b.test"), IsEmpty());
}

TEST_F(Names, AreAskedForAgainWhenTheAnswerEndsAndNotBefore) {
  struct Case {
    Duration ttl;
    Duration kept;
  };
  for (const Case& c : {Case{0s, 1s}, Case{7s, 7s}, Case{5min, 5min}, Case{24h, 5min}}) {
    look_up(found({"10.0.0.1"}, c.ttl), nothing());
    EXPECT_EQ(view().next, c.kept);
    now_ += c.kept - 1ms;
    EXPECT_THAT(book_.take_due(now_), IsEmpty());
    now_ += 1ms;
  }
  EXPECT_EQ(book_.counters().lookups, 4U);
  EXPECT_EQ(book_.counters().failures, 0U);
  EXPECT_EQ(book_.counters().changes, 1U) << "the answers were the same";
}

TEST_F(Names, OfTwoFamiliesAreAskedForWhenTheFirstAnswerEnds) {
  look_up(found({"10.0.0.1"}, 50s), found({"2001:db8::1"}, 20s));
  EXPECT_EQ(view().next, 20s);
}

TEST_F(Names, KeepTheirAddressesThroughFailuresAndAreAskedForLessAndLessOften) {
  look_up(found({"10.0.0.1"}), found({"2001:db8::1"}));
  now_ += 60s;
  const std::uint64_t version = book_.version();
  for (const Duration wait : {1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
    look_up(nothing(LookupResult::kTimeout), nothing(LookupResult::kNoName));
    EXPECT_THAT(addresses(), ElementsAre("10.0.0.1", "2001:db8::1"));
    EXPECT_EQ(view().next, wait);
    now_ += wait;
  }
  EXPECT_EQ(book_.version(), version);
  EXPECT_EQ(book_.counters().failures, 7U);
  EXPECT_EQ(answers(LookupResult::kTimeout), 7U);
  EXPECT_EQ(answers(LookupResult::kNoName), 7U);
  EXPECT_EQ(view().failures_in_row, 7U);
  EXPECT_EQ(view().last_error, "no DNS server has answered in time");
  EXPECT_EQ(view().age, 60s + 91s);
  EXPECT_EQ(book_.levels().failing, 1U);

  look_up(found({"10.0.0.2"}, 9s), nothing());
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.2"));
  EXPECT_EQ(view().last_error, "");
  EXPECT_EQ(view().next, 9s);
  EXPECT_EQ(book_.levels().failing, 0U);
}

TEST_F(Names, ThatHaveLostEverythingKeepWhatTheyHad) {
  look_up(found({"10.0.0.1"}), nothing());
  now_ += 60s;
  look_up(nothing(), nothing());
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.1"));
  EXPECT_EQ(view().last_error, "it has no address");
  EXPECT_EQ(view().failures_in_row, 1U);
  now_ += 1s;
  look_up(nothing(LookupResult::kNoName), nothing(LookupResult::kNoName));
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.1"));
  EXPECT_EQ(view().last_error, "there is no such name");
}

TEST_F(Names, LoseTheAddressesOfAFamilyThatHasNoneWhileTheOtherHas) {
  for (const LookupResult denial : {LookupResult::kNoAddress, LookupResult::kNoName}) {
    look_up(found({"10.0.0.1"}), found({"2001:db8::1"}));
    now_ += 60s;
    look_up(nothing(denial), found({"2001:db8::1"}));
    EXPECT_THAT(addresses(), ElementsAre("2001:db8::1"));
    EXPECT_EQ(view().failures_in_row, 0U);
    EXPECT_EQ(view().next, 60s);
    now_ += 60s;
  }
}

TEST_F(Names, WithOneFamilySilentGoByTheOtherAndAreAskedForSoon) {
  look_up(found({"10.0.0.1"}), found({"2001:db8::1"}));
  now_ += 60s;
  look_up(found({"10.0.0.2"}), nothing(LookupResult::kTimeout));
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.2", "2001:db8::1"));
  EXPECT_EQ(view().next, 1s);
  EXPECT_EQ(view().age, 0s);
  EXPECT_EQ(book_.counters().failures, 1U);
  EXPECT_EQ(view().last_error, "no DNS server has answered in time");
  now_ += 1s;
  look_up(found({"10.0.0.2"}, 0s), nothing(LookupResult::kRefused));
  EXPECT_EQ(view().next, 1s) << "not later than what there is says";
}

TEST_F(Names, AreOfUseBeforeTheOtherFamilyHasBeenHeardOf) {
  const std::vector<Question> asked = book_.take_due(now_);
  ASSERT_EQ(asked.size(), 2U);
  book_.answer(asked[1], found({"2001:db8::1"}), now_);
  EXPECT_THAT(addresses(), ElementsAre("2001:db8::1"));
  EXPECT_EQ(book_.version(), 1U);
  EXPECT_FALSE(book_.all_asked());
  EXPECT_TRUE(book_.is_asking());
  EXPECT_THAT(book_.take_due(now_ + 1h), IsEmpty()) << "one lookup at a time";
  book_.answer(asked[0], nothing(), now_);
  EXPECT_TRUE(book_.all_asked());
  EXPECT_FALSE(book_.is_asking());
}

TEST_F(Names, ThatWereNeverFoundHaveNothingAndSayWhy) {
  look_up(nothing(LookupResult::kNoName), nothing(LookupResult::kNoName));
  EXPECT_TRUE(book_.all_asked());
  EXPECT_EQ(view().age, std::nullopt);
  EXPECT_EQ(view().next, 1s);
  EXPECT_THAT(addresses(), IsEmpty());
  EXPECT_EQ(book_.version(), 0U);
}

TEST_F(Names, TakeNoAnswersToEarlierQuestionsAndNoneTwice) {
  const std::vector<Question> early = book_.take_due(now_);
  book_.set_names({}, {}, now_);
  EXPECT_FALSE(book_.is_asking());
  book_.answer(early[0], found({"10.0.0.1"}), now_);  // of a name that is not followed
  book_.set_names({"a.test"}, {}, now_);
  const std::vector<Question> late = book_.take_due(now_);
  ASSERT_EQ(late.size(), 2U);
  book_.answer(early[0], found({"10.0.0.1"}), now_);
  EXPECT_THAT(addresses(), IsEmpty());
  book_.answer(late[0], found({"10.0.0.2"}), now_);
  book_.answer(late[0], found({"10.0.0.3"}), now_);
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.2"));
  EXPECT_TRUE(book_.is_asking());
}

TEST_F(Names, AreAskedForInTheFamiliesThatCanBeSpoken) {
  look_up(found({"10.0.0.1"}), found({"2001:db8::1"}));
  book_.set_names({"a.test"}, {.v4 = false, .v6 = true}, now_);
  EXPECT_THAT(addresses(), ElementsAre("2001:db8::1"));
  const std::vector<Question> asked = book_.take_due(now_);
  ASSERT_EQ(asked.size(), 1U) << "at once, since it is another question";
  EXPECT_FALSE(book_.all_asked());
  EXPECT_EQ(asked[0].family, wire::Family::kIpv6);
  book_.answer(asked[0], nothing(), now_);
  EXPECT_EQ(view().failures_in_row, 1U) << "there is no other family that could have some";

  book_.set_names({"a.test"}, {.v4 = false, .v6 = false}, now_);
  EXPECT_THAT(book_.take_due(now_), IsEmpty());
  EXPECT_TRUE(book_.all_asked());
  EXPECT_FALSE(book_.is_asking());
}

TEST_F(Names, ThatStayKeepWhatIsKnownWhenOthersComeAndGo) {
  look_up(found({"10.0.0.1"}), nothing());
  book_.set_names({"a.test", "b.test"}, {}, now_);
  EXPECT_FALSE(book_.all_asked());
  const std::vector<Question> asked = book_.take_due(now_);
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].name, "b.test");
  book_.set_names({"a.test"}, {}, now_);
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.1"));
  EXPECT_EQ(book_.levels().names, 1U);
  EXPECT_FALSE(book_.is_asking());
}

TEST_F(Names, AreAskedForSoManyAtOnceAndThoseWhoWaitLongestFirst) {
  std::set<std::string> names;
  constexpr std::size_t kNames = NameBook::kLookupsAtOnce + 10;
  for (std::size_t i = 0; i < kNames; ++i)
    names.insert(fmt::format("n{:03}.test", i));
  book_.set_names(names, {.v4 = true, .v6 = false}, now_);
  std::vector<Question> asked = book_.take_due(now_);
  ASSERT_EQ(asked.size(), NameBook::kLookupsAtOnce);
  EXPECT_THAT(book_.take_due(now_), IsEmpty());
  for (const Question& question : asked)
    book_.answer(question, found({"10.0.0.1"}, 0s), now_);
  now_ += 1s;
  // All are due now: those that were never asked for come first.
  asked = book_.take_due(now_);
  ASSERT_EQ(asked.size(), NameBook::kLookupsAtOnce);
  EXPECT_EQ(asked[0].name, "n064.test");
  EXPECT_EQ(asked[9].name, "n073.test");
  EXPECT_EQ(asked[10].name, "n000.test");
}

TEST_F(Names, HaveNoMoreAddressesThanAServiceMayHave) {
  FamilyAnswer many{.result = LookupResult::kFound, .ttl = 1s};
  for (unsigned i = 0; i <= NameBook::kAddressesMax; ++i)
    many.addresses.push_back(wire::IpAddress::v4(10, 1, static_cast<std::uint8_t>(i >> 8),
                                                 static_cast<std::uint8_t>(i)));
  std::reverse(many.addresses.begin(), many.addresses.end());
  look_up(many, nothing());
  EXPECT_EQ(addresses().size(), NameBook::kAddressesMax);
  EXPECT_EQ(addresses().front(), "10.1.0.0") << "the first in order, not in the answer";
}

}  // namespace
}  // namespace weir::l7
