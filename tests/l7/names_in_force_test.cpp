#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "l7/admin_api.h"
#include "tests/l7/dns_server.h"
#include "tests/support/proxy_world.h"

// Names from the file to the worker that sends requests to what they lead to.

namespace weir::l7 {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::answering;
using testing::DnsReply;
using testing::DnsServer;
using ::testing::HasSubstr;
using testing::Peer;
using testing::ProxyWorld;
using ::testing::StartsWith;

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr std::chrono::seconds kTtl{5};
constexpr std::string_view kBackend = "10.0.0.2";  // of the world; port 8001 is there

class NamesInForce : public ::testing::Test {
 protected:
  NamesInForce() {
    std::filesystem::create_directories(directory_);
    world_.add_backend(8001, answering(std::string{kOk}));
  }
  ~NamesInForce() override { std::filesystem::remove_all(directory_); }

  static control::ConfigSubmission config(std::string_view endpoints, std::string_view more = "") {
    return {.file = "/etc/weir/weir.yaml",
            .text = fmt::format(
                "version: 1\n"
                "node: {{interfaces: [eth0], l7: {{workers: 2, addresses: [10.0.0.1/24]}}}}\n"
                "gateways:\n"
                "- {{name: edge, addresses: [203.0.113.10], listeners: [{{name: http, port: 80, "
                "protocol: HTTP}}]}}\n"
                "services:\n"
                "  app: {{endpoints: [{}], outlierDetection: {{consecutiveFailures: 0}}{}}}\n"
                "httpRoutes:\n"
                "- {{name: app, parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{{name: "
                "app}}]}}]}}\n",
                endpoints, more)};
  }
  void lead(const std::string& name, const std::vector<std::string_view>& texts) {
    DnsReply reply{.ttl_s = static_cast<std::uint32_t>(kTtl.count())};
    for (const std::string_view text : texts)
      reply.addresses.push_back(*wire::IpAddress::parse(text));
    dns_.set(name, std::move(reply));
  }
  void start(std::string_view endpoints) {
    auto outcome = api_.prepare(config(endpoints), AdminApi::Names::kLookUp);
    auto* prepared = std::get_if<AdminApi::Prepared>(&outcome);
    ASSERT_NE(prepared, nullptr) << std::get<AdminApi::Refused>(outcome).text();
    ASSERT_TRUE(api_.start(std::move(*prepared), config(endpoints),
                           {&world_.worker(0), &world_.worker(1)}));
    world_.run_for(1ms);
  }
  control::AdminReply submit(std::string_view path, std::string_view endpoints,
                             std::string_view more = "") {
    const control::ConfigSubmission wanted = config(endpoints, more);
    const json body = {{"file", wanted.file}, {"text", wanted.text}};
    control::AdminReply reply = api_.handle({"POST", std::string{path}, {}, body.dump()});
    world_.run_for(1ms);
    return reply;
  }
  json endpoints() { return json::parse(api_.handle({"GET", "/v1/endpoints", {}, ""}).body); }
  /// "10.0.0.2:8001 app.test, …"
  std::string endpoint_texts() {
    std::string text;
    const json all = endpoints();
    for (const json& row : all["endpoints"])
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", row["endpoint"].get<std::string>(),
                          row["name"].get<std::string>());
    return text;
  }
  /// The control thread's rounds once what was known has ended, until DNS has answered.
  void follow() {
    now_ = std::max(now_, monotonic_now()) + kTtl + kTtl;
    const std::size_t before = dns_.asked("app.test", wire::Family::kIpv4).udp;
    EXPECT_TRUE(rounds_until(
        [&] { return dns_.asked("app.test", wire::Family::kIpv4).udp > before && !is_asking(); }));
    round();
  }
  /// Time stands still meanwhile, but for DNS.
  bool rounds_until(const std::function<bool()>& condition) {
    const Instant give_up = monotonic_now() + 20s;
    while (!condition()) {
      if (monotonic_now() >= give_up) return false;
      ::poll(nullptr, 0, 1);  // the server has a thread
      round();
    }
    return true;
  }
  void round() {
    api_.follow_names(now_);
    world_.run_for(1ms);
  }
  bool is_asking() {
    const json all = endpoints();
    for (const json& row : all["names"])
      if (row["next_s"] == 0) return true;
    return false;
  }
  std::string ask() {
    Peer& client = world_.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    world_.run_for(200ms);
    return client.received;
  }

  std::filesystem::path directory_ =
      std::filesystem::path{::testing::TempDir()} / fmt::format("weir-names-{}", ::getpid());
  DnsServer dns_;
  ProxyWorld world_{{.workers = 2}};
  Instant now_{};
  AdminApi api_{directory_ / "l7.json", "weir-w", control::Lane::kBlue,
                ResolverOptions{.servers = dns_.address(), .timeout = 150ms, .tries = 6}};
};

TEST_F(NamesInForce, AreKnownBeforeTheFirstConfigurationGoesLive) {
  lead("app.test", {kBackend});
  start("\"app.test:8001\"");
  EXPECT_EQ(endpoint_texts(), "10.0.0.2:8001 app.test");
  EXPECT_EQ(ask(), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
  const json row = endpoints()["names"][0];
  EXPECT_EQ(row["name"], "app.test");
  EXPECT_EQ(row["services"], json({"app"}));
  EXPECT_EQ(row["addresses"], json({"10.0.0.2"}));
  EXPECT_TRUE(row["age_s"].is_number_unsigned());
  EXPECT_EQ(row["last_error"], "");
  EXPECT_EQ(dns_.asked("app.test", wire::Family::kIpv6).udp, 0U) << "L7 has no such address";
}

TEST_F(NamesInForce, LeadToOtherAddressesAtAllWorkersInTheSameRevision) {
  lead("app.test", {"10.0.0.3"});
  start("\"app.test:8001\"");
  EXPECT_EQ(endpoint_texts(), "10.0.0.3:8001 app.test");
  lead("app.test", {kBackend});
  follow();
  EXPECT_EQ(endpoint_texts(), "10.0.0.2:8001 app.test");
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 200"));
  for (const std::size_t worker : {0U, 1U}) {
    EXPECT_EQ(world_.report(worker).revision, 1U);
    EXPECT_EQ(world_.report(worker).core.generations, 2U);
  }
  const json config = json::parse(api_.handle({"GET", "/v1/config", {}, ""}).body);
  EXPECT_THAT(config["text"].get<std::string>(), HasSubstr("app.test:8001"));
}

TEST_F(NamesInForce, ThatLeadWhereTheyLedChangeNothing) {
  lead("app.test", {kBackend});
  start("\"app.test:8001\", \"10.0.0.9:8001\"");
  lead("app.test", {kBackend, "10.0.0.9", "127.0.0.1"});  // had already, and none
  follow();
  EXPECT_EQ(endpoint_texts(), "10.0.0.2:8001 app.test, 10.0.0.9:8001 ");
  EXPECT_EQ(world_.report().core.generations, 1U);
  EXPECT_EQ(endpoints()["names"][0]["left_out"], json({"127.0.0.1, a loopback address"}));
}

TEST_F(NamesInForce, GiveWorkersOtherEndpointsOnceASecondAtMost) {
  lead("app.test", {"10.0.0.3"});
  lead("b.test", {"10.0.0.7"});
  start("\"app.test:8001\", \"b.test:8001\"");
  lead("app.test", {"10.0.0.4"});
  dns_.set("b.test", {.kind = DnsReply::Kind::kSilence});
  now_ = monotonic_now() + kTtl + kTtl;
  const auto lead_to = [&](std::string_view texts) { return endpoint_texts() == texts; };
  EXPECT_TRUE(
      rounds_until([&] { return lead_to("10.0.0.4:8001 app.test, 10.0.0.7:8001 b.test"); }));
  lead("b.test", {"10.0.0.8"});
  EXPECT_TRUE(rounds_until([&] { return endpoints()["names"][1]["addresses"][0] == "10.0.0.8"; }));
  now_ += 999ms;
  round();
  EXPECT_EQ(endpoint_texts(), "10.0.0.4:8001 app.test, 10.0.0.7:8001 b.test");
  now_ += 1ms;
  round();
  EXPECT_EQ(endpoint_texts(), "10.0.0.4:8001 app.test, 10.0.0.8:8001 b.test");
}

TEST_F(NamesInForce, KeepWhatIsKnownOfAddressesThatStay) {
  lead("app.test", {kBackend});
  start("\"app.test:8001\"");
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 200"));
  lead("app.test", {kBackend, "10.0.0.9"});
  follow();
  EXPECT_EQ(endpoints()["endpoints"][0]["requests"], 1);
  EXPECT_EQ(endpoints()["endpoints"][1]["requests"], 0);
}

TEST_F(NamesInForce, ThatNobodyKnowsHaveNoEndpointsAndTheConfigurationGoesLive) {
  start("\"app.test:8001\"");
  EXPECT_EQ(endpoint_texts(), "");
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(world_.drain_log(), HasSubstr("\"reason\":\"no_endpoint\""));
  const json row = endpoints()["names"][0];
  EXPECT_TRUE(row["age_s"].is_null());
  EXPECT_EQ(row["last_error"], "there is no such name");
  lead("app.test", {kBackend});
  follow();
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 200"));
}

TEST_F(NamesInForce, OfAnotherConfigurationAreWaitedForButOnlyWhereItIsApplied) {
  lead("app.test", {kBackend});
  lead("b.test", {"10.0.0.7"});
  start("\"app.test:8001\"");
  EXPECT_EQ(submit("/v1/check", "\"b.test:8001\"").status, 200);
  EXPECT_EQ(dns_.asked("b.test", wire::Family::kIpv4).udp, 0U);
  EXPECT_EQ(submit("/v1/apply", "\"b.test:8001\"").status, 200);
  EXPECT_EQ(endpoint_texts(), "10.0.0.7:8001 b.test");
  EXPECT_EQ(endpoints()["names"].size(), 1U) << "the other one is not followed any more";
}

/// The refused one speaks another family, in which nothing is known.
TEST_F(NamesInForce, KeepTheirAddressesWhenAnotherConfigurationIsRefused) {
  lead("app.test", {kBackend});
  start("\"app.test:8001\"");
  std::ofstream{directory_ / "ca.pem"} << "hello\n";
  const std::string tls =
      fmt::format(", tls: {{caRef: {{file: {}}}}}", (directory_ / "ca.pem").string());
  control::ConfigSubmission other = config("\"app.test:8001\"", tls);
  const auto replace = [&](std::string_view what, std::string_view with) {
    other.text.replace(other.text.find(what), what.size(), with);
  };
  replace("10.0.0.1/24", "\"2001:db8::5/64\"");
  replace("203.0.113.10", "\"2001:db8:77::1\"");
  const json body = {{"file", other.file}, {"text", other.text}};
  const control::AdminReply refused = api_.handle({"POST", "/v1/apply", {}, body.dump()});
  EXPECT_THAT(refused.body, HasSubstr("ca.pem"));
  EXPECT_GE(dns_.asked("app.test", wire::Family::kIpv6).udp, 1U) << "it was refused before";
  now_ = monotonic_now();
  round();
  EXPECT_EQ(endpoint_texts(), "10.0.0.2:8001 app.test");
  EXPECT_EQ(world_.report().core.generations, 1U);
}

TEST_F(NamesInForce, OfAConfigurationThatIsRefusedAreForgotten) {
  lead("app.test", {kBackend});
  start("\"app.test:8001\"");
  std::ofstream{directory_ / "ca.pem"} << "hello\n";
  // What cannot be built is found after the names have been looked up.
  const control::AdminReply refused =
      submit("/v1/apply", "\"b.test:8001\"",
             fmt::format(", tls: {{caRef: {{file: {}}}}}", (directory_ / "ca.pem").string()));
  EXPECT_GE(refused.status, 400) << refused.body;
  EXPECT_GE(dns_.asked("b.test", wire::Family::kIpv4).udp, 1U);
  EXPECT_EQ(endpoints()["names"].size(), 1U);
  EXPECT_EQ(endpoint_texts(), "10.0.0.2:8001 app.test");
}

}  // namespace
}  // namespace weir::l7
