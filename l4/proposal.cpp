#include "l4/proposal.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "l4/control/change_text.h"
#include "l4/control/host_facts.h"
#include "l4/control/rules.h"

namespace weir::l4 {
namespace {

/// Values that say the same about traffic.
bool equal_but_for_name(const control::Vip& left, control::Vip right) {
  right.name = left.name;
  return left == right;
}

/// What stands between a VIP by hand and the file's, as somebody reads it who wants to mend it.
std::string difference(const control::Vip& by_hand, control::Vip of_file) {
  of_file.name = by_hand.name;
  std::string text;
  for (const control::Operation& operation : control::diff_vips({by_hand}, {of_file})) {
    for (const std::string& line : control::change_lines(operation))
      text += (text.empty() ? "" : "; ") + line;
  }
  return text;
}

control::Diagnostic conflict(const std::string& file, const control::Vip& by_hand,
                             const control::Vip& of_file) {
  return {
      .file = file,
      .line = 0,
      .column = 0,
      .message = fmt::format("vip '{}' was added by hand with other values ({})", of_file.name,
                             difference(by_hand, of_file)),
      .expectation = {},
      .hint = fmt::format("give it the same values in the file, whose it then becomes, or remove "
                          "it: weir vip del {}",
                          control::vip_text(by_hand.key()))};
}

/// VIPs that the file and people have: equal ones become the file's, of others the file's is left
/// out or, with the whole file, refused by Plane::validate().
void settle_owners(DesiredState& next, bool is_partial, std::vector<control::LeftOut>& left_out) {
  std::map<control::VipKey, const control::Vip*> by_hand;
  for (const control::Vip& vip : next.manual_vips)
    by_hand.emplace(vip.key(), &vip);
  std::set<control::VipKey> adopted;
  std::set<control::VipKey> refused;
  for (const control::Vip& vip : next.model.vips) {
    const auto other = by_hand.find(vip.key());
    if (other == by_hand.end()) continue;
    // Before the first revision those by hand are what was found pinned, with names, weights and
    // health checks lost: the file knows better.
    if (next.revision == 0 || equal_but_for_name(vip, *other->second)) {
      adopted.insert(vip.key());
    } else if (is_partial) {
      refused.insert(vip.key());
      left_out.push_back(
          {fmt::format("vip '{}'", vip.name), {conflict(next.file, *other->second, vip)}});
    }
  }
  const auto take_out = [](std::vector<control::Vip>& vips, const std::set<control::VipKey>& keys) {
    std::erase_if(vips, [&](const control::Vip& vip) { return keys.contains(vip.key()); });
  };
  take_out(next.model.vips, refused);
  take_out(next.manual_vips, adopted);
}

std::vector<std::string> warnings_about(const DesiredState& next,
                                        const std::vector<control::Diagnostic>& parsed) {
  std::vector<std::string> warnings;
  for (const control::Diagnostic& warning : parsed)
    warnings.push_back(warning.text());
  if (next.model.node.hash_seed.empty())
    warnings.emplace_back("node.hashSeed is not set: the built-in seed is public");
  if (next.load.devices.empty())
    warnings.emplace_back("node.interfaces is empty and nothing was loaded: no traffic is served");
  return warnings;
}

control::PartialOutcome parse(const control::ConfigSubmission& submission,
                              const control::HostFacts& facts) {
  const auto against_host = [&](const control::Model& model, const control::SourceMap& source) {
    return control::check_against_host(model, facts, source);
  };
  if (submission.partial)
    return control::parse_config_partially(submission.text, submission.file, against_host);
  control::PartialOutcome whole{control::parse_config(submission.text, submission.file), {}};
  if (whole.outcome.ok())
    whole.outcome.diagnostics = against_host(whole.outcome.model, whole.outcome.source);
  return whole;
}

}  // namespace

Result<Proposal> propose(const Plane& plane, const control::ConfigSubmission& submission) {
  Result<control::HostFacts> facts = control::read_host_facts();
  if (!facts) return std::move(facts).error();
  control::PartialOutcome parsed = parse(submission, *facts);
  Proposal proposal;
  if (!parsed.outcome.ok()) {
    proposal.diagnostics = std::move(parsed.outcome.diagnostics);
    return proposal;
  }
  proposal.left_out = std::move(parsed.left_out);
  DesiredState& next = proposal.next;
  next = plane.desired();
  next.file = submission.file;
  next.text = submission.text;
  next.model = std::move(parsed.outcome.model);
  settle_owners(next, submission.partial, proposal.left_out);
  next.partial = !proposal.left_out.empty();
  // A file without interfaces leaves loading to 'weir load'.
  if (!next.model.node.interfaces.empty()) {
    next.load.devices = next.model.node.interfaces;
    next.load.mode = next.model.node.xdp_mode;
  }
  if (Result<void> fits = control::check_vips_together(services_of(next)); !fits)
    return std::move(fits).error();
  proposal.warnings = warnings_about(next, parsed.outcome.warnings);
  return proposal;
}

Result<DesiredState> return_to(const Plane& plane, std::uint64_t revision) {
  Result<DesiredState> past = plane.store().read(revision);
  if (!past) return past;
  if (past->load.devices.empty()) past->load = plane.desired().load;
  past->overrides = plane.desired().overrides;
  // The host may have got one of these addresses, or lost a device, since.
  Result<control::HostFacts> facts = control::read_host_facts();
  if (!facts) return std::move(facts).error();
  control::Model served = past->model;
  served.vips.insert(served.vips.end(), past->manual_vips.begin(), past->manual_vips.end());
  const auto problems = control::check_against_host(served, *facts);
  if (problems.empty()) return past;
  return Error{ErrorCode::kConflict,
               fmt::format("revision {} does not fit this host any more: {}", revision,
                           problems.front().message),
               problems.front().hint};
}

}  // namespace weir::l4
