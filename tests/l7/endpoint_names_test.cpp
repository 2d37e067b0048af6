#include "l7/endpoint_names.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir::l7 {
namespace {

using namespace std::chrono_literals;
using control::ServiceEndpoint;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

ServiceEndpoint named(std::string name, std::uint16_t port, std::uint32_t weight = 1,
                      std::string zone = {}) {
  return {.endpoint = {{}, wire::Port{port}},
          .weight = weight,
          .zone = std::move(zone),
          .hostname = std::move(name)};
}

std::vector<std::string> texts_of(const std::vector<ServiceEndpoint>& endpoints) {
  std::vector<std::string> texts;
  for (const ServiceEndpoint& endpoint : endpoints)
    texts.push_back(fmt::format("{} {} {}", endpoint.endpoint.text(), endpoint.weight,
                                endpoint.hostname.empty() ? "-" : endpoint.hostname));
  return texts;
}

class AddressesOfNames : public ::testing::Test {
 protected:
  AddressesOfNames() {
    model_.node.l7.addresses = {*wire::Prefix::parse("10.77.0.2/24")};
    model_.services = {{.name = "app"}};
  }
  void know(const std::map<std::string, std::vector<std::string_view>>& known) {
    std::set<std::string> names;
    for (const auto& [name, texts] : known)
      names.insert(name);
    book_.set_names(names, {.v4 = true, .v6 = false}, Instant{});
    for (const Question& question : book_.take_due(Instant{})) {
      FamilyAnswer answer{.result = LookupResult::kFound, .ttl = 1min};
      for (const std::string_view text : known.at(question.name))
        answer.addresses.push_back(address(text));
      book_.answer(question, std::move(answer), Instant{});
    }
  }
  std::vector<std::string> endpoints() const {
    return texts_of(with_addresses(model_, book_).model.services[0].endpoints);
  }
  std::vector<std::string> left_out(const std::string& name) const {
    const LeftOutAddresses all = with_addresses(model_, book_).left_out;
    return all.contains(name) ? all.at(name) : std::vector<std::string>{};
  }
  std::vector<ServiceEndpoint>& written() { return model_.services[0].endpoints; }

  control::Model model_;
  NameBook book_;
};

TEST_F(AddressesOfNames, StandInTheirPlaceInOrderWithTheirWeightAndZone) {
  know({{"a.test", {"10.0.0.3", "10.0.0.1"}}, {"b.test", {"10.0.0.2"}}});
  written() = {{.endpoint = {address("10.0.0.9"), wire::Port{80}}},
               named("b.test", 80),
               named("a.test", 8080, 3, "rack"),
               named("a.test", 8081, 0)};
  EXPECT_THAT(endpoints(), ElementsAre("10.0.0.9:80 1 -", "10.0.0.2:80 1 b.test",
                                       "10.0.0.1:8080 3 a.test", "10.0.0.3:8080 3 a.test",
                                       "10.0.0.1:8081 0 a.test", "10.0.0.3:8081 0 a.test"));
  const auto all = with_addresses(model_, book_).model.services[0].endpoints;
  EXPECT_EQ(all[2].zone, "rack");
  EXPECT_THAT(with_addresses(model_, book_).left_out, IsEmpty());
}

TEST_F(AddressesOfNames, OfWhichNothingIsKnownAreNoEndpoints) {
  written() = {named("a.test", 80)};
  EXPECT_THAT(endpoints(), IsEmpty());
}

TEST_F(AddressesOfNames, ThatTheServiceHasAlreadyCountOnceByWhatTheFileSaysOfThem) {
  know({{"a.test", {"10.0.0.1", "10.0.0.2"}}, {"b.test", {"10.0.0.2", "10.0.0.3"}}});
  written() = {named("a.test", 80, 2),
               named("b.test", 80, 5),
               {.endpoint = {address("10.0.0.1"), wire::Port{80}}, .weight = 7}};
  EXPECT_THAT(endpoints(),
              ElementsAre("10.0.0.2:80 2 a.test", "10.0.0.3:80 5 b.test", "10.0.0.1:80 7 -"));
}

TEST_F(AddressesOfNames, ThatCannotBeEndpointsAreLeftOutAndNamed) {
  model_.gateways = {{.name = "edge", .addresses = {address("203.0.113.10")}}};
  know({{"a.test",
         {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.77.0.2", "203.0.113.10",
          "10.0.0.1"}}});
  written() = {named("a.test", 80), named("a.test", 81)};
  EXPECT_THAT(endpoints(), ElementsAre("10.0.0.1:80 1 a.test", "10.0.0.1:81 1 a.test"));
  EXPECT_THAT(
      left_out("a.test"),
      ElementsAre("0.0.0.0, the unspecified address", "10.77.0.2, an address of node.l7.addresses",
                  "127.0.0.1, a loopback address", "203.0.113.10, an address of gateway 'edge'",
                  "224.0.0.1, a multicast or broadcast address",
                  "255.255.255.255, a multicast or broadcast address"));
}

TEST_F(AddressesOfNames, AreOfFamiliesThatL7CanSpeak) {
  model_.node.l7.addresses = {*wire::Prefix::parse("2001:db8::5/64")};
  know({{"a.test", {"10.0.0.1"}}});
  written() = {named("a.test", 80)};
  EXPECT_THAT(endpoints(), IsEmpty());
  EXPECT_THAT(left_out("a.test"),
              ElementsAre("10.0.0.1, of a family that node.l7.addresses lacks"));
}

TEST_F(AddressesOfNames, AreTakenUntilTheServiceHasAsManyAsItMayHave) {
  std::vector<std::string> texts;
  for (unsigned i = 0; i < 20; ++i)
    texts.push_back(fmt::format("10.0.1.{:03}", i + 100));
  know({{"a.test", {texts.rbegin(), texts.rend()}}});
  for (unsigned i = 0; i < control::kBackendsPerVipMax - 5; ++i)
    written().push_back({.endpoint = {wire::IpAddress::v4(10, 2, static_cast<std::uint8_t>(i >> 8),
                                                          static_cast<std::uint8_t>(i)),
                                      wire::Port{80}}});
  written().push_back(named("a.test", 80));
  const std::vector<std::string> all = endpoints();
  ASSERT_EQ(all.size(), control::kBackendsPerVipMax);
  EXPECT_EQ(all[all.size() - 5], "10.0.1.100:80 1 a.test");
  EXPECT_EQ(all.back(), "10.0.1.104:80 1 a.test");
  EXPECT_THAT(left_out("a.test"),
              ElementsAre("15 addresses beyond the 4096 endpoints of a service"));
}

}  // namespace
}  // namespace weir::l7
