#include "l4/control/diff.h"

#include <algorithm>
#include <iterator>
#include <map>

namespace weir::control {
namespace {

using VipsByKey = std::map<VipKey, Vip>;

VipsByKey by_key(const std::vector<Vip>& vips) {
  VipsByKey map;
  for (const Vip& vip : vips) {
    const bool inserted = map.emplace(vip.key(), vip).second;
    WEIR_ASSERT(inserted);  // a Model has no two VIPs of one key
  }
  return map;
}

/// What a flow entry and the previous table say about a flow stays true as long as packets are
/// carried in the same way and hashed alike. The rest may change under running flows.
OperationKind change_kind(const Vip& before, const Vip& after) {
  const bool same_slots = before.mode == after.mode && before.hash == after.hash;
  return same_slots ? OperationKind::kUpdateVip : OperationKind::kReplaceVip;
}

std::string_view verb_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kRemoveVip:
      return "remove";
    case OperationKind::kAddVip:
      return "add";
    case OperationKind::kReplaceVip:
      return "replace";
    case OperationKind::kUpdateVip:
      return "update";
  }
  WEIR_ASSERT(false);  // every kind is named above
  return {};
}

int rank_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kRemoveVip:
      return 0;
    case OperationKind::kReplaceVip:
      return 1;
    case OperationKind::kUpdateVip:
      return 2;
    case OperationKind::kAddVip:
      return 3;
  }
  WEIR_ASSERT(false);  // every kind is named above
  return 0;
}

std::size_t count_missing(const std::vector<wire::Prefix>& from,
                          const std::vector<wire::Prefix>& in) {
  std::vector<wire::Prefix> missing;
  std::ranges::set_difference(from, in, std::back_inserter(missing));
  return missing.size();
}

std::string snat_text(const L4Settings& l4) {
  std::string addresses;
  for (const wire::IpAddress& address : l4.snat_addresses)
    addresses += fmt::format("{}{}", addresses.empty() ? "" : ", ", address.text());
  return fmt::format("ports {} of {}", ports_text(l4.snat_ports),
                     addresses.empty() ? "the node's own addresses" : addresses);
}

}  // namespace

std::string Operation::text() const {
  return fmt::format("{} vip {}", verb_of(kind), vip_text(key()));
}

std::vector<Operation> diff_vips(const std::vector<Vip>& have, const std::vector<Vip>& want) {
  const VipsByKey old_vips = by_key(have);
  const VipsByKey new_vips = by_key(want);
  std::vector<Operation> operations;
  for (const auto& [key, vip] : old_vips) {
    if (!new_vips.contains(key)) operations.push_back({OperationKind::kRemoveVip, vip, {}});
  }
  for (const auto& [key, vip] : new_vips) {
    const auto old = old_vips.find(key);
    if (old == old_vips.end()) {
      operations.push_back({OperationKind::kAddVip, {}, vip});
    } else if (old->second != vip) {
      operations.push_back({change_kind(old->second, vip), old->second, vip});
    }
  }
  std::ranges::stable_sort(operations, {}, [](const Operation& o) { return rank_of(o.kind); });
  return operations;
}

std::vector<Vip> apply_operations(const std::vector<Vip>& have,
                                  const std::vector<Operation>& operations) {
  VipsByKey vips = by_key(have);
  for (const Operation& operation : operations) {
    if (operation.kind == OperationKind::kRemoveVip) {
      vips.erase(operation.key());
    } else {
      vips[operation.key()] = operation.after;
    }
  }
  std::vector<Vip> list;
  list.reserve(vips.size());
  for (auto& [key, vip] : vips)
    list.push_back(std::move(vip));
  return list;
}

std::vector<std::string> node_changes(const NodeSettings& before, const NodeSettings& after) {
  std::vector<std::string> changes;
  if (before.block_list != after.block_list) {
    changes.push_back(fmt::format("block list: {} prefixes more, {} fewer",
                                  count_missing(after.block_list, before.block_list),
                                  count_missing(before.block_list, after.block_list)));
  }
  if (before.icmp != after.icmp) {
    changes.push_back(fmt::format("ICMP answers: echo {}, {} per second",
                                  after.icmp.echo ? "on" : "off", after.icmp.rate_per_s));
  }
  if (before.l4.flows_max != after.l4.flows_max) {
    changes.push_back(fmt::format("flow table: {} entries instead of {}, at the next load",
                                  after.l4.flows_max, before.l4.flows_max));
  }
  if (before.l4.nat_flows_max != after.l4.nat_flows_max) {
    changes.push_back(fmt::format("NAT table: {} records instead of {}, at the next load",
                                  after.l4.nat_flows_max, before.l4.nat_flows_max));
  }
  if (snat_text(before.l4) != snat_text(after.l4))
    changes.push_back(fmt::format("source NAT: {}", snat_text(after.l4)));
  return changes;
}

}  // namespace weir::control
