#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"

/// What operators have said about single backends over the head of the file or of whoever made the
/// VIP: drained, or in maintenance. Part of the desired state, of no revision of the file.
namespace weir::control {

struct BackendOverride {
  VipKey vip;
  wire::IpAddress address;
  BackendState state = BackendState::kDraining;
  friend auto operator<=>(const BackendOverride&, const BackendOverride&) = default;
};

/// Puts it in the place of the one of the same backend, if there is one; keeps the order.
void set_override(std::vector<BackendOverride>& overrides, const BackendOverride& item);
/// False where there was none.
bool drop_override(std::vector<BackendOverride>& overrides, const VipKey& vip,
                   const wire::IpAddress& address);
/// Null where there is none.
const BackendOverride* find_override(const std::vector<BackendOverride>& overrides,
                                     const VipKey& vip, const wire::IpAddress& address);

/// Gives the backends that are named their state.
void apply_overrides(std::vector<Vip>& vips, const std::vector<BackendOverride>& overrides);

/// Drops those whose backend is in no VIP any more: if it comes back, it is another one.
void drop_stale_overrides(std::vector<BackendOverride>& overrides, const std::vector<Vip>& vips);

/// {"vip": "203.0.113.53:53/udp", "address": "10.0.2.11", "state": "draining"}
std::string to_json(const BackendOverride& item);
Result<BackendOverride> override_from_json(std::string_view text);

}  // namespace weir::control
