#include "l4/control/value_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "l4/control/rules.h"

namespace weir::control {
namespace {

struct KnownVariable {
  std::string_view name;
  Variable variable;
  TemplateUse since;
};

constexpr std::string_view kHeaderPrefix = "request.header.";
constexpr std::string_view kHeaderForm = "request.header.NAME";

constexpr auto kVariables = std::to_array<KnownVariable>({
    {"client.address", Variable::kClientAddress, TemplateUse::kRequest},
    {"client.port", Variable::kClientPort, TemplateUse::kRequest},
    {"request.id", Variable::kRequestId, TemplateUse::kRequest},
    {"request.method", Variable::kRequestMethod, TemplateUse::kRequest},
    {"request.scheme", Variable::kRequestScheme, TemplateUse::kRequest},
    {"request.host", Variable::kRequestHost, TemplateUse::kRequest},
    {"request.path", Variable::kRequestPath, TemplateUse::kRequest},
    {"request.query", Variable::kRequestQuery, TemplateUse::kRequest},
    {"request.protocol", Variable::kRequestProtocol, TemplateUse::kRequest},
    {kHeaderForm, Variable::kRequestHeader, TemplateUse::kRequest},
    {"tls.version", Variable::kTlsVersion, TemplateUse::kRequest},
    {"tls.serverName", Variable::kTlsServerName, TemplateUse::kRequest},
    {"listener", Variable::kListener, TemplateUse::kRequest},
    {"route", Variable::kRoute, TemplateUse::kRequest},
    {"rule", Variable::kRule, TemplateUse::kRequest},
    {"service", Variable::kService, TemplateUse::kRequest},
    {"endpoint", Variable::kEndpoint, TemplateUse::kResponse},
    {"response.status", Variable::kResponseStatus, TemplateUse::kResponse},
    {"time", Variable::kTime, TemplateUse::kLog},
    {"reason", Variable::kReason, TemplateUse::kLog},
    {"detail", Variable::kDetail, TemplateUse::kLog},
    {"attempts", Variable::kAttempts, TemplateUse::kLog},
    {"request.bytes", Variable::kRequestBytes, TemplateUse::kLog},
    {"response.bytes", Variable::kResponseBytes, TemplateUse::kLog},
    {"duration", Variable::kDuration, TemplateUse::kLog},
    {"duration.upstream", Variable::kUpstreamDuration, TemplateUse::kLog},
    {"duration.wait", Variable::kWaitDuration, TemplateUse::kLog},
    {"duration.connect", Variable::kConnectDuration, TemplateUse::kLog},
    {"duration.tls", Variable::kTlsDuration, TemplateUse::kLog},
    {"trace.id", Variable::kTraceId, TemplateUse::kLog},
});

ParsedTemplate wrong(std::string problem, std::string expectation) {
  return {{}, std::move(problem), std::move(expectation)};
}

void add_text(std::vector<TemplatePart>& parts, std::string_view text) {
  if (text.empty()) return;
  if (parts.empty() || parts.back().variable) parts.push_back({});
  parts.back().text += text;
}

/// Without a variable: there is none of that name, or it cannot be known yet.
TemplatePart part_of(std::string_view name, TemplateUse use) {
  const bool is_header = name.starts_with(kHeaderPrefix);
  const auto* const found =
      std::ranges::find(kVariables, is_header ? kHeaderForm : name, &KnownVariable::name);
  // The form itself names no header.
  if (found == kVariables.end() || found->since > use || name == kHeaderForm) return {};
  return {found->variable, is_header ? std::string{name.substr(kHeaderPrefix.size())} : ""};
}

}  // namespace

std::string variable_names(TemplateUse use) {
  std::string names;
  for (const KnownVariable& named : kVariables)
    if (named.since <= use) names += fmt::format("{}{}", names.empty() ? "" : ", ", named.name);
  return names;
}

ParsedTemplate parse_template(std::string_view text, TemplateUse use) {
  ParsedTemplate parsed;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t at = std::min(rest.find("${"), rest.size());
    if (at > 0 && at < rest.size() && rest[at - 1] == '$') {
      add_text(parsed.parts, rest.substr(0, at - 1));
      add_text(parsed.parts, "${");
      rest.remove_prefix(at + 2);
      continue;
    }
    add_text(parsed.parts, rest.substr(0, at));
    rest.remove_prefix(at);
    if (rest.empty()) break;
    const std::size_t end = rest.find('}');
    if (end == std::string_view::npos)
      return wrong(fmt::format("'{}', where '${{' has no '}}'", text),
                   "'${name}', or '$${' for the two characters");
    const std::string_view name = rest.substr(2, end - 2);
    TemplatePart part = part_of(name, use);
    if (!part.variable)
      return wrong(fmt::format("'{}', in which '{}' is no variable", text, name),
                   fmt::format("one of {}", variable_names(use)));
    if (*part.variable == Variable::kRequestHeader && object_to_header_name(part.text))
      return wrong(fmt::format("'{}', in which '{}' names no header", text, name),
                   "a name behind request.header., such as ${request.header.user-agent}");
    parsed.parts.push_back(std::move(part));
    rest.remove_prefix(end + 1);
  }
  return parsed;
}

}  // namespace weir::control
