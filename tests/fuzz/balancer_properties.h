#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "tests/fuzz/balancer_input.h"
#include "tests/fuzz/balancer_world.h"
#include "tests/fuzz/decoded.h"
#include "tests/support/replay_engine.h"

namespace weir::testing {

/// What is seen of a translated flow from outside, for one input. A reply may be translated only
/// if a packet of the client's was, or may have been.
class TranslatedFlows {
 public:
  struct Tuple {
    std::uint8_t protocol = 0;
    wire::Endpoint source;
    wire::Endpoint destination;
    friend auto operator<=>(const Tuple&, const Tuple&) = default;
  };
  /// What the packet of a flow becomes: where the client's packets went is known once one did.
  struct Expected {
    std::optional<Tuple> exactly;
  };

  /// A client's packet was sent on, as `after`.
  void note(const Tuple& before, const Tuple& after);
  /// One was not (too big, hop limit), but may have begun a flow.
  void note_possible(const Tuple& before, const WorldService& service);
  [[nodiscard]] std::optional<Expected> reply(const Tuple& tuple) const;

  void note_fragment(const Decoded& first, const PortPair& ports);
  /// Of every first fragment that the later one may belong to: which of them the balancer has taken
  /// in is not seen from outside.
  [[nodiscard]] std::vector<PortPair> ports_of_fragment(const Decoded& later) const;

 private:
  using FragmentKey = std::tuple<wire::IpAddress, wire::IpAddress, std::uint32_t, std::uint8_t>;
  static FragmentKey key_of(const Decoded& fragment) {
    return {fragment.source, fragment.destination, fragment.fragment_id, fragment.protocol};
  }

  std::map<Tuple, Tuple> replies_;  ///< as it arrives → as it must leave
  std::vector<Tuple> possible_;     ///< destination port 0: any
  std::map<FragmentKey, std::vector<PortPair>> fragments_;
};

/// What must hold for every frame, whatever is in it:
///  - exactly one verdict is counted, with the frame's bytes, and the action is that of
///  verdicts.def;
///    none is drop_internal;
///  - what is passed, or handed to L7, is as it came;
///  - what is for no VIP, nor of a translated flow, is passed; what is for a VIP is never taken for
///    something else;
///  - what is sent has right lengths and a right outer header checksum, and carries the packet
///    unchanged but for hop limit, and under NAT addresses and ports; a checksum that was right
///    still is, and one that was wrong is not made right;
///  - maps of user space are only read, and no byte before the frame is written.
/// Whether a frame is for a VIP and what is in it is decided by decoded.h and the world's
/// description alone.
class BalancerProperties {
 public:
  BalancerProperties();

  /// Plays an input from the beginning. Returns the first property that does not hold, with the
  /// frames, or nothing.
  std::string check(std::span<const std::uint8_t> input);
  /// How often each verdict was met since the beginning, to see what inputs reach.
  [[nodiscard]] const std::array<std::uint64_t, WEIR_VERDICT_COUNT>& verdicts() const {
    return verdicts_;
  }
  [[nodiscard]] std::uint64_t frames() const { return frames_; }

 private:
  struct Node {
    World world;
    ReplayEngine engine;
    explicit Node(const WorldOptions& options);
  };

  std::vector<std::unique_ptr<Node>> nodes_;  ///< by the options of an input
  std::array<std::uint64_t, WEIR_VERDICT_COUNT> verdicts_{};
  std::uint64_t frames_ = 0;
};

/// The same of one frame, for tests that break it.
std::string broken_property(const World& world, FrameView frame, const ReplayResult& result,
                            TranslatedFlows& flows);

}  // namespace weir::testing
