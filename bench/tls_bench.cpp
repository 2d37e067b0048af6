/// What does a TLS session of ours cost beside OpenSSL by itself, and what do many certificates?
/// Both servers shake hands with the same client in the same run; only the server's time counts.
/// Expected: full handshakes (ECDSA P-256, X25519) at 90 % of the bare loop or more, resumed ones
/// at 70 % or more, an idle connection below 20 KB, ten thousand certificates below 2 s, and below
/// 1 s where one of them is new.
///
///   tls_bench [seconds per row] [certificates]
///
/// prints JSON.

#include <fmt/format.h>
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/tls/context.h"
#include "l7/tls/session.h"
#include "l7/tls/ticket_keys.h"
#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

/// Processor time of this thread: what else the machine does must not count.
struct Clock {
  static std::chrono::nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
  }
};
using Seconds = std::chrono::duration<double>;
using testing::ClientOptions;
using testing::KeyKind;
using testing::MemoryClient;
using testing::TestFiles;

/// A server that a client can be carried to.
class Server {
 public:
  virtual ~Server() = default;
  virtual void begin() = 0;
  virtual void input(std::span<const std::byte> bytes) = 0;
  [[nodiscard]] virtual std::size_t output(std::span<std::byte> bytes) = 0;
};

/// Ours, with what a worker has.
class WeirServer final : public Server {
 public:
  explicit WeirServer(ServerContext& context) : context_{context} {}
  void begin() override { session_.emplace(std::move(*Session::accept(context_))); }
  void input(std::span<const std::byte> bytes) override {
    session_->feed(bytes);
    if (!session_->handshake_done()) static_cast<void>(session_->handshake());
  }
  std::size_t output(std::span<std::byte> bytes) override {
    const auto from = session_->output();
    const std::size_t count = std::min(from.size(), bytes.size());
    std::copy_n(from.begin(), count, bytes.begin());
    session_->consume_output(count);
    return count;
  }

 private:
  ServerContext& context_;
  std::optional<Session> session_;
};

/// One SSL_CTX with one certificate and OpenSSL's own memory BIOs and ticket keys.
class BareServer final : public Server {
 public:
  explicit BareServer(const std::string& file) : context_{SSL_CTX_new(TLS_server_method())} {
    SSL_CTX* const ctx = context_.get();
    WEIR_ASSERT(SSL_CTX_use_certificate_chain_file(ctx, file.c_str()) == 1 &&
                SSL_CTX_use_PrivateKey_file(ctx, file.c_str(), SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);  // as ours
    SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>("bench"), 5);
  }
  void begin() override {
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl_.get());
  }
  void input(std::span<const std::byte> bytes) override {
    BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
    if (SSL_is_init_finished(ssl_.get()) == 0) SSL_do_handshake(ssl_.get());
    ERR_clear_error();
  }
  std::size_t output(std::span<std::byte> bytes) override {
    BIO* const bio = SSL_get_wbio(ssl_.get());
    const int count = BIO_read(bio, bytes.data(), static_cast<int>(bytes.size()));
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }

 private:
  UniqueContext context_;
  UniqueSsl ssl_;
};

/// One handshake; the time that the server took. The client has its tickets afterwards.
Seconds shake_hands(Server& server, MemoryClient& client) {
  Seconds spent{};
  std::array<std::byte, 16 * 1024> bytes;
  const auto timed = [&](const auto& action) {
    const auto start = Clock::now();
    action();
    spent += Clock::now() - start;
  };
  timed([&] { server.begin(); });
  for (int turn = 0; turn < 4; ++turn) {
    static_cast<void>(client.read());  // goes on with the handshake
    const int count = BIO_read(SSL_get_wbio(client.ssl()), bytes.data(), bytes.size());
    if (count <= 0) break;
    std::size_t answer = 0;
    timed([&] {
      server.input(std::span{bytes}.first(static_cast<std::size_t>(count)));
      answer = server.output(bytes);
    });
    BIO_write(SSL_get_rbio(client.ssl()), bytes.data(), static_cast<int>(answer));
  }
  static_cast<void>(client.read());
  WEIR_ASSERT(SSL_is_init_finished(client.ssl()) == 1);  // the benchmark is about those that work
  return spent;
}

struct Rates {
  double bare = 0;
  double weir = 0;
};

/// Both servers in turn, so that what else the machine does hits both.
Rates compare(Server& bare, Server& weir, int version, bool resumed, double seconds) {
  std::array<Seconds, 2> spent{};
  std::array<std::size_t, 2> count{};
  const std::array<Server*, 2> servers{&bare, &weir};
  std::array<SSL_SESSION*, 2> tickets{};
  const auto options = [&](SSL_SESSION* ticket) {
    return ClientOptions{.server_name = "a.example",
                         .min_version = version,
                         .max_version = version,
                         .resume = ticket};
  };
  for (std::size_t i = 0; i < 2; ++i) {
    MemoryClient client{options(nullptr)};
    shake_hands(*servers[i], client);
    client.close();  // OpenSSL does not resume what was cut off
    tickets[i] = client.session();
  }
  const Seconds end = Clock::now() + Seconds{seconds};
  while (Clock::now() < end)
    for (std::size_t i = 0; i < 2; ++i) {
      MemoryClient client{options(resumed ? tickets[i] : nullptr)};
      spent[i] += shake_hands(*servers[i], client);
      WEIR_ASSERT((SSL_session_reused(client.ssl()) == 1) == resumed);
      client.close();  // as above
      ++count[i];
    }
  for (SSL_SESSION* ticket : tickets)
    SSL_SESSION_free(ticket);
  const auto rate = [&](std::size_t i) { return static_cast<double>(count[i]) / spent[i].count(); };
  return {rate(0), rate(1)};
}

const char* name_of(int version) { return version == TLS1_3_VERSION ? "13" : "12"; }

std::size_t heap_bytes() { return ::mallinfo2().uordblks; }

std::size_t measure_idle(ServerContext& context, int version) {
  constexpr std::size_t kSessions = 1000;
  std::vector<Session> sessions;
  sessions.reserve(kSessions);
  const ClientOptions options{
      .server_name = "a.example", .min_version = version, .max_version = version};
  const std::size_t before = heap_bytes();
  for (std::size_t i = 0; i < kSessions; ++i) {
    MemoryClient client{options};
    sessions.push_back(std::move(*Session::accept(context)));
    Session& session = sessions.back();
    client.shake_hands(session);
    WEIR_ASSERT(client.write("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    client.carry(session);
    std::array<std::byte, 4096> bytes;
    while (session.read(bytes).count > 0) {
    }
    static_cast<void>(session.write(as_bytes(std::string_view{"HTTP/1.1 204 No Content\r\n\r\n"})));
    session.consume_output(session.output().size());
  }
  return (heap_bytes() - before) / kSessions;
}

struct Ready {
  ServerFiles files;
  std::unique_ptr<ServerContext> context;
  Seconds load;
  Seconds create;
};

Ready make_ready(const ServerOptions& options, CertificateStore& store, std::time_t now) {
  const auto start = Clock::now();
  auto files = ServerFiles::load(options, store, now);
  WEIR_ASSERT(files);
  const auto middle = Clock::now();
  auto context = ServerContext::create(*files, *Library::create());
  WEIR_ASSERT(context);
  const auto end = Clock::now();
  return {std::move(*files), std::make_unique<ServerContext>(std::move(*context)), middle - start,
          end - middle};
}

nlohmann::ordered_json measure_many(std::size_t count) {
  const TestFiles files;
  ServerOptions options;
  options.protocols = {"http/1.1"};
  for (std::size_t i = 0; i < count; ++i)
    options.certificates.push_back(files.pair(
        fmt::format("{}.pem", i),
        {.common_name = fmt::format("c{}", i), .names = {fmt::format("c{}.example", i)}}));
  const std::time_t later = std::time(nullptr) + 60;  // files of just now are read again each time
  CertificateStore store;
  const std::size_t before = heap_bytes();
  const Ready first_time = make_ready(options, store, later);
  nlohmann::ordered_json found{{"certificates", count},
                               {"load_s", first_time.load.count()},
                               {"create_s", first_time.create.count()},
                               {"bytes", heap_bytes() - before}};
  static_cast<void>(
      files.pair("7.pem", {.common_name = "c7", .names = {"c7.example"}, .serial = 2}));
  const Ready renewed = make_ready(options, store, later);
  WEIR_ASSERT(renewed.files.certificates()[7]->chain != first_time.files.certificates()[7]->chain);
  found["load_one_new_s"] = renewed.load.count();
  WeirServer server{*first_time.context};
  const std::size_t used = heap_bytes();
  Seconds first{};
  constexpr std::size_t kAsked = 200;
  for (std::size_t i = 0; i < kAsked; ++i) {
    MemoryClient client{{.server_name = fmt::format("c{}.example", count - 1 - i)}};
    first += shake_hands(server, client);
  }
  found["first_handshake_us"] = first.count() * 1e6 / kAsked;
  found["bytes_after_it"] = (heap_bytes() - used) / kAsked;
  return found;
}

void run(double seconds, std::size_t certificates) {
  const TestFiles files;
  const auto pair = files.pair("a.pem", {.names = {"a.example"}});
  auto context = ServerContext::create({.certificates = {pair}, .protocols = {"http/1.1"}});
  WEIR_ASSERT(context);
  const auto keys = TicketKeyFile::open(files.path("keys"), 1000);
  WEIR_ASSERT(keys);
  context->use_ticket_keys(&keys->keys());
  BareServer bare{pair.certificate_file};
  WeirServer weir{*context};
  nlohmann::ordered_json found;
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
    for (const bool resumed : {false, true}) {
      const Rates rates = compare(bare, weir, version, resumed, seconds);
      found["rates"][fmt::format("{}_{}", resumed ? "resumed" : "full", name_of(version))] = {
          {"bare", rates.bare}, {"weir", rates.weir}};
    }
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
    found["idle_bytes"][name_of(version)] = measure_idle(*context, version);
  found.update(measure_many(certificates));
  fmt::print("{}\n", found.dump(1));
}

}  // namespace
}  // namespace weir::tls

int main(int argc, char** argv) {
  double seconds = 3;
  std::size_t certificates = 10'000;
  const auto read = [&](int index, auto& into) {
    if (argc <= index) return true;
    const std::string_view text{argv[index]};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc{} && end == text.data() + text.size();
  };
  if (!read(1, seconds) || !read(2, certificates) || certificates < 200) {
    fmt::print(stderr, "usage: tls_bench [seconds per row] [certificates, 200 or more]\n");
    return 2;
  }
  weir::tls::run(seconds, certificates);
  return 0;
}
