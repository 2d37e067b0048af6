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

InnerMap maglev_sizes(std::uint32_t size, std::uint32_t previous_size) {
  InnerMap table{.type = BPF_MAP_TYPE_ARRAY,
                 .flags = BPF_F_INNER_MAP,
                 .key_bytes = sizeof(std::uint32_t),
                 .value_bytes = sizeof(weir_table_line),
                 .max_entries = 1,
                 .entries = {}};
  weir_table_line sizes{};
  sizes.size = size;
  sizes.previous_size = previous_size;
  table.add(std::uint32_t{0}, sizes);
  return table;
}

InnerMap maglev_table(std::span<const std::uint32_t> current,
                      std::span<const std::uint32_t> previous) {
  InnerMap table = maglev_sizes(static_cast<std::uint32_t>(current.size()),
                                static_cast<std::uint32_t>(previous.size()));
  for (const auto& numbers : {current, previous}) {
    std::vector<weir_table_line> lines(weir_lines_of(static_cast<std::uint32_t>(numbers.size())));
    for (std::size_t slot = 0; slot < numbers.size(); ++slot)
      lines[slot / WEIR_LINE_SLOTS].slots[slot % WEIR_LINE_SLOTS] =
          static_cast<std::uint16_t>(numbers[slot]);
    for (const weir_table_line& line : lines)
      table.add(table.max_entries++, line);
  }
  return table;
}

}  // namespace weir::testing
