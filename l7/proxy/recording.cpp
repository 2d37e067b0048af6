/// What is left of an exchange that has ended: counts and a line in the log.

#include <algorithm>
#include <array>
#include <utility>

#include "l7/proxy/exchanges.h"

namespace weir::proxy {
namespace {

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

const GatewayEntry& gateway_of(const Exchange& exchange) {
  return exchange.listener != nullptr ? *exchange.listener->gateway
                                      : *exchange.facts->bind->gateway;
}

}  // namespace

/// Only where somebody is told: other requests need no name.
void Exchanges::name_request(Exchange& exchange) {
  const std::optional<LogFormat>& format = exchange.listener->gateway->log_format;
  if (exchange.rule->request_headers.tells_request_id() ||
      exchange.rule->response_headers.tells_request_id() || (format && format->tells_request_id()))
    exchange.request_id = {random_.next(), random_.next()};
}

bool Exchanges::is_logged(const Exchange& exchange, Duration duration) {
  const control::AccessLogPolicy& policy = gateway_of(exchange).log_policy;
  return (policy.always_status && exchange.status >= *policy.always_status) ||
         (policy.always_duration_ms && duration >= milliseconds(*policy.always_duration_ms)) ||
         chance(policy.sample);
}

/// The exchange may have begun under another configuration than that of the counters: then what has
/// the same name counts.
void Exchanges::count_traffic(const Exchange& exchange, Duration duration) {
  if (exchange.rule == nullptr) return;
  const Snapshot& its = exchange.generation->snapshot();
  const auto count = [&](std::vector<RequestCounters>& all, std::size_t index, const auto& names,
                         const auto& name) {
    if (&its != current_) {
      const auto now = names.find(name());
      if (now == names.end()) return;
      index = now->second;
    }
    all[index].count(exchange.status, is_failure(exchange.reason), duration);
  };
  count(routes_, static_cast<std::size_t>(exchange.rule - its.rules.data()), current_->rule_names,
        [&] { return exchange.rule->full_name(); });
  if (exchange.service != nullptr)
    count(services_, exchange.service_index, current_->service_names,
          [&] { return exchange.service->name; });
}

void Exchanges::record(Exchange& exchange, Instant now) {
  if (exchange.is_mirror()) return record_mirror(exchange);
  count_traffic(exchange, now - exchange.first_byte);
  const bool passes_through = exchange.passes_through();
  ++(passes_through ? counters_.passed_through : counters_.requests);
  if (exchange.is_h2()) ++counters_.requests_h2;
  ++counters_.responses[static_cast<std::size_t>(exchange.status / 100) % 6];
  ++counters_.reasons[static_cast<std::size_t>(exchange.reason)];
  counters_.header_values_left_out += exchange.values_left_out;
  if (is_logged(exchange, now - exchange.first_byte))
    write_log(exchange, now);
  else
    ++counters_.log_left_out;
}

void Exchanges::write_log(Exchange& exchange, Instant now) {
  const ValueSource source{exchange, now, to_unix_};
  if (const std::optional<LogFormat>& format = gateway_of(exchange).log_format) {
    std::array<char, LogFormat::kLineMax> line;
    access_log_.append(format->write(source, line));
    return;
  }
  const bool passes_through = exchange.passes_through();
  ValueScratch time;
  ValueScratch id;
  const ClientFacts& facts = *exchange.facts;
  const tls::SessionInfo info = facts.tls != nullptr ? facts.tls->info() : tls::SessionInfo{};
  access_log_.record({
      .time = value_of(source, {control::Variable::kTime, {}}, time),
      .client = facts.client,
      .proxy = facts.proxy,
      .forwarded_for = exchange.forwarded_for,
      .vip = facts.vip,
      .tls_version = info.version,
      .tls_cipher = info.cipher,
      .server_name = passes_through ? facts.server_name : info.server_name,
      .certificate = info.certificate,
      .listener = exchange.listener != nullptr ? exchange.listener->name : std::string_view{},
      .protocol = exchange.protocol(),
      .method = exchange.head().method,
      .host = exchange.uri.host(),
      .target = exchange.is_connect() ? exchange.uri.authority() : exchange.uri.target(),
      .route = exchange.rule != nullptr ? exchange.rule->route : std::string_view{},
      .rule = exchange.rule != nullptr ? exchange.rule->name : std::string_view{},
      .service = exchange.service != nullptr ? exchange.service->name : std::string_view{},
      .endpoint = exchange.attempts > 0 ? std::optional{exchange.endpoint} : std::nullopt,
      .status = exchange.status,
      .reason = exchange.reason,
      .detail = exchange.detail,
      .attempts = exchange.attempts,
      .request_bytes = exchange.request_bytes,
      .response_bytes = exchange.response_bytes,
      .duration = now - exchange.first_byte,
      .upstream_duration = exchange.upstream_duration,
      .tls_duration = std::exchange(exchange.tls_duration, Duration{}),
      .wait_duration = exchange.wait_duration,
      .connect_duration = exchange.connect_duration,
      .trace_id = exchange.trace ? exchange.trace->id() : std::string_view{},
      .request_id = value_of(source, {control::Variable::kRequestId, {}}, id),
  });
}

}  // namespace weir::proxy
