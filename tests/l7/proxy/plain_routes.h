#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/base/random.h"
#include "l4/control/model.h"

namespace weir::proxy {

// Routing by the words of the Gateway API, one after the other, that knows nothing of tables; and
// random routes and requests in which names meet often.

inline control::RouteMatch prefix(std::string path) {
  return {control::PathMatchKind::kPrefix, std::move(path), std::nullopt, {}};
}
inline control::RouteMatch exact(std::string path) {
  return {control::PathMatchKind::kExact, std::move(path), std::nullopt, {}};
}

/// One condition of one rule, as the file has it.
struct PlainRule {
  std::string hostname;
  std::string route;
  control::RouteMatch match;
};

inline bool plain_covers(const std::string& hostname, const std::string& host) {
  if (hostname.empty()) return true;
  if (hostname[0] != '*') return hostname == host;
  const std::string suffix = hostname.substr(1);
  return host.size() > suffix.size() && host.substr(host.size() - suffix.size()) == suffix;
}

inline bool plain_prefix(const std::string& prefix, const std::string& path) {
  const std::string with_slash = prefix.back() == '/' ? prefix : prefix + "/";
  return path == prefix || path.substr(0, with_slash.size()) == with_slash;
}

struct PlainRequest {
  std::string method, host, path;
  std::vector<std::pair<std::string, std::string>> headers, query;
};

inline bool plain_value(const std::vector<control::ValueMatch>& wanted,
                        const std::vector<std::pair<std::string, std::string>>& there) {
  for (const control::ValueMatch& one : wanted) {
    bool holds = false;
    for (const auto& [name, value] : there)
      if (name == one.name) {
        holds = value == one.value;
        break;
      }
    if (!holds) return false;
  }
  return true;
}

/// The Gateway API's words, one after the other (HTTPRouteRule, matches; HTTPRoute, hostnames).
inline std::optional<std::size_t> plain_choice(const std::vector<PlainRule>& rules,
                                               const PlainRequest& request) {
  const auto specific = [](const std::string& hostname) {
    return hostname.empty() ? 0 : hostname[0] == '*' ? hostname.size() : 1000 + hostname.size();
  };
  std::size_t best_host = 0;
  bool any_host = false;
  for (const PlainRule& rule : rules)
    if (plain_covers(rule.hostname, request.host)) {
      best_host = std::max(best_host, specific(rule.hostname));
      any_host = true;
    }
  if (!any_host) return std::nullopt;
  std::optional<std::size_t> best;
  const auto beats = [&](const PlainRule& a, const PlainRule& b) {
    const bool exact_a = a.match.path_kind == control::PathMatchKind::kExact;
    const bool exact_b = b.match.path_kind == control::PathMatchKind::kExact;
    if (exact_a != exact_b) return exact_a;
    if (a.match.path.size() != b.match.path.size())
      return a.match.path.size() > b.match.path.size();
    if (a.match.method.has_value() != b.match.method.has_value()) return a.match.method.has_value();
    if (a.match.headers.size() != b.match.headers.size())
      return a.match.headers.size() > b.match.headers.size();
    if (a.match.query_params.size() != b.match.query_params.size())
      return a.match.query_params.size() > b.match.query_params.size();
    return a.route < b.route;
  };
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const PlainRule& rule = rules[i];
    const bool exact = rule.match.path_kind == control::PathMatchKind::kExact;
    if (!plain_covers(rule.hostname, request.host) || specific(rule.hostname) != best_host)
      continue;
    if (exact ? rule.match.path != request.path : !plain_prefix(rule.match.path, request.path))
      continue;
    if (rule.match.method && *rule.match.method != request.method) continue;
    if (!plain_value(rule.match.headers, request.headers)) continue;
    if (!plain_value(rule.match.query_params, request.query)) continue;
    if (!best || beats(rule, rules[*best])) best = i;
  }
  return best;
}

class RandomRoutes {
 public:
  explicit RandomRoutes(std::uint64_t seed) : random_{seed} {}

  std::string pick(std::initializer_list<std::string_view> from) {
    return std::string{*(from.begin() + random_.below(static_cast<std::uint32_t>(from.size())))};
  }
  std::string path() {
    std::string text;
    for (std::uint32_t i = random_.below(4); i > 0; --i)
      text += pick({"/a", "/b", "/ab"});
    return text.empty() ? "/" : text;
  }
  PlainRule rule() {
    PlainRule made;
    made.hostname = pick({"", "*.x", "*.y.x", "a.x", "a.y.x"});
    made.route = pick({"r1", "r2", "r3"});
    made.match = random_.below(3) == 0 ? exact(path()) : prefix(path());
    if (random_.below(3) == 0) made.match.method = pick({"GET", "POST"});
    for (const std::string_view name : {"h1", "h2"})
      if (random_.below(4) == 0)
        made.match.headers.push_back({std::string{name}, pick({"1", "2"})});
    for (const std::string_view name : {"q1", "q2"})
      if (random_.below(4) == 0)
        made.match.query_params.push_back({std::string{name}, pick({"1", "2"})});
    return made;
  }
  PlainRequest request() {
    PlainRequest made{
        pick({"GET", "POST"}), pick({"a.x", "b.x", "a.y.x", "x", "z"}), path(), {}, {}};
    if (random_.below(3) == 0 && made.path != "/") made.path += "/";
    for (const std::string_view name : {"h1", "h2"})
      if (random_.below(2) == 0) made.headers.emplace_back(name, pick({"1", "2"}));
    for (const std::string_view name : {"q1", "q2", "q1"})
      if (random_.below(2) == 0) made.query.emplace_back(name, pick({"1", "2"}));
    return made;
  }
  std::uint32_t below(std::uint32_t limit) { return random_.below(limit); }

 private:
  Random random_;
};

}  // namespace weir::proxy
