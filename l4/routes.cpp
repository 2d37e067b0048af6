#include "l4/routes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <iterator>
#include <nlohmann/json.hpp>

#include "l4/api_bodies.h"
#include "l4/backend_routes.h"
#include "l4/control/config.h"
#include "l4/control/diff.h"
#include "l4/control/host_facts.h"
#include "l4/control/model_json.h"
#include "l4/control/process_facts.h"
#include "l4/control/route_json.h"
#include "l4/control/rules.h"
#include "l4/flows_route.h"
#include "l4/metrics.h"
#include "l4/observe.h"
#include "l4/openapi.h"
#include "l4/program_facts.h"
#include "l4/revision_routes.h"
#include "l4/stats_route.h"
#include "l4/trace_route.h"
#include "l4/vip_list.h"
#include "l4/watch.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using nlohmann::json;

constexpr const char* kVersion = WEIR_VERSION;

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
  const Result<Lane> lane = plane.lane();
  for (const WorkerPair& pair : *workers) {
    out.push_back({{"index", pair.index},
                   {"lane", text_of(pair.lane)},
                   {"in_use", lane && pair.lane == *lane},
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
json vip_json(const Plane& plane, const control::Vip& vip, bool is_manual = true,
              Sources sources = Sources::kCounted) {
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
  out["owner"] = is_manual ? "manual" : "file";
  const control::VipHealth* health = plane.health().find(vip.key());
  out["fail_open"] = health != nullptr && health->fails_open();
  out["id"] = installed == nullptr ? 0 : installed->id.value();
  // The size in force: the wish has none where the number of backends decides.
  out["table_size"] = l7 ? 0 : vip.slots();
  out["table_digest"] = installed == nullptr || l7 ? "" : control::hex64(installed->table_digest);
  out["backends"] = std::move(backends);
  return out;
}

// ---------------------------------------------------------------------------------- reading

Result<json> programs_json(const Plane& plane) {
  Result<std::vector<ProgramFacts>> programs = read_programs(plane.options().pin_directory);
  if (!programs) return std::move(programs).error();
  json out = json::array();
  for (const ProgramFacts& program : *programs) {
    out.push_back({{"name", program.name},
                   {"id", program.id},
                   {"tag", program.tag},
                   {"loaded_unix_s", program.loaded_unix_s}});
  }
  return out;
}

Result<json> get_status(Plane& plane, Instant started) {
  Result<json> programs = programs_json(plane);
  if (!programs) return programs;
  const control::ProcessFacts process = control::read_process_facts();
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
  const ServiceView services{desired};
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(monotonic_now() - started);
  return json{{"version", kVersion},
              {"abi", WEIR_ABI_VERSION},
              {"pid", ::getpid()},
              {"uptime_s", uptime.count()},
              {"memory_bytes", process.resident_bytes},
              {"cpu_s", process.cpu_s},
              {"kernel", process.kernel},
              {"programs", *std::move(programs)},
              {"in_desired_state", plane.in_desired_state()},
              {"revision", desired.revision},
              {"file", desired.file.empty() ? json() : json(desired.file)},
              {"reload", control::reload_json(plane.reload_status())},
              {"loaded", plane.loaded()},
              {"devices", *std::move(devices)},
              {"workers", *std::move(workers)},
              {"vips", services.all().size()},
              {"backends", backends},
              {"backends_unresolved", unresolved},
              {"health", health_summary(plane)},
              {"flows", flows.used},
              {"flows_max", plane.loaded() ? plane.datapath().settings().flows_max
                                           : desired.model.node.l4.flows_max},
              {"seed_digest", control::hex64(plane.seed_digest())},
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
    if (!found) return control::no_such_vip(query->second);
    const bool is_manual = find_manual(plane.desired(), *key) != nullptr;
    vips.push_back(vip_json(plane, *found, is_manual, Sources::kListed));
  } else {
    // Those by hand stand last.
    const std::vector<control::Vip> services = services_of(plane.desired());
    const std::size_t of_file = services.size() - plane.desired().manual_vips.size();
    for (std::size_t i = 0; i < services.size(); ++i)
      vips.push_back(vip_json(plane, services[i], i >= of_file));
  }
  return json{{"revision", plane.desired().revision}, {"vips", std::move(vips)}};
}

// --------------------------------------------------------------------------------- changing

Result<json> changed_vip(Plane& plane, const VipEdit& edit) {
  if (Result<void> done = plane.edit(edit); !done) return std::move(done).error();
  return json{{"revision", plane.desired().revision}, {"vip", vip_json(plane, *edit.vip)}};
}

/// A VIP that may be changed by hand.
Result<control::Vip> manual_vip(const DesiredState& state, const std::string& text) {
  Result<control::VipKey> key = control::parse_vip_key(text);
  if (!key) return std::move(key).error();
  if (const control::Vip* found = find_manual(state, *key)) return *found;
  if (file_owns(state, *key))
    return Error{ErrorCode::kConflict, fmt::format("VIP {} belongs to {}", text, state.file),
                 "change the file and run weir apply"};
  return control::no_such_vip(text);
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
  const control::VipKey key = vip->key();
  if (find_manual(plane.desired(), key) != nullptr || file_owns(plane.desired(), key))
    return Error{ErrorCode::kConflict, fmt::format("VIP {} exists", control::vip_text(key)),
                 "change its backends, or remove it first"};
  if (Result<void> free = check_host(*vip); !free) return std::move(free).error();
  return changed_vip(plane, {fmt::format("vip add {}", control::vip_text(key)), key, *vip});
}

Result<json> delete_vip(Plane& plane, const AdminRequest& request) {
  Result<std::string> text = query_of(request, "vip");
  if (!text) return std::move(text).error();
  const Result<control::Vip> vip = manual_vip(plane.desired(), *text);
  if (!vip) return vip.error();
  const control::VipKey key = vip->key();
  json before = vip_json(plane, *vip);
  Result<void> done = plane.edit({fmt::format("vip del {}", control::vip_text(key)), key, {}});
  if (!done) return std::move(done).error();
  return json{{"revision", plane.desired().revision}, {"vip", std::move(before)}};
}

Result<json> post_backend(Plane& plane, const AdminRequest& request) {
  Result<json> body = control::object_of(request.body);
  if (!body) return body;
  Result<std::string> vip_field = control::text_field(*body, "vip");
  if (!vip_field) return std::move(vip_field).error();
  Result<std::string> address_field = control::text_field(*body, "address");
  if (!address_field) return std::move(address_field).error();
  Result<wire::IpAddress> address = wire::IpAddress::parse(*address_field);
  if (!address) return std::move(address).error();
  body->erase("vip");

  Result<control::Vip> vip = manual_vip(plane.desired(), *vip_field);
  if (!vip) return std::move(vip).error();
  const auto known = std::ranges::find(vip->backends, *address, &control::Backend::address);
  const bool is_new = known == vip->backends.end();
  json merged = json::object();
  if (!is_new) merged = json::parse(control::to_json(*known));
  merged.update(*body);
  Result<control::Backend> backend = control::backend_from_json(merged.dump());
  if (!backend) return std::move(backend).error();
  if (is_new) {
    vip->backends.push_back(*std::move(backend));
  } else {
    *known = *std::move(backend);
  }
  // The same rules as for a VIP that arrives whole: number of backends, duplicates.
  Result<control::Vip> checked = control::vip_from_json(control::to_json(*vip));
  if (!checked) return std::move(checked).error();
  VipEdit edit{fmt::format("backend {} {} {}", is_new ? "add" : "set",
                           control::vip_text(vip->key()), address->text()),
               vip->key(), *std::move(checked)};
  // The newer word about the state counts, whichever way it came.
  if (body->contains("state")) edit.newer_state_of = *address;
  return changed_vip(plane, edit);
}

Result<json> delete_backend(Plane& plane, const AdminRequest& request) {
  Result<std::string> vip_text = query_of(request, "vip");
  if (!vip_text) return std::move(vip_text).error();
  Result<std::string> address_text = query_of(request, "address");
  if (!address_text) return std::move(address_text).error();
  Result<wire::IpAddress> address = wire::IpAddress::parse(*address_text);
  if (!address) return std::move(address).error();
  Result<control::Vip> vip = manual_vip(plane.desired(), *vip_text);
  if (!vip) return std::move(vip).error();
  const auto removed = std::erase_if(
      vip->backends, [&](const control::Backend& backend) { return backend.address == *address; });
  if (removed == 0)
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} has no backend {}", *vip_text, address->text())};
  const control::VipKey key = vip->key();
  return changed_vip(
      plane, {fmt::format("backend del {} {}", control::vip_text(key), address->text()), key,
              *std::move(vip)});
}

Result<json> post_load(Plane& plane, const AdminRequest& request) {
  DesiredState next = plane.desired();
  Result<LoadSettings> load = load_settings_from_json(next.load, request.body);
  if (!load) return std::move(load).error();
  next.load = *std::move(load);
  const std::string cause = fmt::format("load {}", fmt::join(next.load.devices, " "));
  if (const auto done = plane.change(std::move(next), cause); !done) return done.error();
  Result<json> devices = devices_json(plane);
  if (!devices) return devices;
  return json{{"devices", *std::move(devices)}};
}

Result<json> post_unload(Plane& plane, const AdminRequest& request) {
  if (!request.body.empty()) {
    const Result<json> body = control::object_of(request.body);
    if (!body) return body;
    if (Result<void> known = control::only_members(*body, {}); !known)
      return std::move(known).error().with_remedy(
          "it takes none: unload is for all devices, and stops all traffic");
  }
  json devices = plane.desired().load.devices;
  if (Result<void> done = plane.unload(); !done) return std::move(done).error();
  return json{{"devices", std::move(devices)}};
}

Result<json> get_lane(Plane& plane) {
  const Result<Lane> lane = plane.lane();
  if (!lane) return lane.error();
  return json{{"lane", text_of(*lane)}};
}

Result<json> post_lane(Plane& plane, const AdminRequest& request) {
  const Result<json> body = control::object_of(request.body);
  if (!body) return body;
  if (Result<void> known = control::only_members(*body, {"lane"}); !known)
    return std::move(known).error();
  const Result<std::string> text = control::text_field(*body, "lane");
  if (!text) return text.error();
  const std::optional<Lane> lane = control::parse_lane(*text);
  if (!lane)
    return Error{ErrorCode::kInvalid, fmt::format("'lane' is '{}'", *text),
                 "expected blue or green"};
  if (Result<void> done = plane.use_lane(*lane); !done) return std::move(done).error();
  return get_lane(plane);
}

AdminReply vips_reply(const Plane& plane, const AdminRequest& request) {
  const auto backends = request.query.find("backends");
  if (backends == request.query.end()) return control::reply_of(get_vips(plane, request));
  if (backends->second == "count" && !request.query.contains("vip")) return vip_list_request(plane);
  return control::error_reply(Error{ErrorCode::kInvalid,
                                    fmt::format("'backends' is '{}'", backends->second),
                                    "leave it out, or ask for all VIPs with backends=count"});
}

/// Calls the handler with those of the three that it takes; what is no reply yet becomes one.
template <auto kHandler>
AdminReply answered(Plane& plane, const AdminRequest& request, Instant started) {
  using Handler = decltype(kHandler);
  const auto outcome = [&] {
    if constexpr (std::invocable<Handler, Plane&, const AdminRequest&>) {
      return kHandler(plane, request);
    } else if constexpr (std::invocable<Handler, Plane&, Instant>) {
      return kHandler(plane, started);
    } else {
      return kHandler(plane);
    }
  }();
  if constexpr (std::same_as<decltype(outcome), const AdminReply>) {
    return outcome;
  } else {
    return control::reply_of(outcome);
  }
}

AdminReply get_openapi(const Plane& /*plane*/) { return {200, std::string{kOpenapi}}; }

struct ApiRoute {
  control::AdminOperation operation;
  AdminReply (*answer)(Plane& plane, const AdminRequest& request, Instant started);
};

/// All that the API can do, but for what the daemon answers itself: GET /v1/monitor and GET
/// /metrics. Whoever adds a line describes it in openapi.json; tests hold the two against each
/// other.
constexpr std::array kRoutes{
    ApiRoute{{"GET", "/v1/status"}, answered<get_status>},
    ApiRoute{{"GET", "/v1/vips"}, answered<vips_reply>},
    ApiRoute{{"GET", "/v1/stats"}, answered<stats_request>},
    ApiRoute{{"GET", "/v1/flows"}, answered<flows_request>},
    ApiRoute{{"POST", "/v1/trace"}, answered<trace_request>},
    ApiRoute{{"POST", "/v1/load"}, answered<post_load>},
    ApiRoute{{"POST", "/v1/unload"}, answered<post_unload>},
    ApiRoute{{"GET", "/v1/lane"}, answered<get_lane>},
    ApiRoute{{"POST", "/v1/lane"}, answered<post_lane>},
    ApiRoute{{"POST", "/v1/vips"}, answered<post_vip>},
    ApiRoute{{"DELETE", "/v1/vips"}, answered<delete_vip>},
    ApiRoute{{"POST", "/v1/backends"}, answered<post_backend>},
    ApiRoute{{"GET", "/v1/backends"}, answered<get_backend>},
    ApiRoute{{"POST", "/v1/backends/state"}, answered<set_backend_state>},
    ApiRoute{{"DELETE", "/v1/backends"}, answered<delete_backend>},
    ApiRoute{{"POST", "/v1/check"}, answered<check_request>},
    ApiRoute{{"POST", "/v1/apply"}, answered<apply_request>},
    ApiRoute{{"GET", "/v1/revisions"}, answered<revisions_request>},
    ApiRoute{{"POST", "/v1/rollback"}, answered<rollback_request>},
    ApiRoute{{"GET", "/v1/export"}, answered<export_request>},
    ApiRoute{{"GET", "/v1/openapi.json"}, answered<get_openapi>},
};

}  // namespace

AdminReply handle_request(Plane& plane, const AdminRequest& request, Instant started) {
  for (const ApiRoute& route : kRoutes)
    if (route.operation.method == request.method && route.operation.path == request.path)
      return route.answer(plane, request, started);
  return control::unknown_path_reply(request, operations());
}

std::span<const control::AdminOperation> operations() {
  static constexpr auto kOperations = [] {
    std::array<control::AdminOperation, kRoutes.size() + 2> all{kWatchOperation, kMetricsOperation};
    std::ranges::transform(kRoutes, all.begin() + 2, &ApiRoute::operation);
    return all;
  }();
  return kOperations;
}

}  // namespace weir::l4
