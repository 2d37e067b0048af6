#include "l7/endpoint_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "l4/base/log.h"
#include "l4/control/rules.h"

namespace weir::l7 {
namespace {

std::set<std::string> names_of(const control::Model& model) {
  std::set<std::string> names;
  for (const control::Service& service : model.services)
    for (const control::ServiceEndpoint& endpoint : service.endpoints)
      if (endpoint.is_name()) names.insert(endpoint.hostname);
  return names;
}

Families families_of(const control::Model& model) {
  Families families{false, false};
  for (const wire::Prefix& own : model.node.l7.addresses)
    (own.address.is_v4() ? families.v4 : families.v6) = true;
  return families;
}

/// Why requests cannot go to an address, whoever says so; nothing when they can. A gateway that
/// sends to itself would do so for each request again.
std::string objection_to(const wire::IpAddress& address, const control::Model& model) {
  if (const auto objection = control::object_to_address(address)) return objection->problem;
  const Families families = families_of(model);
  if (!(address.is_v4() ? families.v4 : families.v6))
    return fmt::format("{}, of a family that node.l7.addresses lacks", address.text());
  const auto is_address = [&](const wire::Prefix& own) { return own.address == address; };
  if (std::ranges::any_of(model.node.l7.addresses, is_address))
    return fmt::format("{}, an address of node.l7.addresses", address.text());
  for (const control::Gateway& gateway : model.gateways)
    if (std::ranges::find(gateway.addresses, address) != gateway.addresses.end())
      return fmt::format("{}, an address of gateway '{}'", address.text(), gateway.name);
  return {};
}

/// Puts one service's addresses in the place of its names.
class Expansion {
 public:
  Expansion(const control::Model& model, const NameBook& book, LeftOutAddresses& left_out)
      : model_{model}, book_{book}, left_out_{left_out} {}

  std::vector<control::ServiceEndpoint> of(const std::vector<control::ServiceEndpoint>& written) {
    std::vector<control::ServiceEndpoint> endpoints;
    taken_.clear();
    for (const control::ServiceEndpoint& endpoint : written)
      if (!endpoint.is_name()) taken_.insert(endpoint.endpoint);
    for (const control::ServiceEndpoint& endpoint : written)
      if (endpoint.is_name())
        add_addresses(endpoint, endpoints);
      else
        endpoints.push_back(endpoint);
    return endpoints;
  }

 private:
  void add_addresses(const control::ServiceEndpoint& named,
                     std::vector<control::ServiceEndpoint>& endpoints) {
    std::size_t too_many = 0;
    for (const wire::IpAddress& address : book_.addresses_of(named.hostname)) {
      if (std::string objection = objection_to(address, model_); !objection.empty()) {
        leave_out(named.hostname, std::move(objection));
        continue;
      }
      const wire::Endpoint endpoint{address, named.endpoint.port};
      if (taken_.size() >= control::kBackendsPerVipMax) {
        ++too_many;
      } else if (taken_.insert(endpoint).second) {
        endpoints.push_back(named);
        endpoints.back().endpoint = endpoint;
      }
    }
    if (too_many > 0)
      leave_out(named.hostname, fmt::format("{} addresses beyond the {} endpoints of a service",
                                            too_many, control::kBackendsPerVipMax));
  }

  void leave_out(const std::string& name, std::string what) {
    constexpr std::size_t kToldMax = 16;
    std::vector<std::string>& all = left_out_[name];
    if (all.size() > kToldMax || std::ranges::find(all, what) != all.end()) return;
    all.push_back(all.size() < kToldMax ? std::move(what) : "more of them");
  }

  const control::Model& model_;
  const NameBook& book_;
  LeftOutAddresses& left_out_;
  std::unordered_set<wire::Endpoint> taken_;  // by this service
};

}  // namespace

AddressedModel with_addresses(const control::Model& model, const NameBook& book) {
  AddressedModel addressed{model, {}};
  Expansion expansion{model, book, addressed.left_out};
  for (control::Service& service : addressed.model.services)
    service.endpoints = expansion.of(service.endpoints);
  return addressed;
}

void EndpointNames::follow(const std::set<std::string>& names, Families families) {
  if (!resolver_ && names.empty()) return;
  if (!resolver_) {
    Result<Resolver> created = Resolver::create(options_);
    if (!created) return log_error("endpoints have no addresses: {}", created.error().text());
    resolver_.emplace(std::move(*created));
  }
  resolver_->names().set_names(names, families, monotonic_now());
}

void EndpointNames::look_up(const control::Model& in_force, const control::Model& wanted,
                            Duration longest) {
  std::set<std::string> names = names_of(in_force);
  names.merge(names_of(wanted));
  // What is in force goes on, and perhaps for longer: `wanted` may yet be refused.
  const Families old = families_of(in_force);
  const Families added = families_of(wanted);
  follow(names, {.v4 = old.v4 || added.v4, .v6 = old.v6 || added.v6});
  if (resolver_) resolver_->finish_first_lookups(longest);
}

void EndpointNames::keep(const control::Model& in_force) {
  follow(names_of(in_force), families_of(in_force));
}

void EndpointNames::advance(Instant now) {
  if (resolver_) resolver_->advance(now);
}

void EndpointNames::set_left_out(LeftOutAddresses left_out) {
  const LeftOutAddresses before = std::exchange(left_out_, std::move(left_out));
  for (const auto& [name, all] : left_out_)
    if (!before.contains(name))
      log_warning("endpoints: {} leads to {}{}; left out", name, all.front(),
                  all.size() == 1 ? "" : ", and more of the kind");
}

std::vector<EndpointNameView> EndpointNames::views(const control::Model& in_force,
                                                   Instant now) const {
  std::map<std::string, std::vector<std::string>> services;
  for (const control::Service& service : in_force.services)
    for (const control::ServiceEndpoint& endpoint : service.endpoints) {
      if (!endpoint.is_name()) continue;
      std::vector<std::string>& users = services[endpoint.hostname];
      if (users.empty() || users.back() != service.name) users.push_back(service.name);
    }
  std::vector<EndpointNameView> views;
  for (NameView& name : book().views(now)) {
    const auto left_out = left_out_.find(name.name);
    std::vector<std::string>& users = services[name.name];
    views.push_back(
        {.name = std::move(name),
         .services = std::move(users),
         .left_out = left_out == left_out_.end() ? std::vector<std::string>{} : left_out->second});
  }
  return views;
}

}  // namespace weir::l7
