#include <fmt/format.h>

#include <algorithm>

#include "l4/control/config.h"
#include "tools/weir/answers.h"
#include "tools/weir/doctor_checks.h"
#include "tools/weir/verbs.h"

/// `weir doctor`: the grammar, what the daemons and a file say, and the report.
namespace weir::cli {
namespace {

DaemonFacts read_daemon(const control::AdminClient& client, Json& status) {
  DaemonFacts daemon;
  Answer answer = ask(client, "GET", "/v1/status");
  if (const auto* failure = std::get_if<Failure>(&answer)) {
    daemon.reason = failure->message;
    return daemon;
  }
  status = std::move(std::get<Json>(answer));
  daemon.answers = true;
  for (const Json& warning : list_at(status, "warnings")) {
    if (warning.is_string()) daemon.warnings.push_back(warning.get<std::string>());
  }
  return daemon;
}

std::vector<WantedVip> vips_of(const Json& answer) {
  std::vector<WantedVip> vips;
  for (const Json& vip : list_at(answer, "vips")) {
    WantedVip wanted{text_at(vip, "vip"), text_at(vip, "mode"), {}};
    for (const Json& backend : list_at(vip, "backends")) {
      const auto address = wire::IpAddress::parse(text_at(backend, "address"));
      if (!address) continue;
      const Json hop = at(backend, "next_hop");
      wanted.backends.push_back({*address, text_at(hop, "state"), text_at(hop, "reason")});
    }
    vips.push_back(std::move(wanted));
  }
  return vips;
}

std::vector<WantedVip> vips_of(const control::Model& model) {
  std::vector<WantedVip> vips;
  for (const control::Vip& vip : model.vips) {
    WantedVip wanted{control::vip_text(vip.key()), std::string{control::text_of(vip.mode)}, {}};
    for (const control::Backend& backend : vip.backends)
      wanted.backends.push_back({backend.address, {}, {}});
    vips.push_back(std::move(wanted));
  }
  for (const control::Gateway& gateway : model.gateways)
    vips.push_back({gateway.name, "l7", {}});
  return vips;
}

/// Keeps the devices that are meant: those named, or else all that are up.
void choose_devices(DoctorFacts& facts, const std::vector<std::string>& names) {
  const auto is_meant = [&](const DeviceFacts& device) {
    return names.empty() ? device.is_up : std::ranges::find(names, device.name) != names.end();
  };
  for (const std::string& name : names) {
    if (std::ranges::find(facts.devices, name, &DeviceFacts::name) == facts.devices.end())
      facts.absent_devices.push_back(name);
  }
  std::erase_if(facts.devices, [&](const DeviceFacts& device) { return !is_meant(device); });
}

/// What the daemons say of themselves and of their services.
void read_daemons(const Daemons& daemons, DoctorFacts& facts, std::vector<std::string>& devices) {
  Json status;
  facts.l4 = read_daemon(daemons.l4, status);
  for (const Json& device : list_at(status, "devices")) {
    devices.push_back(text_at(device, "name"));
    if (const Json id = at(device, "program_id"); id.is_number_unsigned())
      facts.own_programs.push_back(id.get<std::uint32_t>());
  }
  Json unused;
  facts.l7 = read_daemon(daemons.l7, unused);
  if (!facts.l4.answers) return;
  Answer vips = ask(daemons.l4, "GET", "/v1/vips");
  if (const auto* json = std::get_if<Json>(&vips)) facts.vips = vips_of(*json);
}

/// What a file asks for stands in for what the daemon has.
std::optional<Failure> read_file(const std::string& name, DoctorFacts& facts,
                                 std::vector<std::string>& devices) {
  const Result<std::string> text = control::read_config_file(name);
  if (!text) return failure_of(text.error());
  control::ParseOutcome outcome = control::parse_config(*text, name);
  if (!outcome.diagnostics.empty()) return failure_of(outcome.diagnostics, name);
  facts.vips = vips_of(outcome.model);
  devices = outcome.model.node.interfaces;
  return std::nullopt;
}

/// "warn  eth0 queues     1 for 8 CPUs: one queue is one CPU's work …; ethtool -L eth0 combined 8"
std::vector<std::string> lines_of(const std::vector<Finding>& findings) {
  std::size_t width = 0;
  for (const Finding& finding : findings)
    width = std::max(width, finding.check.size());
  std::vector<std::string> lines;
  std::size_t warnings = 0;
  std::size_t failures = 0;
  for (const Finding& finding : findings) {
    warnings += finding.verdict == Verdict::kWarn ? 1 : 0;
    failures += finding.verdict == Verdict::kFail ? 1 : 0;
    lines.push_back(fmt::format("{:<4}  {:<{}}  {}: {}{}{}", text_of(finding.verdict),
                                finding.check, width, finding.found, finding.why,
                                finding.remedy.empty() ? "" : "; ", finding.remedy));
  }
  lines.push_back(
      fmt::format("{} checks, {} warnings, {} failures", findings.size(), warnings, failures));
  return lines;
}

}  // namespace

Outcome doctor(const Daemons& daemons, const DoctorOptions& options, OutputFormat format) {
  DoctorFacts facts;
  read_host(facts);
  Result<std::vector<DeviceFacts>> devices = read_devices();
  if (!devices) return failure_of(devices.error());
  facts.devices = *std::move(devices);
  std::vector<std::string> names;
  read_daemons(daemons, facts, names);
  if (!options.file.empty()) {
    if (auto failure = read_file(options.file, facts, names)) return std::move(*failure);
  }
  if (!options.devices.empty()) names = options.devices;
  facts.wants_l7 = facts.l7.answers || std::ranges::any_of(facts.vips, [](const WantedVip& vip) {
                     return vip.mode == "l7";
                   });
  choose_devices(facts, names);

  const std::vector<Finding> findings = examine(facts);
  Report report;
  report.exit_status = exit_status_of(findings);
  if (format == OutputFormat::kTable) {
    report.notes = lines_of(findings);
    return report;
  }
  Section section{"checks", {"verdict", "check", "found", "why", "remedy"}, {}};
  for (const Finding& finding : findings)
    section.rows.push_back(
        {text_of(finding.verdict), finding.check, finding.found, finding.why, finding.remedy});
  report.sections.push_back(std::move(section));
  return report;
}

void add_doctor_verb(CLI::App& app, Arguments& arguments) {
  DoctorOptions& options = arguments.doctor;
  CLI::App* command = reading_verb(
      app, "doctor", "Examine this machine: what is in the balancer's way, and what to do about it",
      arguments,
      [&](const Daemons& daemons) { return doctor(daemons, options, format_of(arguments)); });
  command->add_option(
      "DEV", options.devices,
      "only these devices; else those of the file or the daemon, or all that are up");
  command
      ->add_option("-f,--file", options.file,
                   "look whether the machine is ready for this configuration")
      ->type_name("FILE");
  command->footer(
      R"(Each line is a verdict (ok, warn, fail), the check, what was found, why it matters, and
what to type. Exit status: 0 all is well, 1 warnings, 2 failures. Works without the daemons; without
rights it says what it could not look at.)");
}

}  // namespace weir::cli
