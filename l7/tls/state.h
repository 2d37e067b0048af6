#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "l7/tls/context.h"
#include "l7/tls/openssl.h"
#include "l7/tls/pair.h"
#include "l7/tls/pem.h"

/// Inside of l7/tls only: what the classes of context.h hold.
namespace weir::tls {

/// What changes when a file does: its content, or another file in its place.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t number = 0;
  std::int64_t size = 0;
  std::int64_t changed_s = 0;  // seconds since 1970
  std::int64_t changed_ns = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

/// One pair of files.
struct CertificateEntry {
  CertificateSummary summary;        // its names are sorted
  std::vector<FileStamp> stamps;     // from before they were read; empty: they are to be read again
  std::string leaf;                  // DER
  std::vector<std::string> issuers;  // DER
  SecretBytes key;                   // DER, as d2i_AutoPrivateKey() takes it
  std::size_t kind = 0;
  std::vector<std::string> addresses;  // sorted
  std::string display_name;
  OcspResponse ocsp;  // empty: none
};

/// The certificates that are there for one name.
struct NameGroup {
  std::array<std::uint32_t, kKeyKinds> entries{};  // index plus one; 0: none of that kind
  // What all of them are good for. Nothing where they name nobody at all: then anybody is served.
  std::vector<std::string> names;
  std::vector<std::string> addresses;
  Sha256 identity{};  // of what a ticket may not leave: the names

  [[nodiscard]] bool covers(std::string_view host) const;
};

struct PolicyEntry {
  ClientPolicy policy;
  std::vector<std::string> authorities;  // DER
  Sha256 identity{};                     // of mode and authorities
};

struct ServerFiles::Content {
  ServerOptions options;
  std::string protocols;  // ALPN wire format (RFC 7301, section 3.1), in our order
  std::vector<std::shared_ptr<const CertificateEntry>> entries;
  std::vector<NameGroup> groups;                                // the first is the default
  std::map<std::string, std::uint32_t, std::less<>> exact;      // "a.example" to group
  std::map<std::string, std::uint32_t, std::less<>> wildcards;  // ".example" to group
  std::vector<PolicyEntry> policies;  // the first asks for nothing and is for what no other covers

  /// For a lower-case name: exact, then wildcard, then the default.
  [[nodiscard]] std::uint32_t group_for(std::string_view name) const;
  [[nodiscard]] std::uint32_t policy_for(std::string_view name) const;
};

struct CertificateStore::State {
  struct Order {
    bool operator()(const control::CertificateRef& a, const control::CertificateRef& b) const {
      return std::tie(a.certificate_file, a.key_file, a.ocsp_file) <
             std::tie(b.certificate_file, b.key_file, b.ocsp_file);
    }
  };
  std::map<control::CertificateRef, std::weak_ptr<const CertificateEntry>, Order> entries;
};

struct Library::State {
  UniqueLibrary library;
};

/// What OpenSSL needs of a NameGroup.
struct LoadedGroup {
  UniqueContext context;
  struct Loaded {
    UniqueCertificate certificate;  // the one that SSL_get_certificate() returns
    std::uint32_t entry = 0;
  };
  std::vector<Loaded> certificates;
};

struct ServerContext::State {
  std::shared_ptr<Library::State> library;  // first: everything below was made in it
  std::shared_ptr<const ServerFiles::Content> files;
  UniqueContext entrance;           // where every session begins, before its name is known
  std::vector<LoadedGroup> groups;  // by NameGroup; without a context until they are asked for
  std::vector<UniqueStore> stores;  // by PolicyEntry; none for the first
  std::vector<UniqueNames> authority_names;
  const TicketKeySet* ticket_keys = nullptr;
  UniqueCipher ticket_cipher;
  UniqueDigest sha256;
  UniqueDigestState digest_state;

  [[nodiscard]] SSL_CTX* context_of(std::uint32_t group);
  [[nodiscard]] const CertificateEntry* entry_of(const SSL* ssl) const;
};

struct ClientContext::State {
  std::shared_ptr<Library::State> library;
  UniqueContext context;
  control::Verification verification{};
};

/// What the callbacks of OpenSSL find out about a session; its address is the SSL's app data.
struct SessionFacts {
  std::uint32_t group = 0;
  std::uint32_t policy = 0;
};

/// Everything that servers and clients of ours have in common.
Result<UniqueContext> make_base_context(OSSL_LIB_CTX* library, const SSL_METHOD* method);
Result<std::string> alpn_wire_format(const std::vector<std::string>& protocols);
/// A store that trusts these certificates, roots or not.
UniqueStore make_store(OSSL_LIB_CTX* library, const std::vector<std::string>& authorities);
/// Whether a name of a certificate, "*.x" included, covers a lower-case host.
bool has_name(const std::vector<std::string>& sorted_names, std::string_view host);

}  // namespace weir::tls
