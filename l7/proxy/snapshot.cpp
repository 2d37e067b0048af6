#include "l7/proxy/snapshot.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>
#include <utility>

#include "l4/control/maglev.h"
#include "l7/proxy/balancer.h"

namespace weir::proxy {
namespace {

/// Of two limits the wider one; 0 is none at all.
template <typename Number>
Number wider(Number one, Number other) {
  return one == 0 || other == 0 ? 0 : std::max(one, other);
}

/// Of each the wider one: those that hold before it is known whose request it is.
control::GatewayLimits widest(const control::GatewayLimits& one,
                              const control::GatewayLimits& other) {
  return {
      .header_bytes = std::max(one.header_bytes, other.header_bytes),
      .header_count = std::max(one.header_count, other.header_count),
      .header_timeout_ms = std::max(one.header_timeout_ms, other.header_timeout_ms),
      .body_bytes = wider(one.body_bytes, other.body_bytes),
      .body_timeout_ms = std::max(one.body_timeout_ms, other.body_timeout_ms),
      .body_min_rate = std::min(one.body_min_rate, other.body_min_rate),
      .h2_streams = std::max(one.h2_streams, other.h2_streams),
      .idle_timeout_ms = std::max(one.idle_timeout_ms, other.idle_timeout_ms),
      .requests_per_connection = wider(one.requests_per_connection, other.requests_per_connection),
      .connection_age_ms = wider(one.connection_age_ms, other.connection_age_ms),
      .connections_per_source = wider(one.connections_per_source, other.connections_per_source),
  };
}

/// Builds one snapshot; holds the tables that are needed only meanwhile.
class SnapshotBuilder {
 public:
  SnapshotBuilder(const control::Model& model, std::uint64_t revision, EndpointBook& book)
      : model_{model}, book_{book} {
    snapshot_->revision = revision;
    snapshot_->hash_key = control::seed_of(model.node.hash_seed);
  }

  std::unique_ptr<const Snapshot> build() && {
    for (const control::Service& service : model_.services) {
      snapshot_->service_names[service.name] =
          static_cast<ServiceIndex>(snapshot_->services.size());
      add_service(service);
    }
    for (const control::HttpRoute& route : model_.http_routes)
      add_rules(route);
    for (const control::TlsRoute& route : model_.tls_routes)
      add_rules(tls_routes_.emplace_back(as_http_route(route)));
    for (const control::Gateway& gateway : model_.gateways) {
      gateway_ = gateway_of(gateway);
      for (const control::Listener& listener : gateway.listeners)
        add_listener(gateway, listener);
    }
    return std::move(snapshot_);
  }

 private:
  void add_service(const control::Service& service) {
    std::vector<EndpointEntry> endpoints;
    for (const control::ServiceEndpoint& endpoint : service.endpoints)
      endpoints.push_back({endpoint.endpoint, endpoint.weight,
                           book_.endpoint(service.name, endpoint.endpoint), endpoint.hostname});
    snapshot_->services.push_back({.name = service.name,
                                   .endpoints = std::move(endpoints),
                                   .balancing = service.balancing,
                                   .tables = build_pick_tables(service, model_.node.zone),
                                   .state = book_.service(service.name),
                                   .outlier = service.outlier,
                                   .limits = service.limits,
                                   .tls = service.tls,
                                   .trust = service.tls ? trust_of(service) : 0,
                                   .protocol = service.protocol,
                                   .proxy_protocol = service.proxy_protocol});
  }

  std::uint32_t trust_of(const control::Service& service) {
    UpstreamTrust trust{*service.tls, service.protocol == control::ServiceProtocol::kH2};
    trust.tls.sni.clear();
    std::vector<UpstreamTrust>& trusts = snapshot_->trusts;
    const auto found = std::find(trusts.begin(), trusts.end(), trust);
    const auto index = static_cast<std::uint32_t>(found - trusts.begin());
    if (found == trusts.end()) trusts.push_back(std::move(trust));
    return index;
  }

  void add_rules(const control::HttpRoute& route) {
    const ErrorPages error_pages{route.error_pages};  // one for all
    for (std::size_t i = 0; i < route.rules.size(); ++i) {
      const control::RouteRule& rule = route.rules[i];
      Rule compiled{
          route.name, rule.name.empty() ? std::to_string(i + 1) : rule.name, rule.timeouts, {}};
      compiled.redirect = rule.redirect;
      compiled.respond = rule.respond;
      compiled.rewrite = rule.rewrite;
      compiled.request_headers = {rule.request_headers, control::TemplateUse::kRequest};
      compiled.response_headers = {rule.response_headers, control::TemplateUse::kResponse};
      compiled.retry = rule.retry;
      compiled.fault = rule.fault;
      compiled.error_pages = error_pages;
      if (rule.mirror) compiled.mirror = mirror_of(*rule.mirror, compiled);
      if (rule.session) compiled.session = session_of(rule);
      const control::PathEdit edit = rule.redirect  ? rule.redirect->path
                                     : rule.rewrite ? rule.rewrite->path
                                                    : control::PathEdit{};
      if (edit.kind == control::PathEdit::Kind::kRegex) compiled.path_pattern.emplace(edit);
      std::uint32_t total = 0;
      for (const control::BackendRef& backend : rule.backends) {
        total += backend.weight;
        if (backend.weight > 0)
          compiled.services.push_back({snapshot_->service_names.at(backend.service), total});
      }
      snapshot_->rule_names.emplace(compiled.full_name(),
                                    static_cast<std::uint32_t>(snapshot_->rules.size()));
      snapshot_->rules.push_back(std::move(compiled));
      matches_.push_back(compile_matches(rule, expressions_));
    }
  }

  /// Nobody waits for what is mirrored, so that it has less time than a request may have.
  std::shared_ptr<const MirrorRule> mirror_of(const control::Mirror& mirror, const Rule& of) const {
    constexpr std::uint32_t kTimeoutMs = 10'000;
    auto mirrored = std::make_shared<MirrorRule>();
    mirrored->rule.route = of.route;
    mirrored->rule.name = of.name;
    mirrored->rule.timeouts.request_ms = kTimeoutMs;
    mirrored->rule.retry.attempts = 0;
    mirrored->rule.services = {{snapshot_->service_names.at(mirror.service), 1}};
    mirrored->share = mirror.share;
    mirrored->body_bytes = mirror.body_bytes;
    return mirrored;
  }

  static std::shared_ptr<const GatewayEntry> gateway_of(const control::Gateway& gateway) {
    auto entry = std::make_shared<GatewayEntry>();
    entry->error_pages = ErrorPages{gateway.error_pages};
    entry->log_policy = gateway.access_log;
    if (!gateway.access_log.format.empty()) entry->log_format.emplace(gateway.access_log.format);
    return entry;
  }

  SessionTable session_of(const control::RouteRule& rule) const {
    SessionTable table{*rule.session, snapshot_->hash_key};
    for (const control::BackendRef& backend : rule.backends) {
      const ServiceIndex index = snapshot_->service_names.at(backend.service);
      const ServiceEntry& service = snapshot_->services[index];
      for (std::size_t i = 0; i < service.endpoints.size() && backend.weight > 0; ++i)
        if (service.endpoints[i].weight > 0)
          table.add({index, static_cast<EndpointIndex>(i)}, service.name,
                    service.endpoints[i].endpoint);
    }
    return table;
  }

  void add_listener(const control::Gateway& gateway, const control::Listener& listener) {
    ListenerEntry entry{gateway.name + "/" + listener.name,
                        listener.hostname,
                        listener.limits.value_or(gateway.limits),
                        listener.client_validation,
                        redirect_port(gateway, listener),
                        gateway.forwarded,
                        gateway.trace_context,
                        gateway_,
                        ErrorPages{listener.error_pages},
                        {}};
    const bool is_tls = listener.protocol == control::ListenerProtocol::kTls;
    std::uint32_t rule_index = 0;
    const auto attach = [&](const std::vector<control::HttpRoute>& routes, bool fits) {
      for (const control::HttpRoute& route : routes) {
        const bool attached = fits && is_attached(route, gateway, listener);
        for (std::size_t i = 0; i < route.rules.size(); ++i) {
          if (attached) add_rule(entry, route, matches_[rule_index], rule_index);
          ++rule_index;
        }
      }
    };
    attach(model_.http_routes, !is_tls);
    attach(tls_routes_, is_tls);
    entry.router.finish(snapshot_->rules);
    snapshot_->listeners.push_back(std::move(entry));
    for (const wire::IpAddress& address : gateway.addresses)
      add_to_bind({address, listener.port}, gateway, listener);
  }

  static void add_rule(ListenerEntry& entry, const control::HttpRoute& route,
                       const CompiledMatches& matches, std::uint32_t rule_index) {
    if (route.hostnames.empty()) {
      entry.router.add(entry.hostname, matches, rule_index);
      return;
    }
    for (const std::string& hostname : route.hostnames)
      if (const auto common = intersect_hostnames(entry.hostname, hostname))
        entry.router.add(*common, matches, rule_index);
  }

  static bool is_attached(const control::HttpRoute& route, const control::Gateway& gateway,
                          const control::Listener& listener) {
    return std::any_of(route.parents.begin(), route.parents.end(), [&](const auto& parent) {
      return parent.gateway == gateway.name &&
             (!parent.listener || *parent.listener == listener.name);
    });
  }

  static std::optional<wire::Port> redirect_port(const control::Gateway& gateway,
                                                 const control::Listener& listener) {
    if (!listener.redirect_to) return std::nullopt;
    const auto target =
        std::find_if(gateway.listeners.begin(), gateway.listeners.end(),
                     [&](const auto& other) { return other.name == *listener.redirect_to; });
    WEIR_ASSERT(target != gateway.listeners.end());  // checked when the model was made
    return target->port;
  }

  void add_to_bind(const wire::Endpoint& endpoint, const control::Gateway& gateway,
                   const control::Listener& listener) {
    auto bind = std::find_if(snapshot_->binds.begin(), snapshot_->binds.end(),
                             [&](const Bind& other) { return other.endpoint == endpoint; });
    if (bind == snapshot_->binds.end()) {
      snapshot_->binds.push_back({});
      certificates_of_.emplace_back();
      bind = snapshot_->binds.end() - 1;
      bind->endpoint = endpoint;
      bind->limits = listener.limits.value_or(gateway.limits);
      bind->gateway = gateway_;
      bind->proxies = listener.proxy_protocol_from;  // that of all listeners of a port
      bind->tls = listener.protocol == control::ListenerProtocol::kHttps;
      bind->passthrough = listener.protocol == control::ListenerProtocol::kTls;
      bind->tls_options.min_version = listener.min_version;
      bind->tls_options.protocols = {"h2", "http/1.1"};
    }
    bind->limits = widest(bind->limits, listener.limits.value_or(gateway.limits));
    bind->listener_by_host.at(listener.hostname) =
        static_cast<std::uint32_t>(snapshot_->listeners.size());
    bind->tls_options.policies.push_back({listener.hostname, listener.client_validation});
    // Listeners of one certificate, for the names of both, bring it once.
    auto& known = certificates_of_[static_cast<std::size_t>(bind - snapshot_->binds.begin())];
    for (const control::CertificateRef& certificate : listener.certificates)
      if (known.insert({certificate.certificate_file, certificate.key_file, certificate.ocsp_file})
              .second)
        bind->tls_options.certificates.push_back(certificate);
    // Listeners that share a port share its TLS settings; the strictest one holds.
    bind->tls_options.min_version = std::max(bind->tls_options.min_version, listener.min_version);
  }

  const control::Model& model_;
  EndpointBook& book_;
  std::unique_ptr<Snapshot> snapshot_ = std::make_unique<Snapshot>();
  std::shared_ptr<const GatewayEntry> gateway_;  // whose listeners are added
  CompiledMatch::Expressions expressions_;
  std::vector<CompiledMatches> matches_;                               // by rule
  std::vector<control::HttpRoute> tls_routes_;                         // what the model's mean
  std::vector<std::set<std::array<std::string, 3>>> certificates_of_;  // paths, by bind
};

}  // namespace

const ListenerEntry* Snapshot::listener_for(const Bind& bind, std::string_view host) const {
  const std::uint32_t* found = bind.listener_by_host.find(host);
  return found == nullptr ? nullptr : &listeners[*found - 1];
}

control::HttpRoute as_http_route(const control::TlsRoute& route) {
  return {.name = route.name,
          .parents = route.parents,
          .hostnames = route.hostnames,
          .rules = {{.name = {}, .matches = {{}}, .timeouts = {}, .backends = route.backends}}};
}

std::unique_ptr<const Snapshot> build_snapshot(const control::Model& model, std::uint64_t revision,
                                               EndpointBook& book) {
  return SnapshotBuilder{model, revision, book}.build();
}

std::unique_ptr<const Snapshot> build_snapshot(const control::Model& model,
                                               std::uint64_t revision) {
  EndpointBook book;
  return build_snapshot(model, revision, book);
}

}  // namespace weir::proxy
