#include "l4/watch.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "l4/base/hex.h"
#include "l4/control/json_text.h"
#include "l4/control/route_json.h"
#include "l4/control/units.h"
#include "l4/kernel_objects.h"
#include "l4/names.h"
#include "l4/observe.h"
#include "l4/vip_entries.h"

namespace weir::l4 {
namespace {

using nlohmann::ordered_json;

/// How often the client hears from us where nothing happens: so long a ring outlives a client that
/// was killed.
constexpr std::chrono::milliseconds kStatusInterval{100};
constexpr std::uint32_t kSnapBytesMin = 14;  // an Ethernet header
constexpr std::uint32_t kEveryMax = 1'000'000'000;

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);  // cannot fail for the clocks below
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// Nothing for id 0, the bare id for one that has gone since.
void add_named(ordered_json& line, const std::string& member,
               const std::map<std::uint32_t, Names::Named>& names, std::uint32_t id) {
  const auto found = names.find(id);
  if (found == names.end()) {
    line[member] = id == 0 ? ordered_json() : ordered_json(fmt::format("#{}", id));
    line[member + "_name"] = "";
    return;
  }
  line[member] = found->second.address;
  line[member + "_name"] = found->second.name;
}

/// What a query asks for.
struct Wish {
  weir_monitor_filter filter{};
  std::optional<control::VipKey> vip;  ///< whose id, of this moment, is in the filter
};

/// A VIP that is not there has an id that no VIP ever has: 0 would be any.
std::uint32_t id_of(const Plane& plane, const control::VipKey& key) {
  const auto found = plane.installed().find(key);
  return found == plane.installed().end() ? WEIR_VIPS_MAX : found->second.id.value();
}

/// One reply: the watcher and what its lines are written with.
class Watching {
 public:
  Watching(Plane& plane, std::mutex& mutex, std::shared_ptr<Monitor> monitor, const Wish& wish)
      : plane_{plane},
        mutex_{mutex},
        monitor_{std::move(monitor)},
        vip_{wish.vip},
        vip_id_{wish.filter.vip_id},
        names_{Names::of(plane)} {}
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;
  ~Watching() {
    const std::lock_guard lock{mutex_};  // as Plane::watch() asks
    monitor_.reset();
  }

  /// The next lines; nothing after the last.
  std::optional<std::string> more() {
    if (is_over_) return std::nullopt;
    if (next_status_ == Instant{}) return status();  // at once: that it has begun
    Result<std::vector<weir_event>> events = monitor_->wait(kStatusInterval);
    if (!events) return last_words(events.error().text());
    if (const auto end = look_at_plane()) return last_words(*end);
    std::string lines;
    // The two clocks drift apart only when somebody sets one of them.
    const std::int64_t to_real = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
    for (const weir_event& event : *events)
      lines += line_of(event, to_real);
    if (monotonic_now() >= next_status_) lines += status();
    return lines;
  }

 private:
  std::string status() {
    next_status_ = monotonic_now() + kStatusInterval;
    const Result<std::uint64_t> lost = monitor_->lost();
    if (!lost) return last_words(lost.error().text());
    return ordered_json{{"lost", *lost}}.dump() + "\n";
  }

  std::string last_words(const std::string& why) {
    is_over_ = true;
    return ordered_json{{"end", why}}.dump() + "\n";
  }

  /// Takes new names over, and the VIP's new id. A sentence where there is nothing to watch any
  /// more.
  std::optional<std::string> look_at_plane() {
    const std::lock_guard lock{mutex_};
    if (!plane_.loaded() || !monitor_->watches(plane_.datapath().tables()))
      return "the balancer was taken off its devices";
    if (plane_.desired().revision != names_.revision) names_ = Names::of(plane_);
    return follow_vip();
  }

  /// A VIP whose mode, hash or table size changes is a new one to the kernel, with another id, and
  /// its old id becomes another VIP's one day. Held against every time, not at new revisions alone:
  /// a change that fails and is taken back gives out ids too.
  std::optional<std::string> follow_vip() {
    if (!vip_) return std::nullopt;
    const std::uint32_t id = id_of(plane_, *vip_);
    if (id == vip_id_) return std::nullopt;
    if (Result<void> changed = monitor_->watch_only(id); !changed) return changed.error().text();
    vip_id_ = id;
    return std::nullopt;
  }

  const std::string& device_of(std::uint32_t ifindex) {
    const auto [found, is_new] = devices_.try_emplace(ifindex);
    if (is_new) found->second = device_name(ifindex);
    if (found->second.empty()) found->second = fmt::format("#{}", ifindex);
    return found->second;
  }

  std::string line_of(const weir_event& event, std::int64_t to_real) {
    const VerdictRow& verdict = verdict_row(event.verdict);
    const std::size_t kept = std::min<std::size_t>(event.kept_bytes, sizeof(event.frame));
    ordered_json line{{"time_ns", static_cast<std::int64_t>(event.time_ns) + to_real},
                      {"device", device_of(event.ifindex)},
                      {"verdict", verdict.label},
                      {"action", verdict.action}};
    add_named(line, "vip", names_.vips, event.vip_id);
    add_named(line, "backend", names_.backends, event.backend_id);
    line["frame_bytes"] = event.frame_bytes;
    line["frame"] = hex_of(std::as_bytes(std::span{event.frame}.first(kept)));
    return control::json_text(line) + "\n";
  }

  Plane& plane_;
  std::mutex& mutex_;
  std::shared_ptr<Monitor> monitor_;
  std::optional<control::VipKey> vip_;
  std::uint32_t vip_id_;  // in the filter
  Names names_;
  std::map<std::uint32_t, std::string> devices_;
  Instant next_status_{};
  bool is_over_ = false;
};

/// The verdicts that a word names: one by its label, or all with an action.
Result<std::uint64_t> verdicts_named(std::string_view word) {
  const std::span<const VerdictRow> known = known_verdicts();
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i].label == word || known[i].action == word) mask |= std::uint64_t{1} << i;
  }
  if (mask != 0) return mask;
  return Error{ErrorCode::kInvalid, fmt::format("there is no verdict '{}'", word),
               "'weir stats -o json' has them all; pass, drop, tx and redirect name all of a kind"};
}

Result<std::uint64_t> verdict_mask(std::string_view words) {
  std::uint64_t mask = 0;
  while (!words.empty()) {
    const std::size_t comma = std::min(words.find(','), words.size());
    Result<std::uint64_t> named = verdicts_named(words.substr(0, comma));
    if (!named) return named;
    mask |= *named;
    words.remove_prefix(std::min(comma + 1, words.size()));
  }
  return mask;
}

Result<std::uint32_t> number_of(const std::string& member, const std::string& text,
                                std::uint32_t least, std::uint32_t most) {
  const std::optional<std::uint64_t> number = control::decimal(text);
  if (number && *number >= least && *number <= most) return static_cast<std::uint32_t>(*number);
  return Error{ErrorCode::kInvalid, fmt::format("{} is '{}'", member, text),
               fmt::format("give a number from {} to {}", least, most)};
}

Result<control::VipKey> installed_vip(const Plane& plane, const std::string& text) {
  Result<control::VipKey> key = control::parse_vip_key(text);
  if (!key || plane.installed().contains(*key)) return key;
  return control::no_such_vip(text);
}

Result<void> read_word(const Plane& plane, const std::string& member, const std::string& text,
                       Wish& wish) {
  weir_monitor_filter& filter = wish.filter;
  if (member == "vip") {
    Result<control::VipKey> key = installed_vip(plane, text);
    if (!key) return std::move(key).error();
    wish.vip = *key;
    filter.vip_id = id_of(plane, *key);
  } else if (member == "verdicts") {
    Result<std::uint64_t> mask = verdict_mask(text);
    if (!mask) return std::move(mask).error();
    filter.verdicts = *mask;
  } else if (member == "source") {
    Result<wire::IpAddress> source = wire::IpAddress::parse(text);
    if (!source) return std::move(source).error();
    filter.source = abi_address(*source);
  } else if (member == "every") {
    Result<std::uint32_t> every = number_of(member, text, 1, kEveryMax);
    if (!every) return std::move(every).error();
    filter.every = *every;
  } else if (member == "snap_bytes") {
    Result<std::uint32_t> bytes = number_of(member, text, kSnapBytesMin, WEIR_EVENT_BYTES);
    if (!bytes) return std::move(bytes).error();
    filter.snap_bytes = *bytes;
  } else {
    return Error{ErrorCode::kInvalid, fmt::format("the query has '{}'", member),
                 "it may have vip, verdicts, source, every and snap_bytes"};
  }
  return {};
}

Result<Wish> wish_of(const Plane& plane, const control::AdminRequest& request) {
  Wish wish;
  wish.filter.every = 1;
  wish.filter.snap_bytes = WEIR_EVENT_BYTES;
  for (const auto& [member, text] : request.query) {
    if (Result<void> read = read_word(plane, member, text, wish); !read)
      return std::move(read).error();
  }
  return wish;
}

}  // namespace

bool is_watch(const control::AdminRequest& request) {
  return request.method == "GET" && request.path == "/v1/monitor";
}

control::AdminReply watch_packets(Plane& plane, std::mutex& mutex,
                                  const control::AdminRequest& request) {
  Result<Wish> wish = wish_of(plane, request);
  if (!wish) return control::error_reply(wish.error());
  Result<std::shared_ptr<Monitor>> monitor = plane.watch(wish->filter);
  if (!monitor) return control::error_reply(monitor.error());
  auto watching = std::make_shared<Watching>(plane, mutex, *std::move(monitor), *wish);
  control::AdminReply reply{200, {}, "application/x-ndjson"};
  reply.more = [watching = std::move(watching)] { return watching->more(); };
  return reply;
}

}  // namespace weir::l4
