#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bpf/balancer_fixture.h"

/// The packet table: one line per behaviour of the balancer, a frame and how it ends. Its files are
/// verdict_*_cases.cpp, by topic; verdict_test.cpp runs it.
namespace weir::testing {

/// Which VIPs there are. verdict_worlds.cpp has them all.
enum class World {
  kStandard,    ///< of balancer_fixture.h
  kL7,          ///< the same, with kL7Workers workers
  kSilent,      ///< the same, with nothing left to answer with
  kModes,       ///< ipip, gue and l2, each family to each, to this device and to another
  kVlans,       ///< backends behind a VLAN of their own, or without one
  kServices,    ///< ranges of ports, all ports, prefixes
  kProtected,   ///< lists and limits
  kRefusing,    ///< unknown ports and services without backends are answered
  kQuic,        ///< server ids in connection ids
  kHashes,      ///< every slot of a table is another backend's
  kNat,         ///< of nat_fixture.h
  kNatOnePort,  ///< the same, with one source port in all
};

inline constexpr std::uint32_t kL7Workers = 3;

struct VerdictCase {
  std::string name;  ///< a sentence
  World world;
  PacketBuilder packet;
  weir_verdict verdict;
  std::uint32_t vip = 0;      ///< whose counter must move; 0: none
  std::uint32_t backend = 0;  ///< likewise
  std::uint64_t new_flows = 0;
  std::vector<PacketBuilder> before;                    ///< sent first; how they end is not asked
  std::optional<std::vector<std::uint16_t>> sent_tags;  ///< as they stand in the frame that is sent

  VerdictCase& after(const PacketBuilder& earlier) {
    before.push_back(earlier);
    return *this;
  }
  VerdictCase& sent_with_tags(std::vector<std::uint16_t> tags) {
    sent_tags = std::move(tags);
    return *this;
  }
};

/// Cases of one world. Added one by one: a list of initializers takes a compiler many times as
/// long.
class VerdictCases {
 public:
  explicit VerdictCases(World world) : world_{world} {}

  /// One that concerns no VIP's counter.
  VerdictCase& add(std::string_view name, const PacketBuilder& packet, weir_verdict verdict);
  /// One that a VIP counts, and if it is sent a backend.
  VerdictCase& add(std::string_view name, const PacketBuilder& packet, weir_verdict verdict,
                   std::uint32_t vip, std::uint32_t backend = 0, std::uint64_t new_flows = 1);

  /// What is malformed is dropped for a VIP, and passed untouched for the host: a pair of both. The
  /// name says what is wrong.
  void add_pair(std::string_view name, const PacketBuilder& for_vip, weir_verdict verdict);

  [[nodiscard]] std::vector<VerdictCase> list() const { return {cases_.begin(), cases_.end()}; }

 private:
  World world_;
  std::deque<VerdictCase> cases_;  ///< not a vector: what add() returns stays valid
};

// The topics.
std::vector<VerdictCase> way_cases();         ///< every mode, both families, what is sent by it
std::vector<VerdictCase> forward_cases();     ///< what else is forwarded
std::vector<VerdictCase> tag_cases();         ///< VLAN tags
std::vector<VerdictCase> malformed_cases();   ///< in pairs
std::vector<VerdictCase> foreign_cases();     ///< not IP, not for a VIP, other protocols
std::vector<VerdictCase> fragment_cases();    ///< first, later, overlapping
std::vector<VerdictCase> dropped_cases();     ///< no backend, no next hop, no such port
std::vector<VerdictCase> icmp_cases();        ///< errors about flows, and other messages
std::vector<VerdictCase> answer_cases();      ///< echo, errors of our own, refusals
std::vector<VerdictCase> service_cases();     ///< ranges, prefixes, hash policies, affinity
std::vector<VerdictCase> protection_cases();  ///< lists and limits
std::vector<VerdictCase> quic_cases();        ///< connection ids
std::vector<VerdictCase> l7_cases();          ///< what else mode l7 does
std::vector<VerdictCase> nat_cases();         ///< what else mode nat does
/// All of them.
std::vector<VerdictCase> verdict_cases();

// What cases are made of.
inline const wire::Endpoint kFrom = at(kClient, 40000);
inline const wire::Endpoint kFrom6 = at(kClient6, 40000);
inline const wire::Endpoint kTo = at(kVip, 80);
inline const wire::Endpoint kTo6 = at(kVip6, 80);
inline const wire::IpAddress kRouter = v4(203, 0, 113, 1);
inline const wire::IpAddress kRouter6 = v6("2001:db8:7::1");

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr std::uint16_t kTagQ = 0x8100;
inline constexpr std::uint16_t kTagAd = 0x88a8;

/// Bytes of no meaning.
inline std::string text(std::size_t bytes) { return std::string(bytes, 'x'); }

/// An ICMP error that quotes the IP header of `about` and so many bytes behind it.
PacketBuilder icmp_error(const wire::IpAddress& router, const wire::IpAddress& to,
                         std::uint8_t type, std::uint8_t code, const PacketBuilder& about,
                         std::size_t bytes_behind_header = 8);

}  // namespace weir::testing
