#include "l7/tls/context.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>

#include "l4/base/bytes.h"
#include "l4/base/fd.h"
#include "l7/tls/openssl.h"

namespace weir::tls {

namespace {

/// Chains are a few KiB; a larger file is a mistake.
constexpr std::size_t kFileBytesMax = 1024 * 1024;
constexpr std::size_t kChainLengthMax = 16;

/// TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else.
constexpr const char* kTls12Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* kKeyExchangeGroups = "X25519:P-256:P-384";

/// The bytes of a file that may hold a private key: wiped before the memory is returned.
class SecretText {
 public:
  explicit SecretText(std::size_t size) : bytes_(size) {}
  SecretText(SecretText&&) = default;
  SecretText& operator=(SecretText&&) = delete;
  ~SecretText() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

  [[nodiscard]] std::span<char> space() { return bytes_; }
  /// A reader over the bytes, which must outlive it.
  [[nodiscard]] UniqueBio reader(std::size_t size) const {
    return UniqueBio{BIO_new_mem_buf(bytes_.data(), static_cast<int>(size))};
  }

 private:
  std::vector<char> bytes_;
};

struct FileContent {
  SecretText text;
  std::size_t size;
  [[nodiscard]] UniqueBio reader() const { return text.reader(size); }
};

Result<FileContent> read_file(std::string_view what, const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd)
    return Error::from_errno(fmt::format("{} {}", what, path))
        .with_remedy("give the path of a PEM file that this process may read");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return Error::from_errno(fmt::format("{} {}", what, path));
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::kInvalid, fmt::format("{} {}: not a regular file", what, path),
                 "give the path of a PEM file"};
  if (status.st_size == 0 || static_cast<std::uint64_t>(status.st_size) > kFileBytesMax)
    return Error{ErrorCode::kInvalid,
                 fmt::format("{} {}: {} bytes long", what, path, status.st_size),
                 fmt::format("give a PEM file of at most {} bytes", kFileBytesMax)};
  FileContent content{SecretText{static_cast<std::size_t>(status.st_size)}, 0};
  const auto space = content.text.space();
  while (content.size < space.size()) {
    const ssize_t count =
        ::read(fd.get(), space.data() + content.size, space.size() - content.size);
    if (count < 0) return Error::from_errno(fmt::format("{} {}", what, path));
    if (count == 0) break;  // it became shorter; the parser will say what is missing
    content.size += static_cast<std::size_t>(count);
  }
  return content;
}

struct Chain {
  UniqueCertificate leaf;
  std::vector<UniqueCertificate> issuers;
};

/// All certificates of the file, the first being the server's own; other blocks are skipped.
Result<Chain> read_chain(OSSL_LIB_CTX* library, const std::string& path) {
  auto content = read_file("certificate file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  Chain chain;
  for (std::size_t count = 0; count < kChainLengthMax; ++count) {
    X509* certificate = X509_new_ex(library, nullptr);
    if (PEM_read_bio_X509(reader.get(), &certificate, nullptr, nullptr) == nullptr) {
      X509_free(certificate);
      const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
      const std::string reason = take_openssl_reason();
      if (is_end && chain.leaf) return chain;
      if (is_end)
        return Error{ErrorCode::kInvalid,
                     fmt::format("certificate file {}: no certificate in it", path),
                     "expected a block that starts with -----BEGIN CERTIFICATE-----"};
      return Error{ErrorCode::kInvalid,
                   fmt::format("certificate file {}: certificate number {} cannot be read: {}",
                               path, count + 1, reason),
                   "write the file again from what the issuer delivered"};
    }
    if (!chain.leaf)
      chain.leaf.reset(certificate);
    else
      chain.issuers.emplace_back(certificate);
  }
  return Error{ErrorCode::kInvalid,
               fmt::format("certificate file {}: more than {} certificates", path, kChainLengthMax),
               "keep the server's certificate and its issuers"};
}

/// Called by OpenSSL when a key is encrypted; the default would ask on the terminal.
int refuse_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

Result<UniqueKey> read_key(OSSL_LIB_CTX* library, const std::string& path) {
  auto content = read_file("key file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  bool is_encrypted = false;
  UniqueKey key{PEM_read_bio_PrivateKey_ex(reader.get(), nullptr, refuse_passphrase, &is_encrypted,
                                           library, nullptr)};
  const std::string reason = take_openssl_reason();
  if (key) return key;
  if (is_encrypted)
    return Error{ErrorCode::kInvalid,
                 fmt::format("key file {}: the private key is encrypted", path),
                 "store it without a passphrase (openssl pkey -in FILE -out NEW), readable only by "
                 "the user of this process"};
  const std::string_view text{content->text.space().data(), content->size};
  if (text.find("PRIVATE KEY-----") == std::string_view::npos)
    return Error{ErrorCode::kInvalid, fmt::format("key file {}: no private key in it", path),
                 "expected a block that starts with -----BEGIN PRIVATE KEY-----"};
  return Error{ErrorCode::kInvalid,
               fmt::format("key file {}: the private key cannot be read: {}", path, reason),
               "write the file again from the original key"};
}

std::int64_t seconds_of(const ASN1_TIME* time) {
  std::tm broken_down{};
  return ASN1_TIME_to_tm(time, &broken_down) == 1 ? timegm(&broken_down) : 0;
}

std::string date_text(const ASN1_TIME* time) {
  std::tm t{};
  if (ASN1_TIME_to_tm(time, &t) != 1) return "an unreadable date";
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", t.tm_year + 1900, t.tm_mon + 1,
                     t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

Result<void> check_dates(const X509* certificate, const std::string& path) {
  const ASN1_TIME* const not_before = X509_get0_notBefore(certificate);
  const ASN1_TIME* const not_after = X509_get0_notAfter(certificate);
  // 0 is OpenSSL's answer for a time it cannot read; that one is refused as well.
  if (X509_cmp_current_time(not_after) <= 0)
    return Error{ErrorCode::kInvalid,
                 fmt::format("certificate file {}: expired on {}", path, date_text(not_after)),
                 "renew the certificate; clients would refuse it"};
  if (X509_cmp_current_time(not_before) >= 0)
    return Error{
        ErrorCode::kInvalid,
        fmt::format("certificate file {}: not valid before {}", path, date_text(not_before)),
        "check the clock of this machine, or wait"};
  return {};
}

std::string to_lower(std::string_view text) {
  std::string lower{text};
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

/// A name that can be compared with an SNI: characters of host names, and '*' only as the whole
/// first label with at least two labels behind it. Everything else is ignored, above all a NUL,
/// behind which other software sees no more.
bool is_usable_name(std::string_view name) {
  if (name.starts_with("*.")) {
    name.remove_prefix(2);
    if (name.find('.') == std::string_view::npos) return false;
  }
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

/// Sorted, without doubles. The common name is not used: clients stopped looking at it (RFC 9525).
std::vector<std::string> dns_names(const X509* certificate) {
  std::vector<std::string> names;
  using UniqueNames = std::unique_ptr<GENERAL_NAMES, FreeWith<&GENERAL_NAMES_free>>;
  const UniqueNames alternatives{static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr))};
  ERR_clear_error();  // no such extension is no failure
  const int count = alternatives ? sk_GENERAL_NAME_num(alternatives.get()) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* const alternative = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (alternative->type != GEN_DNS) continue;
    // With its length: the string may hold NUL bytes.
    const ASN1_IA5STRING* const text = alternative->d.dNSName;
    const std::string name = to_lower(as_text(std::as_bytes(std::span{
        ASN1_STRING_get0_data(text), static_cast<std::size_t>(ASN1_STRING_length(text))})));
    if (is_usable_name(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::string subject_text(const X509* certificate) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  if (!out) return {};
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  const char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(std::max(size, 0L))};
}

std::string common_name(const X509* certificate) {
  const X509_NAME* const subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return {};
  const ASN1_STRING* const value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, value);
  if (size < 0) return {};
  std::string name{as_text(std::as_bytes(std::span{utf8, static_cast<std::size_t>(size)}))};
  OPENSSL_free(utf8);
  return name;
}

/// The name in a server_name extension (RFC 6066, section 3); empty when there is none. A broken
/// extension is left to OpenSSL, which answers it with an alert.
std::string_view server_name_of(SSL* ssl) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1) return {};
  constexpr std::size_t kBeforeName = 5;  // list length, type, name length
  constexpr unsigned char kHostName = 0;
  if (size < kBeforeName || data[2] != kHostName) return {};
  const std::size_t name_size = std::size_t{data[3]} << 8 | data[4];
  if (name_size > size - kBeforeName) return {};
  return as_text(std::as_bytes(std::span{data + kBeforeName, name_size}));
}

/// Switches to the certificates for the name before OpenSSL looks at tickets: the session id
/// context comes along, so that a ticket made for one group does not resume in another.
int choose_certificate(SSL* ssl, int*, void* state) {
  const auto* const server = static_cast<const ServerContext::State*>(state);
  SSL_CTX* const chosen = server->context_for(server_name_of(ssl));
  if (SSL_set_SSL_CTX(ssl, chosen) != nullptr) return SSL_CLIENT_HELLO_SUCCESS;
  return SSL_CLIENT_HELLO_ERROR;
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned offered_size, void* state) {
  const std::string& ours = static_cast<const ServerContext::State*>(state)->protocols;
  unsigned char* found = nullptr;
  const auto* const ours_data = reinterpret_cast<const unsigned char*>(ours.data());  // chars
  const int outcome = SSL_select_next_proto(
      &found, chosen_size, ours_data, static_cast<unsigned>(ours.size()), offered, offered_size);
  // RFC 7301, section 3.2: no common protocol is fatal, lest both speak different ones.
  if (outcome != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

Error openssl_error(std::string_view doing) {
  return Error{ErrorCode::kInternal, fmt::format("{}: {}", doing, take_openssl_reason())};
}

Result<UniqueContext> make_context(ServerContext::State& state, control::TlsVersion min_version) {
  UniqueContext context{SSL_CTX_new_ex(state.library.get(), nullptr, TLS_server_method())};
  if (!context) return openssl_error("TLS context");
  SSL_CTX* const ctx = context.get();
  const int min = min_version == control::TlsVersion::kTls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  const auto group_id = static_cast<std::uint32_t>(state.groups.size());
  if (SSL_CTX_set_min_proto_version(ctx, min) != 1 ||
      SSL_CTX_set_cipher_list(ctx, kTls12Ciphers) != 1 ||
      SSL_CTX_set1_groups_list(ctx, kKeyExchangeGroups) != 1 ||
      SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>(&group_id),
                                     sizeof group_id) != 1)
    return openssl_error("TLS settings");
  SSL_CTX_set_security_level(ctx, 2);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Tickets carry the session; nothing is kept here. Early data stays off (its default): a replay
  // of a request is not ours to accept.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_client_hello_cb(ctx, choose_certificate, &state);
  if (!state.protocols.empty()) SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, &state);
  return context;
}

Result<std::string> alpn_wire_format(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255)
      return Error{ErrorCode::kInvalid, fmt::format("ALPN protocol \"{}\"", protocol),
                   "its length must be 1 to 255 bytes"};
    wire.push_back(static_cast<char>(protocol.size()));
    wire.append(protocol);
  }
  return wire;
}

/// The group for a set of names: an existing one when it has no key of this kind yet.
Result<std::size_t> group_for(ServerContext::State& state, const ServerOptions& options,
                              const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < state.groups.size(); ++i)
    if (!names.empty() && state.groups[i].names == names) return i;
  auto context = make_context(state, options.min_version);
  if (!context) return std::move(context).error();
  state.groups.push_back({std::move(*context), names});
  return state.groups.size() - 1;
}

/// Puts a checked pair into its group, and its names into the lookup tables.
Result<void> install(ServerContext::State& state, std::size_t group, const Chain& chain,
                     EVP_PKEY* key, const control::CertificateRef& ref) {
  struct FreeStack {
    void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_free(stack); }
  };
  using UniqueStack = std::unique_ptr<STACK_OF(X509), FreeStack>;
  const UniqueStack issuers{sk_X509_new_null()};
  if (!issuers) return openssl_error("TLS chain");
  for (const UniqueCertificate& issuer : chain.issuers)
    if (sk_X509_push(issuers.get(), issuer.get()) == 0) return openssl_error("TLS chain");
  constexpr int kKeepFirst = 0;  // refuse a second pair with a key of the same kind
  if (SSL_CTX_use_cert_and_key(state.groups[group].context.get(), chain.leaf.get(), key,
                               issuers.get(), kKeepFirst) == 1)
    return {};
  const bool is_second = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_NOT_REPLACING_CERTIFICATE;
  const std::string reason = take_openssl_reason();
  if (is_second)
    return Error{ErrorCode::kConflict,
                 fmt::format("certificate file {}: an earlier certificate of this listener has the "
                             "same names and kind of key",
                             ref.certificate_file),
                 "remove one of them"};
  return Error{ErrorCode::kInvalid,
               fmt::format("certificate file {}: cannot be used: {}", ref.certificate_file, reason),
               "use a certificate with an RSA key of at least 2048 bits or an EC key"};
}

Result<void> load_pair(ServerContext::State& state, const ServerOptions& options,
                       const control::CertificateRef& ref) {
  auto chain = read_chain(state.library.get(), ref.certificate_file);
  if (!chain) return std::move(chain).error();
  auto key = read_key(state.library.get(), ref.key_file);
  if (!key) return std::move(key).error();
  X509* const leaf = chain->leaf.get();
  const bool fits = X509_check_private_key(leaf, key->get()) == 1;
  ERR_clear_error();
  if (!fits)
    return Error{ErrorCode::kInvalid,
                 fmt::format("key file {}: the key does not belong to the first certificate of {}",
                             ref.key_file, ref.certificate_file),
                 "give the key that the certificate was issued for; the server's own certificate "
                 "comes first, its issuers after it"};
  if (auto dates = check_dates(leaf, ref.certificate_file); !dates) return std::move(dates).error();

  CertificateSummary summary{.file = ref.certificate_file,
                             .subject = subject_text(leaf),
                             .names = dns_names(leaf),
                             .key_type = EVP_PKEY_get0_type_name(key->get()),
                             .not_after = seconds_of(X509_get0_notAfter(leaf))};
  const auto group = group_for(state, options, summary.names);
  if (!group) return Error{group.error()};
  if (auto installed = install(state, *group, *chain, key->get(), ref); !installed)
    return std::move(installed).error();
  // The first certificate with a name keeps it: the order in the configuration decides.
  for (const std::string& name : summary.names)
    if (name.starts_with('*'))
      state.wildcards.emplace(name.substr(1), *group);
    else
      state.exact.emplace(name, *group);
  std::string display_name = common_name(leaf);
  if (display_name.empty() && !summary.names.empty()) display_name = summary.names.front();
  state.loaded.push_back({std::move(chain->leaf), std::move(display_name)});
  state.summaries.push_back(std::move(summary));
  return {};
}

}  // namespace

std::string take_openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(code);
  ERR_clear_error();
  if (reason != nullptr) return reason;
  return code == 0 ? "no reason given" : fmt::format("error {:#x}", code);
}

SSL_CTX* ServerContext::State::context_for(std::string_view server_name) const {
  constexpr std::size_t kNameBytesMax = 255;
  SSL_CTX* const fallback = groups.front().context.get();
  if (server_name.empty() || server_name.size() > kNameBytesMax) return fallback;
  const std::string name = to_lower(server_name);
  if (const auto found = exact.find(name); found != exact.end())
    return groups[found->second].context.get();
  const std::size_t dot = name.find('.');
  // A wildcard stands for exactly one label, which is not empty.
  if (dot == std::string::npos || dot == 0) return fallback;
  const auto found = wildcards.find(std::string_view{name}.substr(dot));
  return found != wildcards.end() ? groups[found->second].context.get() : fallback;
}

std::string_view ServerContext::State::display_name_of(const X509* certificate) const {
  for (const LoadedCertificate& candidate : loaded)
    if (candidate.certificate.get() == certificate) return candidate.display_name;
  return {};
}

ServerContext::ServerContext(std::unique_ptr<State> state) : state_{std::move(state)} {}
ServerContext::ServerContext(ServerContext&&) noexcept = default;
ServerContext& ServerContext::operator=(ServerContext&&) noexcept = default;
ServerContext::~ServerContext() = default;

void ServerContext::leave_thread() { OPENSSL_thread_stop_ex(state_->library.get()); }

const std::vector<CertificateSummary>& ServerContext::certificates() const {
  return state_->summaries;
}

Result<ServerContext> ServerContext::create(const ServerOptions& options) {
  // The machine's openssl.cnf is not read: what a listener accepts is written in one place.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  if (options.certificates.empty())
    return Error{ErrorCode::kInvalid, "a TLS listener without a certificate",
                 "name at least one certificate file"};
  auto state = std::make_unique<State>();
  state->library.reset(OSSL_LIB_CTX_new());
  if (!state->library) return openssl_error("TLS library context");
  auto protocols = alpn_wire_format(options.protocols);
  if (!protocols) return std::move(protocols).error();
  state->protocols = std::move(*protocols);
  for (const control::CertificateRef& ref : options.certificates)
    if (auto loaded = load_pair(*state, options, ref); !loaded) return std::move(loaded).error();
  return ServerContext{std::move(state)};
}

}  // namespace weir::tls
