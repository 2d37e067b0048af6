#include "l4/nat_table.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "bpf/nat_state.h"
#include "l4/mapped_array.h"

namespace weir::l4 {
namespace {

void count(NatCount& counts, std::uint64_t owner) {
  switch (weir_nat_state_of(owner)) {
    case WEIR_NAT_NEW:
      ++counts.unanswered;
      break;
    case WEIR_NAT_REPLIED:
      ++counts.answered;
      break;
    case WEIR_NAT_ESTABLISHED:
      ++(weir_nat_was_reset(owner) != 0 ? counts.closing : counts.established);
      break;
    case WEIR_NAT_CLOSING:
      ++counts.closing;
      break;
    default:
      break;
  }
}

std::optional<std::uint32_t> age_of(weir_nat_flow& record, std::uint64_t owner, std::uint32_t now) {
  return nat_age(owner, read_now(record.stamp), read_now(record.protocol), now);
}

}  // namespace

std::uint32_t nat_records(std::uint32_t nat_flows_max) {
  return nat_flows_max == 0 ? 0 : std::bit_ceil(std::max<std::uint32_t>(nat_flows_max, 2));
}

Result<BackendFlows> count_nat_flows_of(int map_fd, std::uint32_t backend, std::uint32_t stamp) {
  auto records = MappedArray<weir_nat_flow>::open(map_fd, "weir_nat_flows");
  if (!records) return std::move(records).error();
  BackendFlows flows;
  for (weir_nat_flow& record : records->values()) {
    if (read_now(record.backend_id) != backend) continue;
    const std::uint64_t owner = read_now(record.owner);
    const auto age = age_of(record, owner, stamp);
    if (!age || flow_state_of(owner) == WEIR_FLOW_CLOSING) continue;
    ++flows.alive;
    flows.idle += *age > WEIR_FLOW_LONG_IDLE_S ? 1 : 0;
  }
  return flows;
}

Result<NatCount> count_nat_flows(int map_fd, std::uint32_t stamp) {
  auto records = MappedArray<weir_nat_flow>::open(map_fd, "weir_nat_flows");
  if (!records) return std::move(records).error();
  constexpr std::size_t kRecordsReadMax = std::size_t{1} << 20;
  const std::span<weir_nat_flow> all = records->values();
  const std::span<weir_nat_flow> read = all.first(std::min(all.size(), kRecordsReadMax));
  NatCount counts;
  for (weir_nat_flow& record : read) {
    const std::uint64_t owner = read_now(record.owner);
    if (age_of(record, owner, stamp)) count(counts, owner);
  }
  const std::uint64_t share = all.size() / read.size();
  counts.capacity = all.size();
  for (std::uint64_t* part :
       {&counts.unanswered, &counts.answered, &counts.established, &counts.closing})
    *part *= share;
  return counts;
}

}  // namespace weir::l4
