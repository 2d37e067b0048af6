#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "l4/control/health.h"
#include "l4/control/model.h"

namespace weir::control {

/// What becomes of a backend's packets now, before anything is known of its health here.
enum class Presence : std::uint8_t {
  kAbsent,   ///< it is in no table and has no flows
  kIdle,     ///< it takes no new flows, and has those that it had
  kServing,  ///< it takes new flows
};

/// How long flows stay with a backend in maintenance, where the VIP has no health check that says.
inline constexpr std::uint32_t kMaintenanceGraceMs = 30'000;

/// One VIP as people want it, and as its packets shall be treated in view of what is known of its
/// backends' health. Pure; the desired state is never changed by it and nothing of it is stored.
///
/// A backend is left out of the effective VIP, so that its flows are spread over the others, when
/// it is down or in maintenance for longer than the grace. Otherwise it is in it: active where it
/// is wanted active and is up (with a part of its weight amid a slow start), else draining.
///
/// Fail open: where less than fail_open_percent of the active backends whose health is known are
/// up, all active backends take traffic as if no health were known.
class VipHealth {
 public:
  using PresenceOf = std::function<Presence(const wire::IpAddress&)>;

  /// `presence` is asked about backends that are new here: one that serves is taken to be up, and
  /// any other has to show first that it works.
  void set_wish(const Vip& wish, const PresenceOf& presence, Instant now);

  /// The backend's health, if that changed with this outcome. No backend of that address, or no
  /// check: none.
  std::optional<HealthState> on_result(const wire::IpAddress& address, const ProbeOutcome& outcome,
                                       Instant now);

  [[nodiscard]] const Vip& wish() const { return wish_; }
  [[nodiscard]] Vip effective(Instant now) const;
  /// When effective() changes by time alone; kNever: it does not.
  [[nodiscard]] Instant next_event(Instant now) const;

  [[nodiscard]] bool fails_open() const;
  /// Active backends of some weight that are up, and all of them.
  struct Count {
    std::size_t up = 0;
    std::size_t known = 0;  ///< up or down
    std::size_t all = 0;
  };
  [[nodiscard]] Count count() const;
  /// Null where the VIP has no such backend or no check.
  [[nodiscard]] const BackendHealth* health_of(const wire::IpAddress& address) const;
  /// When the flows of a backend in maintenance are spread; in the past: they have been. Nothing
  /// for any other backend.
  [[nodiscard]] std::optional<Instant> moves_at(const wire::IpAddress& address) const;

 private:
  struct Entry {
    std::optional<BackendHealth> health = {};  ///< where the VIP has a check
    std::optional<Instant> moves_at = {};      ///< in maintenance
  };
  [[nodiscard]] Duration grace() const;
  void settle_entry(Entry& entry, const Backend& backend, Presence presence, bool is_new,
                    Instant now) const;
  [[nodiscard]] std::optional<Backend> effective_backend(const Backend& backend, const Entry& entry,
                                                         bool is_open, Instant now) const;
  void scale_weights(Vip& vip, bool is_open, Instant now) const;

  Vip wish_;
  std::map<wire::IpAddress, Entry> entries_;  ///< exactly those of wish_.backends
};

}  // namespace weir::control
