#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/carrier.h"
#include "l4/control/config.h"
#include "l4/control/model.h"
#include "l4/control/prober.h"
#include "l4/control/reload_status.h"
#include "l4/datapath.h"
#include "l4/health_board.h"
#include "l4/monitor.h"
#include "l4/netlink.h"
#include "l4/next_hop.h"
#include "l4/probe_path.h"
#include "l4/programmer.h"
#include "l4/store.h"

namespace weir::l4 {

struct PlaneOptions {
  std::string pin_directory = kPinDirectoryDefault;
  std::string state_directory = "/var/lib/weir";
  std::size_t revisions_max = kRevisionsDefault;  ///< that are kept on disk
};

/// One VIP by hand: its new values, or none where it shall go.
struct VipEdit {
  std::string cause;  ///< for the history: "backend set 203.0.113.53:53/udp 10.0.2.11"
  control::VipKey key;
  std::optional<control::Vip> vip;  ///< of this key
  /// A backend about whose state `vip` has the newer word than an override.
  std::optional<wire::IpAddress> newer_state_of = {};
};

/// The XDP plane of one node: desired state on disk, kernel state in pins, and the way from one to
/// the other. The only writer of both, which a lock on the pin directory's name ensures. Not
/// thread-safe; the daemon calls it under one mutex.
class Plane {
 public:
  /// Adopts what is pinned and brings it to the stored state. Kernel trouble at this point does
  /// not end the daemon, whose help is then needed most: it stands in problems(), and is tried
  /// again on each tick.
  static Result<std::unique_ptr<Plane>> open(const PlaneOptions& options);
  ~Plane();
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;

  [[nodiscard]] const DesiredState& desired() const { return desired_; }
  [[nodiscard]] const PlaneOptions& options() const { return options_; }

  /// What a change would do, in words.
  [[nodiscard]] std::vector<std::string> preview(const DesiredState& next) const;

  /// Everything about `next` that can be refused before anything is changed.
  [[nodiscard]] Result<void> validate(const DesiredState& next);

  /// Validates, changes the kernel, writes the disk: all of it, or after a failure what was before.
  /// The revision is counted here; a state equal to the present one changes nothing. `cause` stands
  /// in the history. Returns what was changed, as preview() says it.
  Result<std::vector<std::string>> change(DesiredState next, const std::string& cause);

  /// The same for one VIP by hand, without a copy of what there is besides, or a table of the
  /// kernel touched but its own.
  Result<void> edit(const VipEdit& edit);

  /// What operators say of backends of this VIP, and all others as it was.
  Result<void> override_backends(const control::VipKey& vip,
                                 std::vector<control::BackendOverride> overrides,
                                 const std::string& cause);

  /// What is on disk: the newest revisions.
  [[nodiscard]] const Store& store() const { return store_; }

  /// Of the file that was last read at start, on SIGHUP, or because it changed.
  [[nodiscard]] const control::ReloadStatus& reload_status() const { return reload_; }
  [[nodiscard]] control::ReloadStatus& reload_status() { return reload_; }

  /// Also where the pinned state cannot be adopted.
  Result<void> unload();

  [[nodiscard]] bool loaded() const { return datapath_.has_value(); }
  [[nodiscard]] Result<std::vector<Attachment>> attachments() const;
  [[nodiscard]] Result<std::vector<WorkerPair>> workers();
  /// The lane of the carrier that leads to weir-l7. kConflict while there is no carrier.
  [[nodiscard]] Result<Lane> lane();
  /// From the next packet on everything goes into this lane.
  Result<void> use_lane(Lane lane);
  /// Only while loaded().
  [[nodiscard]] const Datapath& datapath() const { return *datapath_; }
  /// VIPs as they stand in the kernel; empty unless loaded().
  [[nodiscard]] const std::map<control::VipKey, InstalledVip>& installed() const;
  [[nodiscard]] const std::map<std::uint32_t, Link>& links() const { return next_hops_.links(); }
  [[nodiscard]] std::vector<std::string> warnings() const;
  /// Whether the kernel has what desired() asks for; if not, warnings() has the reason.
  [[nodiscard]] bool in_desired_state() const { return !refused_ && !failed_; }
  [[nodiscard]] std::uint64_t seed_digest() const;

  /// Begins to watch packets; for as long as the caller holds what it gets, which it gives up where
  /// it would call this class too, under the same mutex.
  Result<std::shared_ptr<Monitor>> watch(const weir_monitor_filter& filter);

  /// Readable when routes, neighbours or devices have changed; then call on_network_change().
  [[nodiscard]] int network_fd() const { return next_hops_.fd(); }
  void on_network_change();
  /// About once a second.
  void on_tick(Instant now);

  [[nodiscard]] const HealthBoard& health() const { return board_; }
  /// Readable when probes have results; then, and at next_health_event(), call on_health().
  [[nodiscard]] int prober_fd() const { return prober_->fd(); }
  [[nodiscard]] Instant next_health_event() const;
  void on_health(Instant now);

 private:
  Plane(PlaneOptions options, UniqueFd lock, Store store, NetlinkSocket netlink, NextHops hops)
      : options_{std::move(options)},
        lock_{std::move(lock)},
        store_{std::move(store)},
        netlink_{std::move(netlink)},
        next_hops_{std::move(hops)} {}

  Result<void> start();
  // plane_edit.cpp
  Result<void> validate_edit(const VipEdit& edit);
  Result<Store::Pending> stage_edit(const VipEdit& edit, const std::optional<control::Vip>& had,
                                    bool has_other_overrides);
  Result<void> program(const control::VipKey& key);
  void acknowledge(const std::string& cause);

  Result<void> adopt();
  Result<void> ensure_adopted(const LoadSettings& wanted);
  Result<void> adopt_programmer();
  Result<void> set_node_rules(const DesiredState& next);
  [[nodiscard]] Lane lane_of(const std::vector<WorkerPair>& pairs);
  Result<void> set_workers(const std::vector<WorkerPair>& pairs, Lane lane);
  /// An error where there is none.
  [[nodiscard]] Result<std::vector<WorkerPair>> carrier_in_use();
  void import_pinned_vips();
  Result<void> reconcile(const DesiredState& next);
  void restore();
  /// Devices, routes or neighbours are others than the kernel's tables were made for.
  void after_network_change();
  Result<void> ensure_datapath(const DesiredState& next);
  Result<void> ensure_workers(const DesiredState& next);
  Result<void> ensure_attached(const DesiredState& next);
  Result<void> ensure_returns(const DesiredState& next);
  Result<void> take_down();
  Result<void> refresh_next_hops();
  // plane_health.cpp
  void open_probe_path();
  void set_targets();
  void publish_targets();
  void set_probe_ways();
  /// links().end(): there is no such device.
  [[nodiscard]] std::map<std::uint32_t, Link>::const_iterator link_named(
      const std::string& device) const;
  [[nodiscard]] bool is_away(const std::string& device) const;
  [[nodiscard]] bool has_all_devices();
  [[nodiscard]] std::vector<std::string> nat_warnings() const;
  [[nodiscard]] std::string device_of(std::uint32_t ifindex) const;

  PlaneOptions options_;
  UniqueFd lock_;
  UniqueFd state_lock_;
  Store store_;
  NetlinkSocket netlink_;
  NextHops next_hops_;
  DesiredState desired_;
  control::ReloadStatus reload_;
  std::optional<Datapath> datapath_;
  // Set exactly while datapath_ is: adopt_programmer() gives both up when it fails.
  std::optional<Programmer> programmer_;
  HealthBoard board_;
  std::optional<control::Prober> prober_;  // set once open() has succeeded
  ProbeWays probe_ways_;
  std::optional<ProbePath> probe_path_;  // not where the kernel refuses it
  bool probes_are_stale_ = false;        // the ways to backends may have changed
  std::string probe_warning_;
  std::weak_ptr<Monitor> watcher_;
  std::optional<Error> refused_;                // why the pins cannot be adopted
  std::optional<Error> failed_;                 // why the kernel is not in the desired state
  std::map<std::string, std::string> reasons_;  // device → why auto did not get native mode
  Instant next_probe_{};
  Instant next_attempt_{};
};

/// The next revision, made now.
Revision next_revision(const DesiredState& last, std::string cause,
                       std::vector<std::string> changes);

}  // namespace weir::l4
