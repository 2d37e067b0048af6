#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

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

/// SipHash-1-3 (Aumasson and Bernstein, 2012) of a flow key. Keyed, because a client chooses its
/// address and port: with a public hash it could put all its connections into one place of the
/// table (S1), and with a guessable one it could predict sequence numbers (RFC 6528, section 3).
class FlowHash {
 public:
  explicit FlowHash(std::array<std::uint64_t, 2> secret) : secret_{secret} {}

  [[nodiscard]] std::uint64_t operator()(const FlowKey& key) const {
    std::array<std::uint64_t, 5> words{};
    std::memcpy(words.data(), &key, sizeof(key));
    words[4] |= std::uint64_t{sizeof(key)} << 56;  // length, as SipHash ends a message
    std::array<std::uint64_t, 4> v = {
        secret_[0] ^ 0x736f6d6570736575, secret_[1] ^ 0x646f72616e646f6d,
        secret_[0] ^ 0x6c7967656e657261, secret_[1] ^ 0x7465646279746573};
    for (const std::uint64_t word : words) {
      v[3] ^= word;
      round(v);
      v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; ++i)
      round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
  }

 private:
  static void round(std::array<std::uint64_t, 4>& v) {
    v[0] += v[1];
    v[1] = std::rotl(v[1], 13) ^ v[0];
    v[0] = std::rotl(v[0], 32);
    v[2] += v[3];
    v[3] = std::rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = std::rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = std::rotl(v[1], 17) ^ v[2];
    v[2] = std::rotl(v[2], 32);
  }

  std::array<std::uint64_t, 2> secret_;
};

}  // namespace weir::tcp
