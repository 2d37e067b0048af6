#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l7/tls/ticket_keys.h"

namespace weir::tls {

using Sha256 = std::array<unsigned char, 32>;

/// What is wanted of clients that ask for a name. "" covers every name, "*.x" those below x; the
/// most specific one holds.
struct ClientPolicy {
  std::string hostname;
  control::ClientValidation validation;
};

struct ServerOptions {
  std::vector<control::CertificateRef> certificates;  ///< the first is the default
  control::TlsVersion min_version{};
  std::vector<std::string> protocols{};  ///< ALPN, in order of preference: {"http/1.1"}
  std::vector<ClientPolicy> policies{};  ///< names of which there is none: no client certificate
};

/// One certificate as a person knows it, for status output.
struct CertificateSummary {
  std::string file;
  std::string subject;             ///< "CN=shop.example,O=Shop"
  std::vector<std::string> names;  ///< DNS names it is chosen for, lower case
  std::string key_type;            ///< "RSA", "EC", "ED25519"
  std::int64_t not_after = 0;      ///< seconds since 1970; the last moment of its life
  Sha256 chain{};                  ///< of it and what leads to its authority
  Sha256 ocsp{};                   ///< of the response that is stapled; zero without one
};

/// Certificates that are in use, with their keys. One whose files are as they were is not read
/// again: the next configuration, and other listeners, share it. For one thread at a time.
class CertificateStore {
 public:
  CertificateStore();
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;
  ~CertificateStore();

  /// Those that no ServerFiles has any more. They are gone from memory before; this forgets that
  /// they were there.
  void forget_unused();

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

/// The certificates of one TLS listener, read and checked, in memory: immutable, and shared by the
/// contexts of all workers, none of which touches a file. Ten thousand with EC keys are some 20 MB;
/// what OpenSSL needs of one is made by each worker when a client first asks for it.
class ServerFiles {
 public:
  /// Reads and checks every file: readable, a certificate chain, a key that fits it. One that has
  /// expired is said in the log, and used.
  /// An encrypted key is refused: nobody is there to type its passphrase.
  [[nodiscard]] static Result<ServerFiles> load(const ServerOptions& options,
                                                CertificateStore& store,
                                                std::time_t now = std::time(nullptr));

  /// In the order of ServerOptions::certificates; they live as long as this.
  [[nodiscard]] std::vector<const CertificateSummary*> certificates() const;
  /// Whether the certificate that a client is shown who asks for this name is for it.
  [[nodiscard]] bool serves(std::string_view name) const;

  struct Content;
  [[nodiscard]] const std::shared_ptr<const Content>& content() const { return content_; }

 private:
  explicit ServerFiles(std::shared_ptr<const Content> content) : content_{std::move(content)} {}
  std::shared_ptr<const Content> content_;
};

/// The part of OpenSSL that one core uses, so that cores share no locks (OpenSSL 3.0 takes some in
/// shared library contexts). Contexts hold on to it.
class Library {
 public:
  [[nodiscard]] static Result<Library> create();

  /// The calling thread has used it and will not again. To be called before another thread destroys
  /// it: the library keeps clean-up work for each thread, which would meet freed memory when the
  /// thread ends (OPENSSL_thread_stop_ex(3)).
  void leave_thread() const;

  struct State;
  [[nodiscard]] const std::shared_ptr<State>& state() const { return state_; }

 private:
  explicit Library(std::shared_ptr<State> state) : state_{std::move(state)} {}
  std::shared_ptr<State> state_;
};

/// One TLS listener on one core. The certificate is chosen per connection by SNI among the subject
/// alternative names, exact before wildcard, then the default. Must outlive its sessions.
class ServerContext {
 public:
  [[nodiscard]] static Result<ServerContext> create(const ServerFiles& files, Library library);
  /// Files and library of its own.
  [[nodiscard]] static Result<ServerContext> create(const ServerOptions& options);
  ServerContext(ServerContext&&) noexcept;
  ServerContext& operator=(ServerContext&&) noexcept;
  ~ServerContext();

  /// Tickets are sealed with these from now on; they outlive the context and may change. Before
  /// that, with keys that nobody else knows.
  void use_ticket_keys(const TicketKeySet* keys);

  /// As Library's, of whose contexts this is.
  void leave_thread();

  /// Certificates that OpenSSL has been given so far, by names.
  [[nodiscard]] std::size_t groups_in_use() const;

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  explicit ServerContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// What services that trust the same authorities are spoken to with, on one core. Must outlive its
/// sessions.
class ClientContext {
 public:
  /// Reads the CA file, or the system's. The name belongs to the session, not to the context.
  [[nodiscard]] static Result<ClientContext> create(const control::UpstreamTls& options,
                                                    const std::vector<std::string>& protocols,
                                                    Library library);
  ClientContext(ClientContext&&) noexcept;
  ClientContext& operator=(ClientContext&&) noexcept;
  ~ClientContext();

  struct State;
  [[nodiscard]] const State& state() const { return *state_; }

 private:
  explicit ClientContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::tls
