#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/control/model.h"
#include "l7/name_book.h"
#include "l7/resolver.h"

namespace weir::l7 {

/// What names lead to and is no endpoint, by name: "127.0.0.1, a loopback address". Not all of it.
using LeftOutAddresses = std::map<std::string, std::vector<std::string>>;

struct AddressedModel {
  control::Model model;
  LeftOutAddresses left_out;
};

/// The same model with addresses in place of names: each that the book knows is an endpoint of the
/// name's weight and zone, in order; one that the service has already counts once, and by what the
/// file says of it. Pure.
AddressedModel with_addresses(const control::Model& model, const NameBook& book);

struct EndpointNameView {
  NameView name;
  std::vector<std::string> services;
  std::vector<std::string> left_out;
};

/// The names that endpoints of a configuration have, followed in DNS. Used by one thread at a time.
class EndpointNames {
 public:
  explicit EndpointNames(ResolverOptions options = {}) : options_{std::move(options)} {}

  /// Follows the names of both, and waits for those that are asked for the first time, at most so
  /// long.
  void look_up(const control::Model& in_force, const control::Model& wanted, Duration longest);
  /// From here on this model's alone.
  void keep(const control::Model& in_force);
  /// To be called again and again. Never waits.
  void advance(Instant now);

  /// Goes up when addresses have changed.
  [[nodiscard]] std::uint64_t version() const { return book().version(); }
  [[nodiscard]] AddressedModel with_addresses(const control::Model& model) const {
    return l7::with_addresses(model, book());
  }
  /// What the configuration in force leaves out now; the log says of which name it is new.
  void set_left_out(LeftOutAddresses left_out);
  [[nodiscard]] std::vector<EndpointNameView> views(const control::Model& in_force,
                                                    Instant now) const;
  [[nodiscard]] const NameCounters& counters() const { return book().counters(); }
  [[nodiscard]] NameLevels levels() const { return book().levels(); }

 private:
  void follow(const std::set<std::string>& names, Families families);
  [[nodiscard]] const NameBook& book() const { return resolver_ ? resolver_->names() : nothing_; }

  ResolverOptions options_;
  NameBook nothing_;
  std::optional<Resolver> resolver_;  // once there is a name
  LeftOutAddresses left_out_;
};

}  // namespace weir::l7
