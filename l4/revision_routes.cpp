#include "l4/revision_routes.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "l4/control/config_yaml.h"
#include "l4/control/route_json.h"
#include "l4/proposal.h"
#include "l4/reload.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using nlohmann::json;

enum class Act : std::uint8_t { kTell, kDo };

/// Says what would change, and changes it if asked to.
AdminReply settle(Plane& plane, DesiredState next, const std::string& cause, Act act, json rest) {
  if (Result<void> valid = plane.validate(next); !valid) return control::error_reply(valid.error());
  const Result<std::vector<std::string>> changes =
      act == Act::kDo ? plane.change(std::move(next), cause) : plane.preview(next);
  if (!changes) return control::error_reply(changes.error());
  rest["changes"] = *changes;
  rest["revision"] = plane.desired().revision;
  return control::ok_reply(rest);
}

AdminReply submit(Plane& plane, const AdminRequest& request, Act act) {
  Result<control::ConfigSubmission> submission = control::submission_from_json(request.body);
  if (!submission) return control::error_reply(submission.error());
  Result<Proposal> proposal = propose(plane, *submission);
  if (!proposal) return control::error_reply(proposal.error());
  if (!proposal->diagnostics.empty()) return control::diagnostics_reply(proposal->diagnostics);
  const json rest{{"warnings", proposal->warnings},
                  {"left_out", control::left_out_json(proposal->left_out)}};
  const std::string cause =
      fmt::format("apply {}{}", submission->file, proposal->left_out.empty() ? "" : " in part");
  AdminReply reply = settle(plane, std::move(proposal->next), cause, act, rest);
  if (act == Act::kDo && reply.status == 200) note_applied(plane, submission->file);
  return reply;
}

json revision_json(const Revision& revision) {
  return {{"revision", revision.number},
          {"at", revision.at_unix_s},
          {"cause", revision.cause},
          {"changes", revision.changes}};
}

Result<std::uint64_t> number_of(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) return number;
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is no number of a revision", text),
               "see 'weir history'"};
}

/// All that are kept, or one of them with the configuration that was applied then.
Result<json> get_revisions(const Plane& plane, const AdminRequest& request) {
  const Store& store = plane.store();
  const auto query = request.query.find("revision");
  if (query == request.query.end()) {
    json list = json::array();
    for (const Revision& revision : store.history())
      list.push_back(revision_json(revision));
    return json{{"revision", plane.desired().revision}, {"revisions", std::move(list)}};
  }
  Result<std::uint64_t> number = number_of(query->second);
  if (!number) return std::move(number).error();
  Result<DesiredState> state = store.read(*number);
  if (!state) return std::move(state).error();
  for (const Revision& revision : store.history()) {
    if (revision.number != *number) continue;
    json body = revision_json(revision);
    body["file"] = state->file.empty() ? json() : json(state->file);
    body["text"] = state->text;
    body["partial"] = state->partial;
    return body;
  }
  WEIR_ASSERT(false);  // what can be read is in the history
  return json{};
}

}  // namespace

AdminReply check_request(Plane& plane, const AdminRequest& request) {
  return submit(plane, request, Act::kTell);
}

AdminReply apply_request(Plane& plane, const AdminRequest& request) {
  return submit(plane, request, Act::kDo);
}

AdminReply revisions_request(const Plane& plane, const AdminRequest& request) {
  return control::reply_of(get_revisions(plane, request));
}

AdminReply rollback_request(Plane& plane, const AdminRequest& request) {
  const Result<json> body = control::object_of(request.body);
  if (!body) return control::error_reply(body.error());
  if (Result<void> known = control::only_members(*body, {"revision", "dry_run"}); !known)
    return control::error_reply(known.error());
  const Result<bool> dry_run = control::flag_of(*body, "dry_run");
  if (!dry_run) return control::error_reply(dry_run.error());
  const auto revision = body->find("revision");
  if (revision == body->end() || !revision->is_number_unsigned())
    return control::error_reply(
        {ErrorCode::kInvalid, "the body lacks 'revision', a number", "see 'weir history'"});
  const auto number = revision->get<std::uint64_t>();
  Result<DesiredState> next = return_to(plane, number);
  if (!next) return control::error_reply(next.error());
  return settle(plane, *std::move(next), fmt::format("rollback {}", number),
                *dry_run ? Act::kTell : Act::kDo, {{"warnings", json::array()}});
}

/// The devices are those that the balancer was told to run on, by whatever way.
AdminReply export_request(const Plane& plane) {
  const DesiredState& desired = plane.desired();
  control::Model model = desired.model;
  model.node.interfaces = desired.load.devices;
  model.node.xdp_mode = desired.load.mode;
  return {200, control::to_yaml(model, desired.manual_vips), "application/yaml"};
}

}  // namespace weir::l4
