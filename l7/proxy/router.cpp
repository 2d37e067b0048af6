#include "l7/proxy/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "l7/proxy/request_values.h"

namespace weir::proxy {
namespace {

/// The prefix as the table has it: "/" is "".
std::string_view prefix_key(std::string_view prefix) {
  if (prefix.ends_with('/')) prefix.remove_suffix(1);
  return prefix;
}

}  // namespace

bool hostname_covers(std::string_view hostname, std::string_view host) {
  if (hostname.empty()) return true;
  if (!hostname.starts_with("*.")) return hostname == host;
  const std::string_view suffix = hostname.substr(1);
  return host.size() > suffix.size() && host.ends_with(suffix);
}

std::optional<std::string> intersect_hostnames(std::string_view one, std::string_view other) {
  if (one.empty()) return std::string{other};
  if (other.empty()) return std::string{one};
  // The narrower one is covered by the wider: "*.a.b" lies within "*.b", and "a.b" within "*.b".
  const auto narrower = [](std::string_view wide, std::string_view narrow) {
    return wide == narrow || hostname_covers(wide, narrow);
  };
  if (narrower(one, other)) return std::string{other};
  if (narrower(other, one)) return std::string{one};
  return std::nullopt;
}

bool CompiledMatch::Condition::holds(std::string_view value) const {
  return regex ? regex->matches(value) : value == wanted->value;
}

CompiledMatch::CompiledMatch(const control::RouteMatch& match, Expressions& expressions)
    : match_{match} {
  const auto compiled = [&](const std::string& pattern) {
    std::shared_ptr<const Regex>& regex = expressions[pattern];
    if (!regex) regex = std::make_shared<const Regex>(pattern);
    return regex;
  };
  if (match_.path_kind == control::PathMatchKind::kRegex) path_ = compiled(match_.path);
  const auto compile = [&](const std::vector<control::ValueMatch>& values,
                           std::vector<Condition>& conditions) {
    for (const control::ValueMatch& value : values)
      conditions.push_back({&value, value.is_regex ? compiled(value.value) : nullptr});
  };
  compile(match_.headers, headers_);
  compile(match_.query_params, query_params_);
  compile(match_.cookies, cookies_);
}

const control::ValueMatch* CompiledMatch::failed_value(const RouteQuery& query) const {
  for (const Condition& header : headers_) {
    const auto value = query.fields.find(header.wanted->name);
    if (!value || !header.holds(*value)) return header.wanted;
  }
  for (const Condition& cookie : cookies_) {
    const auto value = cookie_value(query.fields, cookie.wanted->name);
    if (!value || !cookie.holds(*value)) return cookie.wanted;
  }
  for (const Condition& parameter : query_params_) {
    const auto value = query_value(query.query, parameter.wanted->name);
    if (!value || !parameter.holds(*value)) return parameter.wanted;
  }
  return nullptr;
}

/// Tunnels are only for who asks for them by name.
bool CompiledMatch::accepts_method(std::string_view method) const {
  return match_.method ? *match_.method == method : method != "CONNECT";
}

bool CompiledMatch::accepts(const RouteQuery& query) const {
  return accepts_method(query.method) && failed_value(query) == nullptr;
}

std::string CompiledMatch::failed(const RouteQuery& query) const {
  if (!accepts_method(query.method))
    return match_.method ? fmt::format("method {}", *match_.method)
                         : "CONNECT is not named as its method";
  const control::ValueMatch* const value = failed_value(query);
  if (value == nullptr) return {};
  const auto is_of = [value](const std::vector<control::ValueMatch>& values) {
    return std::ranges::any_of(values, [value](const auto& one) { return &one == value; });
  };
  const char* const kind = is_of(match_.headers)   ? "header"
                           : is_of(match_.cookies) ? "cookie"
                                                   : "query parameter";
  return fmt::format("{} {}{}{}", kind, value->name, value->is_regex ? " ~ " : " = ", value->value);
}

CompiledMatches compile_matches(const control::RouteRule& rule,
                                CompiledMatch::Expressions& expressions) {
  CompiledMatches matches;
  for (const control::RouteMatch& match : rule.matches)
    matches.push_back(std::make_shared<const CompiledMatch>(match, expressions));
  return matches;
}

template <typename Visit>
void Router::Host::for_each_path(std::string_view path, Visit&& visit) const {
  if (const auto found = exact.find(path); found != exact.end() && visit(found->second, 0)) return;
  for (const Entry& entry : expressions)
    if (entry.match->fits_path(path) && visit(std::span{&entry, 1}, 0)) return;
  // No further than the longest prefix reaches: a path may have thousands of segments.
  std::size_t end = path.size();
  std::size_t slash = 0;
  for (std::size_t segments = 0; segments <= segments_max; ++segments) {
    slash = path.find('/', segments == 0 ? 0 : slash + 1);
    if (slash == std::string_view::npos) break;
    if (segments == segments_max) end = slash;
  }
  for (;; end = path.rfind('/', end - 1)) {
    const auto found = prefixes.find(path.substr(0, end));
    if (found != prefixes.end() && visit(found->second, end)) return;
    if (end == 0 || end == std::string_view::npos) return;
  }
}

void Router::add(std::string_view hostname, const CompiledMatches& matches,
                 std::uint32_t rule_index) {
  Host& host = hosts_.at(hostname);
  for (const std::shared_ptr<const CompiledMatch>& compiled : matches) {
    const control::RouteMatch& match = compiled->match();
    switch (match.path_kind) {
      case control::PathMatchKind::kExact:
        host.exact[match.path].push_back({compiled, rule_index});
        break;
      case control::PathMatchKind::kRegex:
        host.expressions.push_back({compiled, rule_index});
        break;
      case control::PathMatchKind::kPrefix: {
        const std::string_view key = prefix_key(match.path);
        const auto segments = static_cast<std::size_t>(std::ranges::count(key, '/'));
        host.segments_max = std::max(host.segments_max, segments);
        host.prefixes[std::string{key}].push_back({compiled, rule_index});
        break;
      }
    }
  }
}

void Router::finish(const std::vector<Rule>& rules) {
  const auto key = [&](const Entry& entry) {
    const control::RouteMatch& match = entry.match->match();
    const bool by_length = match.path_kind == control::PathMatchKind::kRegex;
    return std::tuple{-static_cast<std::int64_t>(by_length ? match.path.size() : 0),
                      !match.method.has_value(),
                      -static_cast<std::int64_t>(match.headers.size() + match.cookies.size()),
                      -static_cast<std::int64_t>(match.query_params.size()),
                      std::string_view{rules[entry.rule].route},
                      entry.rule};
  };
  const auto sort = [&](Entries& entries) {
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const Entry& a, const Entry& b) { return key(a) < key(b); });
  };
  hosts_.for_each([&](Host& host) {
    for (auto& [path, entries] : host.exact)
      sort(entries);
    sort(host.expressions);
    for (auto& [path, entries] : host.prefixes)
      sort(entries);
  });
}

std::optional<RouteChoice> Router::match(const RouteQuery& query) const {
  const Host* host = hosts_.find(query.host);
  if (host == nullptr) return std::nullopt;
  std::optional<RouteChoice> choice;
  host->for_each_path(query.path, [&](std::span<const Entry> entries, std::size_t prefix_size) {
    const auto found = std::ranges::find_if(
        entries, [&](const Entry& entry) { return entry.match->accepts(query); });
    if (found != entries.end()) choice = {found->rule, prefix_size};
    return choice.has_value();
  });
  return choice;
}

std::vector<RouteCandidate> Router::explain(const RouteQuery& query, std::size_t most) const {
  std::vector<RouteCandidate> candidates;
  const Host* host = hosts_.find(query.host);
  if (host == nullptr) return candidates;
  bool is_won = false;
  host->for_each_path(query.path, [&](std::span<const Entry> entries, std::size_t) {
    for (const Entry& entry : entries) {
      std::string failed = entry.match->failed(query);
      const bool wins = failed.empty() && !is_won;
      is_won = is_won || wins;
      if (candidates.size() < most)
        candidates.push_back({entry.rule, &entry.match->match(), std::move(failed)});
      else if (wins)
        candidates.back() = {entry.rule, &entry.match->match(), {}};
    }
    return candidates.size() >= most && is_won;
  });
  return candidates;
}

}  // namespace weir::proxy
