#include "tests/support/host_settings.h"

#include "bpf/hash.h"
#include "tests/support/host_engine.h"

namespace weir::testing {

void set_host_balancer(const BpfSettings& settings) {
  weir_hash_seed[0] = settings.hash_seed[0];
  weir_hash_seed[1] = settings.hash_seed[1];
  for (std::uint32_t i = 0; i < WEIR_FLOW_KEYS; ++i)
    weir_flow_keys[i] = weir_flow_key_of(settings.hash_seed[0], settings.hash_seed[1], i);
  weir_flow_set_mask = settings.flow_sets - 1;
  weir_is_stateless = settings.is_stateless ? 1 : 0;
  weir_l7_worker_count = settings.l7_worker_count;
  weir_tick_parts = WEIR_RATE_SECOND / BpfSettings::kTicksPerSecond;
  weir_second_shift = BpfSettings::kSecondShift;
  weir_answers_per_s = settings.answers_per_s;
  weir_nat_mask = settings.nat_records == 0 ? 0 : settings.nat_records - 1;
  weir_nat_port_first = settings.nat_port_first;
  weir_nat_port_last = settings.nat_port_last;
}

}  // namespace weir::testing
