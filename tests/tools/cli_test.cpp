#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "l4/control/admin.h"
#include "tests/support/golden.h"
#include "tools/weir/capture_file.h"

namespace weir::cli {
namespace {

using control::AdminReply;
using control::AdminRequest;
using control::AdminServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using weir::testing::file_text;

struct Finished {
  int exit_code = -1;
  std::string out;
  std::string err;
};

/// The answers of a daemon that is not there, by "METHOD /path?query", and what it was asked.
class StandIn {
 public:
  explicit StandIn(const std::filesystem::path& socket)
      : server_{AdminServer::start({socket.string(), 0660}, [this](const AdminRequest& request) {
          return answer(request);
        })} {}

  void on(const std::string& request, int status, const std::string& body) {
    const std::lock_guard lock{mutex_};
    answers_[request] = {status, body};
  }
  void on(const std::string& request, AdminReply reply) {
    const std::lock_guard lock{mutex_};
    answers_[request] = std::move(reply);
  }
  std::vector<std::string> asked() {
    const std::lock_guard lock{mutex_};
    return asked_;
  }
  std::string last_body() {
    const std::lock_guard lock{mutex_};
    return last_body_;
  }
  [[nodiscard]] bool running() const { return server_.has_value(); }

 private:
  AdminReply answer(const AdminRequest& request) {
    const std::lock_guard lock{mutex_};
    std::string key = request.method + " " + request.path;
    for (const auto& [name, value] : request.query)
      key += " " + name + "=" + value;
    asked_.push_back(key);
    last_body_ = request.body;
    const auto found = answers_.find(key);
    return found == answers_.end() ? control::unknown_path_reply(request) : found->second;
  }

  std::mutex mutex_;
  std::map<std::string, AdminReply> answers_;
  std::vector<std::string> asked_;
  std::string last_body_;
  Result<AdminServer> server_;  // last: its thread uses the others
};

class Cli : public ::testing::Test {
 protected:
  Cli() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weir-cli-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~Cli() override {
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

  [[nodiscard]] std::filesystem::path l4_socket() const { return directory_ / "l4.sock"; }
  [[nodiscard]] std::filesystem::path l7_socket() const { return directory_ / "l7.sock"; }

  std::string write_config(const std::string& text) const {
    std::ofstream{directory_ / "weir.yaml"} << text;
    return (directory_ / "weir.yaml").string();
  }

  /// A program that the shell runs, where nothing else is found.
  void put_on_path(const std::string& name, const std::string& script) {
    const std::filesystem::path file = directory_ / name;
    std::ofstream{file} << "#!/bin/sh\n" << script;
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    path_ = "/nowhere::" + directory_.string();
  }

  /// Runs the program as a person would, sockets given by the environment.
  [[nodiscard]] Finished weir(std::vector<std::string> arguments,
                              const std::string& input = {}) const {
    const std::string out = (directory_ / "out").string();
    const std::string err = (directory_ / "err").string();
    const std::string in = (directory_ / "in").string();
    std::ofstream{in} << input;
    arguments.insert(arguments.begin(), WEIR_PROGRAM);
    std::vector<std::string> environment{"WEIR_L4_SOCKET=" + l4_socket().string(),
                                         "WEIR_L7_SOCKET=" + l7_socket().string(), "PATH=" + path_};
    std::vector<char*> argv = pointers(arguments);
    std::vector<char*> envp = pointers(environment);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t child = 0;
    const int spawned =
        posix_spawn(&child, WEIR_PROGRAM, &actions, nullptr, argv.data(), envp.data());
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(spawned, 0);
    int status = 0;
    if (spawned == 0) ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, file_text(out), file_text(err)};
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> list;
    for (std::string& word : words)
      list.push_back(word.data());
    list.push_back(nullptr);
    return list;
  }

  std::filesystem::path directory_;
  std::string path_;
};

constexpr const char* kVips = R"({"revision": 7, "vips": [
  {"vip": "203.0.113.53:53/udp", "name": "dns", "owner": "manual", "id": 3, "mode": "ipip",
   "gue_port": null, "snat": null, "when_empty": "refuse", "hash": "sourceIP",
   "affinity_timeout_s": 60, "sources_allowed": 0, "sources_denied": 2,
   "limits": {"new_flows_per_source": 200, "packets_per_source": 0, "new_flows": 0, "packets": 0},
   "quic": {"server_id_length": 3, "config_rotation": 1},
   "sources": {"allow": [], "deny": ["192.0.2.0/24", "2001:db8::/32"]},
   "table_size": 65537, "table_digest": "5b0c7f6a90e1d244",
   "backends": [{"address": "10.0.2.11", "name": "dns-a", "port": null, "server_id": "0a0b0c",
                 "id": 17, "weight": 100,
                 "state": "active", "slots": 65537,
                 "next_hop": {"state": "resolved", "device": "eth0", "gateway": null,
                              "mac": "02:00:00:00:00:07", "source": "10.0.0.5", "mtu": 1500,
                              "reason": ""}}]}]})";

TEST_F(Cli, PrintsItsVersionAndHelp) {
  EXPECT_EQ(weir({"--version"}).exit_code, 0);
  EXPECT_THAT(weir({"--version"}).out, StartsWith("weir 0."));
  const Finished help = weir({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:"));
  for (const std::string verb :
       {"load", "unload", "vip", "backend", "status", "stats", "monitor", "trace", "check", "diff",
        "apply", "history", "rollback", "export", "completion", "doctor", "decap", "bench"})
    EXPECT_THAT(help.out, HasSubstr("  " + verb + " "));
}

TEST_F(Cli, AnswersWrongUsageWithStatusTwoAndOneLine) {
  const std::vector<std::vector<std::string>> wrong{
      {},
      {"fly"},
      {"vip"},
      {"vip", "add"},
      {"vip", "add", "203.0.113.53"},
      {"vip", "add", "203.0.113.53/28:53/udp"},
      {"vip", "add", "203.0.113.53:90-80/udp"},
      {"vip", "add", "203.0.113.53:53/udp", "--mode", "dsr"},
      {"vip", "add", "203.0.113.53:53/udp", "--gue-port", "0"},
      {"vip", "add", "203.0.113.53:53/udp", "--snat", "maybe"},
      {"vip", "add", "203.0.113.53:53/udp", "--hash", "sourceip"},
      {"vip", "add", "203.0.113.53:53/udp", "--affinity", "3"},
      {"vip", "add", "203.0.113.53:53/udp", "--affinity", "73h"},
      {"vip", "add", "203.0.113.53:53/udp", "--deny", "192.0.2.1/24"},
      {"vip", "add", "203.0.113.53:53/udp", "--allow", "example.org"},
      {"vip", "add", "203.0.113.53:53/udp", "--limit", "new-flows=200"},
      {"vip", "add", "203.0.113.53:53/udp", "--limit", "flows=200/s"},
      {"vip", "add", "203.0.113.53:53/udp", "--when-empty", "reject"},
      {"vip", "add", "203.0.113.53:53/udp", "--quic-server-id-length", "16"},
      {"vip", "add", "203.0.113.53:53/udp", "--quic-config-rotation", "1"},
      {"backend", "add", "203.0.113.53:53/udp", "10.0.0.1", "--server-id", "0x0a"},
      {"backend", "add", "203.0.113.53:53/udp", "10.0.0.1", "--port", "65536"},
      {"vip", "add", "203.0.113.53:53/udp", "--table-size", "65536"},
      {"backend", "add", "203.0.113.53:53/udp", "host"},
      {"backend", "set", "203.0.113.53:53/udp", "10.0.0.1", "--drain", "--activate"},
      {"backend", "add", "203.0.113.53:53/udp", "10.0.0.1", "--weight", "10001"},
      {"stats", "-o", "xml"},
      {"monitor", "--vip", "dns"},
      {"monitor", "--drops", "--verdict", "tx_ipip"},
      {"monitor", "--source", "example.org"},
      {"monitor", "--snap", "257"},
      {"monitor", "--every", "0"},
      {"monitor", "--count", "0"},
      {"trace"},
      {"trace", "--tcp", "192.0.2.7"},
      {"trace", "--tcp", "192.0.2.7", "203.0.113.80"},
      {"trace", "--tcp", "2001:db8::7", "203.0.113.80:80"},
      {"trace", "--udp", "192.0.2.7", "203.0.113.80:80", "--ack"},
      {"trace", "--udp", "192.0.2.7", "203.0.113.80:80", "--packet", "00"},
      {"trace", "--packet", "0x0200"},
      {"trace", "--packet", "020"},
      {"trace", "--packet", "0200"},
      {"check"},
      {"load"},
  };
  for (const auto& arguments : wrong) {
    const Finished run = weir(arguments);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_THAT(run.err, StartsWith("weir: "));
    EXPECT_THAT(run.err, HasSubstr("--help'"));
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
    EXPECT_EQ(run.out, "");
  }
}

TEST_F(Cli, SaysWhatToDoWhenNoDaemonRuns) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"status"}, {"stats"}, {"vip", "list"}, {"unload"}, {"load", "eth0"}}) {
    const Finished run = weir(arguments);
    EXPECT_EQ(run.exit_code, 1);
    EXPECT_THAT(run.err, StartsWith("weir: cannot reach weir-l4 at " + l4_socket().string()));
    EXPECT_THAT(run.err, HasSubstr("is it running?"));
  }
}

TEST_F(Cli, ListsVipsAsATableAndAsJson) {
  StandIn l4{l4_socket()};
  ASSERT_TRUE(l4.running());
  l4.on("GET /v1/vips backends=count", 200, R"({"revision": 7, "vips": [
  {"vip": "203.0.113.53:53/udp", "name": "dns", "owner": "manual", "mode": "ipip",
   "when_empty": "refuse", "hash": "sourceIP", "affinity_timeout_s": 60, "sources_denied": 2,
   "limits": {"new_flows_per_source": 200, "packets_per_source": 0, "new_flows": 0, "packets": 0},
   "quic": {"server_id_length": 3}, "table_size": 65537, "table_digest": "5b0c7f6a90e1d244",
   "backend_count": 1}]})");
  const Finished table = weir({"vip", "list"});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_EQ(table.out,
            "VIP                  NAME  MODE  OWNER   FEATURES                      TABLE SIZE  "
            "TABLE DIGEST      BACKENDS\n"
            "203.0.113.53:53/udp  dns   ipip  manual  affinity, deny, limits, quic       65537  "
            "5b0c7f6a90e1d244         1\n");
  const auto json = nlohmann::json::parse(weir({"vip", "list", "-o", "json"}).out);
  EXPECT_EQ(json["vips"][0]["vip"], "203.0.113.53:53/udp");
  EXPECT_EQ(json["vips"][0]["backends"], 1);
}

TEST_F(Cli, ShowsAllOfAVipAndRefusesAnUnknownOne) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/vips vip=203.0.113.53:53/udp", 200, kVips);
  const Finished shown = weir({"vip", "show", "203.0.113.53:53/udp"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_EQ(shown.out,
            "vip:\n"
            "vip                    203.0.113.53:53/udp\n"
            "name                   dns\n"
            "mode                   ipip\n"
            "gue_port               -\n"
            "snat                   -\n"
            "when_empty             refuse\n"
            "hash                   sourceIP\n"
            "affinity_timeout_s     60\n"
            "owner                  manual\n"
            "id                     3\n"
            "table_size             65537\n"
            "table_digest           5b0c7f6a90e1d244\n"
            "quic_server_id_length  3\n"
            "quic_config_rotation   1\n"
            "\n"
            "limits:\n"
            "LIMIT                 PER SECOND\n"
            "new_flows_per_source         200\n"
            "\n"
            "sources:\n"
            "RULE  PREFIX\n"
            "deny  192.0.2.0/24\n"
            "deny  2001:db8::/32\n"
            "\n"
            "backends:\n"
            "ADDRESS    PORT  NAME   WEIGHT  STATE   SERVER ID  SLOTS  NEXT HOP  DEVICE  "
            "MAC                REASON\n"
            "10.0.2.11  -     dns-a     100  active  0a0b0c     65537  resolved  eth0    "
            "02:00:00:00:00:07  -\n");
  const auto json =
      nlohmann::json::parse(weir({"vip", "show", "203.0.113.53:53/udp", "-o", "json"}).out);
  EXPECT_EQ(json["limits"].size(), 4U);
  EXPECT_EQ(json["sources"][1]["prefix"], "2001:db8::/32");
  l4.on("GET /v1/vips vip=203.0.113.54:53/udp", 404,
        R"({"code": "not_found", "detail": "there is no VIP", "remedy": "look"})");
  const Finished unknown = weir({"vip", "show", "203.0.113.54:53/udp"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_EQ(unknown.err, "weir: there is no VIP; look\n");
}

TEST_F(Cli, ShowsWhatProbesHaveFound) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/vips vip=203.0.113.53:53/udp", 200, R"({"revision": 7, "vips": [
      {"vip": "203.0.113.53:53/udp", "name": "dns", "fail_open": true,
       "health": {"kind": "udp", "port": null, "interval_ms": 1000},
       "backends": [{"address": "10.0.2.11", "state": "draining", "state_owner": "manual",
                     "health": {"state": "down", "since_s": 12, "reason": "connection refused",
                                "took_ms": 0.3, "share_percent": 0, "held_s": null,
                                "flows_move_in_s": 18}}]}]})");
  const Finished shown = weir({"vip", "show", "203.0.113.53:53/udp"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_THAT(shown.out, HasSubstr("draining (manual)"));
  EXPECT_THAT(shown.out, HasSubstr("health_check:\nkind               udp\n"));
  EXPECT_THAT(shown.out,
              HasSubstr("health:\n"
                        "ADDRESS    HEALTH  SINCE S  SHARE PERCENT  HELD S  FLOWS MOVE IN S  "
                        "TOOK MS  REASON\n"));
  const auto json =
      nlohmann::json::parse(weir({"vip", "show", "203.0.113.53:53/udp", "-o", "json"}).out);
  EXPECT_EQ(json["health"][0]["health"], "down");
  EXPECT_EQ(json["health_check"]["fail_open"], true);
}

TEST_F(Cli, AsksForAHealthCheck) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/vips", 200, R"({"revision": 8, "vip": {}})");
  const Finished added =
      weir({"vip", "add", "203.0.113.80:80/tcp", "--health", "http", "--health-port", "8080",
            "--health-path", "/healthz", "--health-interval", "500ms"});
  EXPECT_EQ(added.exit_code, 0) << added.err;
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["health"], nlohmann::json::parse(R"({
      "kind": "http", "port": 8080, "path": "/healthz", "interval_ms": 500})"));
  EXPECT_EQ(weir({"vip", "add", "203.0.113.80:80/tcp", "--health-port", "80"}).exit_code, 2);
  EXPECT_EQ(weir({"vip", "add", "203.0.113.80:80/tcp", "--health", "ping"}).exit_code, 2);
  EXPECT_EQ(weir({"vip", "add", "203.0.113.80:80/tcp", "--health", "tcp", "--health-interval", "1"})
                .exit_code,
            2);
}

TEST_F(Cli, DrainsABackendAndSaysWhatItStillHas) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/backends/state", 200,
        R"({"revision": 9, "state": "draining", "flows": 12, "flows_idle": 3})");
  const Finished drained = weir({"backend", "drain", "203.0.113.53:53/udp", "10.0.2.11"});
  EXPECT_EQ(drained.exit_code, 0) << drained.err;
  EXPECT_EQ(drained.out,
            "backend 10.0.2.11 of vip 203.0.113.53:53/udp is draining; revision 9; 12 flows left, "
            "3 of them silent for more than 2 minutes\n");
  EXPECT_EQ(nlohmann::json::parse(l4.last_body()), nlohmann::json::parse(R"({
      "vip": "203.0.113.53:53/udp", "address": "10.0.2.11", "state": "draining"})"));
  EXPECT_EQ(weir({"backend", "maintenance", "203.0.113.53:53/udp", "10.0.2.11"}).exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["state"], "maintenance");
  EXPECT_EQ(weir({"backend", "activate", "203.0.113.53:53/udp", "10.0.2.11"}).exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["state"], "active");
}

TEST_F(Cli, AWaitEndsWithTheLastFlowOrTheDeadline) {
  StandIn l4{l4_socket()};
  const std::string counted = "GET /v1/backends address=10.0.2.11 vip=203.0.113.53:53/udp";
  const std::vector<std::string> wait{
      "backend", "drain", "203.0.113.53:53/udp", "10.0.2.11", "--wait", "--timeout", "1s"};
  l4.on("POST /v1/backends/state", 200, R"({"revision": 9, "state": "draining"})");
  l4.on(counted, 200, R"({"state": "draining", "flows": 0, "flows_idle": 0})");
  const Finished done = weir(wait);
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "backend 10.0.2.11 of vip 203.0.113.53:53/udp has no flows left\n");
  l4.on(counted, 200, R"({"state": "draining", "flows": 1, "flows_idle": 0})");
  const Finished late = weir(wait);
  EXPECT_EQ(late.exit_code, 3);
  EXPECT_THAT(late.err, HasSubstr("1 flow left after 1s"));
  l4.on(counted, 200, R"({"state": "active", "flows": 1, "flows_idle": 0})");
  EXPECT_EQ(weir(wait).exit_code, 1);
  l4.on(counted, 200, R"({"state": "draining", "flows": null, "flows_idle": null})");
  EXPECT_THAT(weir(wait).err, HasSubstr("flows are not remembered"));
  EXPECT_EQ(
      weir({"backend", "drain", "203.0.113.53:53/udp", "10.0.2.11", "--timeout", "5m"}).exit_code,
      2)
      << "a time without a wait";
}

TEST_F(Cli, SendsEveryWishForAVip) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/vips", 200, R"({"revision": 8, "vip": {}})");
  const Finished added = weir({"vip",
                               "add",
                               "--allow",
                               "10.0.0.0/8,2001:db8::/32",
                               "--deny",
                               "10.9.0.0/16",
                               "198.51.100.0/28:5000-5999/udp",
                               "--deny",
                               "192.0.2.7",
                               "--mode",
                               "gue",
                               "--gue-port",
                               "6081",
                               "--when-empty",
                               "drop",
                               "--affinity",
                               "3h",
                               "--limit",
                               "new-flows-per-source=200/s,packets=1M/s",
                               "--limit",
                               "new-flows=4Ki/s",
                               "--quic-server-id-length",
                               "4",
                               "--quic-config-rotation",
                               "2"});
  EXPECT_EQ(added.exit_code, 0) << added.err;
  EXPECT_EQ(added.out, "added vip 198.51.100.0/28:5000-5999/udp (gue); revision 8\n");
  EXPECT_EQ(nlohmann::json::parse(l4.last_body()), nlohmann::json::parse(R"({
      "vip": "198.51.100.0/28:5000-5999/udp", "mode": "gue", "gue_port": 6081,
      "when_empty": "drop", "affinity_timeout_s": 10800,
      "sources": {"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.9.0.0/16", "192.0.2.7"]},
      "limits": {"new_flows_per_source": 200, "new_flows": 4096, "packets": 1000000},
      "quic": {"server_id_length": 4, "config_rotation": 2}})"));
  const Finished nat = weir({"vip", "add", "203.0.113.53:any/tcp", "--mode", "nat", "--snat",
                             "never", "--hash", "sourceIPPort"});
  EXPECT_EQ(nat.exit_code, 0) << nat.err;
  EXPECT_EQ(nlohmann::json::parse(l4.last_body()), nlohmann::json::parse(R"({
      "vip": "203.0.113.53:any/tcp", "mode": "nat", "snat": "never",
      "hash": "sourceIPPort"})"));
}

TEST_F(Cli, SendsAVipAsTheApiWantsItAndShowsItsRefusal) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/vips", 200, R"({"revision": 8, "vip": {}})");
  const Finished added =
      weir({"vip", "add", "[2001:0db8::25]:25/tcp", "--mode", "l2", "--name", "mail"});
  EXPECT_EQ(added.exit_code, 0) << added.err;
  EXPECT_EQ(added.out, "added vip [2001:db8::25]:25/tcp (l2); revision 8\n");
  EXPECT_EQ(nlohmann::json::parse(l4.last_body()),
            nlohmann::json::parse(R"({"vip": "[2001:db8::25]:25/tcp", "mode": "l2",
                                      "name": "mail"})"));
  l4.on("POST /v1/vips", 409,
        R"({"code": "conflict", "detail": "it exists", "remedy": "remove it first"})");
  const Finished refused = weir({"vip", "add", "203.0.113.53:53/udp"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.err, "weir: it exists; remove it first\n");
}

TEST_F(Cli, ChangesOnlyBackendsThatAreThereAndAddsOnlyThoseThatAreNot) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/vips vip=203.0.113.53:53/udp", 200, kVips);
  l4.on("POST /v1/backends", 200, R"({"revision": 9, "vip": {}})");
  const std::string vip = "203.0.113.53:53/udp";
  const Finished drained = weir({"backend", "set", vip, "10.0.2.11", "--drain"});
  EXPECT_EQ(drained.exit_code, 0) << drained.err;
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["state"], "draining");
  EXPECT_EQ(weir({"backend", "set", vip, "10.0.2.12", "--drain"}).exit_code, 1);
  EXPECT_EQ(weir({"backend", "add", vip, "10.0.2.11"}).exit_code, 1);
  const Finished added = weir({"backend", "add", vip, "10.0.2.12", "--weight", "50"});
  EXPECT_EQ(added.exit_code, 0) << added.err;
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["weight"], 50);
}

TEST_F(Cli, SendsABackendsPortAndServerId) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/vips vip=203.0.113.53:53/udp", 200, kVips);
  l4.on("POST /v1/backends", 200, R"({"revision": 9, "vip": {}})");
  const std::string vip = "203.0.113.53:53/udp";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"backend", "add", vip, "10.0.2.12", "--port", "5353", "--server-id", "0A0b0c"},
           {"backend", "add", vip, "10.0.2.12:5353", "--server-id", "0A0b0c"}}) {
    const Finished added = weir(arguments);
    EXPECT_EQ(added.exit_code, 0) << added.err;
    EXPECT_EQ(nlohmann::json::parse(l4.last_body()), nlohmann::json::parse(R"({
        "vip": "203.0.113.53:53/udp", "address": "10.0.2.12", "port": 5353,
        "server_id": "0A0b0c"})"));
  }
}

TEST_F(Cli, RemovesByQuery) {
  StandIn l4{l4_socket()};
  l4.on("DELETE /v1/backends address=2001:db8::1 vip=[2001:db8::25]:25/tcp", 200,
        R"({"revision": 3, "vip": {}})");
  const Finished run = weir({"backend", "del", "[2001:db8::25]:25/tcp", "2001:db8::1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST_F(Cli, HidesZerosInTheTableOfVerdictsButNotInJson) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/stats", 200, R"({"verdicts": [
    {"verdict": "tx_ipip", "action": "tx", "packets": 5, "bytes": 300, "meaning": "sent"},
    {"verdict": "drop_ttl", "action": "drop", "packets": 0, "bytes": 0, "meaning": "too old"}],
    "total": {"packets": 5, "bytes": 300}, "vips": [], "return": []})");
  const Finished table = weir({"stats"});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("tx_ipip"));
  EXPECT_THAT(table.out, ::testing::Not(HasSubstr("drop_ttl")));
  const auto json = nlohmann::json::parse(weir({"stats", "-o", "json"}).out);
  EXPECT_EQ(json["verdicts"].size(), 2U);
  EXPECT_EQ(json["verdicts"][1]["packets"], 0);
}

constexpr const char* kL4Only =
    "version: 1\n"
    "vips:\n"
    "- {name: dns, address: 203.0.113.53, port: 53, protocol: UDP, forward: {mode: ipip}, "
    "backends: []}\n";

constexpr const char* kApplied = R"({"revision": 4, "changes": ["add vip"], "warnings": ["w"]})";

TEST_F(Cli, ChecksAFileWithoutAnyDaemon) {
  EXPECT_EQ(weir({"check", "-f", write_config(kL4Only)}).exit_code, 0);
  const Finished bad = weir({"check", "-f", "-"}, "version: 2\n");
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.err, "weir: <stdin>:1:10: version of the file is '2'; expected 1\n");
  const Finished worse = weir({"check", "-f", "-"}, "version: 2\nvip: []\n");
  EXPECT_EQ(worse.exit_code, 1);
  EXPECT_THAT(worse.err, StartsWith("<stdin>:1:10: "));
  EXPECT_THAT(worse.err, HasSubstr("\nweir: <stdin> has 2 errors\n"));
  EXPECT_EQ(weir({"check", "-f", "/no/such/file"}).exit_code, 1);
}

TEST_F(Cli, ShowsWhatACheckedFileIsTakenFor) {
  const Finished run = weir({"check", "-f", "-"}, "version: 1\nnode: {l4: {flows: 300000}}\n");
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "<stdin> is fine: 0 VIPs, 0 gateways, 0 services, 0 routes\n"
            "warning: <stdin>:2:20: flows of node.l4 is '300000', rounded up to 512Ki; expected a "
            "power of two from 1024 on\n");
}

TEST_F(Cli, SaysThatACheckReadsNoCertificates) {
  const std::string certificate = write_config("no certificate at all\n");
  const std::string reference = "{file: " + certificate + "}";
  const Finished run = weir({"check", "--no-host", "-f", "-"},
                            "version: 1\n"
                            "node: {l7: {addresses: [10.0.0.5/24]}}\n"
                            "gateways:\n"
                            "- name: edge\n"
                            "  addresses: [203.0.113.10]\n"
                            "  listeners: [{name: s, port: 443, protocol: HTTPS, tls: "
                            "{certificateRefs: [" +
                                reference + "]}}]\n");
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "<stdin> is fine: 0 VIPs, 1 gateway, 0 services, 0 routes\n"
            "certificates were only looked for: 'weir apply --dry-run' has weir-l7 read them\n");
}

TEST_F(Cli, CountsOneVipAsOne) {
  const Finished run = weir({"check", "-f", "-"},
                            "version: 1\nvips:\n- {name: a, address: 203.0.113.7, port: 53, "
                            "protocol: UDP, forward: {mode: ipip}, backends: []}\n");
  EXPECT_THAT(run.out, HasSubstr("1 VIP, 0 gateways, 0 services, 0 routes\n")) << run.err;
}

TEST_F(Cli, ComparesWithTheHostUnlessToldNotTo) {
  const std::string text = "version: 1\nnode: {interfaces: [weir-nodev]}\n";
  const Finished here = weir({"check", "-f", "-"}, text);
  EXPECT_EQ(here.exit_code, 1);
  EXPECT_THAT(here.err,
              StartsWith("weir: <stdin>:2:21: node.interfaces: there is no device 'weir-nodev'"));
  EXPECT_EQ(weir({"check", "--no-host", "-f", "-"}, text).exit_code, 0);
}

TEST_F(Cli, LetsBothDaemonsCheckBeforeEitherApplies) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  for (StandIn* daemon : {&l4, &l7}) {
    daemon->on("POST /v1/check", 200, kApplied);
    daemon->on("POST /v1/apply", 200, kApplied);
  }
  const std::string file = write_config(kL4Only);
  const Finished run = weir({"apply", "-f", file});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "DAEMON   REVISION  CHANGES\n"
            "weir-l7         4        1\n"
            "weir-l4         4        1\n"
            "weir-l7: add vip\n"
            "weir-l7: warning: w\n"
            "weir-l4: add vip\n"
            "weir-l4: warning: w\n");
  EXPECT_THAT(l4.asked(), ElementsAre("POST /v1/check", "POST /v1/apply"));
  EXPECT_THAT(l7.asked(), ElementsAre("POST /v1/check", "GET /v1/config", "POST /v1/apply"));
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["file"], file);

  const std::vector<control::Diagnostic> diagnostics{{file, 3, 5, "wrong", "right", ""}};
  for (StandIn* daemon : {&l4, &l7})
    daemon->on("POST /v1/check", 422, control::diagnostics_reply(diagnostics).body);
  const Finished refused = weir({"apply", "-f", file});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.err, "weir: " + file + ":3:5: wrong; expected right\n");
  l4.on("POST /v1/check", 503, R"({"code": "unavailable", "detail": "no room", "remedy": ""})");
  EXPECT_EQ(weir({"apply", "-f", file}).err, file + ":3:5: wrong; expected right\n" +
                                                 "weir: weir-l4: no room; nothing was changed\n");
  EXPECT_THAT(l4.asked(),
              ElementsAre("POST /v1/check", "POST /v1/apply", "POST /v1/check", "POST /v1/check"));
}

TEST_F(Cli, AppliesToL4AloneWhileL7DoesNotRunAndSaysWhatThatMeans) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/check", 200, kApplied);
  l4.on("POST /v1/apply", 200, kApplied);
  EXPECT_EQ(weir({"apply", "-f", write_config(kL4Only)}).exit_code, 0);
  const Finished run =
      weir({"apply", "-f",
            write_config("version: 1\n"
                         "node: {l7: {addresses: [10.0.0.5/24]}}\n"
                         "gateways:\n"
                         "- name: edge\n"
                         "  addresses: [203.0.113.10]\n"
                         "  listeners: [{name: http, port: 80, protocol: HTTP}]\n")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("weir-l7: warning: it does not run"));
}

TEST_F(Cli, NamesTheWordThatIsNoCommand) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"stauts"},
                                                {"--l4-socket", "x", "stauts"},
                                                {"--l4-socket=x", "stauts"}}) {
    const Finished run = weir(words);
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_THAT(run.err, HasSubstr("there is no command 'stauts'"));
  }
}

TEST_F(Cli, SaysWhichDaemonHasAppliedWhenTheOtherFails) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  for (StandIn* daemon : {&l4, &l7})
    daemon->on("POST /v1/check", 200, kApplied);
  l7.on("POST /v1/apply", 200, kApplied);
  l4.on("POST /v1/apply", 503, R"({"code": "unavailable", "detail": "no room", "remedy": ""})");
  const Finished run = weir({"apply", "-f", write_config(kL4Only)});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err,
            "weir: weir-l4: no room; weir-l7 has applied it: mend the cause and apply again\n");
}

TEST_F(Cli, GivesL7AgainWhatItHadWhenL4Fails) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  for (StandIn* daemon : {&l4, &l7})
    daemon->on("POST /v1/check", 200, kApplied);
  l7.on("GET /v1/config", 200, R"({"file": "/old.yaml", "text": "version: 1", "partial": false})");
  l7.on("POST /v1/apply", 200, kApplied);
  l4.on("POST /v1/apply", 503, R"({"code": "unavailable", "detail": "no room", "remedy": ""})");
  const Finished run = weir({"apply", "-f", write_config(kL4Only)});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err,
            "weir: weir-l4: no room; weir-l7 was given again what it had; nothing was changed\n");
  EXPECT_EQ(nlohmann::json::parse(l7.last_body())["file"], "/old.yaml");
}

TEST_F(Cli, AppliesNothingToL4WhenL7Fails) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  for (StandIn* daemon : {&l4, &l7})
    daemon->on("POST /v1/check", 200, kApplied);
  l7.on("POST /v1/apply", 503, R"({"code": "unavailable", "detail": "no worker", "remedy": ""})");
  const Finished run = weir({"apply", "-f", write_config(kL4Only)});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.err, "weir: weir-l7: no worker; nothing was changed\n");
  EXPECT_THAT(l4.asked(), ElementsAre("POST /v1/check"));
}

TEST_F(Cli, OnlyChecksInADryRun) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/check", 200, kApplied);
  const Finished run = weir({"apply", "--dry-run", "-f", write_config(kL4Only)});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("nothing was changed: this was a dry run"));
  EXPECT_THAT(l4.asked(), ElementsAre("POST /v1/check"));
}

TEST_F(Cli, SaysWhatWasLeftOutAndEndsWithStatusThree) {
  StandIn l4{l4_socket()};
  const std::string file = write_config(kL4Only);
  const std::string answer = R"({"revision": 5, "changes": [], "warnings": [], "left_out":
      [{"object": "vip 'dns'", "diagnostics": [")" +
                             file + R"(:3:5: wrong"]}]})";
  l4.on("POST /v1/check", 200, answer);
  l4.on("POST /v1/apply", 200, answer);
  const Finished run = weir({"apply", "--partial", "-f", file});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.out, HasSubstr("vip 'dns'  " + file + ":3:5: wrong"));
  EXPECT_EQ(run.err,
            "weir: parts of " + file + " were left out, see above; the rest is in force\n");
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["partial"], true);
}

TEST_F(Cli, DiffEndsAsDiffDoes) {
  StandIn l4{l4_socket()};
  const std::string file = write_config(kL4Only);
  l4.on("POST /v1/check", 200, R"({"revision": 4, "changes": []})");
  EXPECT_EQ(weir({"diff", file}).exit_code, 0);
  EXPECT_EQ(weir({"diff", file}).out, "no changes\n");
  l4.on("POST /v1/check", 200, R"({"revision": 4, "changes": ["add vip x"]})");
  const Finished some = weir({"diff", file});
  EXPECT_EQ(some.exit_code, 1);
  EXPECT_EQ(some.out, "DAEMON   CHANGE\nweir-l4  add vip x\n");
  EXPECT_EQ(weir({"diff", "/nowhere.yaml"}).exit_code, 1 + 1);
  l4.on("GET /v1/status", 200, R"({"file": null})");
  EXPECT_EQ(weir({"diff"}).exit_code, 2);
  l4.on("GET /v1/status", 200, R"({"file": ")" + file + R"("})");
  EXPECT_EQ(weir({"diff"}).exit_code, 1);
  l4.on("GET /v1/revisions revision=2", 200, R"({"revision": 2, "file": null, "text": ""})");
  l4.on("POST /v1/rollback", 200, R"({"revision": 4, "changes": []})");
  EXPECT_EQ(weir({"diff", "--revision", "2"}).exit_code, 0);
  EXPECT_EQ(l4.last_body(), R"({"revision":2,"dry_run":true})");
  EXPECT_EQ(weir({"diff", "--revision", "2", file}).exit_code, 2);
}

TEST_F(Cli, ShowsTheHistoryForPeopleAndForPrograms) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/revisions", 200, R"({"revision": 5, "revisions": [
      {"revision": 4, "at": 1764061200, "cause": "apply /w.yaml", "changes": ["one", "two"]},
      {"revision": 5, "at": 1764061201, "cause": "rollback 3", "changes": []}]})");
  const Finished people = weir({"history"});
  EXPECT_EQ(people.out,
            "REVISION  WHEN                  CAUSE          CHANGES\n"
            "       4  2025-11-25 09:00:00Z  apply /w.yaml  one (and 1 more)\n"
            "       5  2025-11-25 09:00:01Z  rollback 3     -\n");
  for (const Finished& programs : {weir({"history", "--json"}), weir({"history", "-o", "json"})})
    EXPECT_EQ(nlohmann::json::parse(programs.out)["revisions"][0]["changes"].size(), 2U);
}

TEST_F(Cli, RollsBackOnlyTheDaemonThatIsMeant) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  l4.on("GET /v1/revisions revision=4", 200,
        R"({"revision": 4, "file": "/w.yaml", "text": "version: 1", "partial": false})");
  l4.on("GET /v1/revisions revision=3", 200, R"({"revision": 3, "file": null, "text": ""})");
  l7.on("POST /v1/check", 200, kApplied);
  l7.on("POST /v1/apply", 200, kApplied);
  const Finished run = weir({"rollback", "4", "--only", "l7"});  // l4 has no route for it here
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const Finished without_text = weir({"rollback", "3", "--only", "l7"});
  EXPECT_EQ(without_text.exit_code, 1);
  EXPECT_NE(without_text.err.find("no configuration text"), std::string::npos) << without_text.err;
}

TEST_F(Cli, TakesNoNumberForAnotherThanItLooksLike) {
  for (const std::string number : {"010", "0x3", "+3", "-1", " 3", "abc", ""}) {
    const Finished run = weir({"rollback", number});
    EXPECT_EQ(run.exit_code, 2) << number;
    EXPECT_NE(run.err.find("decimal digits"), std::string::npos) << run.err;
  }
}

TEST_F(Cli, RollsBothDaemonsBack) {
  StandIn l4{l4_socket()};
  StandIn l7{l7_socket()};
  l4.on("GET /v1/revisions revision=4", 200,
        R"({"revision": 4, "file": "/w.yaml", "text": "version: 1", "partial": true})");
  l4.on("POST /v1/rollback", 200, kApplied);
  l7.on("GET /v1/config", 200, R"({"file": "/old.yaml", "text": "version: 1", "partial": false})");
  l7.on("POST /v1/check", 200, kApplied);
  l7.on("POST /v1/apply", 200, kApplied);
  const Finished run = weir({"rollback", "4"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(l4.last_body(), R"({"revision":4})");
  EXPECT_EQ(l7.last_body(), R"({"file":"/w.yaml","text":"version: 1","partial":true})");
  EXPECT_THAT(l7.asked(), ElementsAre("POST /v1/check", "GET /v1/config", "POST /v1/apply"));
  l4.on("GET /v1/revisions revision=1", 404,
        R"({"code": "not_found", "detail": "there is no revision 1", "remedy": ""})");
  const Finished gone = weir({"rollback", "1"});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_EQ(gone.err, "weir: there is no revision 1\n");
  EXPECT_EQ(weir({"rollback"}).exit_code, 2);
  EXPECT_EQ(weir({"rollback", "x"}).exit_code, 2);
}

TEST_F(Cli, PrintsAnExportAsItIs) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/export", {200, "version: 1\n# end\n", "application/yaml"});
  EXPECT_EQ(weir({"export"}).out, "version: 1\n# end\n");
}

TEST_F(Cli, SaysWhyAReloadFailed) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/status", 200, R"({"reload": {"file": "/w.yaml", "state": "failed", "at": 1,
      "revision": 3, "diagnostics": ["/w.yaml:3:5: wrong"]}})");
  EXPECT_THAT(weir({"status"}).out, HasSubstr("not applied: /w.yaml:3:5: wrong\n"));
}

TEST_F(Cli, LeavesDecapAndBenchToProgramsForThemWithEveryWord) {
  put_on_path("weir-decap", "for word in \"$@\"; do echo \"[$word]\"; done; exit 7\n");
  const Finished run = weir({"decap", "load", "eth 0", "--help", "--source", "10.0.0.1"});
  EXPECT_EQ(run.exit_code, 7) << run.err;
  EXPECT_EQ(run.out, "[load]\n[eth 0]\n[--help]\n[--source]\n[10.0.0.1]\n");
  const Finished behind = weir({"--l4-socket", "/x", "decap", "stats", "--json"});
  EXPECT_EQ(behind.exit_code, 7) << behind.err;
  EXPECT_EQ(behind.out, "[stats]\n[--json]\n");
  put_on_path("weir-bench", "echo \"$@\"\n");
  EXPECT_EQ(weir({"bench", "l4", "--json"}).out, "l4 --json\n");
}

TEST_F(Cli, SaysThatDecapIsNotInstalledAndWhereItLooked) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"decap", "load", "eth0"}, {"decap"}}) {
    const Finished run = weir(words);
    EXPECT_EQ(run.exit_code, 1);
    EXPECT_EQ(run.err,
              "weir: weir-decap is not installed: it is neither beside this program nor on PATH; "
              "install it, or add its folder to PATH\n");
  }
}

TEST_F(Cli, PrintsCompletionScriptsThatAskItForEveryWord) {
  for (const std::string shell : {"bash", "zsh", "fish"}) {
    const Finished run = weir({"completion", shell});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_THAT(run.out, HasSubstr("__complete")) << shell;
  }
  const Finished verbs = weir({"__complete", ""});
  for (const std::string word : {"backend\t", "unload\t", "doctor\t"})
    EXPECT_THAT(verbs.out, HasSubstr(word));
  EXPECT_EQ(weir({"__complete", "check", "--no"}).out,
            "--no-host\tdo not compare with this host's devices and addresses\n");
  EXPECT_EQ(weir({"__complete", "load", "--mode", "g"}).out, "generic\n");
  EXPECT_EQ(weir({"__complete", "check", "-f", "x"}).out, ":files\n");
  EXPECT_EQ(weir({"__complete"}).exit_code, 0);
}

TEST_F(Cli, TheDoctorExaminesAMachineWithoutADaemon) {
  const Finished people = weir({"doctor", "lo0.none"});
  EXPECT_EQ(people.exit_code, 2);  // at least for want of the device, and of weir-l4
  EXPECT_THAT(people.out, HasSubstr("fail  lo0.none link"));
  EXPECT_THAT(people.out, HasSubstr("systemctl start weir-l4"));
  const Finished programs = weir({"doctor", "--json"});
  EXPECT_EQ(programs.exit_code, 2);
  const nlohmann::json checks = nlohmann::json::parse(programs.out).at("checks");
  EXPECT_GT(checks.size(), 10U);
  for (const nlohmann::json& check : checks)
    EXPECT_THAT(check.at("verdict").get<std::string>(), ::testing::AnyOf("ok", "warn", "fail"));
}

TEST_F(Cli, TheDoctorRefusesAFileThatIsNoConfiguration) {
  const Finished run = weir({"doctor", "-f", write_config("vips: 7\n")});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("weir.yaml:1:7"));
}

/// The pieces of an endless reply, one after the other.
AdminReply pieces_of(std::vector<std::string> pieces) {
  AdminReply reply{200, {}, "application/x-ndjson"};
  auto next = std::make_shared<std::size_t>(0);
  reply.more = [pieces = std::move(pieces), next]() -> std::optional<std::string> {
    if (*next == pieces.size()) return std::nullopt;
    return pieces[(*next)++];
  };
  return reply;
}

constexpr const char* kEvent =
    R"({"time_ns": 1700000000123456789, "device": "eth0", "verdict": "drop_ttl", "action": "drop",
 "vip": "203.0.113.53:53/udp", "vip_name": "dns", "backend": null, "backend_name": "",
 "frame_bytes": 47, "frame": ")"
    R"(0200000000020200000000010800450000210000000001110000c0000207)"
    R"(cb00713512670035000d000068656c6c6f"})";

std::string event_line() {
  std::string line{kEvent};
  std::erase(line, '\n');
  return line + "\n";
}

TEST_F(Cli, ShowsPacketsAsTheyComeAlsoWhenALineComesInPieces) {
  StandIn l4{l4_socket()};
  const std::string line = event_line();
  l4.on(
      "GET /v1/monitor every=5 snap_bytes=64 source=2001:db8::7 verdicts=drop,tx_ipip "
      "vip=203.0.113.53:53/udp",
      pieces_of(
          {"{\"lost\": 0}\n" + line.substr(0, 50), line.substr(50) + line, "{\"lost\": 7}\n"}));
  const Finished run = weir({"monitor", "--every", "5", "--snap", "64", "--source", "2001:db8::7",
                             "--verdict", "drop,tx_ipip", "--vip", "203.0.113.53:53/udp"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(std::ranges::count(run.out, '\n'), 2);
  EXPECT_THAT(run.out, HasSubstr(".123456 eth0 drop_ttl         dns -  192.0.2.7:4711 > "
                                 "203.0.113.53:53 UDP length 5\n"));
  EXPECT_EQ(run.err,
            "weir: watching; end with Ctrl-C\nweir: 2 packets shown, 7 lost because they came too "
            "fast; watch fewer: --vip, --verdict, --every\n");
}

TEST_F(Cli, ShowsPacketsAsJsonUntilThereAreEnough) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/monitor every=1 snap_bytes=256 verdicts=drop",
        pieces_of({"{\"lost\": 0}\n", event_line(), event_line(), event_line()}));
  const Finished run = weir({"monitor", "--drops", "--count", "2", "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  ASSERT_EQ(std::ranges::count(run.out, '\n'), 2);
  const auto json = nlohmann::json::parse(run.out.substr(0, run.out.find('\n')));
  EXPECT_EQ(json["verdict"], "drop_ttl");
  EXPECT_EQ(json["packet"], "192.0.2.7:4711 > 203.0.113.53:53 UDP length 5");
}

TEST_F(Cli, SaysWhyTheWatchingEnded) {
  StandIn l4{l4_socket()};
  l4.on("GET /v1/monitor every=1 snap_bytes=256",
        pieces_of({"{\"lost\": 0}\n", "{\"end\": \"the balancer was taken off\"}\n"}));
  const Finished ended = weir({"monitor"});
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.err, HasSubstr("weir: the balancer was taken off\n"));
  l4.on("GET /v1/monitor every=1 snap_bytes=256", 503,
        R"({"code": "unavailable", "detail": "nothing is loaded", "remedy": "load"})");
  const Finished refused = weir({"monitor", "--pcap", "-"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_EQ(refused.err, "weir: nothing is loaded; load\n");
  l4.on("GET /v1/monitor every=1 snap_bytes=256", pieces_of({"{\"lost\": 0}\n", event_line()}));
  const Finished nowhere = weir({"monitor", "--pcap", "/nowhere/a.pcapng"});
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_EQ(nowhere.err, "weir: writing /nowhere/a.pcapng: No such file or directory\n");
}

TEST_F(Cli, KeepsACaptureUntilThereIsSomethingToWriteInItsPlace) {
  const std::string file = write_config("the capture of yesterday");
  const auto content = [&] { return file_text(file); };
  EXPECT_EQ(weir({"monitor", "--pcap", file}).exit_code, 1) << "there is no daemon";
  EXPECT_EQ(content(), "the capture of yesterday");
  StandIn l4{l4_socket()};
  l4.on("GET /v1/monitor every=1 snap_bytes=256", 503,
        R"({"code": "unavailable", "detail": "nothing is loaded", "remedy": "load"})");
  EXPECT_EQ(weir({"monitor", "--pcap", file}).exit_code, 1);
  EXPECT_EQ(content(), "the capture of yesterday");
  l4.on("GET /v1/monitor every=1 snap_bytes=256", pieces_of({"{\"lost\": 0}\n", event_line()}));
  const Finished done = weir({"monitor", "--pcap", file, "--count", "1"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(content(), StartsWith(CaptureWriter{"weir"}.head().substr(0, 4)));
}

constexpr const char* kTraced = R"({"device": "eth0", "packets": [
  {"steps": [{"step": "parsed", "text": "sound"}, {"step": "verdict", "text": "drop_ttl: used up"}],
   "verdict": "drop_ttl", "action": "drop", "meaning": "used up", "frame_bytes": 0, "frame": ""}],
  "notes": ["a note"]})";

TEST_F(Cli, ShowsATraceStepByStep) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/trace", 200, kTraced);
  const Finished run =
      weir({"trace", "--ack", "--tcp", "192.0.2.7:4711", "203.0.113.80:80", "--device", "eth0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "packet 1, in by eth0: 192.0.2.7:4711 > 203.0.113.80:80 TCP [.] length 0 (54 bytes)\n"
            "  parsed    sound\n"
            "  verdict   drop_ttl: used up\n"
            "  out       nothing\n"
            "note: a note\n");
  const auto asked = nlohmann::json::parse(l4.last_body());
  EXPECT_EQ(asked["device"], "eth0");
  ASSERT_EQ(asked["packets"].size(), 1U);
  EXPECT_EQ(asked["packets"][0].get<std::string>().size(), 108U);
  const auto json = nlohmann::json::parse(
      weir({"trace", "--udp", "[2001:db8::7]:4711", "[2001:db8::80]:53", "--json"}).out);
  EXPECT_EQ(json["packets"][0]["in"], "[2001:db8::7]:4711 > [2001:db8::80]:53 UDP length 0");
  EXPECT_TRUE(json["packets"][0]["out"].is_null());
}

TEST_F(Cli, TracesTheFramesOfACaptureAndRefusesOneThatIsCut) {
  StandIn l4{l4_socket()};
  l4.on("POST /v1/trace", 200, kTraced);
  CaptureWriter writer{"test"};
  const std::vector<std::byte> frame(60);
  std::string text = writer.head();
  for (int i = 0; i < 2; ++i)
    text += writer.packet(
        {.time_ns = 1, .device = "eth0", .kept = frame, .frame_bytes = 60, .comment = {}});
  const Finished run = weir({"trace", "--pcap", write_config(text)});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(l4.last_body())["packets"].size(), 2U);
  text.resize(text.size() - 4);
  const Finished cut = weir({"trace", "--pcap", write_config(text)});
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_THAT(cut.err, HasSubstr("it was cut, or is still being written"));
}

}  // namespace
}  // namespace weir::cli
