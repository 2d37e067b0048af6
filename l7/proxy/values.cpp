#include "l7/proxy/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <concepts>

#include "l7/proxy/address_text.h"
#include "l7/proxy/exchange.h"

namespace weir::proxy {
namespace {

using control::Variable;

std::string_view kept(ValueScratch& scratch, std::string_view text) {
  const std::size_t size = std::min(text.size(), scratch.size());
  std::copy_n(text.begin(), size, scratch.begin());
  return {scratch.data(), size};
}

template <std::integral Number>
std::string_view number(ValueScratch& scratch, Number value) {
  const fmt::format_int text{value};
  return kept(scratch, {text.data(), text.size()});
}

/// In seconds, to the microsecond.
std::string_view seconds(ValueScratch& scratch, Duration duration) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  const auto end =
      fmt::format_to_n(scratch.data(), scratch.size(), "{}.{:06}", us / 1'000'000, us % 1'000'000);
  return {scratch.data(), end.size};
}

/// RFC 3339, in UTC; empty while nobody has said what time it is.
std::string_view time_of(const ValueSource& source, ValueScratch& scratch) {
  if (!source.to_unix) return {};
  using namespace std::chrono;
  const sys_time<milliseconds> time{
      duration_cast<milliseconds>(source.now.time_since_epoch() + *source.to_unix)};
  const sys_days day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  const auto end = fmt::format_to_n(
      scratch.data(), scratch.size(), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
      int{date.year()}, unsigned{date.month()}, unsigned{date.day()}, clock.hours().count(),
      clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
  return {scratch.data(), end.size};
}

std::string_view request_id(const Exchange& exchange, ValueScratch& scratch) {
  if (!exchange.request_id) return {};
  const auto& [high, low] = *exchange.request_id;
  const auto end = fmt::format_to_n(scratch.data(), scratch.size(), "{:016x}{:016x}", high, low);
  return {scratch.data(), end.size};
}

std::string_view client_address(const Exchange& exchange, ValueScratch& scratch) {
  const wire::IpAddress& address =
      exchange.forwarded_for ? *exchange.forwarded_for : exchange.facts->client.address;
  return kept(scratch, AddressText{address}.view());
}

tls::SessionInfo tls_info(const Exchange& exchange) {
  return exchange.facts->tls != nullptr ? exchange.facts->tls->info() : tls::SessionInfo{};
}

std::string_view server_name(const Exchange& exchange) {
  if (exchange.passes_through()) return exchange.facts->server_name;
  return tls_info(exchange).server_name;
}

/// Who asks and for what.
std::string_view request_value(const Exchange& exchange, const control::TemplatePart& part,
                               ValueScratch& scratch) {
  switch (*part.variable) {
    case Variable::kClientAddress:
      return client_address(exchange, scratch);
    case Variable::kClientPort:  // trusted proxies name none
      return exchange.forwarded_for ? std::string_view{}
                                    : number(scratch, exchange.facts->client.port.value());
    case Variable::kRequestId:
      return request_id(exchange, scratch);
    case Variable::kRequestMethod:
      return exchange.head().method;
    case Variable::kRequestScheme:
      return exchange.facts->bind->tls ? "https" : "http";
    case Variable::kRequestHost:
      return exchange.uri.host();
    case Variable::kRequestPath:
      return exchange.uri.path();
    case Variable::kRequestQuery:
      return exchange.uri.query();
    case Variable::kRequestProtocol:
      return exchange.protocol();
    case Variable::kRequestHeader:  // fields of a head that broke a rule cannot be read
      return exchange.listener != nullptr ? exchange.head().fields.find(part.text).value_or("")
                                          : std::string_view{};
    case Variable::kTlsVersion:
      return tls_info(exchange).version;
    case Variable::kTlsServerName:
      return server_name(exchange);
    default:
      return {};
  }
}

/// What the configuration has made of it.
std::string_view route_value(const Exchange& exchange, Variable variable, ValueScratch& scratch) {
  switch (variable) {
    case Variable::kListener:
      return exchange.listener != nullptr ? exchange.listener->name : std::string_view{};
    case Variable::kRoute:
      return exchange.rule != nullptr ? exchange.rule->route : std::string_view{};
    case Variable::kRule:
      return exchange.rule != nullptr ? exchange.rule->name : std::string_view{};
    case Variable::kService:
      return exchange.service != nullptr ? exchange.service->name : std::string_view{};
    case Variable::kEndpoint:
      return exchange.attempts > 0 ? kept(scratch, AddressText{exchange.endpoint}.view())
                                   : std::string_view{};
    default:
      return {};
  }
}

/// How it has ended.
std::string_view result_value(const ValueSource& source, Variable variable, ValueScratch& scratch) {
  const Exchange& exchange = source.exchange;
  switch (variable) {
    case Variable::kResponseStatus:
      return number(scratch, exchange.status);
    case Variable::kTime:
      return time_of(source, scratch);
    case Variable::kReason:
      return text_of(exchange.reason);
    case Variable::kDetail:
      return exchange.detail;
    case Variable::kAttempts:
      return number(scratch, exchange.attempts);
    case Variable::kRequestBytes:
      return number(scratch, exchange.request_bytes);
    case Variable::kResponseBytes:
      return number(scratch, exchange.response_bytes);
    case Variable::kDuration:
      return seconds(scratch, source.now - exchange.first_byte);
    case Variable::kUpstreamDuration:
      return seconds(scratch, exchange.upstream_duration);
    case Variable::kWaitDuration:
      return seconds(scratch, exchange.wait_duration);
    case Variable::kConnectDuration:
      return seconds(scratch, exchange.connect_duration);
    case Variable::kTlsDuration:
      return seconds(scratch, exchange.tls_duration);
    case Variable::kTraceId:
      return exchange.trace ? exchange.trace->id() : std::string_view{};
    default:
      return {};
  }
}

}  // namespace

std::string_view value_of(const ValueSource& source, const control::TemplatePart& part,
                          ValueScratch& scratch) {
  const Variable variable = *part.variable;
  if (variable <= Variable::kTlsServerName) return request_value(source.exchange, part, scratch);
  if (variable <= Variable::kEndpoint) return route_value(source.exchange, variable, scratch);
  return result_value(source, variable, scratch);
}

}  // namespace weir::proxy
