#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "l4/base/clock.h"
#include "l4/control/prober.h"
#include "l4/control/vip_health.h"
#include "l4/programmer.h"

namespace weir::l4 {

/// Lines of one second's worth of a log; the rest is counted and told in one line later.
class LineBudget {
 public:
  /// Whether one more line may be written.
  bool take(Instant now);
  /// How many were refused before this second; once.
  std::uint64_t take_refused(Instant now);

  static constexpr std::uint32_t kLinesPerSecond = 20;

 private:
  void begin_second(Instant now);
  Instant second_{};
  std::uint32_t written_ = 0;
  std::uint64_t refused_ = 0;
};

/// What is known of the health of all backends, and what it makes of the VIPs that people want: it
/// stands between the desired state and the programmer. Pure but for the log; who owns a prober
/// gives its results here and takes its targets from here. Nothing of it is kept on disk.
///
/// Only VIPs with a health check or a backend in maintenance are held; all others are passed
/// through as they are. The outcome of a probe costs what its VIP does, however many others there
/// are, and several outcomes of one VIP are one change.
class HealthBoard {
 public:
  /// Says how a target of this VIP is reached, by its mark.
  using Route = std::function<void(const control::Vip&, control::ProbeTarget&)>;

  /// These VIPs are wanted from now on. `installed` is what the kernel has: a backend that is new
  /// here and takes traffic there is taken to be up, any other has to show first that it works.
  void set_wishes(const std::vector<control::Vip>& wishes,
                  const std::map<control::VipKey, InstalledVip>& installed, Instant now);

  /// The same for one VIP, and nothing about the others: none where it goes. `installed` may be
  /// null.
  void change_wish(const control::VipKey& key, const std::optional<control::Vip>& wish,
                   const InstalledVip* installed, Instant now);

  /// What the programmer shall have in the place of these VIPs.
  [[nodiscard]] std::vector<control::Vip> effective(std::vector<control::Vip> wishes,
                                                    Instant now) const;

  /// Results of targets that are gone are passed over.
  void take_results(const std::vector<control::ProbeResult>& results, Instant now);

  /// The effective form of VIPs of which results, or time, may have made another one since the last
  /// call.
  std::vector<control::Vip> take_due(Instant now);
  /// When take_due() has something to give by time alone; kNever: not before results come.
  [[nodiscard]] Instant next_event() const;

  /// Whether targets() has changed since the last call.
  bool take_targets_changed() { return std::exchange(targets_changed_, false); }
  [[nodiscard]] std::vector<control::ProbeTarget> targets(const Route& route = {}) const;

  /// Null for VIPs that are passed through.
  [[nodiscard]] const control::VipHealth* find(const control::VipKey& key) const;

  struct Summary {
    std::size_t backends_checked = 0;
    std::size_t backends_down = 0;
    std::size_t backends_checking = 0;  ///< nothing is known of them yet
    std::size_t vips_checked = 0;
    std::size_t vips_open = 0;   ///< fail open
    std::size_t vips_empty = 0;  ///< with backends, none of which takes traffic for its health
  };
  [[nodiscard]] Summary summary() const;

 private:
  struct Board {
    explicit Board(control::VipHealth vip) : health{std::move(vip)} {}
    control::VipHealth health;
    std::map<wire::IpAddress, std::uint64_t> probes;  ///< ids of the backends' targets
    Instant next_event = kNever;                      ///< as in timers_
    bool was_open = false;
  };
  struct Asked {
    control::VipKey vip;
    wire::IpAddress address;
  };
  using Boards = std::map<control::VipKey, Board>;

  void drop(Boards::iterator board);
  void set_wish(const control::Vip& wish, const InstalledVip* installed, Instant now);
  void settle_probes(const control::VipKey& key, Board& board, bool asks_anew);
  void set_timer(const control::VipKey& key, Board& board, Instant now);
  void tell(const control::VipKey& key, const wire::IpAddress& address,
            const control::VipHealth& health, Instant now);
  void tell_if_open(const control::VipKey& key, Board& board, Instant now);
  void say(bool is_bad, const std::string& line, Instant now);

  Boards boards_;
  std::unordered_map<std::uint64_t, Asked> asked_;  // by the id of the target
  std::set<std::pair<Instant, control::VipKey>> timers_;
  std::set<control::VipKey> dirty_;
  std::uint64_t last_id_ = 0;
  bool targets_changed_ = false;
  LineBudget lines_;
};

}  // namespace weir::l4
