#pragma once

#include <cstdint>
#include <vector>

#include "l4/base/random.h"
#include "tests/fuzz/balancer_input.h"
#include "tests/fuzz/balancer_world.h"
#include "tests/support/packet_builder.h"

namespace weir::testing {

/// Inputs that have to do with the world: frames of its flows, replies, fragments, errors,
/// strangers; and then a few bytes changed in some.
class InputMaker {
 public:
  explicit InputMaker(std::uint32_t seed) : random_{seed} {}

  BalancerInput input();
  /// One change of an input: of bytes, of its order, or another frame.
  void mutate(BalancerInput& input);

 private:
  std::size_t below(std::size_t limit) { return random_.below(static_cast<std::uint32_t>(limit)); }
  bool one_in(std::size_t count) { return below(count) == 0; }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

  void add_frames(BalancerInput& input);
  void add(BalancerInput& input, const PacketBuilder& packet);
  std::vector<std::byte> with_tags(std::vector<std::byte> frame);
  void damage(std::vector<std::byte>& frame);
  void shape(PacketBuilder& packet, bool is_v4, std::uint8_t protocol);

  wire::Endpoint client(bool is_v4);
  wire::Endpoint destination_of(const WorldService& service);
  PacketBuilder segment(const wire::Endpoint& from, const wire::Endpoint& to,
                        wire::IpProtocol protocol);
  PacketBuilder error_about(const PacketBuilder& quoted, const wire::IpAddress& router,
                            const wire::IpAddress& to);
  PacketBuilder stranger(bool is_v4);

  void add_flow(BalancerInput& input, const WorldService& service);
  void add_return(BalancerInput& input, const WorldService& service, const wire::Endpoint& from,
                  const wire::Endpoint& to);
  void add_crowd(BalancerInput& input, const WorldService& service);
  void add_fragments(BalancerInput& input, const wire::Endpoint& from, const wire::Endpoint& to,
                     wire::IpProtocol protocol);

  Random random_;
};

}  // namespace weir::testing
