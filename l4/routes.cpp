#include "l4/routes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>

#include "l4/backend_routes.h"
#include "l4/control/config.h"
#include "l4/control/diff.h"
#include "l4/control/host_facts.h"
#include "l4/control/model_json.h"
#include "l4/control/rules.h"
#include "l4/observe.h"
#include "l4/route_json.h"
#include "l4/trace_route.h"
#include "l4/vip_list.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using nlohmann::json;

constexpr const char* kVersion = WEIR_VERSION;

AdminReply ok(const json& body) { return {200, body.dump()}; }

json object_of(const AdminRequest& request) {
  if (request.body.empty()) return json::object();
  return json::parse(request.body, nullptr, false);
}

Result<json> body_of(const AdminRequest& request) {
  json body = object_of(request);
  if (body.is_object()) return body;
  return Error{ErrorCode::kInvalid, "the body is no JSON object"};
}

Result<std::string> query_of(const AdminRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  if (found != request.query.end()) return found->second;
  return Error{ErrorCode::kInvalid, fmt::format("the query lacks '{}'", name)};
}

// ------------------------------------------------------------------------------- rendering

json device_json(const Plane& plane, const Attachment& attachment) {
  const auto link = plane.links().find(attachment.ifindex);
  const bool known = link != plane.links().end();
  return {{"name", attachment.device},
          {"ifindex", attachment.ifindex},
          {"mode", control::text_of(attachment.mode)},
          {"reason", attachment.reason},
          {"chained", attachment.chained},
          {"program_id", attachment.program_id},
          {"mtu", known ? link->second.mtu : 0},
          {"up", known && link->second.up}};
}

Result<json> devices_json(const Plane& plane) {
  Result<std::vector<Attachment>> attachments = plane.attachments();
  if (!attachments) return std::move(attachments).error();
  json devices = json::array();
  for (const Attachment& attachment : *attachments)
    devices.push_back(device_json(plane, attachment));
  return devices;
}

Result<json> workers_json(Plane& plane) {
  json out = json::array();
  if (!plane.loaded()) return out;
  Result<std::vector<WorkerPair>> workers = plane.workers();
  if (!workers) return std::move(workers).error();
  for (const WorkerPair& pair : *workers) {
    out.push_back({{"index", pair.index},
                   {"balancer_end", pair.balancer_end},
                   {"worker_end", pair.worker_end},
                   {"ifindex", pair.balancer_ifindex},
                   {"up", pair.up},
                   {"taken", pair.taken}});
  }
  return out;
}

json next_hop_json(const NextHop& hop) {
  return {{"state", text_of(hop.state)},
          {"device", hop.device},
          {"gateway", hop.gateway ? json(hop.gateway->text()) : json()},
          {"mac", hop.mac.is_zero() ? "" : hop.mac.text()},
          {"source", hop.source.is_unspecified() ? "" : hop.source.text()},
          {"mtu", hop.mtu},
          {"reason", hop.reason}};
}

json backend_json(const control::Backend& backend, const InstalledBackend* installed) {
  json out = json::parse(control::to_json(backend));
  out["port"] = backend.port ? json(backend.port->value()) : json();
  out["id"] = installed == nullptr ? 0 : installed->id.value();
  out["slots"] = installed == nullptr ? 0 : installed->slots;
  out["next_hop"] = installed == nullptr ? json() : next_hop_json(installed->next_hop);
  return out;
}

bool is_manual(const Plane& plane, const control::VipKey& key) {
  return std::ranges::any_of(plane.desired().manual_vips,
                             [&](const control::Vip& vip) { return vip.key() == key; });
}

/// Lists of sources may be long: whoever wants them asks for one VIP.
enum class Sources : std::uint8_t { kCounted, kListed };

/// What was asked of a VIP, without its backends.
json wish_json(const control::Vip& vip, Sources sources) {
  control::Vip shown = vip;
  shown.backends.clear();
  if (sources == Sources::kCounted) shown.sources = {};
  json out = json::parse(control::to_json(shown));
  if (sources == Sources::kCounted) out.erase("sources");
  out["sources_allowed"] = vip.sources.allow.size();
  out["sources_denied"] = vip.sources.deny.size();
  return out;
}

/// A desired VIP with what the kernel has of it.
json vip_json(const Plane& plane, const control::Vip& vip, Sources sources = Sources::kCounted) {
  const auto found = plane.installed().find(vip.key());
  const InstalledVip* installed = found == plane.installed().end() ? nullptr : &found->second;
  json backends = json::array();
  for (const control::Backend& backend : vip.backends) {
    const InstalledBackend* match = nullptr;
    if (installed != nullptr) {
      for (const InstalledBackend& entry : installed->backends)
        if (entry.backend.address == backend.address) match = &entry;
    }
    backends.push_back(backend_json(backend, match));
    backends.back().update(backend_condition(plane, vip.key(), backend.address));
  }
  const bool l7 = vip.mode == control::ForwardMode::kL7;
  json out = wish_json(vip, sources);
  out["owner"] = is_manual(plane, vip.key()) ? "manual" : "file";
  const control::VipHealth* health = plane.health().find(vip.key());
  out["fail_open"] = health != nullptr && health->fails_open();
  out["id"] = installed == nullptr ? 0 : installed->id.value();
  if (l7) out["table_size"] = 0;
  out["table_digest"] = installed == nullptr || l7 ? "" : hex64(installed->table_digest);
  out["backends"] = std::move(backends);
  return out;
}

/// The NAT table: what is in it, and what happened in it. Null where there is none.
Result<json> nat_json(const Datapath& datapath) {
  Result<NatCount> count = read_nat_count(datapath);
  if (!count) return std::move(count).error();
  if (count->capacity == 0) return json();
  Result<std::vector<FlowEventRow>> events = read_nat_events(datapath.tables());
  if (!events) return std::move(events).error();
  json out{{"records_max", count->capacity},    {"records", count->used()},
           {"unanswered", count->unanswered},   {"answered", count->answered},
           {"established", count->established}, {"closing", count->closing}};
  for (const FlowEventRow& row : *events)
    out[row.label] = row.count;
  return out;
}

json counter_json(const weir_counter& counter) {
  return {{"packets", counter.packets}, {"bytes", counter.bytes}};
}

json counter_json(const weir_service_counter& counter) {
  return {{"packets", counter.packets}, {"bytes", counter.bytes}, {"new_flows", counter.new_flows}};
}

Result<json> vip_stats_json(const KernelTables& tables, const InstalledVip& installed) {
  Result<weir_service_counter> total = read_vip_counter(tables, installed.id);
  if (!total) return std::move(total).error();
  json row = counter_json(*total);
  row["vip"] = control::vip_text(installed.vip.key());
  row["name"] = installed.vip.name;
  row["backends"] = json::array();
  for (const InstalledBackend& entry : installed.backends) {
    Result<weir_service_counter> counter = read_backend_counter(tables, entry.id);
    if (!counter) return std::move(counter).error();
    json backend = counter_json(*counter);
    backend["address"] = entry.backend.address.text();
    backend["name"] = entry.backend.name;
    row["backends"].push_back(std::move(backend));
  }
  return row;
}

// ---------------------------------------------------------------------------------- reading

Result<json> get_status(Plane& plane, Instant started) {
  Result<json> devices = devices_json(plane);
  if (!devices) return devices;
  Result<json> workers = workers_json(plane);
  if (!workers) return workers;
  std::size_t backends = 0;
  std::size_t unresolved = 0;
  for (const auto& [key, installed] : plane.installed()) {
    backends += installed.backends.size();
    unresolved += static_cast<std::size_t>(
        std::ranges::count_if(installed.backends, [](const InstalledBackend& entry) {
          return entry.next_hop.state != NextHopState::kResolved;
        }));
  }
  FlowCount flows;
  if (plane.loaded()) {
    Result<FlowCount> counted = plane.datapath().tables().count_flows();
    if (!counted) return std::move(counted).error();
    flows = *counted;
  }
  const DesiredState& desired = plane.desired();
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(monotonic_now() - started);
  return json{{"version", kVersion},
              {"abi", WEIR_ABI_VERSION},
              {"pid", ::getpid()},
              {"uptime_s", uptime.count()},
              {"revision", desired.revision},
              {"file", desired.file.empty() ? json() : json(desired.file)},
              {"loaded", plane.loaded()},
              {"devices", *std::move(devices)},
              {"workers", *std::move(workers)},
              {"vips", services_of(desired).size()},
              {"backends", backends},
              {"backends_unresolved", unresolved},
              {"health", health_summary(plane)},
              {"flows", flows.used},
              {"flows_max", plane.loaded() ? plane.datapath().settings().flows_max
                                           : desired.model.node.l4.flows_max},
              {"seed_digest", hex64(plane.seed_digest())},
              {"pin_dir", plane.options().pin_directory},
              {"state_dir", plane.options().state_directory},
              {"warnings", plane.warnings()}};
}

Result<json> get_vips(const Plane& plane, const AdminRequest& request) {
  json vips = json::array();
  if (const auto query = request.query.find("vip"); query != request.query.end()) {
    Result<control::VipKey> key = control::parse_vip_key(query->second);
    if (!key) return std::move(key).error();
    const auto found = service_of(plane.desired(), *key);
    if (!found) return no_such_vip(query->second);
    vips.push_back(vip_json(plane, *found, Sources::kListed));
  } else {
    for (const control::Vip& vip : services_of(plane.desired()))
      vips.push_back(vip_json(plane, vip));
  }
  return json{{"revision", plane.desired().revision}, {"vips", std::move(vips)}};
}

Result<json> service_stats(const Plane& plane, const AdminRequest& request) {
  std::optional<control::VipKey> only;
  if (const auto query = request.query.find("vip"); query != request.query.end()) {
    Result<control::VipKey> key = control::parse_vip_key(query->second);
    if (!key) return std::move(key).error();
    if (!plane.installed().contains(*key)) return no_such_vip(query->second);
    only = *key;
  }
  json vips = json::array();
  for (const auto& [key, installed] : plane.installed()) {
    if (only && *only != key) continue;
    Result<json> row = vip_stats_json(plane.datapath().tables(), installed);
    if (!row) return row;
    vips.push_back(*std::move(row));
  }
  return vips;
}

Result<json> get_stats(const Plane& plane, const AdminRequest& request) {
  if (!plane.loaded())
    return Error{ErrorCode::kUnavailable,
                 "the balancer is loaded on no device, so it counts nothing",
                 "load it: weir load DEVICE"};
  const KernelTables& tables = plane.datapath().tables();
  Result<std::vector<VerdictRow>> verdicts = read_verdicts(tables);
  if (!verdicts) return std::move(verdicts).error();
  json rows = json::array();
  for (const VerdictRow& row : *verdicts) {
    json item = counter_json(row.total);
    item["verdict"] = row.label;
    item["action"] = row.action;
    item["meaning"] = row.meaning;
    rows.push_back(std::move(item));
  }
  Result<json> vips = service_stats(plane, request);
  if (!vips) return vips;
  Result<std::vector<ReturnRow>> returns = read_return_verdicts(tables);
  if (!returns) return std::move(returns).error();
  json way_back = json::array();
  for (const ReturnRow& row : *returns) {
    json item = counter_json(row.total);
    item["verdict"] = row.label;
    way_back.push_back(std::move(item));
  }
  Result<std::vector<FlowEventRow>> events = read_flow_events(tables);
  if (!events) return std::move(events).error();
  json flow_table = json::object();
  for (const FlowEventRow& row : *events)
    flow_table[row.label] = row.count;
  Result<json> nat = nat_json(plane.datapath());
  if (!nat) return nat;
  const auto runs = plane.datapath().program_runs();
  return json{{"verdicts", std::move(rows)},
              {"total", counter_json(sum_of(*verdicts))},
              {"program_runs", runs ? json(*runs) : json()},
              {"flow_table", std::move(flow_table)},
              {"nat", *std::move(nat)},
              {"vips", *std::move(vips)},
              {"return", std::move(way_back)}};
}

// --------------------------------------------------------------------------------- changing

Result<json> changed_vip(Plane& plane, DesiredState next, const control::Vip& shown) {
  if (Result<void> done = plane.change(std::move(next)); !done) return std::move(done).error();
  return json{{"revision", plane.desired().revision}, {"vip", vip_json(plane, shown)}};
}

/// A VIP that may be changed by hand, within `state`.
Result<control::Vip*> manual_vip(DesiredState& state, const std::string& text) {
  Result<control::VipKey> key = control::parse_vip_key(text);
  if (!key) return std::move(key).error();
  const auto found = std::ranges::find(state.manual_vips, *key, &control::Vip::key);
  if (found != state.manual_vips.end()) return &*found;
  const std::vector<control::Vip> from_file = control::l4_services(state.model);
  if (std::ranges::find(from_file, *key, &control::Vip::key) != from_file.end())
    return Error{ErrorCode::kConflict, fmt::format("VIP {} belongs to {}", text, state.file),
                 "change the file and run weir apply"};
  return no_such_vip(text);
}

Result<void> check_host(const control::Vip& vip) {
  control::Model model;
  model.vips.push_back(vip);
  Result<control::HostFacts> facts = control::read_host_facts();
  if (!facts) return std::move(facts).error();
  const auto problems = control::check_against_host(model, *facts);
  if (problems.empty()) return {};
  return Error{ErrorCode::kConflict, problems.front().message, problems.front().hint};
}

Result<json> post_vip(Plane& plane, const AdminRequest& request) {
  Result<control::Vip> vip = control::vip_from_json(request.body);
  if (!vip) return std::move(vip).error();
  if (vip->mode == control::ForwardMode::kL7)
    return Error{ErrorCode::kInvalid, "a VIP of mode l7 needs a gateway that serves it",
                 "write the gateway into the configuration and run weir apply"};
  const auto existing = services_of(plane.desired());
  if (std::ranges::find(existing, vip->key(), &control::Vip::key) != existing.end())
    return Error{ErrorCode::kConflict, fmt::format("VIP {} exists", control::vip_text(vip->key())),
                 "change its backends, or remove it first"};
  if (Result<void> free = check_host(*vip); !free) return std::move(free).error();
  DesiredState next = plane.desired();
  next.manual_vips.push_back(*vip);
  if (Result<void> fits = control::check_vips_together(services_of(next)); !fits)
    return std::move(fits).error();
  return changed_vip(plane, std::move(next), *vip);
}

Result<json> delete_vip(Plane& plane, const AdminRequest& request) {
  Result<std::string> text = query_of(request, "vip");
  if (!text) return std::move(text).error();
  DesiredState next = plane.desired();
  Result<control::Vip*> vip = manual_vip(next, *text);
  if (!vip) return std::move(vip).error();
  const control::VipKey key = (*vip)->key();
  json before = vip_json(plane, **vip);
  std::erase_if(next.manual_vips, [&](const control::Vip& item) { return item.key() == key; });
  if (Result<void> done = plane.change(std::move(next)); !done) return std::move(done).error();
  return json{{"revision", plane.desired().revision}, {"vip", std::move(before)}};
}

Result<json> post_backend(Plane& plane, const AdminRequest& request) {
  Result<json> body = body_of(request);
  if (!body) return body;
  Result<std::string> vip_field = text_field(*body, "vip");
  if (!vip_field) return std::move(vip_field).error();
  Result<std::string> address_field = text_field(*body, "address");
  if (!address_field) return std::move(address_field).error();
  Result<wire::IpAddress> address = wire::IpAddress::parse(*address_field);
  if (!address) return std::move(address).error();
  body->erase("vip");

  DesiredState next = plane.desired();
  Result<control::Vip*> vip = manual_vip(next, *vip_field);
  if (!vip) return std::move(vip).error();
  // The newer word about the state counts, whichever way it came.
  if (body->contains("state")) control::drop_override(next.overrides, (*vip)->key(), *address);
  const auto known = std::ranges::find((*vip)->backends, *address, &control::Backend::address);
  json merged = json::object();
  if (known != (*vip)->backends.end()) merged = json::parse(control::to_json(*known));
  merged.update(*body);
  Result<control::Backend> backend = control::backend_from_json(merged.dump());
  if (!backend) return std::move(backend).error();
  if (known != (*vip)->backends.end()) {
    *known = *std::move(backend);
  } else {
    (*vip)->backends.push_back(*std::move(backend));
  }
  // The same rules as for a VIP that arrives whole: number of backends, duplicates.
  Result<control::Vip> checked = control::vip_from_json(control::to_json(**vip));
  if (!checked) return std::move(checked).error();
  return changed_vip(plane, std::move(next), *checked);
}

Result<json> delete_backend(Plane& plane, const AdminRequest& request) {
  Result<std::string> vip_text = query_of(request, "vip");
  if (!vip_text) return std::move(vip_text).error();
  Result<std::string> address_text = query_of(request, "address");
  if (!address_text) return std::move(address_text).error();
  Result<wire::IpAddress> address = wire::IpAddress::parse(*address_text);
  if (!address) return std::move(address).error();
  DesiredState next = plane.desired();
  Result<control::Vip*> vip = manual_vip(next, *vip_text);
  if (!vip) return std::move(vip).error();
  const auto removed = std::erase_if((*vip)->backends, [&](const control::Backend& backend) {
    return backend.address == *address;
  });
  if (removed == 0)
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} has no backend {}", *vip_text, address->text())};
  const control::Vip shown = **vip;
  return changed_vip(plane, std::move(next), shown);
}

Result<LoadSettings> load_settings_of(const LoadSettings& present, const json& body) {
  LoadSettings load = present;
  const auto devices = body.find("devices");
  if (devices == body.end() || !devices->is_array() || devices->empty())
    return Error{ErrorCode::kInvalid, "the body lacks 'devices', a list of device names"};
  for (const json& device : *devices) {
    if (!device.is_string())
      return Error{ErrorCode::kInvalid, "'devices' holds something that is no text"};
    const auto name = device.get<std::string>();
    if (std::ranges::find(load.devices, name) == load.devices.end()) load.devices.push_back(name);
  }
  if (const auto mode = body.find("mode"); mode != body.end()) {
    if (!mode->is_string()) return Error{ErrorCode::kInvalid, "'mode' is no text"};
    Result<control::XdpMode> parsed = control::parse_xdp_mode(mode->get<std::string>());
    if (!parsed) return std::move(parsed).error();
    load.mode = *parsed;
  }
  if (const auto chain = body.find("chain"); chain != body.end()) {
    if (!chain->is_boolean())
      return Error{ErrorCode::kInvalid, "'chain' is neither true nor false"};
    load.chain = chain->get<bool>();
  }
  return load;
}

Result<json> post_load(Plane& plane, const AdminRequest& request) {
  Result<json> body = body_of(request);
  if (!body) return body;
  DesiredState next = plane.desired();
  Result<LoadSettings> load = load_settings_of(next.load, *body);
  if (!load) return std::move(load).error();
  next.load = *std::move(load);
  if (Result<void> done = plane.change(std::move(next)); !done) return std::move(done).error();
  Result<json> devices = devices_json(plane);
  if (!devices) return devices;
  return json{{"devices", *std::move(devices)}};
}

Result<json> post_unload(Plane& plane) {
  json devices = plane.desired().load.devices;
  if (Result<void> done = plane.unload(); !done) return std::move(done).error();
  return json{{"devices", std::move(devices)}};
}

// ------------------------------------------------------------------------ configuration file

struct Proposal {
  DesiredState next;
  std::vector<control::Diagnostic> diagnostics;
  std::vector<control::Diagnostic> warnings;
};

/// The state that applying the text would lead to, or what is wrong with the text.
Result<Proposal> proposal_of(const Plane& plane, const AdminRequest& request) {
  Result<control::ConfigSubmission> submission = control::submission_from_json(request.body);
  if (!submission) return std::move(submission).error();
  control::ParseOutcome outcome = control::parse_config(submission->text, submission->file);
  if (!outcome.ok()) return Proposal{{}, std::move(outcome.diagnostics), {}};
  Result<control::HostFacts> facts = control::read_host_facts();
  if (!facts) return std::move(facts).error();
  Proposal proposal{plane.desired(),
                    control::check_against_host(outcome.model, *facts, outcome.source),
                    std::move(outcome.warnings)};
  DesiredState& next = proposal.next;
  next.file = submission->file;
  next.model = std::move(outcome.model);
  // A file without interfaces leaves loading to 'weir load'.
  if (!next.model.node.interfaces.empty()) {
    next.load.devices = next.model.node.interfaces;
    next.load.mode = next.model.node.xdp_mode;
  }
  return proposal;
}

std::vector<std::string> warnings_about(const Proposal& proposal) {
  const DesiredState& next = proposal.next;
  std::vector<std::string> warnings;
  for (const control::Diagnostic& warning : proposal.warnings)
    warnings.push_back(warning.text());
  if (next.model.node.hash_seed.empty())
    warnings.emplace_back("node.hashSeed is not set: the built-in seed is public");
  if (next.load.devices.empty())
    warnings.emplace_back("node.interfaces is empty and nothing was loaded: no traffic is served");
  return warnings;
}

AdminReply submit(Plane& plane, const AdminRequest& request, bool apply) {
  Result<Proposal> proposal = proposal_of(plane, request);
  if (!proposal) return control::error_reply(proposal.error());
  if (!proposal->diagnostics.empty()) return control::diagnostics_reply(proposal->diagnostics);
  if (Result<void> valid = plane.validate(proposal->next); !valid)
    return control::error_reply(valid.error());
  if (Result<void> fits = control::check_vips_together(services_of(proposal->next)); !fits)
    return control::error_reply(fits.error());
  std::vector<std::string> changes = plane.preview(proposal->next);
  std::ranges::move(control::node_changes(plane.desired().model.node, proposal->next.model.node),
                    std::back_inserter(changes));
  const std::vector<std::string> warnings = warnings_about(*proposal);
  if (apply) {
    if (Result<void> done = plane.change(std::move(proposal->next)); !done)
      return control::error_reply(done.error());
  }
  return ok({{"revision", plane.desired().revision}, {"changes", changes}, {"warnings", warnings}});
}

AdminReply vips_reply(const Plane& plane, const AdminRequest& request) {
  const auto backends = request.query.find("backends");
  if (backends == request.query.end()) return reply_of(get_vips(plane, request));
  if (backends->second == "count" && !request.query.contains("vip"))
    return {200, vip_list_json(plane)};
  return control::error_reply(Error{ErrorCode::kInvalid,
                                    fmt::format("'backends' is '{}'", backends->second),
                                    "leave it out, or ask for all VIPs with backends=count"});
}

}  // namespace

AdminReply handle_request(Plane& plane, const AdminRequest& request, Instant started) {
  const std::string route = request.method + " " + request.path;
  if (route == "GET /v1/status") return reply_of(get_status(plane, started));
  if (route == "GET /v1/vips") return vips_reply(plane, request);
  if (route == "GET /v1/stats") return reply_of(get_stats(plane, request));
  if (route == "POST /v1/trace") return trace_request(plane, request);
  if (route == "POST /v1/load") return reply_of(post_load(plane, request));
  if (route == "POST /v1/unload") return reply_of(post_unload(plane));
  if (route == "POST /v1/vips") return reply_of(post_vip(plane, request));
  if (route == "DELETE /v1/vips") return reply_of(delete_vip(plane, request));
  if (route == "POST /v1/backends") return reply_of(post_backend(plane, request));
  if (route == "GET /v1/backends") return get_backend(plane, request);
  if (route == "POST /v1/backends/state") return set_backend_state(plane, request);
  if (route == "DELETE /v1/backends") return reply_of(delete_backend(plane, request));
  if (route == "POST /v1/check") return submit(plane, request, false);
  if (route == "POST /v1/apply") return submit(plane, request, true);
  return control::unknown_path_reply(request);
}

}  // namespace weir::l4
