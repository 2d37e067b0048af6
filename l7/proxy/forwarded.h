#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "l4/control/model.h"
#include "l4/wire/address.h"
#include "l7/http/message.h"
#include "l7/http/semantics.h"

/// Who a request is from when proxies stand in front of the gateway: what they say in
/// X-Forwarded-For or Forwarded (RFC 7239), as far as the configuration believes them. Anybody may
/// send these fields, so they are read from the right, where the proxy that is nearest has written,
/// and only as far as each writer is trusted.
namespace weir::proxy {

/// What is believed. Views point into the fields it was read from, or are literals.
struct ClientClaim {
  wire::IpAddress client;
  /// Trusted proxies between the client and the peer, that of the client first; without the peer.
  std::array<wire::IpAddress, control::kForwardedHopsMax> hops{};
  std::size_t hop_count = 0;
  bool by_proxy = false;      ///< the client is not the peer
  std::string_view scheme{};  ///< "http" or "https", as the client has used it; empty: nobody says
  std::string_view host{};    ///< what the client asked for, likewise
};

/// Pure. `peer` is who has connected, or whom a PROXY header named.
[[nodiscard]] ClientClaim read_claim(const http::HeaderList& fields, const wire::IpAddress& peer,
                                     const control::ForwardedTrust& trust);

/// Writes for a service what is believed: `seen` is what we know by ourselves, with the peer as
/// client. What stood in the fields beyond that is gone: the first address is always the client.
/// `scratch` only keeps its capacity.
void describe_client(http::HeaderList& fields, const ClientClaim& claim,
                     const http::ForwardedFor& seen, std::string& scratch);

}  // namespace weir::proxy
