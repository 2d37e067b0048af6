#include "l4/flow_view.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "bpf/hash.h"
#include "bpf/nat_state.h"

namespace weir::l4 {

std::string_view text_of(weir_flow_state state) {
  switch (state) {
    case WEIR_FLOW_NEW:
      return "new";
    case WEIR_FLOW_ESTABLISHED:
      return "established";
    case WEIR_FLOW_CLOSING:
      return "closing";
    case WEIR_FLOW_CLIENT:
      return "client";
  }
  return "unknown";
}

FlowPlace FlowPlace::of(const weir_flow_key& flow, const SipKey& secret, std::uint32_t sets) {
  std::array<std::uint32_t, WEIR_FLOW_KEYS> keys{};
  for (std::uint32_t i = 0; i < keys.size(); ++i)
    keys[i] = weir_flow_key_of(secret.words[0], secret.words[1], i);
  const std::uint64_t hash = weir_table_hash(&flow, keys.data());
  return {.hash = hash, .set = static_cast<std::uint32_t>(hash) & (sets - 1)};
}

std::optional<FlowEntry> FlowPlace::find(
    std::span<const std::uint64_t, WEIR_FLOW_WAYS> entries) const {
  // All ways alike: the program begins with the flow's own, but no two have the flow's tag.
  for (const std::uint64_t word : entries) {
    const FlowEntry entry = FlowEntry::of(word);
    if (entry.backend != BackendId{} && entry.tag == hash >> WEIR_FLOW_TAG_SHIFT) return entry;
  }
  return std::nullopt;
}

void FlowTallies::add(BackendId backend, weir_flow_state state, std::uint32_t age) {
  FlowTally& tally = tallies_[backend];
  ++tally.by_state[state];
  const auto step = std::ranges::lower_bound(kIdleSteps, age);
  ++tally.by_idle[static_cast<std::size_t>(step - kIdleSteps.begin())];
}

void FlowTallies::add(std::uint64_t word) {
  const FlowEntry entry = FlowEntry::of(word);
  if (entry.backend != BackendId{}) add(entry.backend, entry.state, entry.age(now_));
}

void FlowTallies::add(const weir_nat_flow& record) {
  if (const auto age = nat_age(record, now_))
    add(BackendId{record.backend_id}, flow_state_of(record.owner), *age);
}

void FlowTallies::scale(std::uint64_t share) {
  for (auto& [backend, tally] : tallies_) {
    for (std::uint64_t& count : tally.by_state)
      count *= share;
    for (std::uint64_t& count : tally.by_idle)
      count *= share;
  }
}

std::optional<std::uint32_t> nat_age(const weir_nat_flow& record, std::uint32_t now) {
  return nat_age(record.owner, record.stamp, record.protocol, now);
}

std::optional<std::uint32_t> nat_age(std::uint64_t owner, std::uint32_t stamp,
                                     std::uint8_t protocol, std::uint32_t now) {
  const std::uint32_t state = weir_nat_state_of(owner);
  if (state == WEIR_NAT_FREE || state == WEIR_NAT_CLAIMED) return std::nullopt;
  const std::uint32_t age = (now - stamp) & WEIR_FLOW_STAMP_MASK;
  if (age > weir_nat_timeout_s(owner, protocol == IPPROTO_TCP ? 1 : 0)) return std::nullopt;
  return age;
}

weir_flow_state flow_state_of(std::uint64_t owner) {
  switch (weir_nat_state_of(owner)) {
    case WEIR_NAT_NEW:
      return WEIR_FLOW_NEW;
    case WEIR_NAT_CLOSING:
      return WEIR_FLOW_CLOSING;
    default:
      return weir_nat_was_reset(owner) != 0 ? WEIR_FLOW_CLOSING : WEIR_FLOW_ESTABLISHED;
  }
}

std::string_view nat_state_text(std::uint64_t owner) {
  switch (weir_nat_state_of(owner)) {
    case WEIR_NAT_NEW:
      return "unanswered";
    case WEIR_NAT_REPLIED:
      return "answered";
    case WEIR_NAT_ESTABLISHED:
      return weir_nat_was_reset(owner) != 0 ? "closing" : "established";
    default:
      return "closing";
  }
}

std::uint64_t choice_hash(const weir_flow_key& flow, std::uint8_t policy, const SipKey& seed) {
  weir_flow_key counted{};
  if (policy == WEIR_HASH_FIVE_TUPLE) {
    counted = flow;
  } else {
    counted.source = flow.source;
    if (policy == WEIR_HASH_SOURCE_PORT) counted.source_port_be = flow.source_port_be;
  }
  return weir_flow_hash(&counted, seed.words[0], seed.words[1]);
}

weir_flow_key client_key(const weir_address& source, VipId vip) {
  weir_flow_key key{};
  key.source = source;
  const std::uint32_t id = vip.value();
  std::memcpy(&key.destination, &id, sizeof(id));
  return key;
}

}  // namespace weir::l4
