// The plane's way to change one VIP without touching, or copying, the others.

#include <algorithm>
#include <iterator>
#include <utility>

#include "l4/base/log.h"
#include "l4/control/change_text.h"
#include "l4/control/rules.h"
#include "l4/plane.h"

namespace weir::l4 {
namespace {

/// Puts the VIP where it was, at the end where it is new, or takes it away. Returns where.
std::size_t put_manual(DesiredState& state, const control::VipKey& key,
                       const std::optional<control::Vip>& vip) {
  const auto place = std::ranges::find(state.manual_vips, key, &control::Vip::key);
  const auto index = static_cast<std::size_t>(place - state.manual_vips.begin());
  if (!vip) {
    if (place != state.manual_vips.end()) state.manual_vips.erase(place);
  } else if (place != state.manual_vips.end()) {
    *place = *vip;
  } else {
    state.manual_vips.push_back(*vip);
  }
  return index;
}

/// Undoes it: order is part of the state.
void put_back(DesiredState& state, const VipEdit& edit, const std::optional<control::Vip>& before,
              std::size_t index) {
  if (before && !edit.vip) {
    state.manual_vips.insert(state.manual_vips.begin() + static_cast<std::ptrdiff_t>(index),
                             *before);
    return;
  }
  put_manual(state, edit.key, before);
}

/// Those that could be in the way of the VIP's ports: ranges on the same prefix.
std::vector<control::Vip> ranges_beside(const DesiredState& state, const control::Vip& vip) {
  std::vector<control::Vip> beside;
  for (const auto* list : {&state.model.vips, &state.manual_vips}) {
    for (const control::Vip& other : *list) {
      if (other.address == vip.address && other.prefix_length == vip.prefix_length &&
          other.protocol == vip.protocol && other.ports != vip.ports && !other.ports.is_exact())
        beside.push_back(other);
    }
  }
  return beside;
}

bool takes_more_room(const std::optional<control::Vip>& before,
                     const std::optional<control::Vip>& after) {
  return after && (!before || after->backends.size() > before->backends.size());
}

/// Without what is about backends that the edit leaves the VIP without, or that it has the newer
/// word about.
std::vector<control::BackendOverride> overrides_after(
    std::vector<control::BackendOverride> overrides, const VipEdit& edit) {
  std::erase_if(overrides, [&](const control::BackendOverride& item) {
    if (item.vip != edit.key) return false;
    return !edit.vip || edit.newer_state_of == item.address ||
           std::ranges::find(edit.vip->backends, item.address, &control::Backend::address) ==
               edit.vip->backends.end();
  });
  return overrides;
}

std::vector<control::Vip> list_of(const std::optional<control::Vip>& vip) {
  return vip ? std::vector<control::Vip>{*vip} : std::vector<control::Vip>{};
}

std::vector<std::string> lines_between(const std::optional<control::Vip>& before,
                                       const std::optional<control::Vip>& after) {
  std::vector<std::string> lines;
  for (const control::Operation& operation : control::diff_vips(list_of(before), list_of(after)))
    std::ranges::move(control::change_lines(operation), std::back_inserter(lines));
  return lines;
}

}  // namespace

Result<void> Plane::edit(const VipEdit& edit) {
  const control::Vip* present = find_manual(desired_, edit.key);
  const std::optional<control::Vip> before =
      present != nullptr ? std::optional{*present} : std::nullopt;
  std::vector<control::BackendOverride> overrides = overrides_after(desired_.overrides, edit);
  if (before == edit.vip && overrides == desired_.overrides && !failed_) return {};
  if (Result<void> valid = validate_edit(edit); !valid) return valid;
  const std::optional<control::Vip> had = service_of(desired_, edit.key);
  const std::size_t index = put_manual(desired_, edit.key, edit.vip);
  std::swap(desired_.overrides, overrides);
  const auto undo = [&] {
    put_back(desired_, edit, before, index);
    std::swap(desired_.overrides, overrides);
  };
  Result<Store::Pending> staged = stage_edit(edit, had, overrides != desired_.overrides);
  if (!staged) {
    undo();
    return std::move(staged).error();
  }
  Result<void> done = program(edit.key);
  if (done) done = staged->commit();
  if (!done) {
    undo();
    restore();
    return done;
  }
  acknowledge(edit.cause);
  return {};
}

Result<void> Plane::override_backends(const control::VipKey& vip,
                                      std::vector<control::BackendOverride> overrides,
                                      const std::string& cause) {
  if (overrides == desired_.overrides && !failed_) return {};
  if (Result<void> ready = ensure_adopted(desired_.load); !ready) return ready;
  const std::optional<control::Vip> before = service_of(desired_, vip);
  std::swap(desired_.overrides, overrides);
  const StateChange change{.set = {}, .removed = {}, .load = {}, .overrides = desired_.overrides};
  Result<Store::Pending> staged =
      store_.stage(next_revision(desired_, cause, lines_between(before, service_of(desired_, vip))),
                   desired_, change);
  Result<void> done = staged ? program(vip) : Result<void>{staged.error()};
  if (done) done = staged->commit();
  if (!done) {
    std::swap(desired_.overrides, overrides);
    if (staged) restore();  // else the kernel was not touched
    return done;
  }
  acknowledge(cause);
  return {};
}

void Plane::acknowledge(const std::string& cause) {
  failed_.reset();
  ++desired_.revision;
  set_targets();
  log_info("revision {}: {}", desired_.revision, cause);
}

/// As validate() does for all of them.
Result<void> Plane::validate_edit(const VipEdit& edit) {
  if (Result<void> ready = ensure_adopted(desired_.load); !ready) return ready;
  if (file_owns(desired_, edit.key))
    return Error{ErrorCode::kConflict,
                 fmt::format("VIP {} belongs to {}", control::vip_text(edit.key), desired_.file),
                 "change the file and run weir apply"};
  if (!edit.vip || edit.vip->ports.is_exact()) return {};
  std::vector<control::Vip> together = ranges_beside(desired_, *edit.vip);
  together.push_back(*edit.vip);
  return control::check_vips_together(together);
}

/// `desired_` has the new values already; `had` is what was wanted before, overrides included.
Result<Store::Pending> Plane::stage_edit(const VipEdit& edit,
                                         const std::optional<control::Vip>& had,
                                         bool has_other_overrides) {
  if (takes_more_room(had, edit.vip)) {
    const ServiceView services{desired_};
    if (Result<void> fits = Programmer::check_capacity(services.all()); !fits)
      return std::move(fits).error();
  }
  StateChange change;
  if (edit.vip) {
    change.set.push_back(*edit.vip);
  } else {
    change.removed.push_back(edit.key);
  }
  if (has_other_overrides) change.overrides = desired_.overrides;
  return store_.stage(
      next_revision(desired_, edit.cause, lines_between(had, service_of(desired_, edit.key))),
      desired_, std::move(change));
}

/// Brings the VIP to what `desired_` and the health of its backends say. The short way is for when
/// the rest of the kernel is known to be as it should be.
Result<void> Plane::program(const control::VipKey& key) {
  const std::optional<control::Vip> wish = service_of(desired_, key);
  const bool needs_nat_table = wish && wish->mode == control::ForwardMode::kNat && datapath_ &&
                               datapath_->settings().nat_flows_max == 0;
  if (!datapath_ || failed_ || needs_nat_table || desired_.load.devices.empty())
    return reconcile(desired_);
  // What is waiting to be read already may be what the VIP needs.
  const Result<bool> followed = next_hops_.follow();
  if (!followed) return followed.error();
  if (*followed) after_network_change();
  const Instant now = monotonic_now();
  const auto installed = programmer_->vips().find(key);
  const bool is_there = installed != programmer_->vips().end();
  board_.change_wish(key, wish, is_there ? &installed->second : nullptr, now);
  std::vector<control::Vip> have;
  if (is_there) have.push_back(installed->second.vip);
  return programmer_->apply(control::diff_vips(have, board_.effective(list_of(wish), now)));
}

}  // namespace weir::l4
