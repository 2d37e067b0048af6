#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "l4/wire/address.h"

/// ICMP echo (RFC 792; RFC 4443, section 4), as bytes.
namespace weir::control {

struct EchoRequest {
  wire::Family family = wire::Family::kIpv4;
  std::uint16_t identifier = 0;  ///< 0 for ping sockets, where the kernel puts its own
  std::uint64_t nonce = 0;       ///< the data: tells the answer to this request from any other
};

/// With an ICMP checksum for IPv4; the kernel fills in that of IPv6, which covers addresses.
std::vector<std::byte> echo_request_bytes(const EchoRequest& request);

/// Whether this is the answer. Raw sockets of IPv4 see the IP header too.
bool is_echo_reply_to(const EchoRequest& request, std::span<const std::byte> packet,
                      bool has_ip_header);

}  // namespace weir::control
