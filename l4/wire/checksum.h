#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "l4/wire/address.h"
#include "l4/wire/headers.h"

namespace weir::wire {

/// Running ones'-complement sum of 16-bit words (RFC 1071). Pieces must start at even offsets of
/// the whole; only the last piece may be of odd length.
class ChecksumSum {
 public:
  ChecksumSum& add(std::span<const std::byte> bytes);
  ChecksumSum& add(std::uint16_t host_order_word) {
    sum_ += host_order_word;
    return *this;
  }

  /// The value to store in a checksum field. A message whose checksum field is included and right
  /// gives zero.
  [[nodiscard]] std::uint16_t finish() const;

 private:
  std::uint64_t sum_ = 0;
};

/// The sum over the TCP, UDP or ICMPv6 pseudo header (RFC 9293, section 3.1; RFC 8200, section
/// 8.1). Both addresses are of one family; `length` counts transport header and data.
ChecksumSum pseudo_header_sum(const IpAddress& source, const IpAddress& destination,
                              IpProtocol protocol, std::size_t length);

}  // namespace weir::wire
