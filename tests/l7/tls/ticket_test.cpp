#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "l7/tls/context.h"
#include "l7/tls/session.h"
#include "l7/tls/ticket_keys.h"
#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

using testing::ClientOptions;
using ::testing::HasSubstr;
using testing::MemoryClient;
using testing::TestFiles;

constexpr std::int64_t kNow = 1'800'000'000;

class TicketFile : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path() const { return files_.path("ticket-keys"); }
  [[nodiscard]] Result<TicketKeyFile> open(std::int64_t now = kNow) const {
    return TicketKeyFile::open(path(), now);
  }
  [[nodiscard]] std::string content() const {
    std::stringstream text;
    text << std::ifstream{path()}.rdbuf();
    return text.str();
  }
  void write(std::string_view text, mode_t mode = 0600) const {
    files_.write("ticket-keys", text);
    ::chmod(path().c_str(), mode);
  }
  TestFiles files_;
};

bool same(const TicketKey& a, const TicketKey& b) {
  return a.name == b.name && a.cipher == b.cipher && a.mac == b.mac && a.created_s == b.created_s;
}

TEST_F(TicketFile, IsMadeForItsOwnerAloneAndReadAgain) {
  const auto made = open();
  ASSERT_TRUE(made) << made.error().text();
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  const auto again = open(kNow + 60);
  ASSERT_TRUE(again) << again.error().text();
  ASSERT_EQ(made->keys().count, 1U);
  ASSERT_EQ(again->keys().count, 1U);
  EXPECT_TRUE(same(made->keys().keys[0], again->keys().keys[0]));
  const TicketKey& key = made->keys().keys[0];
  EXPECT_NE(key.cipher, key.mac);
  EXPECT_EQ(key.created_s, kNow);
}

TEST_F(TicketFile, RotatesByTheClockAndKeepsTheTwoKeysBefore) {
  auto file = open();
  ASSERT_TRUE(file);
  EXPECT_FALSE(file->is_due(kNow + kTicketKeyTimeS - 1));
  std::vector<TicketKey> made{file->keys().keys[0]};
  for (int i = 1; i <= 4; ++i) {
    const std::int64_t now = kNow + i * kTicketKeyTimeS;
    ASSERT_TRUE(file->is_due(now));
    ASSERT_TRUE(file->rotate(now));
    made.push_back(file->keys().keys[0]);
    EXPECT_FALSE(file->is_due(now));
  }
  ASSERT_EQ(file->keys().count, 3U);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_TRUE(same(file->keys().keys[i], made[4 - i])) << i;
  const auto again = open(kNow + 4 * kTicketKeyTimeS + 1);
  ASSERT_TRUE(again);
  ASSERT_EQ(again->keys().count, 3U);
  EXPECT_TRUE(same(again->keys().keys[2], made[2]));
}

TEST_F(TicketFile, KeysThatAreTooOldAreDroppedAtTheStart) {
  ASSERT_TRUE(open());
  const auto later = open(kNow + 3 * kTicketKeyTimeS + 1);
  ASSERT_TRUE(later);
  ASSERT_EQ(later->keys().count, 1U);
  EXPECT_EQ(later->keys().keys[0].created_s, kNow + 3 * kTicketKeyTimeS + 1);
}

TEST_F(TicketFile, AKeyFromTheFutureDoesNotSealForEver) {
  ASSERT_TRUE(open(kNow + 30 * 86'400));
  const auto file = open(kNow);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->keys().keys[0].created_s, kNow);
  EXPECT_EQ(file->keys().count, 2U);
}

TEST_F(TicketFile, ABadFileIsAnErrorThatSaysWhatToDo) {
  ASSERT_TRUE(open());
  const std::string good = content();
  std::string upper = good;
  upper[upper.rfind('\n') - 1] = 'G';
  const std::string key_line = good.substr(good.find('\n') + 1);
  struct Case {
    std::string_view name;
    std::string text;
  };
  for (const Case& c :
       {Case{"empty", ""}, Case{"text", "hello\n"}, Case{"no key", good.substr(0, 19)},
        Case{"cut", good.substr(0, good.size() - 2)}, Case{"no hex", upper},
        Case{"more", good + "x"}, Case{"too many", good + key_line + key_line + key_line},
        Case{"another version", "weir-ticket-keys 2\n" + key_line}}) {
    write(c.text);
    const auto file = open();
    ASSERT_FALSE(file) << c.name;
    EXPECT_THAT(file.error().text(), HasSubstr(path())) << c.name;
    EXPECT_THAT(file.error().text(), HasSubstr("damaged")) << c.name;
    EXPECT_THAT(file.error().text(), HasSubstr("remove the file")) << c.name;
  }
  write(good, 0640);
  EXPECT_THAT(open().error().text(), HasSubstr("mode 0640 lets others at it"));
  write(good);
  EXPECT_TRUE(open());
}

TEST_F(TicketFile, OneThatCannotBeWrittenIsAnErrorAndTheOldKeysGoOn) {
  auto file = open();
  ASSERT_TRUE(file);
  const TicketKey before = file->keys().keys[0];
  std::filesystem::create_directory(path() + ".new");  // where the new text would be written
  const auto rotated = file->rotate(kNow + kTicketKeyTimeS);
  ASSERT_FALSE(rotated);
  EXPECT_THAT(rotated.error().text(), HasSubstr("writing the TLS ticket keys"));
  EXPECT_TRUE(same(file->keys().keys[0], before));
}

/// Workers with the same certificates, each with a context of its own.
class Resumption : public ::testing::Test {
 protected:
  Resumption() {
    options_.certificates = {
        files_.pair("a.pem", {.common_name = "a", .names = {"a.example", "*.a.example"}}),
        files_.pair("b.pem", {.common_name = "b", .names = {"b.example"}})};
    const auto keys = TicketKeyFile::open(files_.path("ticket-keys"), kNow);
    EXPECT_TRUE(keys);
    keys_ = keys->keys();
  }
  [[nodiscard]] ServerContext worker(const TicketKeySet& keys) const {
    auto context = ServerContext::create(options_);
    EXPECT_TRUE(context) << context.error().text();
    context->use_ticket_keys(&keys);
    return std::move(*context);
  }
  struct Ticket {
    explicit Ticket(SSL_SESSION* session) : session_{session, SSL_SESSION_free} {}
    [[nodiscard]] SSL_SESSION* get() const { return session_.get(); }

   private:
    std::unique_ptr<SSL_SESSION, void (*)(SSL_SESSION*)> session_;
  };
  static ClientOptions client(int version, const std::string& name, SSL_SESSION* resume = nullptr) {
    return {.server_name = name, .min_version = version, .max_version = version, .resume = resume};
  }
  static Ticket ticket_of(ServerContext& server, const ClientOptions& options) {
    auto session = Session::accept(server);
    MemoryClient peer{options};
    EXPECT_TRUE(peer.shake_hands(*session)) << session->failure();
    EXPECT_FALSE(session->info().resumed);
    EXPECT_EQ(peer.read(), "");  // takes the tickets of TLS 1.3
    peer.close();                // OpenSSL does not resume what was cut off
    return Ticket{peer.session()};
  }
  static bool resumes(ServerContext& server, const ClientOptions& options) {
    auto session = Session::accept(server);
    MemoryClient peer{options};
    EXPECT_TRUE(peer.shake_hands(*session)) << session->failure();
    EXPECT_EQ(SSL_session_reused(peer.ssl()) == 1, session->info().resumed);
    peer.close();  // as above: the ticket may be tried again
    return session->info().resumed;
  }

  TestFiles files_;
  ServerOptions options_;
  TicketKeySet keys_;
};

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

TEST_F(Resumption, ATicketOfOneWorkerIsGoodWithAnother) {
  ServerContext first = worker(keys_);
  ServerContext second = worker(keys_);
  for (const int version : kVersions) {
    const Ticket ticket = ticket_of(first, client(version, "a.example"));
    EXPECT_TRUE(resumes(second, client(version, "a.example", ticket.get()))) << version;
  }
}

TEST_F(Resumption, ATicketIsGoodAfterARestart) {
  for (const int version : kVersions) {
    std::optional<Ticket> ticket;
    {
      ServerContext before = worker(keys_);
      ticket.emplace(ticket_of(before, client(version, "a.example")));
    }
    const auto read_again = TicketKeyFile::open(files_.path("ticket-keys"), kNow + 100);
    ASSERT_TRUE(read_again);
    ServerContext after = worker(read_again->keys());
    EXPECT_TRUE(resumes(after, client(version, "a.example", ticket->get()))) << version;
  }
}

TEST_F(Resumption, ATicketOfAnUnknownKeyMeansAFullHandshake) {
  const auto others = TicketKeyFile::open(files_.path("other-keys"), kNow);
  ASSERT_TRUE(others);
  ServerContext first = worker(keys_);
  ServerContext second = worker(others->keys());
  for (const int version : kVersions) {
    const Ticket ticket = ticket_of(first, client(version, "a.example"));
    EXPECT_FALSE(resumes(second, client(version, "a.example", ticket.get()))) << version;
  }
}

TEST_F(Resumption, OldKeysOpenUntilTwoOthersHaveFollowed) {
  auto file = TicketKeyFile::open(files_.path("ticket-keys"), kNow);
  ASSERT_TRUE(file);
  TicketKeySet live = file->keys();
  ServerContext server = worker(live);
  for (const int version : kVersions) {
    const Ticket ticket = ticket_of(server, client(version, "a.example"));
    for (int i = 1; i <= 3; ++i) {
      ASSERT_TRUE(file->rotate(kNow + i * kTicketKeyTimeS));
      live = file->keys();
      EXPECT_EQ(resumes(server, client(version, "a.example", ticket.get())), i < 3)
          << version << " after " << i;
    }
  }
}

TEST_F(Resumption, ATicketIsBoundToTheName) {
  ServerContext server = worker(keys_);
  for (const int version : kVersions) {
    const Ticket ticket = ticket_of(server, client(version, "a.example"));
    for (const std::string name : {"b.example", "x.a.example", "unknown.example", ""})
      EXPECT_FALSE(resumes(server, client(version, name, ticket.get()))) << version << name;
    EXPECT_TRUE(resumes(server, client(version, "A.Example", ticket.get()))) << version;
  }
}

/// nginx CVE-2025-23419: a ticket from where no certificate is asked for opened where one is.
TEST_F(Resumption, ATicketIsBoundToWhatIsWantedOfTheClient) {
  const testing::Authority authority = testing::make_authority("ca", 5);
  const testing::Authority other = testing::make_authority("other", 6);
  const std::string ca = files_.write("ca.pem", testing::pem_of(authority.certificate.get()));
  const std::string other_ca = files_.write("other.pem", testing::pem_of(other.certificate.get()));
  const UniqueCertificate certificate =
      testing::make_certificate({.common_name = "user", .key_index = 7, .issuer = &authority});
  const auto with = [&](control::ClientCertificates mode, const std::string& file) {
    options_.policies = {{"a.example", {mode, file}}};
    return worker(keys_);
  };
  ServerContext none = with(control::ClientCertificates::kNone, "");
  ServerContext optional = with(control::ClientCertificates::kOptional, ca);
  ServerContext required = with(control::ClientCertificates::kRequired, ca);
  ServerContext elsewhere = with(control::ClientCertificates::kOptional, other_ca);
  for (const int version : kVersions) {
    const Ticket anonymous = ticket_of(none, client(version, "a.example"));
    EXPECT_FALSE(resumes(optional, client(version, "a.example", anonymous.get()))) << version;
    auto session = Session::accept(required);
    MemoryClient peer{client(version, "a.example", anonymous.get())};
    peer.shake_hands(*session);
    EXPECT_EQ(session->handshake(), SessionStatus::kFailed) << version;

    ClientOptions known = client(version, "a.example");
    known.certificate = certificate.get();
    known.key = testing::test_key(testing::KeyKind::kEc, 7);
    const Ticket ticket = ticket_of(optional, known);
    EXPECT_TRUE(resumes(optional, client(version, "a.example", ticket.get()))) << version;
    EXPECT_FALSE(resumes(elsewhere, client(version, "a.example", ticket.get()))) << version;
    EXPECT_FALSE(resumes(none, client(version, "a.example", ticket.get()))) << version;
  }
}

TEST_F(Resumption, NoEarlyDataIsOffered) {
  ServerContext server = worker(keys_);
  const Ticket ticket = ticket_of(server, client(TLS1_3_VERSION, "a.example"));
  EXPECT_EQ(SSL_SESSION_get_max_early_data(ticket.get()), 0U);
  EXPECT_EQ(SSL_SESSION_get_ticket_lifetime_hint(ticket.get()),
            static_cast<unsigned long>(kTicketLifetimeS));
}

}  // namespace
}  // namespace weir::tls
