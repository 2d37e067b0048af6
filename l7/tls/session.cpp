#include "l7/tls/session.h"

#include <fmt/format.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/tls/state.h"

namespace weir::tls {

namespace {

/// From here on nothing more is encrypted until the owner has drained some.
constexpr std::size_t kOutputLimit = 64 * 1024;
/// Plaintext of one record (RFC 8446, section 5.1).
constexpr std::size_t kRecordBytes = 16 * 1024;
/// An idle connection keeps no larger buffers than this.
constexpr std::size_t kIdleBufferBytes = 4 * 1024;

/// Bytes in at the back, out at the front.
class ByteQueue {
 public:
  [[nodiscard]] std::span<const std::byte> front() const {
    return std::span{bytes_}.subspan(begin_);
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size() - begin_; }
  void append(std::span<const std::byte> bytes) {
    // What was consumed is dropped before the queue would grow, at most once per half of it.
    if (begin_ > bytes_.size() / 2) {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin_));
      begin_ = 0;
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void consume(std::size_t count) {
    WEIR_ASSERT(count <= size());
    begin_ += count;
    if (begin_ < bytes_.size()) return;
    begin_ = 0;
    bytes_.clear();
    if (bytes_.capacity() > kIdleBufferBytes) bytes_ = std::vector<std::byte>{};
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t begin_ = 0;
};

/// What OpenSSL sees as its network.
struct Wire {
  ByteQueue input;
  ByteQueue output;
};

Wire& wire_of(BIO* bio) { return *static_cast<Wire*>(BIO_get_data(bio)); }

int read_wire(BIO* bio, char* out, std::size_t size, std::size_t* count) {
  BIO_clear_retry_flags(bio);
  ByteQueue& input = wire_of(bio).input;
  *count = std::min(size, input.size());
  if (*count == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  std::memcpy(out, input.front().data(), *count);
  input.consume(*count);
  return 1;
}

int write_wire(BIO* bio, const char* data, std::size_t size, std::size_t* count) {
  BIO_clear_retry_flags(bio);
  ByteQueue& output = wire_of(bio).output;
  *count = 0;
  // A peer that asks for answers (key updates) and does not read them must not fill our memory.
  if (output.size() >= kOutputLimit) {
    BIO_set_retry_write(bio);
    return 0;
  }
  output.append(std::as_bytes(std::span{data, size}));
  *count = size;
  return 1;
}

long control_wire(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

/// One for the process: it holds four function pointers and is never changed.
const BIO_METHOD* wire_method() {
  static const UniqueBioMethod method = [] {
    UniqueBioMethod made{BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir wire")};
    if (made) {
      BIO_meth_set_read_ex(made.get(), read_wire);
      BIO_meth_set_write_ex(made.get(), write_wire);
      BIO_meth_set_ctrl(made.get(), control_wire);
    }
    return made;
  }();
  return method.get();
}

}  // namespace

struct Session::State {
  ServerContext::State* server = nullptr;  // none: we are the client
  Wire wire;
  SessionFacts facts;
  UniqueSsl ssl;         // after `wire` and `facts`: freed before them
  bool done = false;     // the handshake is
  bool starved = false;  // nothing to read until more is fed
  std::string failure;
  std::string_view reason;  // a text that lives as long as the process
  std::string certificate_text;
  std::string subject;
  std::optional<ClientIdentity> client;

  /// Before an SSL call, whose outcome SSL_get_error() reads from the queue of errors. To empty one
  /// that is empty costs OpenSSL 3.0 some forty calls.
  static void forget_errors() {
    if (ERR_peek_error() != 0) ERR_clear_error();
  }
  /// What the return value of an SSL call means for the owner.
  SessionStatus status_of(int outcome, std::string_view doing);
  SessionStatus fail(std::string_view doing, std::string_view why);
  [[nodiscard]] bool start(OSSL_LIB_CTX* library, SSL_CTX* context);
  [[nodiscard]] SessionStatus finish_handshake();
};

SessionStatus Session::State::fail(std::string_view doing, std::string_view why) {
  reason = why;
  failure = fmt::format("{}: {}", doing, why);
  return SessionStatus::kFailed;
}

SessionStatus Session::State::status_of(int outcome, std::string_view doing) {
  if (outcome == 1) return SessionStatus::kOk;
  switch (SSL_get_error(ssl.get(), outcome)) {
    case SSL_ERROR_WANT_READ:
      return SessionStatus::kWantInput;
    case SSL_ERROR_WANT_WRITE:
      return SessionStatus::kWantOutput;
    case SSL_ERROR_ZERO_RETURN:
      return SessionStatus::kClosed;
    default:
      break;
  }
  const bool is_verdict = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
  const std::string_view queued = take_openssl_reason();
  if (!is_verdict) return fail(doing, queued);
  // "certificate verify failed" is what everybody says; why is what helps.
  return fail(doing, X509_verify_cert_error_string(SSL_get_verify_result(ssl.get())));
}

bool Session::State::start(OSSL_LIB_CTX* library, SSL_CTX* context) {
  ssl.reset(SSL_new(context));
  BIO* const bio = BIO_new_ex(library, wire_method());
  if (!ssl || bio == nullptr) {
    BIO_free(bio);
    return false;
  }
  BIO_set_data(bio, &wire);  // the state never moves: it is on the heap
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);  // owns it now, once for both directions
  SSL_set_app_data(ssl.get(), &facts);
  return true;
}

namespace {

Error start_error() {
  return Error{ErrorCode::kUnavailable,
               fmt::format("starting a TLS session: {}", take_openssl_reason())};
}

/// In a header field it must be nothing but printable ASCII (RFC 9110, section 5.5).
std::string printable(std::string text) {
  for (char& c : text)
    if (c < 0x20 || c > 0x7e) c = '?';
  return text;
}

/// RFC 9440, section 2.1: a byte sequence of structured fields.
std::string header_text(std::string_view der) {
  std::string text(2 + (der.size() + 2) / 3 * 4 + 1, ':');  // with the NUL that OpenSSL writes
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()) + 1,   // chars as bytes
                  reinterpret_cast<const unsigned char*>(der.data()),  // likewise
                  static_cast<int>(der.size()));
  text.pop_back();
  text.back() = ':';
  return text;
}

/// A name to send and to look for, or an address to look for (RFC 6066, section 3: never sent).
bool expect_name(SSL* ssl, const std::string& name, control::Verification verification) {
  X509_VERIFY_PARAM* const expected = SSL_get0_param(ssl);
  const bool verifies = verification == control::Verification::kFull;
  if (wire::IpAddress::parse(name))
    return !verifies || X509_VERIFY_PARAM_set1_ip_asc(expected, name.c_str()) == 1;
  // What SSL_set_tlsext_host_name() says with a C cast; the text is copied.
  if (SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
               const_cast<char*>(name.c_str())) != 1)
    return false;
  X509_VERIFY_PARAM_set_hostflags(
      expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return !verifies || X509_VERIFY_PARAM_set1_host(expected, name.data(), name.size()) == 1;
}

}  // namespace

SessionStatus Session::State::finish_handshake() {
  X509* const certificate = server == nullptr ? nullptr : SSL_get0_peer_certificate(ssl.get());
  if (certificate == nullptr || client) return SessionStatus::kOk;
  // A ticket must not make a certificate live longer than it says.
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
    return fail("TLS handshake", "the client's certificate has expired since its ticket was made");
  constexpr std::size_t kCertificateBytesMax = 8 * 1024;  // it goes into a header field
  const std::string der = der_of(certificate);
  if (der.empty() || der.size() > kCertificateBytesMax)
    return fail("TLS handshake", "the client's certificate is larger than 8 KiB");
  certificate_text = header_text(der);
  subject = printable(subject_text(certificate));
  client = {certificate_text, subject};
  return SessionStatus::kOk;
}

Session::Session(std::unique_ptr<State> state) : state_{std::move(state)} {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::accept(ServerContext& context) {
  auto state = std::make_unique<State>();
  ServerContext::State& server = context.state();
  state->server = &server;
  if (!state->start(server.library->library.get(), server.entrance.get())) return start_error();
  SSL_set_accept_state(state->ssl.get());
  return Session{std::move(state)};
}

Result<Session> Session::connect(const ClientContext& context, const std::string& name) {
  auto state = std::make_unique<State>();
  const ClientContext::State& client = context.state();
  if (!state->start(client.library->library.get(), client.context.get()) ||
      !expect_name(state->ssl.get(), name, client.verification))
    return start_error();
  SSL_set_connect_state(state->ssl.get());
  return Session{std::move(state)};
}

void Session::feed(std::span<const std::byte> encrypted) {
  state_->wire.input.append(encrypted);
  state_->starved = false;
}

SessionStatus Session::handshake() {
  if (!state_->failure.empty()) return SessionStatus::kFailed;
  State::forget_errors();
  const SessionStatus status =
      state_->status_of(SSL_do_handshake(state_->ssl.get()), "TLS handshake");
  if (status != SessionStatus::kOk) return status;
  state_->done = true;
  return state_->finish_handshake();
}

bool Session::handshake_done() const { return state_->done; }

Session::ReadResult Session::read(std::span<std::byte> out) {
  if (!state_->failure.empty()) return {SessionStatus::kFailed, 0};
  WEIR_ASSERT(!out.empty());  // OpenSSL would answer 0, which reads like an end
  if (state_->starved) return {SessionStatus::kWantInput, 0};
  State::forget_errors();
  SSL* const ssl = state_->ssl.get();
  std::size_t count = 0;
  const SessionStatus status = state_->status_of(SSL_read_ex(ssl, out.data(), out.size(), &count),
                                                 "TLS record from the peer");
  // A record was all that there was: nobody needs to ask OpenSSL to find that out.
  const bool has_more =
      state_->wire.input.size() > 0 || SSL_has_pending(ssl) == 1 || SSL_get_shutdown(ssl) != 0;
  state_->starved =
      status == SessionStatus::kWantInput || (status == SessionStatus::kOk && !has_more);
  return {status, count};
}

std::size_t Session::write(std::span<const std::byte> plain) {
  std::size_t taken = 0;
  if (!state_->failure.empty() || !handshake_done()) return 0;
  // The limit is looked at before a record is made, never while: OpenSSL would insist on being
  // given the same bytes again.
  while (taken < plain.size() && state_->wire.output.size() < kOutputLimit) {
    const auto piece = plain.subspan(taken, std::min(kRecordBytes, plain.size() - taken));
    std::size_t count = 0;
    State::forget_errors();
    const int outcome = SSL_write_ex(state_->ssl.get(), piece.data(), piece.size(), &count);
    const SessionStatus status = state_->status_of(outcome, "TLS record to the peer");
    if (status != SessionStatus::kOk) return taken;
    taken += count;
  }
  return taken;
}

void Session::close() {
  if (!state_->failure.empty() || !handshake_done()) return;
  State::forget_errors();
  // 0 means that the peer's close_notify is still out, which is not waited for.
  if (SSL_shutdown(state_->ssl.get()) < 0) ERR_clear_error();
}

std::span<const std::byte> Session::output() const { return state_->wire.output.front(); }

void Session::consume_output(std::size_t count) { state_->wire.output.consume(count); }

SessionInfo Session::info() const {
  const SSL* const ssl = state_->ssl.get();
  SessionInfo info;
  if (!handshake_done()) return info;
  info.version = SSL_get_version(ssl);
  info.cipher = SSL_get_cipher_name(ssl);
  const char* const server_name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (server_name != nullptr) info.server_name = server_name;
  if (state_->server != nullptr)
    if (const CertificateEntry* const entry = state_->server->entry_of(ssl); entry != nullptr)
      info.certificate = entry->display_name;
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  info.protocol = as_text(std::as_bytes(std::span{protocol, size}));
  info.resumed = SSL_session_reused(ssl) == 1;
  return info;
}

const std::optional<ClientIdentity>& Session::client() const { return state_->client; }

const control::ClientValidation& Session::client_validation() const {
  WEIR_ASSERT(state_->server != nullptr);  // only servers ask for certificates
  return state_->server->files->policies[state_->facts.policy].policy.validation;
}

bool Session::covers(std::string_view host) const {
  WEIR_ASSERT(state_->server != nullptr);  // as above
  return state_->server->files->groups[state_->facts.group].covers(host);
}

const std::string& Session::failure() const { return state_->failure; }

std::string_view Session::failure_reason() const { return state_->reason; }

}  // namespace weir::tls
