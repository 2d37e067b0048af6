#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "l4/base/siphash.h"
#include "l4/wire/address.h"

namespace weir::tcp {

/// The four numbers that name a connection, seen from here.
struct FlowKey {
  wire::IpAddress local_address;
  wire::IpAddress remote_address;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;

  FlowKey() = default;
  FlowKey(const wire::Endpoint& local, const wire::Endpoint& remote)
      : local_address{local.address},
        remote_address{remote.address},
        local_port{local.port.value()},
        remote_port{remote.port.value()} {}

  [[nodiscard]] wire::Endpoint local() const { return {local_address, wire::Port{local_port}}; }
  [[nodiscard]] wire::Endpoint remote() const { return {remote_address, wire::Port{remote_port}}; }
  friend bool operator==(const FlowKey& a, const FlowKey& b) {
    return std::memcmp(&a, &b, sizeof(FlowKey)) == 0;  // no padding, see below
  }
};
static_assert(sizeof(FlowKey) == 36);

/// A keyed hash, because a client chooses its address and port: with a public one it could put all
/// its connections into one place of the table (S1), and with a guessable one it could predict
/// sequence numbers (RFC 6528, section 3).
class FlowHash {
 public:
  explicit FlowHash(std::array<std::uint64_t, 2> secret) : secret_{secret} {}

  [[nodiscard]] std::uint64_t operator()(const FlowKey& key) const {
    const auto words = std::bit_cast<std::array<std::uint32_t, sizeof(FlowKey) / 4>>(key);
    if (!is_v4(words)) return siphash<1, 3>(secret_, std::as_bytes(std::span{words}));
    // Only what tells IPv4 flows apart: two words to absorb instead of four and a half, which is a
    // third of the time. The length is hashed too, so no IPv6 key is the same input.
    // Written in the words that they are read in: smaller ones could not be forwarded to the reads.
    const std::array<std::uint64_t, 2> known{
        std::uint64_t{words[3]} << 32 | words[7],
        std::uint64_t{key.local_port} << 16 | std::uint64_t{key.remote_port}};
    return siphash<1, 3>(secret_, std::as_bytes(std::span{known}));
  }

 private:
  /// Both addresses are IPv4, in the form that wire::IpAddress keeps them in: ::ffff:a.b.c.d.
  static bool is_v4(const std::array<std::uint32_t, sizeof(FlowKey) / 4>& words) {
    static_assert(std::endian::native == std::endian::little);
    constexpr std::uint32_t kMapped = 0xffff0000;
    return (words[0] | words[1] | words[4] | words[5]) == 0 && words[2] == kMapped &&
           words[6] == kMapped;
  }

  SipKey secret_;
};

}  // namespace weir::tcp
