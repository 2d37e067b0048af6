#include "l7/resolver.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/l7/dns_server.h"

namespace weir::l7 {
namespace {

using namespace std::chrono_literals;
using testing::DnsReply;
using testing::DnsServer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using wire::Family;
using Kind = DnsReply::Kind;

/// Time-outs are short: nothing here is far away. What is waited for may take longer.
constexpr Duration kTimeout = 150ms;
constexpr Duration kPatience = 20s;

std::vector<wire::IpAddress> addresses(const std::vector<std::string_view>& texts) {
  std::vector<wire::IpAddress> all;
  for (const std::string_view text : texts)
    all.push_back(*wire::IpAddress::parse(text));
  return all;
}

class DnsResolver : public ::testing::Test {
 protected:
  Resolver resolver_of(const std::string& servers, int tries = 2) {
    return std::move(*Resolver::create({.servers = servers, .timeout = kTimeout, .tries = tries}));
  }
  /// Looks the names up once, to the end.
  static void look_up(Resolver& resolver, const std::set<std::string>& names,
                      Families families = {.v4 = true, .v6 = true}) {
    resolver.names().set_names(names, families, monotonic_now());
    resolver.finish_first_lookups(kPatience);
    ASSERT_TRUE(resolver.names().all_asked());
  }
  static std::vector<std::string> found(const Resolver& resolver, const std::string& name) {
    std::vector<std::string> texts;
    for (const wire::IpAddress& address : resolver.names().addresses_of(name))
      texts.push_back(address.text());
    return texts;
  }
  static std::uint64_t answers(const Resolver& resolver, LookupResult result) {
    return resolver.names().counters().answers.at(static_cast<std::size_t>(result));
  }
  static NameView view(const Resolver& resolver) {
    return resolver.names().views(monotonic_now()).at(0);
  }

  DnsServer server_;
};

TEST_F(DnsResolver, FindsTheAddressesOfBothFamiliesAndHowLongTheyHold) {
  server_.set("a.test",
              {.addresses = addresses({"10.0.0.2", "10.0.0.1", "2001:db8::1"}), .ttl_s = 40});
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"});
  EXPECT_THAT(found(resolver, "a.test"), ElementsAre("10.0.0.1", "10.0.0.2", "2001:db8::1"));
  EXPECT_LE(view(resolver).next, 40s);
  EXPECT_GT(view(resolver).next, 30s);
  EXPECT_EQ(server_.asked("a.test", Family::kIpv4).udp, 1U);
  EXPECT_EQ(server_.asked("a.test", Family::kIpv6).udp, 1U);
  EXPECT_EQ(resolver.names().counters().failures, 0U);
}

TEST_F(DnsResolver, AsksForNoFamilyThatCannotBeSpoken) {
  server_.set("a.test", {.addresses = addresses({"10.0.0.1", "2001:db8::1"})});
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"}, {.v4 = false, .v6 = true});
  EXPECT_THAT(found(resolver, "a.test"), ElementsAre("2001:db8::1"));
  EXPECT_EQ(server_.asked("a.test", Family::kIpv4).udp, 0U);
}

TEST_F(DnsResolver, FollowsAnotherAnswerWhenTheFirstHasEnded) {
  server_.set("a.test", {.addresses = addresses({"10.0.0.1"}), .ttl_s = 0});
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"});
  server_.set("a.test", {.addresses = addresses({"10.0.0.2", "10.0.0.3"}), .ttl_s = 0});
  const Instant later = monotonic_now() + NameBook::kTtlMin;
  const Instant give_up = monotonic_now() + kPatience;
  const std::uint64_t version = resolver.names().version();
  resolver.advance(later);
  while (resolver.names().version() == version && monotonic_now() < give_up)
    resolver.wait(10ms);
  EXPECT_THAT(found(resolver, "a.test"), ElementsAre("10.0.0.2", "10.0.0.3"));
}

TEST_F(DnsResolver, FollowsAliasesAndHoldsAsLongAsTheShortestPart) {
  server_.set("a.test", {.addresses = addresses({"10.0.0.1"}),
                         .ttl_s = 200,
                         .alias_of = "b.test",
                         .alias_ttl_s = 20});
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"});
  EXPECT_THAT(found(resolver, "a.test"), ElementsAre("10.0.0.1"));
  EXPECT_LE(view(resolver).next, 20s);
}

TEST_F(DnsResolver, AsksByTcpWhereAnAnswerIsTooLong) {
  DnsReply reply{.kind = Kind::kOnlyByTcp};
  for (std::uint8_t i = 0; i < 200; ++i)
    reply.addresses.push_back(wire::IpAddress::v4(10, 0, 1, i));
  server_.set("a.test", reply);
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"});
  EXPECT_EQ(found(resolver, "a.test").size(), 200U);
  EXPECT_GE(server_.asked("a.test", Family::kIpv4).tcp, 1U);
}

TEST_F(DnsResolver, SaysHowALookupHasFailed) {
  struct Case {
    Kind kind;
    LookupResult result;
  };
  for (const Case& c :
       {Case{Kind::kAnswer, LookupResult::kNoAddress}, Case{Kind::kNoName, LookupResult::kNoName},
        Case{Kind::kServFail, LookupResult::kRefused}, Case{Kind::kRefused, LookupResult::kRefused},
        Case{Kind::kSilence, LookupResult::kTimeout}, Case{Kind::kOtherId, LookupResult::kTimeout},
        Case{Kind::kCutShort, LookupResult::kMalformed}}) {
    server_.set("a.test",
                {.kind = c.kind,
                 .addresses = c.kind == Kind::kAnswer ? addresses({})
                                                      : addresses({"10.0.0.1", "2001:db8::1"})});
    Resolver resolver = resolver_of(server_.address());
    look_up(resolver, {"a.test"});
    EXPECT_THAT(found(resolver, "a.test"), IsEmpty()) << text_of(c.result);
    EXPECT_EQ(answers(resolver, c.result), 2U) << text_of(c.result);
    EXPECT_EQ(answers(resolver, LookupResult::kFound), 0U);
    EXPECT_EQ(resolver.names().counters().failures, 1U);
    EXPECT_NE(view(resolver).last_error, "");
  }
}

TEST_F(DnsResolver, SurvivesBytesThatAreNoMessage) {
  server_.set("a.test", {.kind = Kind::kGarbage});
  Resolver resolver = resolver_of(server_.address());
  look_up(resolver, {"a.test"});
  EXPECT_THAT(found(resolver, "a.test"), IsEmpty());
  EXPECT_EQ(resolver.names().counters().failures, 1U);
}

TEST_F(DnsResolver, SurvivesAServerThatHangsUp) {
  server_.set("a.test", {.kind = Kind::kHangsUp});
  server_.set("b.test", {.kind = Kind::kHangsUp});
  Resolver resolver = resolver_of(server_.address(), 4);
  look_up(resolver, {"a.test", "b.test"});
  EXPECT_THAT(found(resolver, "a.test"), IsEmpty());
  EXPECT_EQ(resolver.names().counters().failures, 2U);
  EXPECT_GE(server_.asked("a.test", Family::kIpv4).tcp, 1U);
}

TEST_F(DnsResolver, AsksTheNextServerWhenOneIsOfNoUse) {
  server_.set("a.test", {.addresses = addresses({"10.0.0.1"})});
  for (const Kind kind : {Kind::kSilence, Kind::kServFail, Kind::kRefused}) {
    DnsServer useless;
    useless.set("a.test", {.kind = kind});
    Resolver resolver = resolver_of(useless.address() + "," + server_.address());
    look_up(resolver, {"a.test"});
    EXPECT_THAT(found(resolver, "a.test"), ElementsAre("10.0.0.1"));
    EXPECT_GE(useless.asked("a.test", Family::kIpv4).udp, 1U);
  }
}

TEST_F(DnsResolver, SaysThatNoServerCanBeReached) {
  std::string nobody;
  {
    const DnsServer gone;
    nobody = gone.address();
  }
  Resolver resolver = resolver_of(nobody);
  look_up(resolver, {"a.test"});
  EXPECT_EQ(answers(resolver, LookupResult::kRefused), 2U);
}

TEST_F(DnsResolver, ReadsItsFileAgainWhenThatHasChanged) {
  const std::filesystem::path file =
      std::filesystem::path{::testing::TempDir()} / fmt::format("resolv-{}.conf", ::getpid());
  const auto write = [&](std::string_view address) {
    // Another file in its place, as whoever manages it does.
    const std::filesystem::path fresh = file.string() + ".new";
    std::ofstream{fresh} << "nameserver " << address << "\n";
    std::filesystem::rename(fresh, file);
  };
  DnsServer other{wire::IpAddress::v4(127, 0, 0, 2), server_.port()};
  server_.set("a.test", {.addresses = addresses({"10.0.0.1"})});
  other.set("b.test", {.addresses = addresses({"10.0.0.2"})});
  write("127.0.0.1");
  Resolver resolver = std::move(*Resolver::create(
      {.file = file.string(), .port = server_.port().value(), .timeout = kTimeout, .tries = 2}));
  look_up(resolver, {"a.test"});
  EXPECT_THAT(found(resolver, "a.test"), ElementsAre("10.0.0.1"));
  write("127.0.0.2");
  look_up(resolver, {"a.test", "b.test"});
  EXPECT_THAT(found(resolver, "b.test"), ElementsAre("10.0.0.2"));
  std::filesystem::remove(file);
}

TEST_F(DnsResolver, CanBeDestroyedWhileItWaits) {
  server_.set("a.test", {.kind = Kind::kSilence});
  Resolver resolver = resolver_of(server_.address());
  resolver.names().set_names({"a.test"}, {}, monotonic_now());
  resolver.advance(monotonic_now());
  EXPECT_TRUE(resolver.names().is_asking());
}

}  // namespace
}  // namespace weir::l7
