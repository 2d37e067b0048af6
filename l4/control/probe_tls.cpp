// The only file below l7 with OpenSSL: a probe of a backend's HTTPS is a client, and both planes'
// health checks stand here.
#include "l4/control/probe_tls.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <sys/stat.h>

#include <array>
#include <map>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/address.h"

namespace weir::control {
namespace {

struct FreeOpenSsl {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
  void operator()(SSL* session) const noexcept { SSL_free(session); }
};
using UniqueContext = std::unique_ptr<SSL_CTX, FreeOpenSsl>;
using UniqueSession = std::unique_ptr<SSL, FreeOpenSsl>;

/// Empties the thread's queue, so that a later call does not report this failure as its own.
std::string take_reason() {
  std::string reason = "unknown failure";
  if (const unsigned long error = ERR_peek_last_error(); error != 0) {
    const char* text = ERR_reason_error_string(error);
    reason = text != nullptr ? text : fmt::format("error {:#x}", error);
  }
  ERR_clear_error();
  return reason;
}

class TlsExchange final : public ProbeExchange {
 public:
  TlsExchange(UniqueSession session, std::unique_ptr<ProbeExchange> inner)
      : session_{std::move(session)}, inner_{std::move(inner)} {
    BIO* in = BIO_new(BIO_s_mem());
    BIO* out = BIO_new(BIO_s_mem());
    WEIR_ASSERT(in != nullptr && out != nullptr);  // fails without memory alone
    BIO_set_mem_eof_return(in, -1);                // an empty one is one to wait for
    SSL_set_bio(session_.get(), in, out);          // which owns both from here on
    SSL_set_connect_state(session_.get());
    // The ClientHello; nothing can be wrong with an answer yet.
    static_cast<void>(advance());
  }

  std::string take_output() override {
    BIO* out = SSL_get_wbio(session_.get());
    std::string bytes(BIO_ctrl_pending(out), '\0');
    if (bytes.empty()) return bytes;
    const int size = BIO_read(out, bytes.data(), static_cast<int>(bytes.size()));
    WEIR_ASSERT(size == static_cast<int>(bytes.size()));  // it is memory, and said how much
    return bytes;
  }

  std::optional<ProbeVerdict> on_bytes(std::span<const std::byte> bytes) override {
    const int size = static_cast<int>(bytes.size());
    WEIR_ASSERT(BIO_write(SSL_get_rbio(session_.get()), bytes.data(), size) == size);  // memory
    return advance();
  }

  ProbeVerdict on_end() override {
    if (SSL_is_init_finished(session_.get()) == 0)
      return {false, "the connection was closed within the TLS handshake"};
    return inner_->on_end();
  }

 private:
  std::optional<ProbeVerdict> advance() {
    if (SSL_is_init_finished(session_.get()) == 0) {
      const int done = SSL_do_handshake(session_.get());
      if (done != 1) return verdict_of(done);
      write(inner_->take_output());
    }
    for (std::array<std::byte, 4096> buffer;;) {
      const int size = SSL_read(session_.get(), buffer.data(), buffer.size());
      if (size <= 0) return verdict_of(size);
      auto verdict = inner_->on_bytes(std::span{buffer}.first(static_cast<std::size_t>(size)));
      if (verdict) return verdict;
      write(inner_->take_output());
    }
  }

  void write(const std::string& bytes) {
    if (bytes.empty()) return;
    // Into memory, which takes all of it; a failure shows in the reading that follows.
    static_cast<void>(SSL_write(session_.get(), bytes.data(), static_cast<int>(bytes.size())));
  }

  /// Of a call that did not go through; nothing where it only waits for more.
  std::optional<ProbeVerdict> verdict_of(int returned) {
    switch (SSL_get_error(session_.get(), returned)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return std::nullopt;
      case SSL_ERROR_ZERO_RETURN:  // close_notify
        return inner_->on_end();
      default:
        break;
    }
    const std::string reason = take_reason();
    if (const long verified = SSL_get_verify_result(session_.get()); verified != X509_V_OK) {
      const std::string_view text = X509_verify_cert_error_string(verified);
      return ProbeVerdict{false, text.starts_with("certificate")
                                     ? std::string{text}
                                     : fmt::format("certificate: {}", text)};
    }
    return ProbeVerdict{false, fmt::format("TLS: {}", reason)};
  }

  UniqueSession session_;
  std::unique_ptr<ProbeExchange> inner_;
};

Result<UniqueContext> make_context(bool verify, const std::string& ca_file) {
  UniqueContext context{SSL_CTX_new(TLS_client_method())};
  if (!context) return Error{ErrorCode::kInternal, fmt::format("TLS: {}", take_reason())};
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context.get(), verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  constexpr std::string_view kAlpn = "\x08http/1.1";  // RFC 7301, section 3.1
  const std::span<const std::byte> alpn = as_bytes(kAlpn);
  SSL_CTX_set_alpn_protos(context.get(),
                          reinterpret_cast<const unsigned char*>(alpn.data()),  // may alias
                          static_cast<unsigned>(alpn.size()));
  if (!verify) return context;
  const int loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(context.get())
                                     : SSL_CTX_load_verify_file(context.get(), ca_file.c_str());
  if (loaded == 1) return context;
  return Error{ErrorCode::kInvalid,
               fmt::format("trusted certificates in {}: {}",
                           ca_file.empty() ? "the system's directory" : ca_file, take_reason())};
}

/// The name, or the address, that the certificate must have (RFC 6125; RFC 2818, section 3.1).
Result<void> expect_name(SSL* session, const std::string& name) {
  if (const auto address = wire::IpAddress::parse(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name.c_str());
    return {};  // an address is no server name for SNI
  }
  // What the macro SSL_set_tlsext_host_name() does, without its old cast; the name is copied.
  if (SSL_ctrl(session, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
               const_cast<char*>(name.c_str())) == 1 &&
      SSL_set1_host(session, name.c_str()) == 1)
    return {};
  return Error{ErrorCode::kInvalid,
               fmt::format("'{}' is no name for TLS: {}", name, take_reason())};
}

/// When the file was written last, so that an exchanged one is read again.
std::pair<std::int64_t, std::int64_t> written_at(const std::string& path) {
  struct stat info {};
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return {};
  return {info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

}  // namespace

struct TlsProbes::State {
  struct Known {
    UniqueContext context;
    std::pair<std::int64_t, std::int64_t> written_at;
  };
  std::map<std::pair<bool, std::string>, Known> known;
};

TlsProbes::TlsProbes() : state_{std::make_unique<State>()} {}
TlsProbes::~TlsProbes() = default;

Result<std::unique_ptr<ProbeExchange>> TlsProbes::wrap(const TlsProbeOptions& options,
                                                       std::unique_ptr<ProbeExchange> inner) {
  // Files come and go with configurations; the few that are in use are read again.
  constexpr std::size_t kKnownMax = 64;
  if (state_->known.size() > kKnownMax) state_->known.clear();
  const std::string ca_file = options.verify ? options.ca_file : "";
  State::Known& known = state_->known[{options.verify, ca_file}];
  const auto written = written_at(ca_file);
  if (!known.context || known.written_at != written) {
    Result<UniqueContext> made = make_context(options.verify, ca_file);
    if (!made) return std::move(made).error();
    known = {*std::move(made), written};
  }
  UniqueSession session{SSL_new(known.context.get())};
  if (!session) return Error{ErrorCode::kUnavailable, fmt::format("TLS: {}", take_reason())};
  if (Result<void> named = expect_name(session.get(), options.name); !named)
    return std::move(named).error();
  return std::unique_ptr<ProbeExchange>{
      std::make_unique<TlsExchange>(std::move(session), std::move(inner))};
}

}  // namespace weir::control
