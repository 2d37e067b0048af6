#include "l4/control/admin.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "l4/base/fd.h"
#include "l4/control/admin_flags.h"
#include "l4/control/admin_socket.h"

namespace weir::control {
namespace {

/// A directory of its own for each test's socket, gone afterwards.
class Admin : public ::testing::Test {
 protected:
  Admin() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weir-test-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    socket_ = directory_ / "admin.sock";
  }
  ~Admin() override {
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

  Result<AdminServer> start(AdminServer::Handler handler) const {
    return AdminServer::start({socket_.string(), 0660}, std::move(handler));
  }
  [[nodiscard]] AdminClient client() const { return {"weir-l4", socket_.string()}; }

  std::filesystem::path directory_;
  std::filesystem::path socket_;
};

AdminReply echo(const AdminRequest& request) {
  std::string text = request.method + " " + request.path;
  for (const auto& [name, value] : request.query)
    text += " " + name + "=" + value;
  return {200, text + " " + request.body, "text/plain"};
}

TEST_F(Admin, CarriesMethodPathQueryAndBody) {
  const auto server = start(echo);
  ASSERT_TRUE(server) << server.error().text();
  for (const std::string method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
    const std::string body = method == "GET" ? "" : "{}";
    const auto reply =
        client().request(method, "/v1/vips?vip=" + percent_encoded("[2001:db8::25]:25/tcp"), body);
    ASSERT_TRUE(reply) << reply.error().text();
    EXPECT_EQ(reply->status, 200);
    EXPECT_EQ(reply->body, method + " /v1/vips vip=[2001:db8::25]:25/tcp " + body);
  }
}

TEST_F(Admin, AnswersWhileOtherClientsSayNothing) {
  const auto server = start(echo);
  ASSERT_TRUE(server) << server.error().text();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 100; ++i) {
    silent.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, socket_.c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(::connect(silent.back().get(), reinterpret_cast<const sockaddr*>(&address),
                        sizeof(address)),
              0);
    ASSERT_EQ(::write(silent.back().get(), "G", 1), 1);
  }
  ASSERT_TRUE(client().request("GET", "/v1/vips"));
  // None of them was given up first.
  std::array<char, 1> byte{};
  EXPECT_EQ(::recv(silent.back().get(), byte.data(), byte.size(), MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(Admin, GivesTheSocketItsModeAndRemovesItAtTheEnd) {
  {
    const auto server = start(echo);
    ASSERT_TRUE(server);
    struct stat status {};
    ASSERT_EQ(::stat(socket_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0660U);
  }
  EXPECT_FALSE(std::filesystem::exists(socket_));
  EXPECT_FALSE(try_to_connect(socket_.string()));
}

TEST_F(Admin, RefusesASocketThatSomebodyListensOn) {
  const auto first = start(echo);
  ASSERT_TRUE(first);
  const auto second = start(echo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
  EXPECT_TRUE(try_to_connect(socket_.string()));
}

TEST_F(Admin, TakesOverASocketThatNobodyListensOn) {
  {
    const UniqueFd left{::socket(AF_UNIX, SOCK_STREAM, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_.c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(socket_));
  const auto server = start(echo);
  EXPECT_TRUE(server) << server.error().text();
}

TEST_F(Admin, TellsADaemonThatShouldRunFromOneThatThereIsNot) {
  using std::chrono_literals::operator""ms;
  const auto answer = [&] {
    const Result<bool> runs = client().runs(0ms);
    if (!runs) return runs.error().text();
    return std::string{*runs ? "runs" : "is none"};
  };
  EXPECT_EQ(answer(), "is none");
  {
    auto server = start(echo);
    ASSERT_TRUE(server);
    EXPECT_EQ(answer(), "runs");
    server->hand_over();
  }
  EXPECT_TRUE(std::filesystem::exists(socket_));
  EXPECT_NE(answer().find("has left the file there"), std::string::npos);
  {
    const auto server = start(echo);
    ASSERT_TRUE(server);
    EXPECT_EQ(answer(), "runs");
  }
  EXPECT_EQ(answer(), "is none");
}

TEST_F(Admin, NeverRemovesAFileThatIsNoSocket) {
  std::ofstream{socket_} << "precious";
  const auto server = start(echo);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code(), ErrorCode::kConflict);
  EXPECT_TRUE(std::filesystem::exists(socket_));
}

TEST_F(Admin, SaysWhatToDoWhenNobodyListens) {
  const auto reply = client().request("GET", "/v1/status");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(reply.error().text().find("cannot reach weir-l4 at " + socket_.string()),
            std::string::npos);
  EXPECT_NE(reply.error().text().find("is it running?"), std::string::npos);
}

TEST_F(Admin, AnswersAnExceptionWithAnError) {
  const auto server =
      start([](const AdminRequest&) -> AdminReply { throw std::runtime_error{"oops"}; });
  ASSERT_TRUE(server);
  const auto reply = client().request("GET", "/");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 500);
  EXPECT_EQ(refusal_of(*reply).error.code(), ErrorCode::kInternal);
}

TEST_F(Admin, RefusesABodyAboveTheLimitAndTakesALargeOne) {
  const auto server = start([](const AdminRequest& r) {
    return AdminReply{200, std::to_string(r.body.size())};
  });
  ASSERT_TRUE(server);
  const auto large = client().request("POST", "/", std::string(kConfigBytesMax, 'x'));
  ASSERT_TRUE(large) << large.error().text();
  EXPECT_EQ(large->body, std::to_string(kConfigBytesMax));
  const auto larger = client().request("POST", "/", std::string(2 * kConfigBytesMax, 'x'));
  EXPECT_TRUE(!larger || larger->status == 413);
}

TEST(AdminReply, CarriesAnErrorThereAndBack) {
  for (const ErrorCode code :
       {ErrorCode::kInvalid, ErrorCode::kNotFound, ErrorCode::kConflict, ErrorCode::kUnsupported,
        ErrorCode::kDenied, ErrorCode::kUnavailable, ErrorCode::kInternal}) {
    const Refusal refusal = refusal_of(error_reply(Error{code, "no \xff way", "try again"}));
    EXPECT_EQ(refusal.error.code(), code);
    EXPECT_EQ(refusal.error.remedy(), "try again");
  }
}

TEST(AdminReply, CarriesDiagnosticsThereAndBack) {
  const std::vector<Diagnostic> diagnostics{{"weir.yaml", 12, 5, "message", "expected", "hint"},
                                            {"weir.yaml", 0, 0, "whole file", "", ""}};
  const AdminReply reply = diagnostics_reply(diagnostics);
  EXPECT_EQ(reply.status, 422);
  EXPECT_EQ(refusal_of(reply).diagnostics, diagnostics);
}

TEST(Submission, NeedsAnAbsolutePath) {
  const ConfigSubmission submission{"/etc/weir/weir.yaml", "version: 1\n"};
  const auto again = submission_from_json(to_json(submission));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->file, submission.file);
  EXPECT_EQ(again->text, submission.text);
  for (const std::string_view text : {"", "{}", R"({"file": "weir.yaml", "text": ""})",
                                      R"({"file": 1, "text": ""})", R"({"file": "/a"})"})
    EXPECT_FALSE(submission_from_json(text)) << text;
}

/// Sends the bytes as they are and returns all that comes back.
std::string say(const std::filesystem::path& socket, std::string_view bytes) {
  const UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, socket.c_str(), sizeof(address.sun_path) - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return {};
  EXPECT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
  ::shutdown(fd.get(), SHUT_WR);
  std::string all;
  std::array<char, 4096> piece{};
  for (ssize_t count = 1; count > 0;) {
    count = ::recv(fd.get(), piece.data(), piece.size(), 0);
    if (count > 0) all.append(piece.data(), static_cast<std::size_t>(count));
  }
  return all;
}

TEST_F(Admin, AnswersHeadWithoutABodyAndTakesChunks) {
  const auto server = start(echo);
  ASSERT_TRUE(server);
  const std::string head = say(socket_, "HEAD /v1 HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n")) << head;
  EXPECT_NE(head.find("Content-Length: 8\r\n"), std::string::npos) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
  const std::string chunked =
      say(socket_,
          "POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
          "2\r\n{}\r\n0\r\n\r\n");
  EXPECT_TRUE(chunked.ends_with("POST /v1 {}")) << chunked;
}

TEST_F(Admin, AnswersOneRequestAndIgnoresWhatFollows) {
  const auto server = start(echo);
  ASSERT_TRUE(server);
  const std::string request = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string reply = say(socket_, request + request);
  EXPECT_EQ(reply.find("HTTP/1.1 "), reply.rfind("HTTP/1.1 ")) << reply;
}

TEST_F(Admin, RefusesFieldsWithoutAnEnd) {
  const auto server = start(echo);
  ASSERT_TRUE(server);
  const std::string reply = say(socket_, "GET / HTTP/1.1\r\nHost: " + std::string(64 * 1024, 'a'));
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 431 ")) << reply;
}

TEST_F(Admin, RefusesABodyOfBrackets) {
  const auto server = start(echo);
  ASSERT_TRUE(server);
  const std::string body = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  const std::string reply =
      say(socket_, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + body);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 400 ")) << reply;
  EXPECT_NE(reply.find("nested deeper than 64 levels"), std::string::npos) << reply;
}

TEST_F(Admin, SaysNothingToAClientWhoSaidHalf) {
  const auto server = start(echo);
  ASSERT_TRUE(server);
  EXPECT_EQ(say(socket_, "GET / HTTP/1.1\r\nHo"), "");
  EXPECT_TRUE(say(socket_, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{}")
                  .starts_with("HTTP/1.1 408 "));
}

TEST_F(Admin, GivesItsSocketToAGroup) {
  const auto server =
      AdminServer::start({socket_.string(), 0660, std::to_string(::getegid())}, echo);
  ASSERT_TRUE(server) << server.error().text();
  struct stat status {};
  ASSERT_EQ(::stat(socket_.c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, ::getegid());
  const auto unknown =
      AdminServer::start({(directory_ / "other.sock").string(), 0660, "no-such-group"}, echo);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("groupadd"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "other.sock"));
}

TEST_F(Admin, ServesTcpOnlyWithAllFourFilesAndRefusesBadOnes) {
  const std::string missing = (directory_ / "missing.pem").string();
  const wire::Endpoint kTcp{wire::IpAddress::v4(127, 0, 0, 1), wire::Port{9443}};
  for (const AdminTlsOptions& tls :
       {AdminTlsOptions{kTcp, "", "", ""}, AdminTlsOptions{kTcp, missing, missing, missing}}) {
    const auto server = AdminServer::start({.socket_path = socket_.string(), .tls = tls}, echo);
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().code(), ErrorCode::kInvalid);
    EXPECT_FALSE(std::filesystem::exists(socket_));
  }
}

TEST(AdminFlags, AreAllFourOfTcpOrNone) {
  AdminFlags flags{.socket = "/tmp/a"};
  EXPECT_EQ(take_admin_flags(flags)->socket_mode, 0600U);
  flags.listen = "127.0.0.1:9443";
  EXPECT_FALSE(take_admin_flags(flags));
  flags.tls_cert = flags.tls_key = "a.pem";
  EXPECT_FALSE(take_admin_flags(flags));
  flags.tls_client_ca = "ca.pem";
  ASSERT_TRUE(take_admin_flags(flags));
  EXPECT_EQ(take_admin_flags(flags)->tls->client_ca_file, "ca.pem");
  AdminFlags only_allow{.socket = "/tmp/a"};
  only_allow.tls_allow = {"ops"};
  EXPECT_FALSE(take_admin_flags(only_allow));
}

TEST(AdminFlags, HaveAnOctalModeThatLeavesTheOwnerIn) {
  for (const std::string mode : {"0660", "600", "777"}) {
    const AdminFlags flags{.socket = "/tmp/a", .socket_mode = mode};
    EXPECT_TRUE(take_admin_flags(flags)) << mode;
  }
  for (const std::string mode : {"0060", "rw", "0680", "1777", "0660 ", "-600"}) {
    const AdminFlags flags{.socket = "/tmp/a", .socket_mode = mode};
    EXPECT_FALSE(take_admin_flags(flags)) << mode;
  }
}

AdminReply count_up(const AdminRequest& request) {
  if (request.path == "/refused") return error_reply(Error{ErrorCode::kConflict, "one at a time"});
  AdminReply reply{200, {}, "text/plain"};
  auto next = std::make_shared<int>(0);
  reply.more = [next, last = request.path == "/three" ? 3 : 1'000'000'000] {
    return *next == last ? std::nullopt : std::optional{fmt::format("{};", ++*next)};
  };
  return reply;
}

TEST_F(Admin, CarriesAReplyPieceByPieceToItsEnd) {
  const auto server = start(count_up);
  ASSERT_TRUE(server);
  std::string body;
  const auto reply = client().stream("/three", [&](std::string_view piece) {
    body += piece;
    return true;
  });
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->status, 200);
  EXPECT_EQ(body, "1;2;3;");
}

TEST_F(Admin, EndsAnEndlessReplyWhenTheClientHasEnough) {
  const auto server = start(count_up);
  ASSERT_TRUE(server);
  std::size_t bytes = 0;
  const auto reply = client().stream("/endless", [&](std::string_view piece) {
    bytes += piece.size();
    return bytes < 1000;
  });
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_GE(bytes, 1000U);
}

TEST_F(Admin, AnswersOthersAndStopsWhileAReplyHasNoEnd) {
  auto server = start([](const AdminRequest& request) {
    return request.path == "/endless" ? count_up(request) : echo(request);
  });
  ASSERT_TRUE(server);
  bool was_answered = false;
  const auto reply = client().stream("/endless", [&](std::string_view /*piece*/) {
    was_answered = client().request("GET", "/other").has_value();
    return !was_answered;
  });
  ASSERT_TRUE(reply);
  EXPECT_TRUE(was_answered);
  std::thread stopper;
  const auto broken_off = client().stream("/endless", [&](std::string_view /*piece*/) {
    if (!stopper.joinable()) stopper = std::thread{[&] { server->stop(); }};
    return true;
  });
  stopper.join();
  EXPECT_FALSE(try_to_connect(socket_.string()));
}

TEST_F(Admin, HandsTheBodyOfARefusalOverAndNoPiece) {
  const auto server = start(count_up);
  ASSERT_TRUE(server);
  const auto reply = client().stream("/refused", [](std::string_view /*piece*/) {
    ADD_FAILURE();
    return true;
  });
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 409);
  EXPECT_EQ(refusal_of(*reply).error.message(), "one at a time");
}

}  // namespace
}  // namespace weir::control
