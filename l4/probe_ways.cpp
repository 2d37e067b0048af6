#include "l4/probe_ways.h"

#include "l4/base/assert.h"

namespace weir::l4 {

std::optional<std::string> why_not_through(const wire::IpAddress& vip,
                                           const wire::IpAddress& backend,
                                           control::ForwardMode mode) {
  if (mode == control::ForwardMode::kNat || mode == control::ForwardMode::kL7)
    return "the mode has no encapsulation";
  if (vip.family() == backend.family()) return std::nullopt;
  return fmt::format("{} is of another IP version than the VIP {}: its own address is asked",
                     backend.text(), vip.text());
}

void ProbeWays::set_wishes(const std::vector<Wish>& wishes) {
  std::set<Key> wanted;
  for (const Wish& wish : wishes) {
    for (const wire::IpAddress& backend : wish.backends) {
      if (!why_not_through(wish.vip.address, backend, wish.mode)) wanted.emplace(wish.vip, backend);
    }
  }
  std::erase_if(ways_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    marks_.erase(entry.second.mark);
    return true;
  });
  for (const Wish& wish : wishes) {
    for (const wire::IpAddress& backend : wish.backends) {
      const Key key{wish.vip, backend};
      if (!wanted.contains(key)) continue;
      const auto [way, is_new] = ways_.try_emplace(key);
      if (is_new) way->second.mark = fresh_mark();
      way->second.vip = wish.vip.address;
      way->second.mode = wish.mode;
      way->second.gue_port = wish.gue_port;
    }
  }
}

std::uint32_t ProbeWays::fresh_mark() {
  // A node has room for far fewer ways (WEIR_PROBE_PATHS_MAX) than there are marks.
  WEIR_ASSERT(marks_.size() < kProbeMarkLast - kProbeMarkFirst);
  do {
    last_mark_ = last_mark_ == kProbeMarkLast ? kProbeMarkFirst : last_mark_ + 1;
  } while (!marks_.insert(last_mark_).second);
  return last_mark_;
}

std::uint32_t ProbeWays::mark_of(const control::VipKey& vip, const wire::IpAddress& backend) const {
  const auto found = ways_.find({vip, backend});
  return found == ways_.end() ? 0 : found->second.mark;
}

std::vector<ProbeVia> ProbeWays::resolve(const Resolve& resolve) const {
  std::map<std::pair<wire::IpAddress, bool>, NextHop> hops;
  std::vector<ProbeVia> out;
  for (const auto& [key, way] : ways_) {
    const auto& backend = key.second;
    const auto [hop, is_new] =
        hops.try_emplace({backend, way.mode == control::ForwardMode::kL2}, NextHop{});
    if (is_new) {
      Result<NextHop> resolved = resolve(backend, way.mode);
      if (resolved) hop->second = *std::move(resolved);
    }
    if (hop->second.ifindex == 0) continue;
    out.push_back(way);
    out.back().egress_ifindex = hop->second.ifindex;
    out.back().outer_source = hop->second.source;
  }
  return out;
}

}  // namespace weir::l4
