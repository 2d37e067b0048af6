// Inner maps of the balancer, empty as maps.h declares them, and Maglev tables.

#include <linux/bpf.h>

#include "bpf/hash.h"
#include "tests/support/bpf_runner.h"

namespace weir::testing {

InnerMap source_list() {
  return {.type = BPF_MAP_TYPE_LPM_TRIE,
          .flags = BPF_F_NO_PREALLOC,
          .key_bytes = sizeof(weir_prefix_key),
          .value_bytes = sizeof(std::uint32_t),
          .max_entries = 1024,
          .entries = {}};
}

InnerMap source_limits() {
  return {.type = BPF_MAP_TYPE_ARRAY,
          .flags = 0,
          .key_bytes = sizeof(std::uint32_t),
          .value_bytes = sizeof(weir_source_set),
          .max_entries = WEIR_SOURCE_SETS,
          .entries = {}};
}

InnerMap quic_ids() {
  return {.type = BPF_MAP_TYPE_HASH,
          .flags = BPF_F_NO_PREALLOC,
          .key_bytes = sizeof(weir_quic_key),
          .value_bytes = sizeof(std::uint32_t),
          .max_entries = 1024,
          .entries = {}};
}

InnerMap maglev_table(std::span<const std::uint32_t> current,
                      std::span<const std::uint32_t> previous) {
  InnerMap table{.type = BPF_MAP_TYPE_ARRAY,
                 .flags = BPF_F_INNER_MAP,
                 .key_bytes = sizeof(std::uint32_t),
                 .value_bytes = sizeof(weir_table_line),
                 .max_entries = 2 * weir_lines_of(static_cast<std::uint32_t>(current.size())),
                 .entries = {}};
  std::vector<weir_table_line> lines(table.max_entries);
  const std::uint32_t second = table.max_entries / 2;
  for (std::uint32_t slot = 0; slot < current.size(); ++slot) {
    const std::uint32_t line = slot / WEIR_LINE_SLOTS;
    lines[line].backends[slot % WEIR_LINE_SLOTS] = static_cast<std::uint16_t>(current[slot]);
    if (previous.empty()) continue;
    lines[second + line].backends[slot % WEIR_LINE_SLOTS] =
        static_cast<std::uint16_t>(previous[slot]);
  }
  for (std::uint32_t line = 0; line < lines.size(); ++line)
    table.add(line, lines[line]);
  return table;
}

}  // namespace weir::testing
