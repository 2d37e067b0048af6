#include "l7/proxy/forwarded.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "l4/base/random.h"
#include "tests/support/alloc_guard.h"

namespace weir::proxy {
namespace {

using control::ForwardedField;
using control::ForwardedTrust;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

ForwardedTrust hops(std::uint32_t count, ForwardedField field = ForwardedField::kXForwardedFor) {
  return {.hops = count, .proxies = {}, .field = field};
}
/// 10.0.0.0/8 and 2001:db8:a::/48 are ours.
ForwardedTrust proxies(ForwardedField field = ForwardedField::kXForwardedFor) {
  return {.hops = 0,
          .proxies = {*wire::Prefix::parse("10.0.0.0/8"), *wire::Prefix::parse("2001:db8:a::/48")},
          .field = field};
}
constexpr ForwardedField kForwarded = ForwardedField::kForwarded;

using Fields = std::vector<http::Field>;

http::HeaderList list_of(const Fields& fields) {
  http::HeaderList list;
  for (const http::Field& field : fields)
    list.add(field.name, field.value);
  return list;
}

struct Case {
  std::string_view name;
  ForwardedTrust trust;
  std::string_view peer;
  Fields fields;
  std::string_view sent_for;     ///< X-Forwarded-For as a service gets it
  std::string_view scheme = "";  ///< as it is believed
  std::string_view host = "";
};

std::vector<Case> cases() {
  const Fields chain{{"X-Forwarded-For", "192.0.2.9, 198.51.100.7, 10.0.0.2"}};
  return {
      // Nobody is believed.
      {"WithoutTrustThePeerIsTheClient", {}, "192.0.2.1", chain, "192.0.2.1"},
      {"WithoutTrustAPrivatePeerIsTheClient", {}, "10.0.0.1", chain, "10.0.0.1"},
      {"WithoutTrustNoSchemeIsBelieved",
       {},
       "192.0.2.1",
       {{"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "a"}},
       "192.0.2.1"},
      // A number of hops.
      {"OneHopNamesTheLast", hops(1), "10.0.0.1", chain, "10.0.0.2, 10.0.0.1"},
      {"TwoHopsNameTheLastButOne", hops(2), "10.0.0.1", chain, "198.51.100.7, 10.0.0.2, 10.0.0.1"},
      {"ThreeHops", hops(3), "10.0.0.1", chain, "192.0.2.9, 198.51.100.7, 10.0.0.2, 10.0.0.1"},
      {"MoreHopsThanThereAreNameTheFirst", hops(9), "10.0.0.1", chain,
       "192.0.2.9, 198.51.100.7, 10.0.0.2, 10.0.0.1"},
      {"HopsWithoutAFieldNameThePeer", hops(2), "10.0.0.1", {}, "10.0.0.1"},
      {"HopsDoNotAskWhoThePeerIs",
       hops(1),
       "203.0.113.99",
       {{"X-Forwarded-For", "192.0.2.9"}},
       "192.0.2.9, 203.0.113.99"},
      {"WhatTheClientHasClaimedIsGone",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1, 10.9.9.9, 192.0.2.9"}},
       "192.0.2.9, 10.0.0.1"},
      {"FieldLinesAreOneList",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1"}, {"x-forwarded-for", "192.0.2.9"}},
       "192.0.2.9, 10.0.0.1"},
      {"EmptyElementsAreNone",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1, 192.0.2.9, ,"}},
       "192.0.2.9, 10.0.0.1"},
      // Proxies by address.
      {"AStrangerIsNotBelieved", proxies(), "192.0.2.1", chain, "192.0.2.1"},
      {"TheFirstStrangerFromTheRightIsTheClient", proxies(), "10.0.0.1", chain,
       "198.51.100.7, 10.0.0.2, 10.0.0.1"},
      {"AProxyAlone", proxies(), "10.0.0.1", {}, "10.0.0.1"},
      {"WhereAllAreProxiesTheFirstIsTheClient",
       proxies(),
       "10.0.0.1",
       {{"X-Forwarded-For", "10.0.0.3, 10.0.0.2"}},
       "10.0.0.3, 10.0.0.2, 10.0.0.1"},
      {"AClientThatClaimsAProxysAddressGainsNothing",
       proxies(),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1, 10.0.0.9, 192.0.2.66"}},
       "192.0.2.66, 10.0.0.1"},
      {"Ipv6Proxies",
       proxies(),
       "2001:db8:a::1",
       {{"X-Forwarded-For", "2001:db8:ffff::7, 2001:db8:A:0::2"}},
       "2001:db8:ffff::7, 2001:db8:a::2, 2001:db8:a::1"},
      {"AMappedAddressIsTheOneItMaps",
       proxies(),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9, ::ffff:10.0.0.2"}},
       "192.0.2.9, 10.0.0.2, 10.0.0.1"},
      // What is no address ends the chain.
      {"Unknown",
       hops(2),
       "10.0.0.1",
       {{"X-Forwarded-For", "unknown, 192.0.2.9"}},
       "192.0.2.9, 10.0.0.1"},
      {"UnknownAtTheEnd",
       hops(2),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9, unknown"}},
       "10.0.0.1"},
      {"ANameIsNoAddress", hops(1), "10.0.0.1", {{"X-Forwarded-For", "a.example"}}, "10.0.0.1"},
      {"AnOctetWithAZeroInFront",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.09"}},
       "10.0.0.1"},
      {"AnAddressAndMore", hops(1), "10.0.0.1", {{"X-Forwarded-For", "192.0.2.9 x"}}, "10.0.0.1"},
      {"ALongText",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "1111111111111111111111111111111111111111111111111111111111111111"}},
       "10.0.0.1"},
      // Ports are not part of it.
      {"AnIpv4Port",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9:4711"}},
       "192.0.2.9, 10.0.0.1"},
      {"AnIpv6Port",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "[2001:db8::9]:4711"}},
       "2001:db8::9, 10.0.0.1"},
      {"Brackets",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "[2001:db8::9]"}},
       "2001:db8::9, 10.0.0.1"},
      {"ABrokenPort", hops(1), "10.0.0.1", {{"X-Forwarded-For", "192.0.2.9:x"}}, "10.0.0.1"},
      {"ABrokenIpv6Port", hops(1), "10.0.0.1", {{"X-Forwarded-For", "[2001:db8::9]x"}}, "10.0.0.1"},
      {"AnOpenBracket", hops(1), "10.0.0.1", {{"X-Forwarded-For", "[2001:db8::9"}}, "10.0.0.1"},
      // Scheme and host.
      {"ASchemeThatWasSet",
       hops(2),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9, 10.0.0.2"},
        {"X-Forwarded-Proto", "HTTPS"},
        {"X-Forwarded-Host", "shop.example:8443"}},
       "192.0.2.9, 10.0.0.2, 10.0.0.1",
       "https",
       "shop.example:8443"},
      {"ASchemeThatWasAppended",
       hops(2),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1, 192.0.2.9, 10.0.0.2"},
        {"X-Forwarded-Proto", "http, https, http"},
        {"X-Forwarded-Host", "evil, shop, inner"}},
       "192.0.2.9, 10.0.0.2, 10.0.0.1",
       "https",
       "shop"},
      {"ASchemeOfTooFewProxies",
       hops(3),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9, 10.0.0.3, 10.0.0.2"}, {"X-Forwarded-Proto", "https, http"}},
       "192.0.2.9, 10.0.0.3, 10.0.0.2, 10.0.0.1"},
      {"NoScheme",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-For", "192.0.2.9"},
        {"X-Forwarded-Proto", "javascript"},
        {"X-Forwarded-Host", "a b"}},
       "192.0.2.9, 10.0.0.1"},
      {"ASchemeWithoutAClientIsNotBelieved",
       hops(1),
       "10.0.0.1",
       {{"X-Forwarded-Proto", "https"}},
       "10.0.0.1"},
      {"ForwardedIsNotReadWhereItIsNotTheField",
       hops(1),
       "10.0.0.1",
       {{"Forwarded", "for=127.0.0.1;proto=https"}},
       "10.0.0.1"},
      // RFC 7239.
      {"Forwarded",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=192.0.2.9;by=10.0.0.1;proto=https;host=shop.example"}},
       "192.0.2.9, 10.0.0.1",
       "https",
       "shop.example"},
      {"ForwardedIpv6",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "For=\"[2001:db8:cafe::17]:4711\""}},
       "2001:db8:cafe::17, 10.0.0.1"},
      {"ForwardedIpv4WithPort",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=\"192.0.2.43:47011\""}},
       "192.0.2.43, 10.0.0.1"},
      {"ForwardedTwice",
       proxies(kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=127.0.0.1, for=192.0.2.9;proto=https"},
        {"Forwarded", "proto=http;for=10.0.0.2"}},
       "192.0.2.9, 10.0.0.2, 10.0.0.1",
       "https"},
      {"ForwardedObfuscated",
       hops(2, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=_gazonk, for=192.0.2.9"}},
       "192.0.2.9, 10.0.0.1"},
      {"ForwardedUnknown",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=unknown;proto=https"}},
       "10.0.0.1"},
      {"ForwardedWithoutFor",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "proto=https"}},
       "10.0.0.1"},
      {"ForwardedWithSpaces",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=192.0.2.9 ; proto=https"}},
       "192.0.2.9, 10.0.0.1",
       "https"},
      {"ForwardedBareIpv6",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=\"2001:db8::9\""}},
       "10.0.0.1"},
      {"ForwardedForTwice",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=127.0.0.1;for=192.0.2.9"}},
       "10.0.0.1"},
      {"ForwardedWithAnOpenQuote",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=\"192.0.2.9"}},
       "10.0.0.1"},
      {"ForwardedWithAnEscape",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=\"192.0.2.\\9\""}},
       "10.0.0.1"},
      {"ForwardedWithoutAValue",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for"}},
       "10.0.0.1"},
      {"ForwardedWithAnEmptyValue",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for="}},
       "10.0.0.1"},
      {"AQuoteThatTheClientOpensSwallowsNothing",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=\"127.0.0.1, for=192.0.2.9"}},
       "192.0.2.9, 10.0.0.1"},
      {"AHostThatTheClientChoosesNamesNobody",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"Forwarded", "for=192.0.2.9;host=\"a,for=127.0.0.1\""}},
       "10.0.0.1"},
      {"XForwardedForIsNotReadWhereItIsNotTheField",
       hops(1, kForwarded),
       "10.0.0.1",
       {{"X-Forwarded-For", "127.0.0.1"}, {"X-Forwarded-Proto", "https"}},
       "10.0.0.1"},
  };
}

class Claims : public ::testing::TestWithParam<Case> {};

TEST_P(Claims, AreBelievedAsFarAsTheirAuthorsAre) {
  const Case& c = GetParam();
  http::HeaderList fields = list_of(c.fields);
  const ClientClaim claim = read_claim(fields, address(c.peer), c.trust);
  EXPECT_EQ(claim.scheme, c.scheme);
  EXPECT_EQ(claim.host, c.host);
  const std::string_view first = c.sent_for.substr(0, c.sent_for.find(','));
  EXPECT_EQ(claim.client.text(), first);
  EXPECT_EQ(claim.by_proxy, first.size() != c.sent_for.size());
  std::string scratch;
  describe_client(fields, claim, {.client = c.peer, .scheme = "http", .host = "seen.example"},
                  scratch);
  ASSERT_EQ(fields.size(), 4U);
  EXPECT_EQ(fields.find("X-Forwarded-For"), c.sent_for);
  EXPECT_EQ(fields.find("X-Forwarded-Proto"), c.scheme.empty() ? "http" : c.scheme);
  EXPECT_EQ(fields.find("X-Forwarded-Host"), c.host.empty() ? "seen.example" : c.host);
  // What we write, a service that trusts as many hops reads as we did.
  const auto count = static_cast<std::uint32_t>(claim.hop_count + (claim.by_proxy ? 1 : 0));
  if (!claim.by_proxy) return;
  const ClientClaim behind = read_claim(fields, address("10.1.1.1"), hops(count + 1, kForwarded));
  EXPECT_EQ(behind.client, claim.client) << *fields.find("Forwarded");
}

INSTANTIATE_TEST_SUITE_P(, Claims, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string{info.param.name}; });

TEST(ClientClaims, ForwardedIsWrittenWithEveryHop) {
  http::HeaderList fields =
      list_of({{"X-Forwarded-For", "2001:db8::9, 10.0.0.2"}, {"X-Forwarded-Proto", "https"}});
  const ClientClaim claim = read_claim(fields, address("10.0.0.1"), proxies());
  std::string scratch;
  describe_client(fields, claim, {.client = "10.0.0.1", .scheme = "http", .host = "a"}, scratch);
  EXPECT_EQ(fields.find("Forwarded"),
            "for=\"[2001:db8::9]\";host=\"a\";proto=https, for=10.0.0.2, for=10.0.0.1");
}

TEST(ClientClaims, OfALongChainOnlyAsManyHopsAreReadAsThereMayBe) {
  std::string chain = "192.0.2.9";
  for (int i = 0; i < 100; ++i)
    chain += ", 10.0.1." + std::to_string(i);
  const http::HeaderList fields = list_of({{"X-Forwarded-For", chain}});
  const ClientClaim claim = read_claim(fields, address("10.0.0.1"), proxies());
  EXPECT_EQ(claim.client, address("10.0.1.84"));
  EXPECT_EQ(claim.hop_count, control::kForwardedHopsMax - 1);
  EXPECT_EQ(claim.hops[0], address("10.0.1.85"));
}

TEST(ClientClaims, WhateverAClientSendsItCannotBecomeSomebodyElse) {
  constexpr std::uint64_t kSeed = 11;
  constexpr std::string_view kPieces[] = {
      "127.0.0.1", "10.0.0.9", ",", ", ",  "\"",          "for=",    ";",  "=", "unknown",
      "[",         "]",        ":", "::1", "proto=https", "host=\"", "\\", " ", "a"};
  Random random{kSeed};
  for (int round = 0; round < 4000; ++round) {
    std::string claimed;
    for (std::uint32_t i = random.below(12); i > 0; --i)
      claimed += kPieces[random.below(std::size(kPieces))];
    // The trusted proxy appends whom it sees, in the same line or in one of its own.
    const bool own_line = random.chance(0.5);
    for (const ForwardedField field : {ForwardedField::kXForwardedFor, kForwarded}) {
      const bool is_x = field == ForwardedField::kXForwardedFor;
      const std::string_view name = is_x ? "X-Forwarded-For" : "Forwarded";
      const std::string appended = is_x ? "192.0.2.66" : "for=192.0.2.66";
      http::HeaderList fields;
      if (own_line) {
        fields.add(name, claimed);
        fields.add(name, appended);
      } else {
        fields.add(name, claimed + ", " + appended);
      }
      for (const ForwardedTrust& trust : {hops(1, field), proxies(field)})
        ASSERT_EQ(read_claim(fields, address("10.0.0.1"), trust).client, address("192.0.2.66"))
            << claimed;
    }
  }
}

TEST(ClientClaims, ReadingAndWritingThemAllocatesNothingTheSecondTime) {
  http::HeaderList fields;
  std::string scratch;
  const ForwardedTrust trust = proxies();
  const wire::IpAddress peer = address("10.0.0.1");
  for (int round = 0; round < 3; ++round) {
    fields.clear();
    fields.add("X-Forwarded-For", "127.0.0.1, 2001:db8:ffff::7, 10.0.0.3, 10.0.0.2");
    const testing::AllocationGuard guard;
    describe_client(fields, read_claim(fields, peer, trust),
                    {.client = "10.0.0.1", .scheme = "https", .host = "shop.example"}, scratch);
    if (round == 2) EXPECT_EQ(guard.allocations(), 0U);
  }
}

}  // namespace
}  // namespace weir::proxy
