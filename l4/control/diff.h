#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "l4/control/model.h"

/// What must change for a set of VIPs to become another.
namespace weir::control {

enum class OperationKind : std::uint8_t {
  kRemoveVip,   ///< `before` is set
  kAddVip,      ///< `after` is set
  kReplaceVip,  ///< mode or hash policy differs: the VIP is rebuilt
  kUpdateVip,   ///< anything else differs: its values are written, its table is swapped
};

/// One step of a change. A VIP appears in at most one of them.
struct Operation {
  OperationKind kind = OperationKind::kAddVip;
  Vip before;
  Vip after;

  [[nodiscard]] VipKey key() const {
    return kind == OperationKind::kRemoveVip ? before.key() : after.key();
  }
  /// "add vip 203.0.113.53:53/udp", for logs and dry runs.
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Operation&, const Operation&) = default;
};

/// The operations that lead from `have` to `want`, each without duplicate keys. Removals come
/// first, so that a full table has room for what is new; then replacements and updates, then
/// additions; within a kind by key. The order in which VIPs are listed means nothing; that of
/// backends is part of a VIP's value.
std::vector<Operation> diff_vips(const std::vector<Vip>& have, const std::vector<Vip>& want);

/// `have` after the operations, sorted by key.
std::vector<Vip> apply_operations(const std::vector<Vip>& have,
                                  const std::vector<Operation>& operations);

/// What changes for the L4 plane when a node's settings do, beside devices, hash seed and workers:
/// one sentence for each, for logs and dry runs.
std::vector<std::string> node_changes(const NodeSettings& before, const NodeSettings& after);

}  // namespace weir::control
