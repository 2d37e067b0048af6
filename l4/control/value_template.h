#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Texts of the configuration with variables in them: "${client.address} asked for
/// ${request.path}".
/// "$${" stands for the two characters "${". What the values are is the plane's business.
namespace weir::control {

enum class Variable : std::uint8_t {
  kClientAddress,
  kClientPort,
  kRequestId,
  kRequestMethod,
  kRequestScheme,
  kRequestHost,
  kRequestPath,
  kRequestQuery,
  kRequestProtocol,
  kRequestHeader,  ///< the part's text is the header's name
  kTlsVersion,
  kTlsServerName,
  kListener,
  kRoute,
  kRule,
  kService,
  // Known once there is an answer.
  kEndpoint,
  kResponseStatus,
  // Known once all is over.
  kTime,
  kReason,
  kDetail,
  kAttempts,
  kRequestBytes,
  kResponseBytes,
  kDuration,
  kUpstreamDuration,
  kWaitDuration,
  kConnectDuration,
  kTlsDuration,
  kTraceId,
};

/// When a text is written, and so what may be in it: each has what those before it have.
enum class TemplateUse : std::uint8_t { kRequest, kResponse, kLog };

/// A variable, or text between variables.
struct TemplatePart {
  std::optional<Variable> variable;
  std::string text;
  friend bool operator==(const TemplatePart&, const TemplatePart&) = default;
};

struct ParsedTemplate {
  std::vector<TemplatePart> parts;  ///< no two texts beside each other, none empty
  /// What is wrong, as an Objection has it; empty: nothing.
  std::string problem;
  std::string expectation;
  [[nodiscard]] bool ok() const { return problem.empty(); }
};

ParsedTemplate parse_template(std::string_view text, TemplateUse use);

/// "client.address, client.port, …": what a text of that use may have.
std::string variable_names(TemplateUse use);

}  // namespace weir::control
