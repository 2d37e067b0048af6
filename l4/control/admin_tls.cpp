#include "l4/control/admin_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <limits>

namespace weir::control {
namespace {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using Session = std::unique_ptr<SSL, Freed<SSL_free>>;

/// The oldest error of this thread's queue in words, and the queue empty.
std::string openssl_words() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "the connection ended";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("OpenSSL error {:#x}", code);
}

Error file_error(std::string_view option, const std::string& file, std::string remedy) {
  return Error{ErrorCode::kInvalid, fmt::format("{} {}: {}", option, file, openssl_words()),
               std::move(remedy)};
}

class TlsChannel : public AdminChannel {
 public:
  TlsChannel(Session session, int fd) : session_{std::move(session)}, fd_{fd} {}

  Result<void> shake_hands(Instant deadline) {
    for (;;) {  // ends with the deadline
      ERR_clear_error();
      const int result = SSL_accept(session_.get());
      if (result == 1) return {};
      if (monotonic_now() >= deadline || !wait(result, deadline)) {
        return Error{ErrorCode::kDenied, fmt::format("TLS handshake: {}", openssl_words())};
      }
    }
  }

  ssize_t read_some(std::span<char> into, Instant deadline) override {
    for (;;) {  // ends with the deadline
      ERR_clear_error();
      const int result = SSL_read(session_.get(), into.data(), int_of(into.size()));
      if (result > 0) return result;
      if (SSL_get_error(session_.get(), result) == SSL_ERROR_ZERO_RETURN) return 0;
      if (monotonic_now() >= deadline || !wait(result, deadline)) return -1;
    }
  }

  bool write_all(std::string_view bytes, Instant deadline) override {
    while (!bytes.empty()) {
      ERR_clear_error();
      const int result = SSL_write(session_.get(), bytes.data(), int_of(bytes.size()));
      if (result > 0) {
        bytes.remove_prefix(static_cast<std::size_t>(result));
      } else if (monotonic_now() >= deadline || !wait(result, deadline)) {
        return false;
      }
    }
    return true;
  }

  void end_writing(Instant deadline) override {
    ERR_clear_error();
    const int result = SSL_shutdown(session_.get());
    if (result < 0 && wait(result, deadline)) SSL_shutdown(session_.get());
    ERR_clear_error();
    ::shutdown(fd_, SHUT_WR);
  }

  [[nodiscard]] X509* peer_certificate() const { return SSL_get0_peer_certificate(session_.get()); }

 private:
  static int int_of(std::size_t size) {
    return static_cast<int>(std::min<std::size_t>(size, std::numeric_limits<int>::max()));
  }

  /// Until the socket is ready for what OpenSSL wants of it. False where it wants nothing more.
  [[nodiscard]] bool wait(int result, Instant deadline) const {
    switch (SSL_get_error(session_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return wait_for_socket(fd_, POLLIN, deadline);
      case SSL_ERROR_WANT_WRITE:
        return wait_for_socket(fd_, POLLOUT, deadline);
      default:
        return false;
    }
  }

  Session session_;
  int fd_;
};

/// For the person who reads why a client was refused.
std::string common_name(X509* certificate) {
  std::array<char, 128> name{};
  const int length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                               name.data(), static_cast<int>(name.size()));
  return length > 0 ? std::string{name.data(), static_cast<std::size_t>(length)} : "without a name";
}

Result<void> load_files(SSL_CTX* context, const AdminTlsOptions& options) {
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1)
    return file_error("--tls-cert", options.certificate_file, "name a PEM file with a certificate");
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error("--tls-key", options.key_file,
                      "name a PEM file with the key of that certificate, readable for the daemon");
  if (SSL_CTX_load_verify_file(context, options.client_ca_file.c_str()) != 1)
    return file_error("--tls-client-ca", options.client_ca_file,
                      "name a PEM file with the certificate of the authority of your clients");
  STACK_OF(X509_NAME)* authorities = SSL_load_client_CA_file(options.client_ca_file.c_str());
  if (authorities == nullptr)
    return file_error("--tls-client-ca", options.client_ca_file, "it has no certificate");
  SSL_CTX_set_client_CA_list(context, authorities);  // takes it
  return {};
}

}  // namespace

struct AdminTls::Impl {
  Context context;
  std::vector<std::string> allow;
};

AdminTls::AdminTls(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
AdminTls::AdminTls(AdminTls&&) noexcept = default;
AdminTls& AdminTls::operator=(AdminTls&&) noexcept = default;
AdminTls::~AdminTls() = default;

Result<AdminTls> AdminTls::open(const AdminTlsOptions& options) {
  if (options.certificate_file.empty() || options.key_file.empty() ||
      options.client_ca_file.empty()) {
    return Error{ErrorCode::kInvalid, "TCP is served only where both sides show certificates",
                 "give --listen, --tls-cert, --tls-key and --tls-client-ca, all four"};
  }
  Context context{SSL_CTX_new(TLS_server_method())};
  if (!context) return Error{ErrorCode::kInternal, openssl_words()};
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  // No session outlives its connection: each one shows its certificate to the authority of today.
  SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                         SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  if (Result<void> loaded = load_files(context.get(), options); !loaded)
    return std::move(loaded).error();
  return AdminTls{std::make_unique<Impl>(Impl{std::move(context), options.allow})};
}

Result<std::unique_ptr<AdminChannel>> AdminTls::accept(int fd, Instant deadline) const {
  Session session{SSL_new(impl_->context.get())};
  if (!session || SSL_set_fd(session.get(), fd) != 1)
    return Error{ErrorCode::kInternal, openssl_words()};
  auto channel = std::make_unique<TlsChannel>(std::move(session), fd);
  if (Result<void> done = channel->shake_hands(deadline); !done) return std::move(done).error();
  return std::unique_ptr<AdminChannel>{std::move(channel)};
}

std::optional<std::string> AdminTls::refused_name(const AdminChannel& channel) const {
  if (impl_->allow.empty()) return std::nullopt;
  // Every channel of accept() is one of these.
  X509* certificate = static_cast<const TlsChannel&>(channel).peer_certificate();
  constexpr unsigned kFlags = X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS;
  for (const std::string& name : impl_->allow) {
    if (X509_check_host(certificate, name.c_str(), name.size(), kFlags, nullptr) == 1)
      return std::nullopt;
  }
  return common_name(certificate);
}

}  // namespace weir::control
