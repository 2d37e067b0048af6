#include "l4/nat_table.h"

#include <netinet/in.h>

#include <algorithm>
#include <atomic>
#include <bit>

#include "l4/mapped_array.h"

namespace weir::l4 {
namespace {

/// The program writes records at the same time, on other CPUs; what is read here is one word each.
template <typename T>
T load(T& word) {
  return std::atomic_ref{word}.load(std::memory_order_relaxed);
}

void count(NatCount& counts, std::uint64_t owner) {
  switch (owner & WEIR_NAT_STATE_MASK) {
    case WEIR_NAT_NEW:
      ++counts.unanswered;
      break;
    case WEIR_NAT_REPLIED:
      ++counts.answered;
      break;
    case WEIR_NAT_ESTABLISHED:
      ++((owner & WEIR_NAT_RESET) != 0 ? counts.closing : counts.established);
      break;
    case WEIR_NAT_CLOSING:
      ++counts.closing;
      break;
    default:
      break;
  }
}

}  // namespace

std::uint32_t nat_records(std::uint32_t nat_flows_max) {
  return nat_flows_max == 0 ? 0 : std::bit_ceil(std::max<std::uint32_t>(nat_flows_max, 2));
}

std::uint32_t nat_timeout_s(std::uint64_t owner, std::uint8_t protocol) {
  const bool is_tcp = protocol == IPPROTO_TCP;
  switch (owner & WEIR_NAT_STATE_MASK) {
    case WEIR_NAT_NEW:
      return is_tcp ? WEIR_NAT_TCP_NEW_S : WEIR_NAT_UDP_NEW_S;
    case WEIR_NAT_REPLIED:
      return is_tcp ? WEIR_NAT_TCP_REPLIED_S : WEIR_NAT_UDP_REPLIED_S;
    case WEIR_NAT_ESTABLISHED:
      return (owner & WEIR_NAT_RESET) != 0 ? WEIR_NAT_TCP_CLOSING_S : WEIR_NAT_TCP_ESTABLISHED_S;
    default:
      return WEIR_NAT_TCP_CLOSING_S;
  }
}

Result<NatCount> count_nat_flows(int map_fd, std::uint32_t stamp) {
  auto records = MappedArray<weir_nat_flow>::open(map_fd, "weir_nat_flows");
  if (!records) return std::move(records).error();
  constexpr std::size_t kRecordsReadMax = std::size_t{1} << 20;
  const std::span<weir_nat_flow> all = records->values();
  const std::span<weir_nat_flow> read = all.first(std::min(all.size(), kRecordsReadMax));
  NatCount counts;
  for (weir_nat_flow& record : read) {
    const std::uint64_t owner = load(record.owner);
    const std::uint32_t idle_s = (stamp - load(record.stamp)) & WEIR_FLOW_STAMP_MASK;
    if (idle_s <= nat_timeout_s(owner, load(record.protocol))) count(counts, owner);
  }
  const std::uint64_t share = all.size() / read.size();
  counts.capacity = all.size();
  for (std::uint64_t* part :
       {&counts.unanswered, &counts.answered, &counts.established, &counts.closing})
    *part *= share;
  return counts;
}

}  // namespace weir::l4
