#include "l4/control/model.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace weir::control {
namespace {

/// The words of an enumeration, in the order in which errors list them.
template <typename Enum, std::size_t kCount>
using Words = std::array<std::pair<std::string_view, Enum>, kCount>;

constexpr Words<Protocol, 2> kProtocols{{{"tcp", Protocol::kTcp}, {"udp", Protocol::kUdp}}};
constexpr Words<ForwardMode, 5> kForwardModes{{{"ipip", ForwardMode::kIpip},
                                               {"gue", ForwardMode::kGue},
                                               {"l2", ForwardMode::kL2},
                                               {"nat", ForwardMode::kNat},
                                               {"l7", ForwardMode::kL7}}};
constexpr Words<HashPolicy, 3> kHashPolicies{{{"fiveTuple", HashPolicy::kFiveTuple},
                                              {"sourceIPPort", HashPolicy::kSourceIpPort},
                                              {"sourceIP", HashPolicy::kSourceIp}}};
constexpr Words<WhenEmpty, 2> kWhenEmpty{
    {{"refuse", WhenEmpty::kRefuse}, {"drop", WhenEmpty::kDrop}}};
constexpr Words<Snat, 3> kSnat{
    {{"auto", Snat::kAuto}, {"always", Snat::kAlways}, {"never", Snat::kNever}}};
constexpr Words<BackendState, 3> kBackendStates{{{"active", BackendState::kActive},
                                                 {"draining", BackendState::kDraining},
                                                 {"maintenance", BackendState::kMaintenance}}};
constexpr Words<ProbeKind, 6> kProbeKinds{{{"tcp", ProbeKind::kTcp},
                                           {"http", ProbeKind::kHttp},
                                           {"https", ProbeKind::kHttps},
                                           {"udp", ProbeKind::kUdp},
                                           {"grpc", ProbeKind::kGrpc},
                                           {"icmp", ProbeKind::kIcmp}}};
constexpr Words<XdpMode, 3> kXdpModes{
    {{"native", XdpMode::kNative}, {"generic", XdpMode::kGeneric}, {"auto", XdpMode::kAuto}}};

template <typename Enum, std::size_t kCount>
std::string_view word_of(const Words<Enum, kCount>& words, Enum value) {
  const auto found = std::ranges::find(words, value, [](const auto& word) { return word.second; });
  WEIR_ASSERT(found != words.end());  // the tables above name every value
  return found->first;
}

template <typename Enum, std::size_t kCount>
Result<Enum> value_of(const Words<Enum, kCount>& words, std::string_view text,
                      std::string_view what) {
  std::string known;
  for (const auto& [word, value] : words) {
    if (word == text) return value;
    known += known.empty() ? "" : ", ";
    known += word;
  }
  return Error{ErrorCode::kInvalid,
               fmt::format("'{}' is not a {}; expected one of {}", text, what, known)};
}

bool is_prime(std::uint32_t number) {
  if (number < 4) return number > 1;
  if (number % 2 == 0) return false;
  for (std::uint32_t divisor = 3; divisor <= number / divisor; divisor += 2) {
    if (number % divisor == 0) return false;
  }
  return true;
}

}  // namespace

std::string ServiceEndpoint::text() const {
  return is_name() ? fmt::format("{}:{}", hostname, endpoint.port.value()) : endpoint.text();
}

std::string_view text_of(Protocol protocol) { return word_of(kProtocols, protocol); }
std::string_view text_of(ForwardMode mode) { return word_of(kForwardModes, mode); }
std::string_view text_of(XdpMode mode) { return word_of(kXdpModes, mode); }
std::string_view text_of(HashPolicy hash) { return word_of(kHashPolicies, hash); }
std::string_view text_of(WhenEmpty when_empty) { return word_of(kWhenEmpty, when_empty); }
std::string_view text_of(Snat snat) { return word_of(kSnat, snat); }
std::string_view text_of(BackendState state) { return word_of(kBackendStates, state); }
std::string_view text_of(ProbeKind kind) { return word_of(kProbeKinds, kind); }

Result<Protocol> parse_protocol(std::string_view text) {
  return value_of(kProtocols, text, "protocol");
}
Result<ForwardMode> parse_forward_mode(std::string_view text) {
  return value_of(kForwardModes, text, "forwarding mode");
}
Result<XdpMode> parse_xdp_mode(std::string_view text) {
  return value_of(kXdpModes, text, "XDP mode");
}

Result<HashPolicy> parse_hash_policy(std::string_view text) {
  return value_of(kHashPolicies, text, "hash policy");
}
Result<WhenEmpty> parse_when_empty(std::string_view text) {
  return value_of(kWhenEmpty, text, "way to treat packets of an empty VIP");
}
Result<Snat> parse_snat(std::string_view text) {
  return value_of(kSnat, text, "way to use source NAT");
}
Result<BackendState> parse_backend_state(std::string_view text) {
  return value_of(kBackendStates, text, "state of a backend");
}
Result<ProbeKind> parse_probe_kind(std::string_view text) {
  return value_of(kProbeKinds, text, "kind of health check");
}

std::vector<Vip> l4_services(const Model& model) {
  std::vector<Vip> services = model.vips;
  std::ranges::move(gateway_services(model.gateways), std::back_inserter(services));
  return services;
}

std::vector<Vip> gateway_services(const std::vector<Gateway>& gateways) {
  std::vector<Vip> services;
  for (const Gateway& gateway : gateways) {
    for (const wire::IpAddress& address : gateway.addresses) {
      std::vector<wire::Port> ports_done;
      for (const Listener& listener : gateway.listeners) {
        // Listeners may share a port and differ by hostname; packets know nothing of hostnames.
        if (std::ranges::find(ports_done, listener.port) != ports_done.end()) continue;
        ports_done.push_back(listener.port);
        Vip vip;
        vip.name = fmt::format("{}/{}", gateway.name, listener.name);
        vip.address = address;
        vip.ports = PortRange::only(listener.port);
        vip.mode = ForwardMode::kL7;
        services.push_back(std::move(vip));
      }
    }
  }
  return services;
}

std::uint32_t Vip::slots() const {
  return table_size != 0 ? table_size : table_size_for(backends.size());
}

std::uint32_t table_size_for(std::size_t backends) {
  // The largest primes below powers of four, but for the size that is customary.
  constexpr std::array<std::uint32_t, 6> kSizes{1021, 4093, 16381, 65537, 262139, kTableSizeMax};
  constexpr std::size_t kSlotsPerBackend = 100;
  for (const std::uint32_t size : kSizes) {
    if (backends * kSlotsPerBackend <= size) return size;
  }
  return kTableSizeMax;
}

bool is_table_size(std::uint32_t size) {
  return size >= kTableSizeMin && size <= kTableSizeMax && is_prime(size);
}

std::uint32_t nearest_table_size(std::uint64_t size) {
  const auto wanted =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(size, kTableSizeMin, kTableSizeMax));
  // Both ends of the range are prime, so the search ends; gaps between primes below 2^20 are
  // shorter than 120.
  for (std::uint32_t distance = 0;; ++distance) {
    if (is_table_size(wanted + distance)) return wanted + distance;
    if (is_table_size(wanted - distance)) return wanted - distance;
  }
}

}  // namespace weir::control
