#include "l7/proxy/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace weir::proxy {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Percent-encoding undone; a '%' that begins none stays.
std::string decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_value(text[i + 2]);
    if (low < 0) {
      plain.push_back(text[i] == '+' ? ' ' : text[i]);
      continue;
    }
    plain.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return plain;
}

/// What stands behind a name in a list such as "a=1&b=2"; the first of that name.
std::optional<std::string_view> value_in(std::string_view list, char separator,
                                         std::string_view name) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    std::string_view item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (item.starts_with(' '))
      item.remove_prefix(1);
    if (!item.starts_with(name)) continue;
    if (item.size() == name.size()) return std::string_view{};
    if (item[name.size()] == '=') return item.substr(name.size() + 1);
  }
  return std::nullopt;
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  if (query.starts_with('?')) query.remove_prefix(1);
  const auto value = value_in(query, '&', name);
  return value ? std::optional{decoded(*value)} : std::nullopt;
}

/// RFC 6265, section 5.4. A client of HTTP/2 may send several fields (RFC 9113, section 8.2.3).
std::optional<std::string_view> cookie_value(const http::HeaderList& fields,
                                             std::string_view name) {
  for (const http::Field field : fields.find_all("cookie"))
    if (const auto value = value_in(field.value, ';', name)) return value;
  return std::nullopt;
}

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

bool Router::Condition::holds(std::string_view value) const {
  return regex ? regex->matches(value) : value == wanted->value;
}

Router::Entry::Entry(const control::RouteMatch& of, std::uint32_t rule_index)
    : match{std::make_unique<const control::RouteMatch>(of)}, rule{rule_index} {
  if (match->path_kind == control::PathMatchKind::kRegex) path.emplace(match->path);
  const auto compile = [](const std::vector<control::ValueMatch>& values,
                          std::vector<Condition>& conditions) {
    for (const control::ValueMatch& value : values) {
      conditions.push_back({&value, std::nullopt});
      if (value.is_regex) conditions.back().regex.emplace(value.value);
    }
  };
  compile(match->headers, headers);
  compile(match->query_params, query_params);
  compile(match->cookies, cookies);
}

const control::ValueMatch* Router::Entry::failed_value(const RouteQuery& query) const {
  for (const Condition& header : headers) {
    const auto value = query.fields.find(header.wanted->name);
    if (!value || !header.holds(*value)) return header.wanted;
  }
  for (const Condition& cookie : cookies) {
    const auto value = cookie_value(query.fields, cookie.wanted->name);
    if (!value || !cookie.holds(*value)) return cookie.wanted;
  }
  for (const Condition& parameter : query_params) {
    const auto value = query_value(query.query, parameter.wanted->name);
    if (!value || !parameter.holds(*value)) return parameter.wanted;
  }
  return nullptr;
}

bool Router::Entry::accepts(const RouteQuery& query) const {
  return (!match->method || *match->method == query.method) && failed_value(query) == nullptr;
}

std::string Router::Entry::failed(const RouteQuery& query) const {
  if (match->method && *match->method != query.method)
    return fmt::format("method {}", *match->method);
  const control::ValueMatch* const value = failed_value(query);
  if (value == nullptr) return {};
  const auto is_of = [value](const std::vector<control::ValueMatch>& values) {
    return std::ranges::any_of(values, [value](const auto& one) { return &one == value; });
  };
  const char* const kind = is_of(match->headers)   ? "header"
                           : is_of(match->cookies) ? "cookie"
                                                   : "query parameter";
  return fmt::format("{} {}{}{}", kind, value->name, value->is_regex ? " ~ " : " = ", value->value);
}

template <typename Visit>
void Router::Host::for_each_path(std::string_view path, Visit&& visit) const {
  if (const auto found = exact.find(path); found != exact.end() && visit(found->second, 0)) return;
  for (const Entry& entry : expressions)
    if (entry.path->matches(path) && visit(std::span{&entry, 1}, 0)) return;
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

void Router::add(std::string_view hostname, const control::RouteRule& rule,
                 std::uint32_t rule_index) {
  Host& host = hosts_.at(hostname);
  for (const control::RouteMatch& match : rule.matches) {
    switch (match.path_kind) {
      case control::PathMatchKind::kExact:
        host.exact[match.path].emplace_back(match, rule_index);
        break;
      case control::PathMatchKind::kRegex:
        host.expressions.emplace_back(match, rule_index);
        break;
      case control::PathMatchKind::kPrefix: {
        const std::string_view key = prefix_key(match.path);
        const auto segments = static_cast<std::size_t>(std::ranges::count(key, '/'));
        host.segments_max = std::max(host.segments_max, segments);
        host.prefixes[std::string{key}].emplace_back(match, rule_index);
        break;
      }
    }
  }
}

void Router::finish(const std::vector<Rule>& rules) {
  const auto key = [&](const Entry& entry) {
    const control::RouteMatch& match = *entry.match;
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
    const auto found =
        std::ranges::find_if(entries, [&](const Entry& entry) { return entry.accepts(query); });
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
      std::string failed = entry.failed(query);
      const bool wins = failed.empty() && !is_won;
      is_won = is_won || wins;
      if (candidates.size() < most)
        candidates.push_back({entry.rule, entry.match.get(), std::move(failed)});
      else if (wins)
        candidates.back() = {entry.rule, entry.match.get(), {}};
    }
    return candidates.size() >= most && is_won;
  });
  return candidates;
}

}  // namespace weir::proxy
