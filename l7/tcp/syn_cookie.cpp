#include "l7/tcp/syn_cookie.h"

#include <algorithm>
#include <cstddef>
#include <span>

namespace weir::tcp {
namespace {

constexpr Duration kUnit = std::chrono::seconds{64};

constexpr unsigned kMacBits = 24;
constexpr std::uint32_t kMacMask = (1U << kMacBits) - 1;
constexpr unsigned kCounterShift = 27;
constexpr std::uint32_t kCounterMask = 0x1f;
constexpr std::uint32_t kMssIndexMask = 0x7;
constexpr std::uint32_t kUnitsValid = 2;  // this one and the one before

constexpr unsigned kStampBits = 6;
constexpr std::uint32_t kStampMask = (1U << kStampBits) - 1;
constexpr std::uint32_t kStampEcn = 0x20;
constexpr std::uint32_t kStampSack = 0x10;
constexpr std::uint32_t kStampScaleMask = 0x0f;
constexpr std::uint8_t kStampNoScale = 15;
constexpr std::uint8_t kScaleMax = 14;  // RFC 7323, section 2.3: more is read as 14
constexpr std::uint8_t kNoStamp = 0xff;

// Eight values each, for a peer that is served a little below its MSS while a flood lasts. Entry 0
// is the stack's own floor, so that there is always one that is not above the peer's. IPv4: 536 is
// the default (RFC 9293, section 3.7.1) and 1220 fits every IPv6 link, where tunnels like to stay;
// 1460 is Ethernet, as nearly everybody says; from 1360 (tunnels in tunnels) upwards no peer loses
// more than 3 %: 1380 (WireGuard, clamping firewalls) becomes 1360, 1452 (PPPoE) becomes 1440. 8960
// is what a jumbo frame leaves, between hosts of one data centre. IPv6: the same paths, 20 bytes
// less; 1220 is the default and the least MTU's.
using MssTable = std::array<std::uint16_t, 8>;
constexpr MssTable kMssV4 = {88, 536, 1220, 1360, 1400, 1440, 1460, 8960};
constexpr MssTable kMssV6 = {88, 536, 1220, 1340, 1400, 1420, 1440, 8940};
static_assert(std::ranges::is_sorted(kMssV4) && std::ranges::is_sorted(kMssV6));

const MssTable& mss_table(wire::Family family) {
  return family == wire::Family::kIpv4 ? kMssV4 : kMssV6;
}

std::uint32_t mss_index(wire::Family family, std::uint16_t mss) {
  const MssTable& table = mss_table(family);
  const auto above = std::ranges::upper_bound(table, mss);
  return above == table.begin() ? 0 : static_cast<std::uint32_t>(above - table.begin() - 1);
}

std::uint32_t counter_at(Instant now) {
  return static_cast<std::uint32_t>(now.time_since_epoch() / kUnit);
}

std::uint8_t stamp_bits(const PeerOptions& peer) {
  const std::uint8_t scale =
      peer.window_scale ? std::min(*peer.window_scale, kScaleMax) : kStampNoScale;
  return static_cast<std::uint8_t>((peer.ecn ? kStampEcn : 0) |
                                   (peer.sack_permitted ? kStampSack : 0) | scale);
}

/// What is hashed, without padding.
struct Covered {
  FlowKey key;
  std::uint32_t irs = 0;
};
static_assert(sizeof(Covered) == 40);

struct Authenticated {
  Covered covered;
  std::uint32_t counter = 0;
  std::uint16_t mss_index = 0;
  std::uint16_t stamp_bits = 0;
};
static_assert(sizeof(Authenticated) == 48);

}  // namespace

std::uint32_t SynCookie::cover(const FlowKey& key, Seq irs) const {
  const Covered input{key, irs.value()};
  const std::uint64_t hash = siphash(cover_, std::as_bytes(std::span{&input, 1}));
  return static_cast<std::uint32_t>(hash) & ~kMacMask;
}

std::uint32_t SynCookie::mac(const FlowKey& key, Seq irs, std::uint32_t counter,
                             std::uint32_t mss_index, std::uint8_t stamp_bits) const {
  const Authenticated input{{key, irs.value()},
                            counter,
                            static_cast<std::uint16_t>(mss_index),
                            static_cast<std::uint16_t>(stamp_bits)};
  const std::uint64_t hash = siphash(mac_key_, std::as_bytes(std::span{&input, 1}));
  return static_cast<std::uint32_t>(hash) & kMacMask;
}

Seq SynCookie::make(const FlowKey& key, Seq irs, const PeerOptions& peer, Instant now) {
  const std::uint32_t counter = counter_at(now);
  const std::uint32_t index = mss_index(key.remote_address.family(), peer.mss);
  const std::uint8_t bits = peer.timestamps ? stamp_bits(peer) : kNoStamp;
  last_made_ = counter;
  const std::uint32_t upper = ((counter & kCounterMask) << kCounterShift) | (index << kMacBits);
  return Seq{(upper ^ cover(key, irs)) | mac(key, irs, counter, index, bits)};
}

std::optional<PeerOptions> SynCookie::check(const FlowKey& key, Seq irs, Seq iss, Instant now,
                                            std::optional<std::uint32_t> echoed) const {
  const std::uint32_t counter = counter_at(now);
  if (!last_made_ || counter - *last_made_ >= kUnitsValid) return std::nullopt;
  const std::uint32_t upper = iss.value() ^ cover(key, irs);
  const std::uint32_t age = (counter - (upper >> kCounterShift)) & kCounterMask;
  if (age >= kUnitsValid) return std::nullopt;
  const std::uint32_t index = (upper >> kMacBits) & kMssIndexMask;
  const std::uint8_t bits = echoed ? static_cast<std::uint8_t>(*echoed & kStampMask) : kNoStamp;
  if ((iss.value() & kMacMask) != mac(key, irs, counter - age, index, bits)) return std::nullopt;
  PeerOptions peer = echoed ? decode(*echoed) : PeerOptions{};
  peer.mss = mss_table(key.remote_address.family())[index];
  return peer;
}

PeerOptions SynCookie::remembered(const PeerOptions& peer, wire::Family family) {
  PeerOptions rest = peer.timestamps ? decode(stamp_bits(peer)) : PeerOptions{};
  rest.mss = mss_table(family)[mss_index(family, peer.mss)];
  return rest;
}

std::uint32_t SynCookie::stamp(std::uint32_t now_tsval, const PeerOptions& peer) {
  const std::uint32_t bits = stamp_bits(peer);
  const std::uint32_t stamped = (now_tsval & ~kStampMask) | bits;
  // Modulo 2^32, like every comparison of time stamps.
  return bits > (now_tsval & kStampMask) ? stamped - (kStampMask + 1) : stamped;
}

PeerOptions SynCookie::decode(std::uint32_t tsecr) {
  PeerOptions peer;
  const auto scale = static_cast<std::uint8_t>(tsecr & kStampScaleMask);
  if (scale != kStampNoScale) peer.window_scale = scale;
  peer.sack_permitted = (tsecr & kStampSack) != 0;
  peer.ecn = (tsecr & kStampEcn) != 0;
  peer.timestamps = true;
  return peer;
}

}  // namespace weir::tcp
