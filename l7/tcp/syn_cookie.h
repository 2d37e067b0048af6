#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "l4/base/clock.h"
#include "l4/base/siphash.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// What a SYN says about its sender, after the stack's own rules: a missing MSS has its default, a
/// tiny one is raised, and `ecn` is set only when we agree. A record of the SYN queue and a cookie
/// both come down to this.
struct PeerOptions {
  std::uint16_t mss = 0;
  std::optional<std::uint8_t> window_scale{};
  bool sack_permitted = false;
  bool timestamps = false;
  bool ecn = false;
  friend bool operator==(const PeerOptions&, const PeerOptions&) = default;
};

/// Half-open connections that cost no memory (RFC 4987, section 3.6): what would be remembered goes
/// into the initial sequence number of our SYN-ACK, and comes back as the acknowledgement of the
/// third segment. Used when the SYN queue has no place for a SYN.
///
///     31     27 26 24 23                     0
///    | counter | MSS |  MAC                   |
///
/// counter  the low 5 bits of the time in units of 64 s. A cookie is good in the unit in which it
///          was made and in the next, so for 64 to 128 s: longer than a client repeats its SYN.
/// MSS      which entry of an 8-entry table, the largest that is not above the peer's MSS.
/// MAC      24 bits of SipHash-2-4 over the four numbers, the peer's initial sequence number, the
///          whole counter, the MSS entry, and what the time stamp carries (below). The first
///          secret is its key.
///
/// The upper 8 bits are then covered by a hash of the four numbers and the peer's sequence number
/// under the second secret. In the clear they would be known to everybody, and a blind attacker,
/// who sees none of our answers, would have to guess 24 bits. Covered, 2 counters times 8 entries
/// make 16 numbers out of 2^32 good for one pair of ports and one sequence number: a segment hits
/// with 2^-28. At a million segments a second (some 0.6 Gbit/s) that is one forged connection in
/// 268 s, in which the attacker writes blindly, as somebody whose host will reset it. A record in
/// the SYN queue stands at 2^-32. Besides, check() believes nothing unless a cookie was made in one
/// of the two units, so that without a flood there is nothing to guess.
///
/// The other options fit the time stamp of the SYN-ACK, which the peer echoes, when it offered time
/// stamps: stamp() replaces the low six bits of our clock.
///
///      5     4      3        0
///    | ECN | SACK | window scale |      scale 15: the peer did not offer to scale
///
/// Without time stamps these options are lost, so the SYN-ACK must not agree to them: it offers
/// what remembered() says. The MAC covers the six bits and whether there were time stamps at all.
/// So an ACK that lacks them, or has some that nobody agreed to, is no cookie; believing it would
/// leave the two sides with different ideas of their windows.
///
/// What the owner has to know:
/// - A cookie's numbers do not grow with time, as RFC 6528 wants: a pair in TIME-WAIT needs numbers
///   beyond the old ones, so a SYN for it gets a record or no answer.
/// - Nothing retransmits the SYN-ACK; the client repeats its SYN.
/// - The TSval of the SYN-ACK is up to 63 ticks old: no measure of the round trip.
///
/// One per stack, on its core. Performs no I/O; time and secrets are arguments.
class SynCookie {
 public:
  using Secret = std::array<std::uint64_t, 2>;

  /// Two independent secrets, drawn when the stack is made and never again: a change would turn
  /// away everybody who holds a cookie.
  SynCookie(Secret mac_secret, Secret cover_secret) : mac_key_{mac_secret}, cover_{cover_secret} {}

  /// The initial sequence number of the SYN-ACK. `irs` is the sequence number of the SYN.
  [[nodiscard]] Seq make(const FlowKey& key, Seq irs, const PeerOptions& peer, Instant now);

  /// What the SYN had offered, if `iss` is a cookie that was made for it not long ago:
  /// remembered(). Of the third segment, `irs` is its sequence number less one, `iss` its
  /// acknowledgement less one, and `echoed` its TSecr, if it has time stamps.
  [[nodiscard]] std::optional<PeerOptions> check(const FlowKey& key, Seq irs, Seq iss, Instant now,
                                                 std::optional<std::uint32_t> echoed) const;

  /// What of the peer's options survives a cookie, and therefore what the SYN-ACK may agree to.
  [[nodiscard]] static PeerOptions remembered(const PeerOptions& peer, wire::Family family);

  /// The TSval of a SYN-ACK with a cookie, for a peer that offered time stamps: the latest number
  /// not later than `now_tsval` that ends in the options. Our next one must not be earlier (RFC
  /// 7323, section 5.4), so it never lies ahead of the clock.
  [[nodiscard]] static std::uint32_t stamp(std::uint32_t now_tsval, const PeerOptions& peer);

  /// The options in an echoed stamp(); the MSS is not in there and stays 0.
  [[nodiscard]] static PeerOptions decode(std::uint32_t tsecr);

 private:
  /// `stamp_bits`: the low six bits of the time stamp, or kNoStamp.
  [[nodiscard]] std::uint32_t mac(const FlowKey& key, Seq irs, std::uint32_t counter,
                                  std::uint32_t mss_index, std::uint8_t stamp_bits) const;
  /// The upper eight bits' cover, in place.
  [[nodiscard]] std::uint32_t cover(const FlowKey& key, Seq irs) const;

  SipKey mac_key_;
  SipKey cover_;
  std::optional<std::uint32_t> last_made_;  // counter of the youngest cookie
};

}  // namespace weir::tcp
