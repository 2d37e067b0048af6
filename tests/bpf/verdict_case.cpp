#include "tests/bpf/verdict_case.h"

#include <algorithm>

namespace weir::testing {

VerdictCase& VerdictCases::add(std::string_view name, const PacketBuilder& packet,
                               weir_verdict verdict) {
  return add(name, packet, verdict, 0, 0, 0);
}

VerdictCase& VerdictCases::add(std::string_view name, const PacketBuilder& packet,
                               weir_verdict verdict, std::uint32_t vip, std::uint32_t backend,
                               std::uint64_t new_flows) {
  VerdictCase& made = cases_.emplace_back(VerdictCase{.name = std::string{name},
                                                      .world = world_,
                                                      .packet = packet,
                                                      .verdict = verdict,
                                                      .before = {},
                                                      .sent_tags = {}});
  made.vip = vip;
  made.backend = backend;
  made.new_flows = new_flows;
  return made;
}

void VerdictCases::add_pair(std::string_view name, const PacketBuilder& for_vip,
                            weir_verdict verdict) {
  PacketBuilder for_host = for_vip;
  for_host.destination(for_vip.is_v4() ? kHost : kHost6);
  add(std::string{name} + "ForAVipIsDropped", for_vip, verdict);
  add(std::string{name} + "ForTheHostIsPassed", for_host, WEIR_PASS_NOT_A_VIP);
}

PacketBuilder icmp_error(const wire::IpAddress& router, const wire::IpAddress& to,
                         std::uint8_t type, std::uint8_t code, const PacketBuilder& about,
                         std::size_t bytes_behind_header) {
  std::vector<std::byte> quote = about.ip_bytes();
  const std::size_t header_words = std::to_integer<std::size_t>(quote[0] & std::byte{0x0f});
  const std::size_t header = about.is_v4() ? 4 * header_words : 40;
  quote.resize(std::min(quote.size(), header + bytes_behind_header));
  return icmp(router, to, type, code).payload(std::move(quote));
}

std::vector<VerdictCase> verdict_cases() {
  std::vector<VerdictCase> all;
  for (auto topic : {way_cases, forward_cases, tag_cases, malformed_cases, foreign_cases,
                     fragment_cases, dropped_cases, icmp_cases, answer_cases, service_cases,
                     protection_cases, quic_cases, l7_cases, nat_cases})
    std::ranges::move(topic(), std::back_inserter(all));
  return all;
}

}  // namespace weir::testing
