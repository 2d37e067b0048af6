#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l4/control/overrides.h"

/// What people have asked of the L4 plane, and how it is written down.
namespace weir::l4 {

/// Where the XDP program shall run.
struct LoadSettings {
  std::vector<std::string> devices;  ///< empty: nowhere
  control::XdpMode mode = control::XdpMode::kAuto;
  bool chain = false;  ///< through libxdp's dispatcher, beside other programs
  friend bool operator==(const LoadSettings&, const LoadSettings&) = default;
};

/// Everything that people have asked of this plane. Two owners: what is in `model` belongs to the
/// file, what is in `manual_vips` to whoever types commands; no VIP is in both.
struct DesiredState {
  std::uint64_t revision = 0;  ///< counts changes; 0: nothing was ever asked
  std::string file;            ///< the file that was applied; empty: none
  std::string text;            ///< what stood in it, for weir-l7 when this state returns
  bool partial = false;        ///< invalid objects of the file were left out
  control::Model model;        ///< what that file says
  std::vector<control::Vip> manual_vips;
  LoadSettings load;
  std::vector<control::BackendOverride> overrides = {};  ///< sorted; of backends that exist
  friend bool operator==(const DesiredState&, const DesiredState&) = default;
};

/// What the L4 plane serves in this state, as people want it; the health of backends aside.
std::vector<control::Vip> services_of(const DesiredState& state);

/// What a change of few things comes to: enough to make the new state of the one before.
struct StateChange {
  std::vector<control::Vip> set;         ///< VIPs by hand that are new or have new values
  std::vector<control::VipKey> removed;  ///< VIPs by hand
  std::optional<LoadSettings> load;
  std::optional<std::vector<control::BackendOverride>> overrides = {};  ///< all that there are
};
void apply_to(DesiredState& state, StateChange change);

/// All of it but the revision. Contains the hash seed: keep it where only root can read it.
std::string to_json(const DesiredState& state);
/// Also reads what versions before revisions wrote, which had the revision in the same document.
Result<DesiredState> desired_state_from_json(std::string_view text);

std::string to_json(const StateChange& change);
Result<StateChange> state_change_from_json(std::string_view text);

}  // namespace weir::l4
