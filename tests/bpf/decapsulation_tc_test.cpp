// The tc program in the kernel, through everything that the XDP program goes through on the host.

#include "tests/bpf/decapsulation_fixture.h"

namespace weir::testing {
namespace {

/// The kernel's test-run takes no socket buffer without a whole IP header.
std::vector<DecapsulationCase> cases_for_tc() {
  constexpr std::size_t kLeast = kEthernetBytes + sizeof(wire::Ipv4Header);
  std::vector<DecapsulationCase> cases = decapsulation_cases();
  std::erase_if(cases, [](const DecapsulationCase& one) { return one.frame.size() < kLeast; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Tc, Decapsulation,
                         ::testing::Combine(::testing::Values(BpfProgram::kDecapsulatorTc),
                                            ::testing::ValuesIn(cases_for_tc())),
                         decapsulation_case_name);

INSTANTIATE_TEST_SUITE_P(Tc, RandomTunnels,
                         ::testing::Combine(::testing::Values(BpfProgram::kDecapsulatorTc),
                                            ::testing::ValuesIn(tunnel_kinds())),
                         tunnel_kind_name);

}  // namespace
}  // namespace weir::testing
