#pragma once

#include <array>
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
    return siphash<1, 3>(secret_, std::as_bytes(std::span{&key, 1}));
  }

 private:
  SipKey secret_;
};

}  // namespace weir::tcp
