#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "bpf/hash.h"
#include "l4/datapath.h"
#include "l4/flow_table.h"
#include "l4/vip_entries.h"

namespace weir::l4 {

/// Those that may get packets. Not the possible ones, of which a virtual machine may have 128 for
/// the two that it runs on: each would have next to no share of what all share.
inline std::uint32_t online_cpus() {
  return static_cast<std::uint32_t>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
}

/// Every CPU may give its share of the answers, rounded up: they share no counter.
inline std::uint32_t answers_per_cpu(std::uint32_t answers_per_s, std::uint32_t cpus) {
  return answers_per_s / cpus + (answers_per_s % cpus != 0 ? 1 : 0);
}

/// Fills in what the balancer is given before it is loaded; `data` is the .rodata of a skeleton,
/// the balancer's or the tracing one's.
template <typename Rodata>
void write_settings(Rodata& data, const DatapathSettings& settings,
                    const DatapathConstants& constants) {
  const auto& seed = settings.hash_seed.words;
  const auto& secret = constants.flow_secret.words;
  data.weir_hash_seed[0] = seed[0];
  data.weir_hash_seed[1] = seed[1];
  for (std::uint32_t i = 0; i < WEIR_FLOW_KEYS; ++i)
    data.weir_flow_keys[i] = weir_flow_key_of(secret[0], secret[1], i);
  data.weir_flow_set_mask = flow_sets(settings.flows_max) - 1;
  data.weir_is_stateless = settings.flows_max == 0 ? 1 : 0;
  data.weir_l7_worker_count = settings.l7_workers;
  data.weir_tick_parts = WEIR_RATE_SECOND / constants.ticks.per_s;
  data.weir_second_shift = constants.ticks.second_shift();
  data.weir_answers_per_s = answers_per_cpu(settings.answers_per_s, online_cpus());
  data.weir_nat_mask = settings.nat_flows_max == 0 ? 0 : settings.nat_flows_max - 1;
  data.weir_nat_port_first = settings.snat_ports.first.value();
  data.weir_nat_port_last = settings.snat_ports.last.value();
}

}  // namespace weir::l4
