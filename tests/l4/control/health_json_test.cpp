#include "l4/control/health_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "l4/control/model_json.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

using ::testing::HasSubstr;

std::vector<HealthCheck> one_of_each_kind() {
  std::vector<HealthCheck> checks(6);
  checks[0].kind = ProbeKind::kTcp;
  checks[0].port = wire::Port{25};
  checks[1].kind = ProbeKind::kHttp;
  checks[1].path = "/healthz?full=1";
  checks[1].statuses = {{200, 299}, {404, 404}};
  checks[2].kind = ProbeKind::kHttps;
  checks[2].host = "shop.example";
  checks[2].verify = false;
  checks[3].kind = ProbeKind::kUdp;
  checks[3].send = std::string{"\x00\xffping", 6};
  checks[3].expect = "pong";
  checks[4].kind = ProbeKind::kGrpc;
  checks[4].grpc_service = "shop.v1.Cart";
  checks[5].kind = ProbeKind::kIcmp;
  checks[5].fail_open_percent = 20;
  return checks;
}

TEST(HealthJson, EveryKindIsTheSameAfterIt) {
  for (const HealthCheck& check : one_of_each_kind()) {
    const auto again = health_from_json(to_json(check));
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, check) << to_json(check);
  }
}

TEST(HealthJson, AVipKeepsItsCheck) {
  for (const HealthCheck& check : one_of_each_kind()) {
    Vip vip;
    vip.address = wire::IpAddress::v4(203, 0, 113, 1);
    vip.ports = PortRange::only(wire::Port{80});
    vip.health = check;
    const auto again = vip_from_json(to_json(vip));
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, vip);
  }
}

TEST(HealthJson, HasWhatTheKindHasAndNoMore) {
  HealthCheck check;
  check.kind = ProbeKind::kIcmp;
  EXPECT_EQ(to_json(check),
            R"({"kind":"icmp","interval_ms":2000,"timeout_ms":1000,"rise":2,"fall":3,"flaps":5,)"
            R"("grace_ms":30000,"fail_open_percent":0,"slow_start_ms":0})");
}

TEST(HealthJson, AShortIntervalShortensTheTimeout) {
  const auto check = health_from_json(R"({"kind": "tcp", "interval_ms": 200})");
  ASSERT_TRUE(check);
  EXPECT_EQ(check->timeout_ms, 200U);
}

struct Malformed {
  const char* text;
  const char* complaint;
};

TEST(HealthJson, MalformedOnesAreRefused) {
  for (const Malformed& c : std::initializer_list<Malformed>{
           {"", "no JSON object"},
           {"[]", "no JSON object"},
           {"{}", "lacks the text 'kind'"},
           {R"({"kind": 1})", "lacks the text 'kind'"},
           {R"({"kind": "ping"})", "'ping' is not a kind"},
           {R"({"kind": "icmp", "port": 80})", "unknown member 'port'"},
           {R"({"kind": "tcp", "path": "/"})", "unknown member 'path'"},
           {R"({"kind": "tcp", "port": 0})", "health.port is 0"},
           {R"({"kind": "tcp", "port": 65536})", "health.port is 65536"},
           {R"({"kind": "tcp", "rise": -1})", "health.rise is -1"},
           {R"({"kind": "tcp", "rise": 4294967296})", "health.rise is 4294967296"},
           {R"({"kind": "tcp", "rise": "2"})", "health.rise is \"2\""},
           {R"({"kind": "http", "path": 1})", "health.path is 1"},
           {R"({"kind": "http", "statuses": "200"})", "health.statuses is"},
           {R"({"kind": "http", "statuses": [200]})", "health.statuses is"},
           {R"({"kind": "http", "statuses": ["299-200"]})", "'299-200' is not a status"},
           {R"({"kind": "https", "verify": "no"})", "health.verify is"},
           {R"({"kind": "udp", "send": {"hex": "0"}})", "health.send is"},
           {R"({"kind": "udp", "send": {"hex": "zz"}})", "health.send is"},
           {R"({"kind": "udp", "expect": {"bytes": "00"}})", "health.expect is"}}) {
    const auto check = health_from_json(c.text);
    ASSERT_FALSE(check) << c.text;
    EXPECT_THAT(check.error().text(), HasSubstr(c.complaint)) << c.text;
  }
}

TEST(HealthJson, StatusesAreReadAsTheyAreWritten) {
  EXPECT_EQ(status_text(*parse_status("200-299")), "200-299");
  EXPECT_EQ(status_text(*parse_status("404")), "404");
  for (const char* text : {"", "-", "99", "600", "200-", "-200", "2xx", "200-199", "200-600"})
    EXPECT_FALSE(parse_status(text)) << text;
}

TEST(HealthRules, TakeTheDefaultsOfEveryKind) {
  for (const HealthCheck& check : one_of_each_kind()) {
    Vip vip;
    vip.ports = PortRange::only(wire::Port{80});
    vip.health = check;
    const auto objection = object_to_health(vip);
    EXPECT_FALSE(objection) << objection->problem;
  }
}

struct Unfit {
  const char* problem;
  void (*change)(Vip&);
};

TEST(HealthRules, ObjectToWhatCannotBe) {
  for (const Unfit& c : std::initializer_list<Unfit>{
           {"given, but mode l7", [](Vip& v) { v.mode = ForwardMode::kL7; }},
           {"without a port", [](Vip& v) { v.ports = PortRange::any(); }},
           {"of interval 50ms", [](Vip& v) { v.health->interval_ms = 50; }},
           {"of timeout 3s", [](Vip& v) { v.health->timeout_ms = 3000; }},
           {"of timeout 0", [](Vip& v) { v.health->timeout_ms = 0; }},
           {"of rise 0", [](Vip& v) { v.health->rise = 0; }},
           {"of fall 101", [](Vip& v) { v.health->fall = 101; }},
           {"of flaps 21", [](Vip& v) { v.health->flaps_max = 21; }},
           {"of fail-open percentage 101", [](Vip& v) { v.health->fail_open_percent = 101; }},
           {"'healthz'", [](Vip& v) { v.health->path = "healthz"; }},
           {"'/a b'", [](Vip& v) { v.health->path = "/a b"; }},
           {"of 0 ranges", [](Vip& v) { v.health->statuses.clear(); }},
           {"of a datagram", [](Vip& v) { v.health->send.resize(1025); }},
           {"of a CA file",
            [](Vip& v) {
              v.health->verify = false;
              v.health->ca_file = "/ca.pem";
            }},
           {"of port 80, but ICMP", [](Vip& v) {
              v.health->kind = ProbeKind::kIcmp;
              v.health->port = wire::Port{80};
            }}}) {
    Vip vip;
    vip.ports = PortRange::only(wire::Port{80});
    vip.health.emplace();
    c.change(vip);
    const auto objection = object_to_health(vip);
    ASSERT_TRUE(objection) << c.problem;
    EXPECT_THAT(objection->problem, HasSubstr(c.problem));
  }
}

TEST(HealthRules, InModeNatTheBackendsOwnPortsWillDo) {
  Vip vip;
  vip.mode = ForwardMode::kNat;
  vip.ports = PortRange::any();
  vip.health.emplace();
  vip.backends.push_back({.name = {}, .address = {}, .port = wire::Port{8080}});
  EXPECT_FALSE(object_to_health(vip));
  vip.backends.push_back({.name = {}, .address = {}, .port = {}});
  EXPECT_TRUE(object_to_health(vip));
}

}  // namespace
}  // namespace weir::control
