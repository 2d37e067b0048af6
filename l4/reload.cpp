#include "l4/reload.h"

#include <utility>

#include "l4/base/log.h"
#include "l4/control/config.h"
#include "l4/proposal.h"

namespace weir::l4 {
namespace {

bool has_other_l7_part(const control::Model& left, const control::Model& right) {
  return left.gateways != right.gateways || left.services != right.services ||
         left.http_routes != right.http_routes || left.tls_routes != right.tls_routes ||
         left.node.l7 != right.node.l7;
}

/// What is wrong with the file, one line each; empty when it is applied.
std::vector<std::string> try_file(Plane& plane, const std::string& file, std::string_view why) {
  Result<std::string> text = control::read_config_file(file);
  if (!text) return {text.error().text()};
  Result<Proposal> proposal = propose(plane, {file, *std::move(text)});
  if (!proposal) return {proposal.error().text()};
  if (!proposal->diagnostics.empty()) return control::texts_of(proposal->diagnostics);
  const std::vector<wire::Prefix>& in_use = plane.desired().model.node.l7.addresses;
  if (why != kAtStart && !in_use.empty() && proposal->next.model.node.l7.addresses != in_use)
    return {control::other_l7_addresses(file).text()};
  const bool concerns_l7 = has_other_l7_part(plane.desired().model, proposal->next.model);
  const auto done = plane.change(std::move(proposal->next), fmt::format("{} {}", why, file));
  if (!done) return {done.error().text()};
  for (const std::string& warning : proposal->warnings)
    log_warning("{}", warning);
  if (concerns_l7)
    log_warning(
        "gateways, services or routes of {0} have changed: weir-l7 takes them with 'weir "
        "apply -f {0}', or by itself where it runs with --watch",
        file);
  return {};
}

}  // namespace

void reload(Plane& plane, const std::string& file, std::string_view why) {
  std::vector<std::string> wrong = try_file(plane, file, why);
  const std::uint64_t revision = plane.desired().revision;
  if (!wrong.empty()) return plane.reload_status().fail(file, revision, std::move(wrong));
  plane.reload_status().succeed(file, revision);
  log_info("{} is in force: revision {}", file, revision);
}

void reload_last(Plane& plane, std::string_view why) {
  const std::string file = plane.desired().file;
  const std::uint64_t revision = plane.desired().revision;
  control::ReloadStatus& status = plane.reload_status();
  if (file.ends_with("/<stdin>"))
    return status.fail(file, revision,
                       {"what was applied last came from standard input, which is gone"});
  if (!file.empty()) return reload(plane, file, why);
  status.fail("the configuration", revision,
              {"no configuration file was applied yet: weir apply -f FILE, or weir-l4 --config "
               "FILE"});
}

void note_applied(Plane& plane, const std::string& file) {
  plane.reload_status().note_applied(file, plane.desired().revision);
}

}  // namespace weir::l4
