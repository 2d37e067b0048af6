#include "l7/tls/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

using testing::ClientOptions;
using ::testing::HasSubstr;
using testing::MemoryClient;
using testing::TestFiles;

const std::string kHttp11 = "\x08http/1.1";
const std::string kH2 = "\x02h2";

class TlsSession : public ::testing::Test {
 protected:
  ServerContext& context(control::TlsVersion min_version = control::TlsVersion::kTls12,
                         std::vector<std::string> protocols = {"http/1.1"}) {
    auto created = ServerContext::create(
        {.certificates = {files_.pair("a.pem", {.common_name = "a", .names = {"a.example"}}),
                          files_.pair("b.pem", {.common_name = "b", .names = {"b.example"}})},
         .min_version = min_version,
         .protocols = std::move(protocols)});
    EXPECT_TRUE(created) << created.error().text();
    context_.emplace(std::move(*created));
    return *context_;
  }
  static Session accept(ServerContext& server) {
    auto session = Session::accept(server);
    EXPECT_TRUE(session);
    return std::move(*session);
  }
  /// Everything the session can decrypt, and the status that ended it.
  static std::pair<std::string, SessionStatus> read_all(Session& session) {
    std::string text;
    std::array<std::byte, 1000> buffer;  // not a divisor of a record
    for (;;) {
      const auto [status, count] = session.read(buffer);
      if (status != SessionStatus::kOk) return {text, status};
      text += as_text(std::span{buffer}.first(count));
    }
  }
  TestFiles files_;
  std::optional<ServerContext> context_;
};

TEST_F(TlsSession, SpeaksBothVersions) {
  ServerContext& server = context();
  struct Case {
    int version;
    std::string_view name;
    std::string_view cipher_part;
  };
  for (const Case& c :
       {Case{TLS1_2_VERSION, "TLSv1.2", "ECDHE-ECDSA"}, Case{TLS1_3_VERSION, "TLSv1.3", "TLS_"}}) {
    Session session = accept(server);
    MemoryClient client{
        {.server_name = "a.example", .min_version = c.version, .max_version = c.version}};
    ASSERT_TRUE(client.shake_hands(session)) << session.failure();
    const SessionInfo info = session.info();
    EXPECT_EQ(info.version, c.name);
    EXPECT_THAT(std::string{info.cipher}, HasSubstr(std::string{c.cipher_part}));
    EXPECT_EQ(info.server_name, "a.example");
    EXPECT_EQ(info.certificate, "a");
    EXPECT_EQ(info.protocol, "");
    EXPECT_FALSE(info.resumed);
    ASSERT_TRUE(client.write("ping"));
    client.carry(session);
    EXPECT_EQ(read_all(session), std::pair(std::string{"ping"}, SessionStatus::kWantInput));
    EXPECT_EQ(session.write(as_bytes("pong")), 4U);
    client.carry(session);
    EXPECT_EQ(client.read(), "pong");
  }
}

TEST_F(TlsSession, SaysNothingOfASessionBeforeItsHandshake) {
  const Session session = accept(context());
  EXPECT_FALSE(session.handshake_done());
  EXPECT_EQ(session.info().version, "");
  EXPECT_TRUE(session.output().empty());
}

TEST_F(TlsSession, Min13RefusesAClientOf12) {
  Session session = accept(context(control::TlsVersion::kTls13));
  MemoryClient client{{.max_version = TLS1_2_VERSION}};
  EXPECT_FALSE(client.shake_hands(session));
  EXPECT_EQ(session.handshake(), SessionStatus::kFailed);
  EXPECT_THAT(session.failure(), HasSubstr("unsupported protocol"));
  EXPECT_THAT(client.failure(), HasSubstr("protocol version"));
}

TEST_F(TlsSession, Tls11IsRefused) {
  Session session = accept(context());
  MemoryClient client{{.min_version = TLS1_1_VERSION,
                       .max_version = TLS1_1_VERSION,
                       .ciphers = "DEFAULT:@SECLEVEL=0"}};
  EXPECT_FALSE(client.shake_hands(session));
  EXPECT_THAT(session.failure(), HasSubstr("unsupported protocol"));
}

TEST_F(TlsSession, CiphersWithoutForwardSecrecyAreRefused) {
  Session session = accept(context());
  MemoryClient client{
      {.max_version = TLS1_2_VERSION, .ciphers = "AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA"}};
  EXPECT_FALSE(client.shake_hands(session));
  EXPECT_THAT(session.failure(), HasSubstr("no shared cipher"));
}

TEST_F(TlsSession, AlpnIsOurPreference) {
  ServerContext& server = context(control::TlsVersion::kTls12, {"h2", "http/1.1"});
  const auto chosen = [&](const std::string& offered) {
    Session session = accept(server);
    MemoryClient client{{.server_name = "b.example", .protocols = offered}};
    EXPECT_TRUE(client.shake_hands(session)) << session.failure();
    return std::string{session.info().protocol};
  };
  EXPECT_EQ(chosen(kHttp11 + kH2), "h2");
  EXPECT_EQ(chosen(kHttp11), "http/1.1");
  EXPECT_EQ(chosen(""), "");
}

TEST_F(TlsSession, NoCommonProtocolIsFatal) {
  Session session = accept(context());
  MemoryClient client{{.protocols = kH2}};
  EXPECT_FALSE(client.shake_hands(session));
  EXPECT_THAT(client.failure(), HasSubstr("no application protocol"));
  EXPECT_EQ(session.handshake(), SessionStatus::kFailed);
}

TEST_F(TlsSession, ByteByByteIsAsGoodAsWhole) {
  Session session = accept(context());
  MemoryClient client{{.server_name = "b.example", .protocols = kHttp11}};
  ASSERT_TRUE(client.shake_hands(session, 1)) << session.failure();
  EXPECT_EQ(session.info().certificate, "b");
  const std::string text(40'000, 'x');
  ASSERT_TRUE(client.write(text));
  std::string got;
  while (client.carry(session, 7))
    got += read_all(session).first;
  EXPECT_EQ(got, text);
}

TEST_F(TlsSession, GarbageIsAnsweredWithAnAlert) {
  struct Case {
    std::string_view name;
    std::string bytes;
    bool has_alert;
  };
  std::string broken_hello = "\x16\x03\x01\x01\x04\x01";
  broken_hello.resize(9, '\0');
  broken_hello[8] = '\x50';
  broken_hello.resize(5 + 0x104, '\xff');
  for (const Case& c :
       {Case{"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", false},
        Case{"noise", std::string(64, '\x5a'), false},
        Case{"a record that is too long", "\x16\x03\x01\xff\xff" + std::string(9, 'x'), true},
        Case{"a broken ClientHello", broken_hello, true}}) {
    Session session = accept(context());
    session.feed(as_bytes(c.bytes));
    EXPECT_EQ(session.handshake(), SessionStatus::kFailed) << c.name;
    EXPECT_THAT(session.failure(), HasSubstr("TLS handshake: ")) << c.name;
    constexpr std::byte kAlert{21};
    // OpenSSL says nothing to a peer that does not speak TLS at all.
    ASSERT_EQ(session.output().empty(), !c.has_alert) << c.name;
    if (c.has_alert) {
      EXPECT_EQ(session.output().front(), kAlert) << c.name;
    }
    EXPECT_EQ(session.handshake(), SessionStatus::kFailed) << "it stays failed";
    EXPECT_EQ(session.write(as_bytes("x")), 0U);
    EXPECT_EQ(ERR_peek_error(), 0U) << "the queue must not leak into the next session";
  }
}

TEST_F(TlsSession, ABrokenClientHelloGetsItsAlert) {
  Session session = accept(context());
  // A handshake record with a ClientHello whose session id is longer than the message.
  std::string hello = "\x16\x03\x01" + std::string("\x00\x2c\x01\x00\x00\x28\x03\x03", 8) +
                      std::string(32, 'r') + "\xff" + std::string(5, '\0');
  session.feed(as_bytes(hello));
  EXPECT_EQ(session.handshake(), SessionStatus::kFailed);
  ASSERT_EQ(session.output().size(), 7U);
  EXPECT_EQ(session.output()[0], std::byte{21});  // alert
  EXPECT_EQ(session.output()[5], std::byte{2});   // fatal
}

TEST_F(TlsSession, RandomDamageNeverBreaksTheSession) {
  constexpr std::uint64_t kSeed = 11;
  ServerContext& server = context();
  MemoryClient client{{.server_name = "a.example"}};
  SSL_do_handshake(client.ssl());
  std::array<char, 4096> hello;
  const int size = BIO_read(SSL_get_wbio(client.ssl()), hello.data(), hello.size());
  ASSERT_GT(size, 100);
  Random random{kSeed};
  for (int round = 0; round < 500; ++round) {
    std::string damaged{hello.data(), static_cast<std::size_t>(size)};
    for (auto i = 1 + random.below(4); i > 0; --i)
      damaged[random.below(static_cast<std::uint32_t>(size))] =
          static_cast<char>(random.below(256));
    Session session = accept(server);
    session.feed(as_bytes(damaged));
    const SessionStatus status = session.handshake();
    EXPECT_TRUE(status == SessionStatus::kFailed || status == SessionStatus::kWantInput)
        << "seed " << kSeed << ", round " << round;
    EXPECT_EQ(session.failure().empty(), status != SessionStatus::kFailed);
  }
}

TEST_F(TlsSession, ADamagedRecordIsFatal) {
  Session session = accept(context());
  MemoryClient client;
  ASSERT_TRUE(client.shake_hands(session));
  session.feed(as_bytes(std::string{"\x17\x03\x03\x00\x14", 5} + std::string(20, 'x')));
  EXPECT_EQ(read_all(session).second, SessionStatus::kFailed);
  EXPECT_THAT(session.failure(), HasSubstr("TLS record from the peer"));
  EXPECT_FALSE(session.output().empty()) << "the alert";
}

TEST_F(TlsSession, CloseIsSaidAndHeard) {
  Session session = accept(context());
  MemoryClient client;
  ASSERT_TRUE(client.shake_hands(session));
  client.write("last");
  client.close();
  client.carry(session);
  EXPECT_EQ(read_all(session), std::pair(std::string{"last"}, SessionStatus::kClosed));
  // The other direction is still open (RFC 8446, section 6.1).
  EXPECT_EQ(session.write(as_bytes("late")), 4U);
  session.close();
  client.carry(session);
  EXPECT_EQ(client.read(), "late");
  EXPECT_TRUE(client.saw_close());
}

TEST_F(TlsSession, CloseBeforeTheHandshakeIsSilent) {
  Session session = accept(context());
  session.close();
  EXPECT_TRUE(session.output().empty());
}

TEST_F(TlsSession, WritesStopWhenTheOutputIsFull) {
  Session session = accept(context());
  MemoryClient client;
  ASSERT_TRUE(client.shake_hands(session));
  const std::string text(1'000'000, 'y');
  std::size_t sent = 0;
  std::size_t largest = 0;
  std::string got;
  while (got.size() < text.size()) {
    sent += session.write(as_bytes(text).subspan(sent));
    largest = std::max(largest, session.output().size());
    ASSERT_EQ(session.write({}), 0U);
    ASSERT_TRUE(client.carry(session));
    got += client.read();
  }
  EXPECT_EQ(got, text);
  constexpr std::size_t kLimit = 64 * 1024;
  constexpr std::size_t kRecord = 17 * 1024;
  EXPECT_GE(largest, kLimit);
  EXPECT_LT(largest, kLimit + kRecord);
}

TEST_F(TlsSession, AClientThatAsksForAnswersAndDoesNotReadThemIsBounded) {
  Session session = accept(context());
  MemoryClient client{{.min_version = TLS1_3_VERSION}};
  ASSERT_TRUE(client.shake_hands(session));
  std::array<std::byte, 4096> bytes;
  SessionStatus status = SessionStatus::kOk;
  for (int i = 0; i < 20'000 && status != SessionStatus::kWantOutput; ++i) {
    SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    ASSERT_TRUE(client.write("x"));
    const int count = BIO_read(SSL_get_wbio(client.ssl()), bytes.data(), bytes.size());
    session.feed(std::span{bytes}.first(static_cast<std::size_t>(count)));
    status = read_all(session).second;
    ASSERT_LT(session.output().size(), 70U * 1024);
  }
  EXPECT_EQ(status, SessionStatus::kWantOutput);
}

TEST_F(TlsSession, TicketsResumeWithinACertificateAndNotAcross) {
  ServerContext& server = context();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto options = [&](const std::string& name, SSL_SESSION* resume) {
      return ClientOptions{
          .server_name = name, .min_version = version, .max_version = version, .resume = resume};
    };
    Session first = accept(server);
    MemoryClient first_client{options("a.example", nullptr)};
    ASSERT_TRUE(first_client.shake_hands(first));
    EXPECT_EQ(first_client.read(), "");  // takes the tickets of TLS 1.3
    SSL_SESSION* const ticket = first_client.session();

    Session same = accept(server);
    MemoryClient same_client{options("a.example", ticket)};
    ASSERT_TRUE(same_client.shake_hands(same)) << same.failure();
    EXPECT_TRUE(same.info().resumed) << version;

    Session other = accept(server);
    MemoryClient other_client{options("b.example", ticket)};
    other_client.shake_hands(other);
    EXPECT_FALSE(other.info().resumed) << version;
    SSL_SESSION_free(ticket);
  }
}

TEST_F(TlsSession, RenegotiationIsRefused) {
  Session session = accept(context());
  MemoryClient client{{.max_version = TLS1_2_VERSION}};
  ASSERT_TRUE(client.shake_hands(session));
  SSL_renegotiate(client.ssl());
  SSL_do_handshake(client.ssl());
  client.carry(session);
  read_all(session);
  client.carry(session);
  SSL_do_handshake(client.ssl());
  EXPECT_THAT(std::string{take_openssl_reason()}, HasSubstr("no renegotiation"));
}

TEST_F(TlsSession, SessionsCanBeMoved) {
  Session first = accept(context());
  Session session = std::move(first);
  MemoryClient client;
  EXPECT_TRUE(client.shake_hands(session)) << session.failure();
}

}  // namespace
}  // namespace weir::tls
