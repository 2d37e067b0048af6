#include <fmt/format.h>

#include "l7/tls/state.h"

namespace weir::tls {

namespace {

/// What Debian's ca-certificates keeps up to date.
constexpr std::string_view kSystemAuthorities = "/etc/ssl/certs/ca-certificates.crt";

Result<void> trust(OSSL_LIB_CTX* library, SSL_CTX* context, const control::UpstreamTls& options) {
  if (options.verification == control::Verification::kOff) {
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    return {};
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const bool system = options.ca_file.empty();
  // Read here and not looked up while a certificate is verified: that happens on a worker.
  auto authorities = read_authorities(system ? std::string{kSystemAuthorities} : options.ca_file);
  if (!authorities && system)
    return std::move(authorities)
        .error()
        .with_remedy("install the package ca-certificates, or name a CA with tls.caRef");
  if (!authorities) return std::move(authorities).error();
  UniqueStore store = make_store(library, *authorities);
  if (!store) return openssl_error(fmt::format("CA file {}", options.ca_file));
  SSL_CTX_set_cert_store(context, store.release());  // owns it now
  return {};
}

}  // namespace

ClientContext::ClientContext(std::unique_ptr<State> state) : state_{std::move(state)} {}
ClientContext::ClientContext(ClientContext&&) noexcept = default;
ClientContext& ClientContext::operator=(ClientContext&&) noexcept = default;
ClientContext::~ClientContext() = default;

Result<ClientContext> ClientContext::create(const control::UpstreamTls& options,
                                            const std::vector<std::string>& protocols,
                                            Library library) {
  auto state = std::make_unique<State>();
  state->library = library.state();
  state->verification = options.verification;
  OSSL_LIB_CTX* const lib = state->library->library.get();
  auto context = make_base_context(lib, TLS_client_method());
  if (!context) return std::move(context).error();
  state->context = std::move(*context);
  auto wire = alpn_wire_format(protocols);
  if (!wire) return std::move(wire).error();
  const auto* const data = reinterpret_cast<const unsigned char*>(wire->data());  // chars as bytes
  if (!wire->empty() &&
      SSL_CTX_set_alpn_protos(state->context.get(), data, static_cast<unsigned>(wire->size())) != 0)
    return openssl_error("ALPN for a service");
  if (auto trusted = trust(lib, state->context.get(), options); !trusted)
    return std::move(trusted).error();
  return ClientContext{std::move(state)};
}

}  // namespace weir::tls
