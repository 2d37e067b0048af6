#include "tests/l7/tls/memory_client.h"

#include <algorithm>
#include <array>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::tls::testing {

MemoryClient::MemoryClient(const ClientOptions& options)
    : context_{SSL_CTX_new(TLS_client_method())} {
  SSL_CTX* const ctx = context_.get();
  SSL_CTX_set_min_proto_version(ctx, options.min_version);
  SSL_CTX_set_max_proto_version(ctx, options.max_version);
  if (!options.signature_algorithms.empty())
    WEIR_ASSERT(SSL_CTX_set1_sigalgs_list(ctx, options.signature_algorithms.c_str()) == 1);
  if (!options.ciphers.empty())
    WEIR_ASSERT(SSL_CTX_set_cipher_list(ctx, options.ciphers.c_str()) == 1);
  if (options.certificate != nullptr)
    WEIR_ASSERT(SSL_CTX_use_certificate(ctx, options.certificate) == 1 &&
                SSL_CTX_use_PrivateKey(ctx, options.key) == 1);  // the test's own pair
  ssl_.reset(SSL_new(ctx));
  SSL* const ssl = ssl_.get();
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(ssl), -1);  // empty means later, not the end
  if (!options.server_name.empty())
    // What SSL_set_tlsext_host_name() says with a C cast; the text is copied.
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
             const_cast<char*>(options.server_name.c_str()));
  if (!options.protocols.empty())
    SSL_set_alpn_protos(ssl,
                        reinterpret_cast<const unsigned char*>(options.protocols.data()),  // bytes
                        static_cast<unsigned>(options.protocols.size()));
  if (options.wants_status)
    // What SSL_set_tlsext_status_type() says with a C cast.
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_STATUS_REQ_TYPE, TLSEXT_STATUSTYPE_ocsp, nullptr);
  if (options.resume != nullptr) SSL_set_session(ssl, options.resume);
  SSL_set_connect_state(ssl);
}

void MemoryClient::advance() {
  if (!failure_.empty()) return;
  ERR_clear_error();
  const int outcome = SSL_do_handshake(ssl_.get());
  if (outcome != 1 && SSL_get_error(ssl_.get(), outcome) == SSL_ERROR_SSL)
    failure_ = std::string{take_openssl_reason()};
}

bool MemoryClient::carry(Session& server, std::size_t piece) {
  bool moved = false;
  std::array<std::byte, 16 * 1024> bytes;
  BIO* const outgoing = SSL_get_wbio(ssl_.get());
  const int count =
      BIO_read(outgoing, bytes.data(), static_cast<int>(std::min(piece, bytes.size())));
  if (count > 0) {
    server.feed(std::span{bytes}.first(static_cast<std::size_t>(count)));
    moved = true;
  }
  const auto output = server.output();
  const std::size_t size = std::min({piece, output.size(), bytes.size()});
  if (size > 0) {
    BIO_write(SSL_get_rbio(ssl_.get()), output.data(), static_cast<int>(size));
    server.consume_output(size);
    moved = true;
  }
  return moved;
}

bool MemoryClient::shake_hands(Session& server, std::size_t piece) {
  // A handshake is a few thousand bytes, and a turn without progress ends it.
  for (int turn = 0; turn < 100'000; ++turn) {
    advance();
    if (!server.handshake_done()) static_cast<void>(server.handshake());
    if (!carry(server, piece)) break;
  }
  return failure_.empty() && SSL_is_init_finished(ssl_.get()) == 1 && server.handshake_done();
}

bool MemoryClient::write(std::string_view text) {
  return SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) ==
         static_cast<int>(text.size());
}

std::string MemoryClient::read() {
  std::string text;
  std::array<char, 16 * 1024> buffer;
  for (;;) {
    const int count = SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
    if (count <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  ERR_clear_error();
  return text;
}

std::string MemoryClient::status() const {
  const unsigned char* der = nullptr;
  const long size = SSL_ctrl(ssl_.get(), SSL_CTRL_GET_TLSEXT_STATUS_REQ_OCSP_RESP, 0, &der);
  if (size <= 0) return {};
  return std::string{as_text(std::as_bytes(std::span{der, static_cast<std::size_t>(size)}))};
}

bool MemoryClient::saw_close() const {
  return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
}

}  // namespace weir::tls::testing
