#include "l4/health_board.h"

#include <algorithm>

#include "l4/base/log.h"

namespace weir::l4 {
namespace {

using control::BackendState;
using control::HealthState;
using control::Presence;
using control::VipHealth;
using control::VipKey;

bool needs_board(const control::Vip& vip) {
  return vip.health.has_value() ||
         std::ranges::any_of(vip.backends, [](const control::Backend& backend) {
           return backend.state == BackendState::kMaintenance;
         });
}

Presence presence_in(const InstalledVip* installed, const wire::IpAddress& address) {
  if (installed == nullptr) return Presence::kAbsent;
  for (const InstalledBackend& entry : installed->backends) {
    if (entry.backend.address != address) continue;
    const bool serves = entry.backend.state == BackendState::kActive && entry.backend.weight > 0;
    return serves ? Presence::kServing : Presence::kIdle;
  }
  return Presence::kAbsent;
}

/// Where the probe of a backend goes.
wire::Port port_of(const control::Vip& vip, const control::Backend& backend) {
  if (vip.health->kind == control::ProbeKind::kIcmp) return wire::Port{0};
  return vip.health->port.value_or(backend.port.value_or(vip.ports.first));
}

/// Whether other probes are sent than before: then what they find is about something else.
bool asks_alike(const control::Vip& before, const control::Vip& after) {
  return before.health == after.health && before.mode == after.mode &&
         before.gue_port == after.gue_port;
}

}  // namespace

// ------------------------------------------------------------------------------ LineBudget

void LineBudget::begin_second(Instant now) {
  if (now - second_ < std::chrono::seconds{1}) return;
  second_ = now;
  written_ = 0;
}

bool LineBudget::take(Instant now) {
  begin_second(now);
  if (written_ < kLinesPerSecond) {
    ++written_;
    return true;
  }
  ++refused_;
  return false;
}

std::uint64_t LineBudget::take_refused(Instant now) {
  if (refused_ == 0 || now - second_ < std::chrono::seconds{1}) return 0;
  return std::exchange(refused_, 0);
}

// ----------------------------------------------------------------------------------- wishes

void HealthBoard::set_wishes(const std::vector<control::Vip>& wishes,
                             const std::map<VipKey, InstalledVip>& installed, Instant now) {
  std::set<VipKey> wanted;
  for (const control::Vip& wish : wishes) {
    if (!needs_board(wish)) continue;
    const VipKey key = wish.key();
    wanted.insert(key);
    const auto found = installed.find(key);
    set_wish(wish, found == installed.end() ? nullptr : &found->second, now);
  }
  for (auto board = boards_.begin(); board != boards_.end();) {
    const auto next = std::next(board);
    if (!wanted.contains(board->first)) drop(board);
    board = next;
  }
}

void HealthBoard::change_wish(const VipKey& key, const std::optional<control::Vip>& wish,
                              const InstalledVip* installed, Instant now) {
  if (wish && needs_board(*wish)) return set_wish(*wish, installed, now);
  if (const auto board = boards_.find(key); board != boards_.end()) drop(board);
}

void HealthBoard::drop(Boards::iterator board) {
  for (const auto& [address, id] : board->second.probes)
    asked_.erase(id);
  targets_changed_ = targets_changed_ || !board->second.probes.empty();
  timers_.erase({board->second.next_event, board->first});
  dirty_.erase(board->first);
  boards_.erase(board);
}

void HealthBoard::set_wish(const control::Vip& wish, const InstalledVip* installed, Instant now) {
  const VipKey key = wish.key();
  auto found = boards_.find(key);
  if (found != boards_.end() && found->second.health.wish() == wish) return;
  const bool asks_anew = found == boards_.end() || !asks_alike(found->second.health.wish(), wish);
  if (found == boards_.end()) found = boards_.emplace(key, Board{VipHealth{}}).first;
  Board& board = found->second;
  board.health.set_wish(
      wish, [&](const wire::IpAddress& address) { return presence_in(installed, address); }, now);
  board.was_open = board.was_open && board.health.fails_open();
  settle_probes(key, board, asks_anew);
  set_timer(key, board, now);
}

void HealthBoard::settle_probes(const VipKey& key, Board& board, bool asks_anew) {
  const control::Vip& wish = board.health.wish();
  std::map<wire::IpAddress, std::uint64_t> before = std::exchange(board.probes, {});
  if (wish.health) {
    for (const control::Backend& backend : wish.backends) {
      const auto known = before.find(backend.address);
      if (known != before.end() && !asks_anew) {
        board.probes.insert(before.extract(known));
        continue;
      }
      const std::uint64_t id = ++last_id_;
      board.probes[backend.address] = id;
      asked_[id] = {key, backend.address};
    }
  }
  for (const auto& [address, id] : before)
    asked_.erase(id);
  targets_changed_ = true;  // a backend's port may be another, too
}

void HealthBoard::set_timer(const VipKey& key, Board& board, Instant now) {
  timers_.erase({board.next_event, key});
  board.next_event = board.health.next_event(now);
  if (board.next_event != kNever) timers_.emplace(board.next_event, key);
}

std::vector<control::Vip> HealthBoard::effective(std::vector<control::Vip> wishes,
                                                 Instant now) const {
  for (control::Vip& wish : wishes) {
    const VipHealth* health = find(wish.key());
    if (health != nullptr) wish = health->effective(now);
  }
  return wishes;
}

// ---------------------------------------------------------------------------------- results

void HealthBoard::take_results(const std::vector<control::ProbeResult>& results, Instant now) {
  for (const control::ProbeResult& result : results) {
    const auto asked = asked_.find(result.id);
    if (asked == asked_.end()) continue;
    const auto& [key, address] = asked->second;
    Board& board = boards_.at(key);  // asked_ has targets of boards alone
    const auto changed = board.health.on_result(
        address, {.is_success = result.is_success, .reason = result.reason, .took = result.took},
        now);
    if (!changed) continue;
    dirty_.insert(key);
    tell(key, address, board.health, now);
  }
  for (const VipKey& key : dirty_) {
    Board& board = boards_.at(key);
    set_timer(key, board, now);
    tell_if_open(key, board, now);
  }
}

std::vector<control::Vip> HealthBoard::take_due(Instant now) {
  if (const std::uint64_t refused = lines_.take_refused(now); refused != 0)
    log_warning("{} more changes of health are not in the log", refused);
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const VipKey key = timers_.begin()->second;
    dirty_.insert(key);
    set_timer(key, boards_.at(key), now);
  }
  std::vector<control::Vip> due;
  for (const VipKey& key : std::exchange(dirty_, {}))
    due.push_back(boards_.at(key).health.effective(now));
  return due;
}

Instant HealthBoard::next_event() const {
  if (!dirty_.empty()) return Instant{};
  return timers_.empty() ? kNever : timers_.begin()->first;
}

std::vector<control::ProbeTarget> HealthBoard::targets(const Route& route) const {
  std::vector<control::ProbeTarget> targets;
  targets.reserve(asked_.size());
  for (const auto& [key, board] : boards_) {
    const control::Vip& vip = board.health.wish();
    if (!vip.health) continue;
    for (const control::Backend& backend : vip.backends) {
      targets.push_back({.id = board.probes.at(backend.address),
                         .check = *vip.health,
                         .backend = backend.address,
                         .port = port_of(vip, backend),
                         .vip = vip.address});
      if (route) route(vip, targets.back());
    }
  }
  return targets;
}

// ---------------------------------------------------------------------------------- telling

const VipHealth* HealthBoard::find(const VipKey& key) const {
  const auto board = boards_.find(key);
  return board == boards_.end() ? nullptr : &board->second.health;
}

HealthBoard::Summary HealthBoard::summary() const {
  Summary summary;
  for (const auto& [key, board] : boards_) {
    const VipHealth& health = board.health;
    if (!health.wish().health) continue;
    ++summary.vips_checked;
    summary.backends_checked += health.wish().backends.size();
    for (const control::Backend& backend : health.wish().backends) {
      const HealthState state = health.health_of(backend.address)->state();
      summary.backends_down += state == HealthState::kDown ? 1 : 0;
      summary.backends_checking += state == HealthState::kChecking ? 1 : 0;
    }
    const VipHealth::Count count = health.count();
    const bool is_open = health.fails_open();
    summary.vips_open += is_open ? 1 : 0;
    summary.vips_empty += count.all > 0 && count.up == 0 && !is_open ? 1 : 0;
  }
  return summary;
}

void HealthBoard::say(bool is_bad, const std::string& line, Instant now) {
  if (!lines_.take(now)) return;
  if (is_bad) {
    log_warning("{}", line);
  } else {
    log_info("{}", line);
  }
}

void HealthBoard::tell(const VipKey& key, const wire::IpAddress& address, const VipHealth& health,
                       Instant now) {
  const control::BackendHealth& backend = *health.health_of(address);
  const VipHealth::Count count = health.count();
  const bool is_down = backend.state() == HealthState::kDown;
  std::string held;
  if (is_down && backend.held_until() > now)
    held = fmt::format("; it flaps, and stays down for {} s at least",
                       std::chrono::ceil<std::chrono::seconds>(backend.held_until() - now).count());
  say(is_down,
      fmt::format("backend {} of {} is {}{}{}{}; {} of {} up", address.text(),
                  control::vip_text(key), control::text_of(backend.state()),
                  backend.last().reason.empty() ? "" : ": ", backend.last().reason, held, count.up,
                  count.all),
      now);
}

void HealthBoard::tell_if_open(const VipKey& key, Board& board, Instant now) {
  const bool is_open = board.health.fails_open();
  if (is_open == board.was_open) return;
  board.was_open = is_open;
  const VipHealth::Count count = board.health.count();
  say(is_open,
      is_open ? fmt::format("VIP {} fails open: {} of {} backends up is less than {}%, so all take "
                            "traffic",
                            control::vip_text(key), count.up, count.all,
                            board.health.wish().health->fail_open_percent)
              : fmt::format("VIP {} goes by health again: {} of {} backends up",
                            control::vip_text(key), count.up, count.all),
      now);
}

}  // namespace weir::l4
