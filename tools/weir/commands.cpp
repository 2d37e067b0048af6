#include "tools/weir/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/control/config.h"
#include "l4/control/host_facts.h"
#include "tools/weir/answers.h"

namespace weir::cli {
namespace {

using control::Diagnostic;

Section device_section(const Json& answer) {
  return section_of("devices", {"name", "mode", "reason", "chained", "program_id", "mtu", "up"},
                    list_at(answer, "devices"));
}

std::string counted(std::size_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

}  // namespace

// ---- devices --------------------------------------------------------------------------------

Outcome load(const Daemons& daemons, const LoadOptions& options) {
  Answer answer =
      ask(daemons.l4, "POST", "/v1/load",
          {{"devices", options.devices}, {"mode", options.mode}, {"chain", options.chain}});
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return Report{{device_section(std::get<Json>(answer))}, {}};
}

Outcome unload(const Daemons& daemons) {
  Answer answer = ask(daemons.l4, "POST", "/v1/unload", Json::object());
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  std::string devices;
  for (const Json& device : list_at(std::get<Json>(answer), "devices")) {
    if (device.is_string()) devices += (devices.empty() ? "" : ", ") + device.get<std::string>();
  }
  return note(devices.empty() ? "nothing was loaded" : fmt::format("unloaded from {}", devices));
}

// ---- configuration --------------------------------------------------------------------------

namespace {

bool has_certificates(const control::Model& model) {
  return std::ranges::any_of(model.gateways, [](const control::Gateway& gateway) {
    return std::ranges::any_of(gateway.listeners, [](const control::Listener& listener) {
      return !listener.certificates.empty();
    });
  });
}

}  // namespace

Outcome check(const CheckOptions& options) {
  const Result<std::string> text = control::read_config_file(options.file);
  if (!text) return failure_of(text.error());
  const std::string file = shown_name(options.file);
  control::ParseOutcome outcome = control::parse_config(*text, file);
  if (!outcome.ok()) {
    Failure failure = failure_of(outcome.diagnostics, file);
    if (outcome.left_out > 0) {
      failure.message = fmt::format("{} has {} errors, the first of them above", file,
                                    outcome.diagnostics.size() + outcome.left_out);
    }
    return failure;
  }
  if (options.against_host) {
    const Result<control::HostFacts> facts = control::read_host_facts();
    if (!facts) return failure_of(facts.error());
    const std::vector<Diagnostic> problems =
        control::check_against_host(outcome.model, *facts, outcome.source);
    if (!problems.empty()) {
      Failure failure = failure_of(problems, file);
      if (problems.size() > 1) {
        failure.message =
            fmt::format("{} does not fit this host; check for another one with --no-host", file);
      }
      return failure;
    }
  }
  const control::Model& model = outcome.model;
  Report report;
  report.notes.push_back(fmt::format(
      "{} is fine: {}, {}, {}, {}", file, counted(model.vips.size(), "VIP"),
      counted(model.gateways.size(), "gateway"), counted(model.services.size(), "service"),
      counted(model.http_routes.size() + model.tls_routes.size(), "route")));
  for (const Diagnostic& warning : outcome.warnings)
    report.notes.push_back(fmt::format("warning: {}", warning.text()));
  if (has_certificates(model))
    report.notes.push_back(
        "certificates were only looked for: 'weir apply --dry-run' has weir-l7 read them");
  return report;
}

}  // namespace weir::cli
