#pragma once

#include <openssl/bio.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "l4/base/bytes.h"
#include "l7/tls/context.h"
#include "l7/tls/pem.h"
#include "l7/tls/session.h"
#include "tests/l7/proxy/core_fixture.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::proxy {

/// OpenSSL's client on a connection of the world.
class TlsClient {
 public:
  TlsClient(ProxyWorld& world, std::string server_name)
      : TlsClient{world, tls::testing::ClientOptions{.server_name = std::move(server_name)}} {}
  TlsClient(ProxyWorld& world, const tls::testing::ClientOptions& options)
      : world_{world}, peer_{world.connect(443)}, client_{options} {}

  /// Lets time pass and carries records both ways meanwhile.
  void run_for(Duration duration) {
    for (const Instant end = world_.now() + duration; world_.now() < end;) {
      carry();
      world_.run_for(1ms);
    }
    carry();
  }
  [[nodiscard]] bool send(std::string_view text) { return client_.write(text); }
  void close() { client_.close(); }
  [[nodiscard]] Peer& peer() { return peer_; }
  [[nodiscard]] bool handshake_done() const { return SSL_is_init_finished(client_.ssl()) == 1; }
  [[nodiscard]] bool saw_close() const { return client_.saw_close(); }
  [[nodiscard]] bool resumed() const { return SSL_session_reused(client_.ssl()) == 1; }
  [[nodiscard]] SSL_SESSION* session() const { return client_.session(); }
  /// The common name of the certificate that was presented.
  [[nodiscard]] std::string presented() const {
    const tls::UniqueCertificate certificate{SSL_get1_peer_certificate(client_.ssl())};
    return certificate ? tls::common_name(certificate.get()) : "";
  }
  std::string received;

 private:
  void carry() {
    const std::string_view arrived = std::string_view{peer_.received}.substr(peer_.handled);
    if (!arrived.empty())
      BIO_write(SSL_get_rbio(client_.ssl()), arrived.data(), static_cast<int>(arrived.size()));
    peer_.handled = peer_.received.size();
    received += client_.read();  // goes on with the handshake, too
    std::array<char, 4096> records{};
    BIO* const out = SSL_get_wbio(client_.ssl());
    for (int count = 0; (count = BIO_read(out, records.data(), records.size())) > 0;)
      peer_.send({records.data(), static_cast<std::size_t>(count)});
  }

  ProxyWorld& world_;
  Peer& peer_;
  tls::testing::MemoryClient client_;
};

/// A backend's TLS on the connections of one port: decrypts requests, and answers each with kOk.
class TlsBackend {
 public:
  TlsBackend(const control::CertificateRef& certificate)
      : context_{std::move(*tls::ServerContext::create(
            tls::ServerOptions{.certificates = {certificate}, .protocols = {"http/1.1"}}))} {}

  [[nodiscard]] testing::Handler handler() {
    return [this](Peer& peer) { serve(peer); };
  }
  std::string requests;  ///< in the clear
  std::size_t handshakes = 0;

 private:
  void serve(Peer& peer) {
    auto [place, is_new] = sessions_.try_emplace(&peer, nullptr);
    if (is_new)
      place->second = std::make_unique<tls::Session>(std::move(*tls::Session::accept(context_)));
    tls::Session& session = *place->second;
    session.feed(as_bytes(std::string_view{peer.received}.substr(peer.handled)));
    peer.handled = peer.received.size();
    const bool was_done = session.handshake_done();
    if (!was_done && session.handshake() == tls::SessionStatus::kOk) ++handshakes;
    std::array<std::byte, 4096> bytes;
    while (session.handshake_done()) {
      const auto [status, count] = session.read(bytes);
      if (count == 0) break;
      requests += as_text(std::span{bytes}.first(count));
      if (requests.ends_with("\r\n\r\n")) static_cast<void>(session.write(as_bytes(kOk)));
    }
    peer.send(as_text(session.output()));
    session.consume_output(session.output().size());
  }

  tls::ServerContext context_;
  std::map<Peer*, std::unique_ptr<tls::Session>> sessions_;
};

}  // namespace weir::proxy
