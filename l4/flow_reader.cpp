#include "l4/flow_reader.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "l4/flow_table.h"
#include "l4/mapped_array.h"

namespace weir::l4 {
namespace {

/// A record as it was at one moment; nothing while somebody owns it. Its owner changes whenever the
/// rest does, but for stamp, way back and expected acknowledgement, of which any value is a true
/// one.
std::optional<weir_nat_flow> copy_of(weir_nat_flow& record) {
  const std::uint64_t owner = read_now(record.owner);
  std::array<std::uint64_t, sizeof(record) / sizeof(std::uint64_t)> words{};
  // The record is an array of words to us: the program may be writing it, so that each is read
  // whole. Aligned, since the map's values are.
  auto* from = reinterpret_cast<std::uint64_t*>(&record);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = read_now(from[i]);
  std::atomic_thread_fence(std::memory_order_acquire);
  weir_nat_flow copy{};
  std::memcpy(&copy, words.data(), sizeof(copy));
  const std::uint64_t after = read_now(record.owner);
  if (owner >> WEIR_NAT_GENERATION_SHIFT != after >> WEIR_NAT_GENERATION_SHIFT) return std::nullopt;
  if ((owner & WEIR_NAT_STATE_MASK) == WEIR_NAT_CLAIMED ||
      (after & WEIR_NAT_STATE_MASK) == WEIR_NAT_CLAIMED)
    return std::nullopt;
  return copy;
}

}  // namespace

Result<ReadFlows> read_flow_tallies(const Datapath& datapath, std::uint32_t now) {
  ReadFlows out{FlowTallies{now}, false};
  if (datapath.settings().flows_max != 0) {
    auto flows = MappedArray<std::uint64_t>::open(datapath.tables().flows_fd(), "weir_flows");
    if (!flows) return std::move(flows).error();
    const std::span<std::uint64_t> all = flows->values();
    const std::span<std::uint64_t> read = all.first(std::min(all.size(), kFlowsReadMax));
    for (std::uint64_t& entry : read)
      out.tallies.add(read_now(entry));
    out.is_estimate = read.size() < all.size();
    out.tallies.scale(all.size() / read.size());
  }
  Result<void> nat = for_each_nat_flow(
      datapath, now,
      [&](const weir_nat_flow& record, std::uint32_t /*age*/) { out.tallies.add(record); });
  if (!nat) return std::move(nat).error();
  return out;
}

Result<std::optional<FlowEntry>> read_flow(const Datapath& datapath, const weir_flow_key& flow) {
  if (datapath.settings().flows_max == 0) return std::optional<FlowEntry>{};
  auto flows = MappedArray<std::uint64_t>::open(datapath.tables().flows_fd(), "weir_flows");
  if (!flows) return std::move(flows).error();
  const FlowPlace place = FlowPlace::of(flow, datapath.constants().flow_secret,
                                        flow_sets(datapath.settings().flows_max));
  const std::size_t first = std::size_t{place.set} * WEIR_FLOW_WAYS;
  if (first + WEIR_FLOW_WAYS > flows->values().size())
    return Error{ErrorCode::kInternal, "the flow table is smaller than its settings say"};
  std::array<std::uint64_t, WEIR_FLOW_WAYS> set{};
  std::ranges::transform(flows->values().subspan(first, WEIR_FLOW_WAYS), set.begin(),
                         [](std::uint64_t& entry) { return read_now(entry); });
  return place.find(set);
}

Result<void> for_each_nat_flow(
    const Datapath& datapath, std::uint32_t now,
    const std::function<void(const weir_nat_flow&, std::uint32_t)>& take) {
  if (datapath.settings().nat_flows_max == 0) return {};
  auto records =
      MappedArray<weir_nat_flow>::open(datapath.tables().nat_flows_fd(), "weir_nat_flows");
  if (!records) return std::move(records).error();
  const std::span<weir_nat_flow> all = records->values();
  for (weir_nat_flow& record : all) {
    const auto copy = copy_of(record);
    const auto age = copy ? nat_age(*copy, now) : std::nullopt;
    if (age) take(*copy, *age);
  }
  return {};
}

Result<SlotChoice> read_choice(const Datapath& datapath, VipId vip, std::uint64_t hash) {
  const Result<Table> table = datapath.tables().read_table(vip);
  if (!table) return table.error();
  const auto slot_in = [hash](const std::vector<MemberNumber>& slots) {
    const auto size = static_cast<std::uint32_t>(slots.size());
    return slots.empty() ? MemberNumber{} : slots[weir_slot_of(hash, size)];
  };
  return SlotChoice{slot_in(table->current), slot_in(table->previous)};
}

}  // namespace weir::l4
