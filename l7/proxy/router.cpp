#include "l7/proxy/router.h"

#include <algorithm>
#include <tuple>

namespace weir::proxy {
namespace {

bool path_matches(const control::RouteMatch& match, std::string_view path) {
  if (match.path_kind == control::PathMatchKind::kExact) return path == match.path;
  // By whole segments; a trailing slash of the prefix is ignored (Gateway API, PathPrefix).
  std::string_view prefix = match.path;
  if (prefix.ends_with('/')) prefix.remove_suffix(1);
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

bool headers_match(const control::RouteMatch& match, const http::HeaderList& fields) {
  return std::all_of(match.headers.begin(), match.headers.end(), [&](const auto& wanted) {
    const auto value = fields.find(wanted.name);
    return value && *value == wanted.value;
  });
}

bool matches(const control::RouteMatch& match, const RouteQuery& query) {
  return path_matches(match, query.path) && (!match.method || *match.method == query.method) &&
         headers_match(match, query.fields);
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

void Router::add(std::string_view hostname, const control::RouteRule& rule,
                 std::uint32_t rule_index) {
  std::vector<Entry>& entries = hosts_.at(hostname);
  for (const control::RouteMatch& match : rule.matches)
    entries.push_back(Entry{match, rule_index});
}

void Router::finish(const std::vector<Rule>& rules) {
  const auto key = [&](const Entry& entry) {
    const bool prefix = entry.match.path_kind == control::PathMatchKind::kPrefix;
    return std::tuple{prefix,
                      -static_cast<std::int64_t>(entry.match.path.size()),
                      !entry.match.method.has_value(),
                      -static_cast<std::int64_t>(entry.match.headers.size()),
                      std::string_view{rules[entry.rule].route},
                      entry.rule};
  };
  hosts_.for_each([&](std::vector<Entry>& entries) {
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const Entry& a, const Entry& b) { return key(a) < key(b); });
  });
}

std::optional<std::uint32_t> Router::match(const RouteQuery& query) const {
  const std::vector<Entry>* entries = hosts_.find(query.host);
  if (entries == nullptr) return std::nullopt;
  const auto found = std::find_if(entries->begin(), entries->end(),
                                  [&](const Entry& entry) { return matches(entry.match, query); });
  if (found == entries->end()) return std::nullopt;
  return found->rule;
}

}  // namespace weir::proxy
