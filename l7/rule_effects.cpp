#include "l7/rule_effects.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "l4/control/units.h"

namespace weir::l7 {
namespace {

using Lines = std::vector<std::string>;

void add_fault(Lines& lines, const control::FaultInjection& fault) {
  if (fault.delay_ms != 0)
    lines.push_back(fmt::format("fault: {} of requests are delayed by {}",
                                control::share_text(fault.delay_share),
                                control::in_units(fault.delay_ms, control::time_units())));
  if (fault.abort_status != 0)
    lines.push_back(fmt::format("fault: {} of requests are answered with {}",
                                control::share_text(fault.abort_share), fault.abort_status));
}

void add_headers(Lines& lines, std::string_view whose, const control::HeaderEdits& edits) {
  for (const std::string& name : edits.remove)
    lines.push_back(fmt::format("{} header {} is removed", whose, name));
  for (const auto& [name, value] : edits.set)
    lines.push_back(fmt::format("{} header {} is set to '{}'", whose, name, value));
  for (const auto& [name, value] : edits.add)
    lines.push_back(fmt::format("{} header {} is added: '{}'", whose, name, value));
}

void add_pages(Lines& lines, std::string_view whose, const std::vector<control::ErrorPage>& pages) {
  for (const control::ErrorPage& page : pages) {
    Lines statuses;
    for (const control::StatusMatch& status : page.statuses)
      statuses.push_back(fmt::format("{}{}", status.value, status.is_class() ? "xx" : ""));
    lines.push_back(fmt::format("error page of the {} for {}: {}, {} bytes", whose,
                                fmt::join(statuses, ", "), page.content_type, page.body.size()));
  }
}

void add_log(Lines& lines, const control::AccessLogPolicy& log) {
  if (!log.format.empty()) lines.push_back(fmt::format("log format: {}", log.format));
  if (log.sample == control::kShareWhole) return;
  std::string line = fmt::format("log: {} of requests", control::share_text(log.sample));
  if (log.always_status) line += fmt::format(", and all from status {} on", *log.always_status);
  if (log.always_duration_ms)
    line += fmt::format(", and all that take {}",
                        control::in_units(*log.always_duration_ms, control::time_units()));
  lines.push_back(std::move(line));
}

void add_listener(Lines& lines, const control::Model& model, std::string_view name) {
  for (const control::Gateway& gateway : model.gateways)
    for (const control::Listener& listener : gateway.listeners) {
      if (name != fmt::format("{}/{}", gateway.name, listener.name)) continue;
      add_pages(lines, "listener", listener.error_pages);
      add_pages(lines, "gateway", gateway.error_pages);
      add_log(lines, gateway.access_log);
      return;
    }
}

}  // namespace

std::string rule_name(const control::HttpRoute& route, std::size_t index) {
  const std::string& name = route.rules[index].name;
  return name.empty() ? std::to_string(index + 1) : name;
}

Lines effects_of(const control::HttpRoute& route, const control::RouteRule& rule) {
  Lines lines;
  if (rule.fault) add_fault(lines, *rule.fault);
  if (rule.mirror)
    lines.push_back(fmt::format("mirror: {} of requests with bodies of up to {} also go to {}",
                                control::share_text(rule.mirror->share),
                                control::in_units(rule.mirror->body_bytes, control::byte_units()),
                                rule.mirror->service));
  add_headers(lines, "request", rule.request_headers);
  add_headers(lines, "response", rule.response_headers);
  add_pages(lines, "route", route.error_pages);
  return lines;
}

Lines effects_of(const control::Model& model, std::string_view listener,
                 std::string_view route_name, std::string_view rule) {
  Lines lines;
  const auto route = std::ranges::find(model.http_routes, route_name, &control::HttpRoute::name);
  for (std::size_t i = 0; route != model.http_routes.end() && i < route->rules.size(); ++i)
    if (rule_name(*route, i) == rule) {
      lines = effects_of(*route, route->rules[i]);
      break;
    }
  add_listener(lines, model, listener);
  return lines;
}

}  // namespace weir::l7
