#include "l7/tls/context.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <ctime>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/tls/state.h"

namespace weir::tls {

namespace {

/// TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else.
constexpr const char* kTls12Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* kKeyExchangeGroups = "X25519:P-256:P-384";
/// Certificates that a client may send us.
constexpr long kPeerChainBytesMax = 32 * 1024;
/// Made ready with the context, so that the first clients need not wait; the others when a client
/// first asks for them.
constexpr std::size_t kGroupsAtOnce = 16;
constexpr std::size_t kNameBytesMax = 255;

ServerContext::State& state_of(const SSL* ssl) {
  // Set on the entrance context, where every session of ours begins.
  auto* const state = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
  return *static_cast<ServerContext::State*>(state);
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
  if (name_size > size - kBeforeName || name_size > kNameBytesMax) return {};
  return as_text(std::as_bytes(std::span{data + kBeforeName, name_size}));
}

/// A ticket is good for one name, one set of certificates and one wish for client certificates,
/// the authorities included (RFC 8446, section 4.6.1; nginx CVE-2025-23419): OpenSSL compares this
/// with what stands in the ticket and shakes hands in full where they differ.
bool bind_tickets(ServerContext::State& state, SSL* ssl, std::string_view name,
                  const NameGroup& group, const PolicyEntry& policy) {
  static_assert(sizeof(Sha256) <= SSL_MAX_SID_CTX_LENGTH);
  Sha256 identity{};
  unsigned size = 0;
  EVP_MD_CTX* const digest = state.digest_state.get();
  return EVP_DigestInit_ex2(digest, state.sha256.get(), nullptr) == 1 &&
         EVP_DigestUpdate(digest, group.identity.data(), group.identity.size()) == 1 &&
         EVP_DigestUpdate(digest, policy.identity.data(), policy.identity.size()) == 1 &&
         EVP_DigestUpdate(digest, name.data(), name.size()) == 1 &&
         EVP_DigestFinal_ex(digest, identity.data(), &size) == 1 &&
         SSL_set_session_id_context(ssl, identity.data(), size) == 1;
}

bool ask_for_certificate(ServerContext::State& state, SSL* ssl, std::uint32_t policy) {
  const control::ClientCertificates mode = state.files->policies[policy].policy.validation.mode;
  if (mode == control::ClientCertificates::kNone) return true;
  const bool required = mode == control::ClientCertificates::kRequired;
  SSL_set_verify(ssl, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  // Names of authorities help clients with several certificates to choose. OpenSSL owns the copy.
  STACK_OF(X509_NAME)* const names = SSL_dup_CA_list(state.authority_names[policy].get());
  if (names == nullptr) return false;
  SSL_set_client_CA_list(ssl, names);
  return SSL_set1_verify_cert_store(ssl, state.stores[policy].get()) == 1;
}

/// Switches to the certificates for the name, and to what is wanted of the client, before OpenSSL
/// looks at tickets.
int on_client_hello(SSL* ssl, int*, void*) {
  ServerContext::State& state = state_of(ssl);
  const std::string name = to_lower(server_name_of(ssl));
  const std::uint32_t group = state.files->group_for(name);
  const std::uint32_t policy = state.files->policy_for(name);
  SSL_CTX* const context = state.context_of(group);
  if (context == nullptr || SSL_set_SSL_CTX(ssl, context) == nullptr ||
      !ask_for_certificate(state, ssl, policy) ||
      !bind_tickets(state, ssl, name, state.files->groups[group], state.files->policies[policy]))
    return SSL_CLIENT_HELLO_ERROR;
  if (auto* const facts = static_cast<SessionFacts*>(SSL_get_app_data(ssl)); facts != nullptr)
    *facts = {group, policy};
  return SSL_CLIENT_HELLO_SUCCESS;
}

int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned offered_size, void*) {
  const std::string& ours = state_of(ssl).files->protocols;
  unsigned char* found = nullptr;
  const auto* const ours_data = reinterpret_cast<const unsigned char*>(ours.data());  // chars
  const int outcome = SSL_select_next_proto(
      &found, chosen_size, ours_data, static_cast<unsigned>(ours.size()), offered, offered_size);
  // RFC 7301, section 3.2: no common protocol is fatal, lest both speak different ones.
  if (outcome != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

/// The stored OCSP response of the certificate that is about to be sent, while it holds.
int staple(SSL* ssl, void*) {
  const CertificateEntry* const entry = state_of(ssl).entry_of(ssl);
  if (entry == nullptr || entry->ocsp.der.empty() || entry->ocsp.next_update <= std::time(nullptr))
    return SSL_TLSEXT_ERR_NOACK;
  const std::string& der = entry->ocsp.der;
  auto* const copy = static_cast<unsigned char*>(OPENSSL_memdup(der.data(), der.size()));
  if (copy == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_set_tlsext_status_ocsp_resp(ssl, copy, static_cast<long>(der.size()));  // owns it now
  return SSL_TLSEXT_ERR_OK;
}

constexpr std::size_t kIvBytes = 16;

bool prepare_ticket(const ServerContext::State& state, const TicketKey& key,
                    const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                    bool sealing) {
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
                                        const_cast<unsigned char*>(key.mac.data()),  // only read
                                        key.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
         EVP_CipherInit_ex(cipher, state.ticket_cipher.get(), nullptr, key.cipher.data(), iv,
                           sealing ? 1 : 0) == 1;
}

/// OpenSSL's callback for both directions: SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
int use_ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                   EVP_MAC_CTX* mac, int sealing) {
  constexpr int kFailed = -1;
  constexpr int kUnknown = 0;
  constexpr int kGood = 1;
  constexpr int kGoodButRenew = 2;
  const ServerContext::State& state = state_of(ssl);
  const TicketKeySet& set = *state.ticket_keys;
  if (sealing != 0) {
    const TicketKey& key = set.keys[0];
    std::copy(key.name.begin(), key.name.end(), name);
    const bool good = RAND_bytes_ex(state.library->library.get(), iv, kIvBytes, 0) == 1 &&
                      prepare_ticket(state, key, iv, cipher, mac, true);
    return good ? kGood : kFailed;
  }
  for (std::size_t i = 0; i < set.count; ++i) {
    const TicketKey& key = set.keys[i];
    if (!std::equal(key.name.begin(), key.name.end(), name)) continue;
    if (!prepare_ticket(state, key, iv, cipher, mac, false)) return kFailed;
    return i == 0 ? kGood : kGoodButRenew;
  }
  return kUnknown;
}

/// A certificate and its key out of memory into a context.
bool use_entry(OSSL_LIB_CTX* library, SSL_CTX* context, const CertificateEntry& entry,
               UniqueCertificate& leaf) {
  leaf = certificate_from(library, entry.leaf);
  const auto der = entry.key.bytes();
  const unsigned char* at = der.data();
  const UniqueKey key{
      d2i_AutoPrivateKey_ex(nullptr, &at, static_cast<long>(der.size()), library, nullptr)};
  const UniqueStack issuers{sk_X509_new_null()};
  if (!leaf || !key || !issuers) return false;
  std::vector<UniqueCertificate> owned;
  for (const std::string& issuer : entry.issuers) {
    owned.push_back(certificate_from(library, issuer));
    if (!owned.back() || sk_X509_push(issuers.get(), owned.back().get()) == 0) return false;
  }
  constexpr int kKeepFirst = 0;  // kinds differ, so that there is nothing to replace
  return SSL_CTX_use_cert_and_key(context, leaf.get(), key.get(), issuers.get(), kKeepFirst) == 1;
}

Result<UniqueContext> make_server_context(ServerContext::State& state) {
  auto context = make_base_context(state.library->library.get(), TLS_server_method());
  if (!context) return context;
  SSL_CTX* const ctx = context->get();
  const bool is_13 = state.files->options.min_version == control::TlsVersion::kTls13;
  if (SSL_CTX_set_min_proto_version(ctx, is_13 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1)
    return openssl_error("TLS settings");
  SSL_CTX_set_app_data(ctx, &state);
  // What SSL_CTX_set_tlsext_status_cb() says with a C cast; OpenSSL calls it as what it is.
  SSL_CTX_callback_ctrl(ctx, SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB,
                        reinterpret_cast<void (*)()>(staple));
  if (!state.files->protocols.empty()) SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, nullptr);
  return context;
}

Result<void> load_policies(ServerContext::State& state) {
  OSSL_LIB_CTX* const library = state.library->library.get();
  for (const PolicyEntry& entry : state.files->policies) {
    UniqueStore store;
    UniqueNames names{sk_X509_NAME_new_null()};
    if (!entry.authorities.empty() && !(store = make_store(library, entry.authorities)))
      return openssl_error("TLS authorities for client certificates");
    for (const std::string& der : entry.authorities) {
      const UniqueCertificate certificate = certificate_from(library, der);
      X509_NAME* const name =
          certificate ? X509_NAME_dup(X509_get_subject_name(certificate.get())) : nullptr;
      if (name == nullptr || sk_X509_NAME_push(names.get(), name) == 0)
        return openssl_error("TLS authorities for client certificates");
    }
    state.stores.push_back(std::move(store));
    state.authority_names.push_back(std::move(names));
  }
  return {};
}

}  // namespace

std::string_view take_openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(code);
  ERR_clear_error();
  if (reason != nullptr) return reason;
  return code == 0 ? "no reason given" : "an error without a text";
}

Error openssl_error(std::string_view doing) {
  return Error{ErrorCode::kInternal, fmt::format("{}: {}", doing, take_openssl_reason())};
}

Result<UniqueContext> make_base_context(OSSL_LIB_CTX* library, const SSL_METHOD* method) {
  UniqueContext context{SSL_CTX_new_ex(library, nullptr, method)};
  if (!context) return openssl_error("TLS context");
  SSL_CTX* const ctx = context.get();
  if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(ctx, kTls12Ciphers) != 1 ||
      SSL_CTX_set1_groups_list(ctx, kKeyExchangeGroups) != 1)
    return openssl_error("TLS settings");
  SSL_CTX_set_security_level(ctx, 2);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // A chain is what stands in the certificate's file. OpenSSL would look for more of it at every
  // handshake, by verifying our own certificate.
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_max_cert_list(ctx, kPeerChainBytesMax);
  // Tickets carry the session; nothing is kept here. Early data stays off (its default): a replay
  // of a request is not ours to accept.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(ctx, kTicketLifetimeS);
  // Not OpenSSL's two: a ticket costs 6 % of a full handshake (tls_bench), and who resumes gets
  // another.
  SSL_CTX_set_num_tickets(ctx, 1);
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

UniqueStore make_store(OSSL_LIB_CTX* library, const std::vector<std::string>& authorities) {
  UniqueStore store{X509_STORE_new()};
  if (!store) return nullptr;
  for (const std::string& der : authorities) {
    const UniqueCertificate certificate = certificate_from(library, der);
    if (!certificate || X509_STORE_add_cert(store.get(), certificate.get()) != 1) return nullptr;
  }
  // An issuing authority may be named without its root.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  return store;
}

SSL_CTX* ServerContext::State::context_of(std::uint32_t number) {
  LoadedGroup& loaded = groups[number];
  if (loaded.context) return loaded.context.get();
  auto context = make_server_context(*this);
  if (!context) return nullptr;
  for (const std::uint32_t entry : files->groups[number].entries) {
    if (entry == 0) continue;
    UniqueCertificate leaf;
    if (!use_entry(library->library.get(), context->get(), *files->entries[entry - 1], leaf)) {
      loaded.certificates.clear();
      return nullptr;
    }
    loaded.certificates.push_back({std::move(leaf), entry - 1});
  }
  loaded.context = std::move(*context);
  return loaded.context.get();
}

const CertificateEntry* ServerContext::State::entry_of(const SSL* ssl) const {
  const X509* const presented = SSL_get_certificate(ssl);
  const auto* const facts = static_cast<const SessionFacts*>(SSL_get_app_data(ssl));
  if (facts == nullptr) return nullptr;
  for (const LoadedGroup::Loaded& loaded : groups[facts->group].certificates)
    if (loaded.certificate.get() == presented) return files->entries[loaded.entry].get();
  return nullptr;
}

Result<Library> Library::create() {
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  auto state = std::make_shared<State>();
  state->library.reset(OSSL_LIB_CTX_new());
  if (!state->library) return openssl_error("TLS library context");
  return Library{std::move(state)};
}

void Library::leave_thread() const { OPENSSL_thread_stop_ex(state_->library.get()); }

ServerContext::ServerContext(std::unique_ptr<State> state) : state_{std::move(state)} {}
ServerContext::ServerContext(ServerContext&&) noexcept = default;
ServerContext& ServerContext::operator=(ServerContext&&) noexcept = default;
ServerContext::~ServerContext() = default;

void ServerContext::leave_thread() { OPENSSL_thread_stop_ex(state_->library->library.get()); }

std::size_t ServerContext::groups_in_use() const {
  return static_cast<std::size_t>(
      std::count_if(state_->groups.begin(), state_->groups.end(),
                    [](const LoadedGroup& group) { return group.context != nullptr; }));
}

void ServerContext::use_ticket_keys(const TicketKeySet* keys) {
  WEIR_ASSERT(keys->count > 0);  // whoever has a set has read or made a key
  state_->ticket_keys = keys;
  // Only there: OpenSSL asks the context that a session began with.
  SSL_CTX_set_tlsext_ticket_key_evp_cb(state_->entrance.get(), use_ticket_key);
}

Result<ServerContext> ServerContext::create(const ServerFiles& files, Library library) {
  auto state = std::make_unique<State>();
  state->library = library.state();
  state->files = files.content();
  OSSL_LIB_CTX* const lib = state->library->library.get();
  state->sha256.reset(EVP_MD_fetch(lib, "SHA256", nullptr));
  state->digest_state.reset(EVP_MD_CTX_new());
  state->ticket_cipher.reset(EVP_CIPHER_fetch(lib, "AES-256-CBC", nullptr));
  if (!state->sha256 || !state->digest_state || !state->ticket_cipher)
    return openssl_error("TLS algorithms");
  auto entrance = make_server_context(*state);
  if (!entrance) return std::move(entrance).error();
  state->entrance = std::move(*entrance);
  SSL_CTX_set_client_hello_cb(state->entrance.get(), on_client_hello, nullptr);
  if (auto loaded = load_policies(*state); !loaded) return std::move(loaded).error();
  state->groups.resize(state->files->groups.size());
  for (std::uint32_t i = 0; i < state->groups.size() && i < kGroupsAtOnce; ++i)
    if (state->context_of(i) == nullptr) return openssl_error("TLS certificate");
  return ServerContext{std::move(state)};
}

Result<ServerContext> ServerContext::create(const ServerOptions& options) {
  CertificateStore store;
  auto files = ServerFiles::load(options, store);
  if (!files) return std::move(files).error();
  auto library = Library::create();
  if (!library) return std::move(library).error();
  return create(*files, *library);
}

}  // namespace weir::tls
