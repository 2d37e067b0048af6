#pragma once

#include <cstdint>
#include <optional>
#include <span>
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

/// The same where they are, for whoever only looks at them: there may be 14,000. As they were
/// written, overrides aside. Lives no longer than the state, and no change of it.
class ServiceView {
 public:
  explicit ServiceView(const DesiredState& state);
  ServiceView(const ServiceView&) = delete;
  ServiceView& operator=(const ServiceView&) = delete;

  /// Those of the file, of its gateways, by hand: the order of services_of().
  [[nodiscard]] std::span<const control::Vip* const> all() const& { return all_; }
  void all() const&& = delete;  // would be gone before the loop over it begins
  /// The file's and its gateways'.
  [[nodiscard]] std::span<const control::Vip* const> of_file() const& {
    return all().first(of_file_);
  }
  void of_file() const&& = delete;

 private:
  std::vector<control::Vip> of_gateways_;
  std::vector<const control::Vip*> all_;
  std::size_t of_file_;
};

/// One of the services as people want it, overrides included.
std::optional<control::Vip> service_of(const DesiredState& state, const control::VipKey& key);
/// The VIP by hand of this key, or null.
const control::Vip* find_manual(const DesiredState& state, const control::VipKey& key);
/// Whether the file has a VIP or a gateway's listener of this key.
bool file_owns(const DesiredState& state, const control::VipKey& key);

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
