#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/result.h"
#include "l7/tls/context.h"

namespace weir::tls {

/// What was negotiated, for logs and routing. Views live as long as the session.
struct SessionInfo {
  std::string_view version;      ///< "TLSv1.3"
  std::string_view cipher;       ///< "TLS_AES_128_GCM_SHA256"
  std::string_view server_name;  ///< SNI as the client sent it; empty when it sent none
  std::string_view certificate;  ///< subject common name or first DNS name of the one presented
  std::string_view protocol;     ///< ALPN choice; empty when there was none
  bool resumed = false;
};

/// Who a client is, as its verified certificate says.
struct ClientIdentity {
  std::string_view certificate;  ///< DER in base64, between colons (RFC 9440, section 2.1)
  std::string_view subject;      ///< RFC 2253, printable ASCII
};

enum class SessionStatus {
  kOk,          ///< progress was made
  kWantInput,   ///< nothing more to do until the peer sends
  kWantOutput,  ///< output() must be drained first
  kClosed,      ///< the peer has sent close_notify
  kFailed,      ///< fatal: send what output() holds (an alert), then close
};

/// One TLS connection over bytes, of either side: it knows neither sockets nor clocks. The owner
/// feeds what arrived, drains what must leave, and in between shakes hands, reads and writes. Lives
/// on one core, with the context of that core.
class Session {
 public:
  [[nodiscard]] static Result<Session> accept(ServerContext& context);
  /// Towards a server that must show a certificate for `name`, a DNS name (which is sent as SNI) or
  /// an address, unless the context verifies nothing.
  [[nodiscard]] static Result<Session> connect(const ClientContext& context,
                                               const std::string& name);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// Bytes from the network. All are taken; the owner limits what it feeds (one burst at a time).
  void feed(std::span<const std::byte> encrypted);

  /// Goes on with the handshake. kOk once it is complete.
  [[nodiscard]] SessionStatus handshake();
  [[nodiscard]] bool handshake_done() const;

  struct ReadResult {
    SessionStatus status;
    std::size_t count;  ///< bytes put at the front of the caller's buffer
  };
  /// Decrypts into `out`.
  [[nodiscard]] ReadResult read(std::span<std::byte> out);

  /// Encrypts, at most until output() holds about 64 KiB, and says how many bytes were taken.
  [[nodiscard]] std::size_t write(std::span<const std::byte> plain);

  /// Queues close_notify.
  void close();

  /// Encrypted bytes that must leave, in one piece from the front; empty when there are none.
  [[nodiscard]] std::span<const std::byte> output() const;
  void consume_output(std::size_t count);

  [[nodiscard]] SessionInfo info() const;
  /// The certificate of the client, if it was asked for and has shown one.
  [[nodiscard]] const std::optional<ClientIdentity>& client() const;
  /// What was wanted of the client: of the policy that covers the name it has asked for.
  [[nodiscard]] const control::ClientValidation& client_validation() const;
  /// Whether the certificate that was presented is good for a host, in lower case, without a port.
  [[nodiscard]] bool covers(std::string_view host) const;

  /// The reason of kFailed in one line, for the log; empty otherwise.
  [[nodiscard]] const std::string& failure() const;
  /// The same without what was being done, and alive after the session.
  [[nodiscard]] std::string_view failure_reason() const;

 private:
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::tls
