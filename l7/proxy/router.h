#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "l4/control/model.h"
#include "l7/http/message.h"
#include "l7/proxy/error_pages.h"
#include "l7/proxy/header_editor.h"
#include "l7/proxy/path_edit.h"
#include "l7/proxy/regex.h"
#include "l7/proxy/session.h"

namespace weir::proxy {

/// One service of a rule; `weight_end` is the running total, so that a number below the rule's
/// total picks one.
struct WeightedService {
  ServiceIndex service = 0;
  std::uint32_t weight_end = 0;
};

struct MirrorRule;

/// What to do with a request that matched.
struct Rule {
  std::string route;  ///< name of the httpRoute or tlsRoute
  std::string name;   ///< name of the rule, or its position
  control::RouteTimeouts timeouts;
  std::vector<WeightedService> services;
  std::optional<control::Redirect> redirect = {};
  std::optional<control::FixedResponse> respond = {};
  std::optional<control::Rewrite> rewrite = {};
  std::optional<PathPattern> path_pattern = {};  ///< of redirect or rewrite, if they have one
  HeaderEditor request_headers = {};
  HeaderEditor response_headers = {};
  control::RetryPolicy retry = {};
  std::optional<SessionTable> session = {};
  std::optional<control::FaultInjection> fault = {};
  std::shared_ptr<const MirrorRule> mirror = {};
  ErrorPages error_pages = {};

  /// "route/rule", as people see it.
  [[nodiscard]] std::string full_name() const { return route + "/" + name; }
  [[nodiscard]] std::uint32_t weight_total() const {
    return services.empty() ? 0 : services.back().weight_end;
  }
};

/// What becomes of the requests that are mirrored: a rule for them alone, which tries once.
struct MirrorRule {
  Rule rule;
  std::uint32_t share = 0;  ///< of kShareWhole
  std::uint32_t body_bytes = 0;
};

/// The part of a request that routing looks at. Host is lower case without port, path is
/// normalised: the same strings that are forwarded.
struct RouteQuery {
  std::string_view method;
  std::string_view host;
  std::string_view path;
  std::string_view query;  ///< from '?' on, as sent; or empty
  const http::HeaderList& fields;
};

/// What a request has come to.
struct RouteChoice {
  std::uint32_t rule = 0;
  std::size_t prefix_size = 0;  ///< of the path, that the rule's prefix has matched
};

/// One condition of a rule and what became of it, for people.
struct RouteCandidate {
  std::uint32_t rule = 0;
  const control::RouteMatch* match = nullptr;
  std::string failed;  ///< the condition that does not hold; empty: all do
};

/// Whether a configured hostname ("", "a.b", "*.b") covers a host.
bool hostname_covers(std::string_view hostname, std::string_view host);

/// The hostname that both allow, or nothing where they have no host in common
/// (Gateway API, HTTPRoute hostnames).
std::optional<std::string> intersect_hostnames(std::string_view one, std::string_view other);

/// A table from host names to values: exact, then the longest wildcard, then any.
template <typename Value>
class HostTable {
 public:
  Value& at(std::string_view hostname) {
    if (hostname.empty()) {
      has_any_ = true;
      return any_;
    }
    if (hostname.starts_with("*.")) return wildcards_[std::string{hostname.substr(1)}];
    return exact_[std::string{hostname}];
  }

  [[nodiscard]] const Value* find(std::string_view host) const {
    if (const auto found = exact_.find(host); found != exact_.end()) return &found->second;
    for (std::size_t dot = host.find('.'); dot != std::string_view::npos && !wildcards_.empty();
         dot = host.find('.', dot + 1)) {
      // A wildcard needs at least one label in front: ".b" must not match at position 0.
      if (dot == 0) continue;
      if (const auto found = wildcards_.find(host.substr(dot)); found != wildcards_.end())
        return &found->second;
    }
    return has_any_ ? &any_ : nullptr;
  }

  template <typename Visit>
  void for_each(Visit&& visit) {
    for (auto& [name, value] : exact_)
      visit(value);
    for (auto& [name, value] : wildcards_)
      visit(value);
    if (has_any_) visit(any_);
  }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using Map = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;
  Map exact_;
  Map wildcards_;  // "*.b" under ".b"
  Value any_{};
  bool has_any_ = false;
};

/// One match of a rule with its expressions compiled; shared by all hostnames and listeners that
/// have the rule, and only read.
class CompiledMatch {
 public:
  /// Of the expressions in a match, by what is written: those of many rules are often the same.
  using Expressions = std::unordered_map<std::string, std::shared_ptr<const Regex>>;
  CompiledMatch(const control::RouteMatch& match, Expressions& expressions);
  CompiledMatch(const CompiledMatch&) = delete;
  CompiledMatch& operator=(const CompiledMatch&) = delete;

  [[nodiscard]] const control::RouteMatch& match() const { return match_; }
  /// Of an expression for the path.
  [[nodiscard]] bool fits_path(std::string_view path) const { return path_->matches(path); }
  /// All conditions but that on the path.
  [[nodiscard]] bool accepts(const RouteQuery& query) const;
  /// The first of them that does not hold, for people; empty: all do.
  [[nodiscard]] std::string failed(const RouteQuery& query) const;

 private:
  struct Condition {
    const control::ValueMatch* wanted = nullptr;
    std::shared_ptr<const Regex> regex;
    [[nodiscard]] bool holds(std::string_view value) const;
  };
  [[nodiscard]] bool accepts_method(std::string_view method) const;
  [[nodiscard]] const control::ValueMatch* failed_value(const RouteQuery& query) const;

  control::RouteMatch match_;  // conditions point into it
  std::shared_ptr<const Regex> path_;
  std::vector<Condition> headers_;
  std::vector<Condition> query_params_;
  std::vector<Condition> cookies_;
};

using CompiledMatches = std::vector<std::shared_ptr<const CompiledMatch>>;
CompiledMatches compile_matches(const control::RouteRule& rule,
                                CompiledMatch::Expressions& expressions);

/// A request to a rule, for one listener. Built once per snapshot and then only read. Precedence is
/// that of the Gateway API (HTTPRouteRule, matches) whatever the order of the file: most specific
/// hostname; exact path, then regular expression (which the Gateway API leaves open; the longest
/// first), then longest prefix; then a method match; then the number of header matches, with which
/// cookies count; then the number of query parameters; then the name of the route; then the
/// position of the rule. The most specific hostname decides alone: its routes are not completed by
/// those of a wildcard.
///
/// Exact paths and prefixes are found by hash, prefixes once for each segment; expressions are
/// tried one by one.
class Router {
 public:
  /// Adds one rule under a hostname that is already intersected with the listener's.
  void add(std::string_view hostname, const CompiledMatches& matches, std::uint32_t rule_index);
  /// Called once after the last add(), with the rules that the indexes mean.
  void finish(const std::vector<Rule>& rules);

  /// The rule, or nothing.
  [[nodiscard]] std::optional<RouteChoice> match(const RouteQuery& query) const;
  /// All whose path fits, in order of precedence, with the condition that fails: the first without
  /// one is what match() finds. At most `most`, and that one among them.
  [[nodiscard]] std::vector<RouteCandidate> explain(const RouteQuery& query,
                                                    std::size_t most) const;

 private:
  struct Entry {
    std::shared_ptr<const CompiledMatch> match;
    std::uint32_t rule = 0;
  };
  using Entries = std::vector<Entry>;
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  struct Host {
    std::unordered_map<std::string, Entries, TextHash, std::equal_to<>> exact;
    Entries expressions;
    std::unordered_map<std::string, Entries, TextHash, std::equal_to<>> prefixes;  // "/" as ""
    std::size_t segments_max = 0;                                                  // of a prefix

    /// Calls visit(entries, prefix_size) for those whose path fits, in order of precedence, until
    /// it returns true.
    template <typename Visit>
    void for_each_path(std::string_view path, Visit&& visit) const;
  };
  HostTable<Host> hosts_;
};

}  // namespace weir::proxy
