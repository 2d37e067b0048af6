#include "l7/admin_api.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <variant>

#include "tests/l7/tls/certificates.h"
#include "tests/support/proxy_world.h"

namespace weir::l7 {
namespace {

control::ConfigSubmission config_with(unsigned workers) {
  return {.file = "/etc/weir/weir.yaml",
          .text = fmt::format("version: 1\n"
                              "node:\n"
                              "  interfaces: [eth0]\n"
                              "  l7: {{workers: {}, addresses: [10.77.0.2/24]}}\n",
                              workers)};
}

class AdminApiOfSeveralWorkers : public ::testing::Test {
 protected:
  AdminApiOfSeveralWorkers() { std::filesystem::create_directories(directory_); }
  ~AdminApiOfSeveralWorkers() override { std::filesystem::remove_all(directory_); }

  /// Serves this with the one worker of the world.
  void start(testing::ProxyWorld& world, const control::ConfigSubmission& submission) {
    auto outcome = api_.prepare(submission);
    ASSERT_TRUE(api_.start(std::move(std::get<AdminApi::Prepared>(outcome)), submission,
                           {&world.worker(0)}));
  }

  std::filesystem::path directory_ =
      std::filesystem::path{::testing::TempDir()} / fmt::format("weir-admin-{}", ::getpid());
  AdminApi api_{directory_ / "l7.json", "weir-w", control::Lane::kBlue};
};

TEST_F(AdminApiOfSeveralWorkers, PreparesAGenerationForEachWorkerOfTheFirstFile) {
  for (const unsigned workers : {1U, 2U, 5U}) {
    const auto outcome = api_.prepare(config_with(workers));
    const auto* prepared = std::get_if<AdminApi::Prepared>(&outcome);
    ASSERT_NE(prepared, nullptr) << std::get<AdminApi::Refused>(outcome).text();
    EXPECT_EQ(prepared->generations.size(), workers);
  }
}

TEST_F(AdminApiOfSeveralWorkers, RefuseAnotherNumberWhileTheyRunAndTakeTheSame) {
  testing::ProxyWorld world{{.workers = 2}};
  auto outcome = api_.prepare(config_with(2));
  ASSERT_TRUE(api_.start(std::move(std::get<AdminApi::Prepared>(outcome)), config_with(2),
                         {&world.worker(0), &world.worker(1)}));
  world.run_for(std::chrono::milliseconds{1});
  EXPECT_EQ(world.report(0).revision, 1U);
  EXPECT_EQ(world.report(1).revision, 1U);

  const auto apply = [&](unsigned workers) {
    const control::ConfigSubmission wanted = config_with(workers);
    const nlohmann::json body = {{"file", wanted.file}, {"text", wanted.text}};
    return api_.handle({"POST", "/v1/apply", {}, body.dump()});
  };
  const control::AdminReply refused = apply(3);
  EXPECT_GE(refused.status, 400);
  EXPECT_NE(refused.body.find("node.l7.workers is 3, this weir-l7 runs 2"), std::string::npos)
      << refused.body;
  EXPECT_NE(refused.body.find("l7.json and restart weir-l7"), std::string::npos) << refused.body;
  world.run_for(std::chrono::milliseconds{1});
  EXPECT_EQ(world.report(1).revision, 1U);

  EXPECT_EQ(apply(2).status, 200);
  world.run_for(std::chrono::milliseconds{1});
  EXPECT_EQ(world.report(0).revision, 2U);
  EXPECT_EQ(world.report(1).revision, 2U);
}

/// A gateway with this in tls, and a service with that.
control::ConfigSubmission config_with_tls(const std::filesystem::path& directory,
                                          std::string_view listener, std::string_view service) {
  return {.file = (directory / "weir.yaml").string(),
          .text = fmt::format(
              "version: 1\n"
              "node:\n"
              "  interfaces: [eth0]\n"
              "  l7: {{addresses: [10.77.0.2/24], gateways: [10.77.0.1]}}\n"
              "gateways:\n"
              "- name: edge\n"
              "  addresses: [203.0.113.10]\n"
              "  listeners:\n"
              "  - {{name: https, port: 443, protocol: HTTPS, tls: {{{}}}}}\n"
              "services:\n"
              "  app: {{endpoints: [\"10.77.0.9:80\"]{}}}\n"
              "httpRoutes:\n"
              "- {{name: app, parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{{name: "
              "app}}]}}]}}\n",
              listener, service)};
}

/// What a certificate lacks is found only when it is read, and yet it has a place in the file.
/// A process that does nothing until it is ended.
class Sleeper {
 public:
  Sleeper() : pid_{::fork()} {
    if (pid_ == 0) {
      ::pause();
      ::_exit(0);
    }
  }
  ~Sleeper() { end(); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_;
};

TEST_F(AdminApiOfSeveralWorkers, ChangeNothingWhileAnotherProcessIsAboutToTakeOver) {
  testing::ProxyWorld world{{}};
  start(world, config_with(1));
  world.run_for(std::chrono::milliseconds{1});
  const auto post = [&](const std::string& path, const nlohmann::json& body) {
    return api_.handle({"POST", path, {}, body.dump()});
  };
  const auto wanted = config_with(1);
  const nlohmann::json submission = {{"file", wanted.file}, {"text", wanted.text}};
  Sleeper first;
  Sleeper second;
  EXPECT_EQ(post("/v1/hold", {{"pid", first.pid()}}).status, 200);
  EXPECT_EQ(post("/v1/hold", {{"pid", first.pid()}}).status, 200);  // asked again
  for (const std::string path : {"/v1/apply", "/v1/check"}) {
    const control::AdminReply refused = post(path, submission);
    EXPECT_EQ(refused.status, 409);
    EXPECT_NE(refused.body.find(fmt::format("process {}) is taking over", first.pid())),
              std::string::npos)
        << refused.body;
  }
  EXPECT_EQ(post("/v1/hold", {{"pid", second.pid()}}).status, 409);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "l7.json"));
  first.end();  // before it has taken over
  EXPECT_EQ(post("/v1/apply", submission).status, 200);
  EXPECT_TRUE(std::filesystem::exists(directory_ / "l7.json"));
  EXPECT_EQ(post("/v1/hold", {{"pid", "1"}}).status, 400);
  EXPECT_EQ(post("/v1/hold", {{"pid", 1}, {"more", 1}}).status, 400);
}

TEST_F(AdminApiOfSeveralWorkers, FollowAFile) {
  testing::ProxyWorld world{{}};
  start(world, config_with(1));
  world.run_for(std::chrono::milliseconds{1});
  const std::filesystem::path file = directory_ / "weir.yaml";
  const auto status = [&] {
    return nlohmann::json::parse(api_.handle({"GET", "/v1/status", {}, {}}).body);
  };
  EXPECT_TRUE(status().at("reload").is_null());

  EXPECT_TRUE(api_.follow_file(file));
  EXPECT_EQ(status().at("reload").at("state"), "failed") << "there is none";
  std::ofstream{file} << "version: 7\n";
  EXPECT_TRUE(api_.follow_file(file));
  const nlohmann::json failed = status().at("reload");
  EXPECT_EQ(failed.at("file"), file.string());
  EXPECT_EQ(failed.at("revision"), 1);
  ASSERT_EQ(failed.at("diagnostics").size(), 1U);
  EXPECT_TRUE(failed.at("diagnostics")[0].get<std::string>().starts_with(file.string() + ":1:10: "))
      << failed;

  std::ofstream{file} << config_with(1).text;
  EXPECT_TRUE(api_.follow_file(file));
  EXPECT_EQ(status().at("reload").at("state"), "ok");
  EXPECT_EQ(status().at("reload").at("revision"), 2);
  EXPECT_EQ(status().at("file"), file.string());

  // Somebody else mends it.
  std::ofstream{file} << "version: 7\n";
  EXPECT_TRUE(api_.follow_file(file));
  const nlohmann::json mended = {{"file", file.string()}, {"text", config_with(1).text}};
  EXPECT_EQ(api_.handle({"POST", "/v1/apply", {}, mended.dump()}).status, 200);
  EXPECT_EQ(status().at("reload").at("state"), "ok");

  const Sleeper successor;
  const nlohmann::json hold = {{"pid", successor.pid()}};
  EXPECT_EQ(api_.handle({"POST", "/v1/hold", {}, hold.dump()}).status, 200);
  EXPECT_FALSE(api_.follow_file(file)) << "another process is about to take over";
}

/// OpenSSL keeps clean-up work for each thread that has used a library context, here the thread
/// that makes one for every configuration, and ends after most of them are gone.
TEST_F(AdminApiOfSeveralWorkers, FollowAFileWithTlsInAThreadThatOutlivesConfigurations) {
  const tls::testing::TestFiles files;
  files.pair("shop.pem", {.names = {"shop.example"}});
  const auto submission = config_with_tls(
      directory_, fmt::format("certificateRefs: [{{file: {}}}]", files.path("shop.pem")), "");
  std::ofstream{submission.file} << submission.text;
  testing::ProxyWorld world{{}};
  auto outcome = api_.prepare(submission);
  ASSERT_TRUE(
      api_.start(std::move(std::get<AdminApi::Prepared>(outcome)), submission, {&world.worker(0)}));
  std::barrier turn{2};
  std::thread follower{[&] {
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(api_.follow_file(submission.file));
      turn.arrive_and_wait();
      turn.arrive_and_wait();
    }
  }};
  for (int i = 0; i < 4; ++i) {
    turn.arrive_and_wait();
    world.run_for(std::chrono::milliseconds{1});
    world.worker(0).destroy_retired();
    turn.arrive_and_wait();
  }
  follower.join();
  EXPECT_EQ(world.report(0).revision, 5U);
}

/// weir-l4 sends to them, and would have to change with it.
TEST_F(AdminApiOfSeveralWorkers, DoNotFollowAFileToOtherAddresses) {
  testing::ProxyWorld world{{}};
  start(world, config_with(1));
  const std::filesystem::path file = directory_ / "weir.yaml";
  std::string text = config_with(1).text;
  text.replace(text.find("10.77.0.2/"), 10, "10.77.0.3/");
  std::ofstream{file} << text;
  EXPECT_TRUE(api_.follow_file(file));
  const nlohmann::json reload =
      nlohmann::json::parse(api_.handle({"GET", "/v1/status", {}, {}}).body).at("reload");
  EXPECT_EQ(reload.at("state"), "failed");
  EXPECT_NE(reload.at("diagnostics").dump().find("other node.l7.addresses"), std::string::npos);
  // By command both daemons get it.
  const nlohmann::json body = {{"file", file.string()}, {"text", text}};
  EXPECT_EQ(api_.handle({"POST", "/v1/apply", {}, body.dump()}).status, 200);
}

TEST_F(AdminApiOfSeveralWorkers, WriteNothingBeforeTheyAreTold) {
  testing::ProxyWorld world{{}};
  start(world, config_with(1));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "l7.json"));
  ASSERT_TRUE(api_.keep_state());
  EXPECT_TRUE(std::filesystem::exists(directory_ / "l7.json"));
}

TEST_F(AdminApiOfSeveralWorkers, SaysWhereAFileStandsThatCannotBeUsed) {
  const auto write = [&](std::string_view name, std::string_view text) {
    std::ofstream{directory_ / name} << text;
  };
  write("a.pem", "hello\n");
  write("a.pem.2", "hello\n");
  struct Case {
    std::string listener;
    std::string service;
    std::string_view place;
    std::string_view problem;
  };
  for (const Case& c :
       {Case{"certificateRefs: [{file: a.pem}]", "", "weir.yaml:9:78: ", "no certificate in it"},
        Case{"certificateRefs: [{file: a.pem.2}]", "", "weir.yaml:9:78: ", "a.pem.2: no"}}) {
    const auto submission = config_with_tls(directory_, c.listener, c.service);
    const auto outcome = api_.prepare(submission);
    const auto* refused = std::get_if<AdminApi::Refused>(&outcome);
    ASSERT_NE(refused, nullptr);
    ASSERT_EQ(refused->diagnostics.size(), 1U) << refused->text();
    EXPECT_NE(refused->text().find(c.place), std::string::npos) << refused->text();
    EXPECT_NE(refused->text().find(c.problem), std::string::npos) << refused->text();
    EXPECT_NE(refused->text().find("BEGIN CERTIFICATE"), std::string::npos) << "what to do";

    // Asked to, it goes without the gateway.
    auto partial = submission;
    partial.partial = true;
    const auto rest = api_.prepare(partial);
    const auto* prepared = std::get_if<AdminApi::Prepared>(&rest);
    ASSERT_NE(prepared, nullptr) << std::get<AdminApi::Refused>(rest).text();
    ASSERT_FALSE(prepared->left_out.empty());
    EXPECT_EQ(prepared->left_out.front().object, "gateway 'edge'");
  }
}

/// The text of a configuration stays the same when what its files hold is renewed.
TEST_F(AdminApiOfSeveralWorkers, SaysWhichCertificatesAreRenewed) {
  namespace certificates = tls::testing;
  const certificates::TestFiles files;
  const certificates::Authority authority = certificates::make_authority("ca", 1);
  tls::UniqueCertificate certificate;
  const auto staple = [&](long until_s) {
    files.write("shop.der", certificates::make_ocsp_response(certificate.get(), authority,
                                                             {.next_update_s = until_s}));
  };
  const auto renew = [&](long serial) {
    const certificates::CertificateOptions options{
        .names = {"shop.example"}, .serial = serial, .issuer = &authority};
    certificate = certificates::make_certificate(options);
    files.write("shop.pem",
                certificates::pem_of(certificate.get()) +
                    certificates::pem_of(authority.certificate.get()) +
                    certificates::pem_of(certificates::test_key(options.kind, options.key_index)));
    staple(3600);
  };
  renew(1);
  files.pair("other.pem", {.names = {"other.example"}});
  const auto submission = config_with_tls(
      directory_,
      fmt::format("certificateRefs: [{{file: {0}, ocsp: {1}}}, {{file: {2}}}]",
                  files.path("shop.pem"), files.path("shop.der"), files.path("other.pem")),
      "");
  testing::ProxyWorld world{{}};
  auto first = api_.prepare(submission);
  ASSERT_TRUE(std::holds_alternative<AdminApi::Prepared>(first))
      << std::get<AdminApi::Refused>(first).text();
  ASSERT_TRUE(
      api_.start(std::move(std::get<AdminApi::Prepared>(first)), submission, {&world.worker(0)}));
  const auto changes = [&](std::string_view operation) {
    world.run_for(std::chrono::milliseconds{1});
    const nlohmann::json body = {{"file", submission.file}, {"text", submission.text}};
    const auto reply = api_.handle({"POST", fmt::format("/v1/{}", operation), {}, body.dump()});
    EXPECT_EQ(reply.status, 200) << reply.body;
    return nlohmann::json::parse(reply.body)["changes"].get<std::vector<std::string>>();
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(changes("apply"), Lines{});
  renew(2);
  const Lines renewed{"renew certificate " + files.path("shop.pem")};
  EXPECT_EQ(changes("check"), renewed);
  EXPECT_EQ(changes("apply"), renewed);
  EXPECT_EQ(changes("apply"), Lines{});
  staple(7200);
  EXPECT_EQ(changes("apply"), Lines{"renew OCSP response of " + files.path("shop.pem")});
  EXPECT_EQ(changes("check"), Lines{});
}

TEST(InterfaceConfigOfAWorker, LetsTheFirstSpeakForAll) {
  const control::Model model;
  EXPECT_TRUE(interface_config(model, 0).speaks);
  EXPECT_FALSE(interface_config(model, 1).speaks);
}

}  // namespace
}  // namespace weir::l7
