#include "l4/backend_routes.h"

#include <algorithm>
#include <optional>

#include "l4/observe.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using control::BackendHealth;
using control::BackendState;
using control::HealthState;
using nlohmann::json;

std::int64_t seconds(Duration time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time).count();
}

/// Seconds from now on, rounded up; null where the moment has passed.
json until(Instant moment, Instant now) {
  if (moment <= now || moment == kNever) return nullptr;
  return std::chrono::ceil<std::chrono::seconds>(moment - now).count();
}

json health_json(const control::VipHealth& vip, const wire::IpAddress& address, Instant now) {
  const BackendHealth* health = vip.health_of(address);
  if (health == nullptr) return nullptr;
  const control::HealthCheck& check = *vip.wish().health;
  const double took_ms = std::chrono::duration<double, std::milli>(health->last().took).count();
  const bool leaves = health->state() == HealthState::kDown && health->keeps_flows(check, now);
  return {{"state", control::text_of(health->state())},
          {"since_s", seconds(now - health->since())},
          {"asked", health->was_asked()},
          {"last_success", health->was_asked() ? json(health->last().is_success) : json()},
          {"reason", health->last().reason},
          {"took_ms", health->was_asked() ? json(took_ms) : json()},
          {"streak", health->streak()},
          {"share_percent", health->share(check, now) * 100 / BackendHealth::kFullShare},
          {"held_s", until(health->held_until(), now)},
          {"flows_move_in_s", leaves ? until(health->next_event(check, now), now) : json()}};
}

/// A backend of the desired state, by what the request says.
struct Named {
  control::Vip vip;
  control::Backend backend;
};

Result<Named> find_backend(const Plane& plane, const std::string& vip_text,
                           const std::string& address_text) {
  Result<control::VipKey> key = control::parse_vip_key(vip_text);
  if (!key) return std::move(key).error();
  Result<wire::IpAddress> address = wire::IpAddress::parse(address_text);
  if (!address) return std::move(address).error();
  std::optional<control::Vip> vip = service_of(plane.desired(), *key);
  if (!vip) return control::no_such_vip(vip_text);
  const auto backend = std::ranges::find(vip->backends, *address, &control::Backend::address);
  if (backend == vip->backends.end())
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} has no backend {}", vip_text, address->text()),
                 fmt::format("see 'weir backend list {}'", vip_text)};
  const control::Backend named = *backend;
  return Named{*std::move(vip), named};
}

const InstalledBackend* installed_of(const Plane& plane, const Named& named) {
  const auto vip = plane.installed().find(named.vip.key());
  if (vip == plane.installed().end()) return nullptr;
  for (const InstalledBackend& entry : vip->second.backends)
    if (entry.backend.address == named.backend.address) return &entry;
  return nullptr;
}

Result<json> backend_json(const Plane& plane, const Named& named) {
  const control::VipKey key = named.vip.key();
  json out{{"vip", control::vip_text(key)},
           {"address", named.backend.address.text()},
           {"name", named.backend.name},
           {"weight", named.backend.weight},
           {"state", control::text_of(named.backend.state)}};
  out.update(backend_condition(plane, key, named.backend.address));
  const InstalledBackend* installed = installed_of(plane, named);
  const bool remembers = plane.loaded() && (plane.datapath().settings().flows_max != 0 ||
                                            named.vip.mode == control::ForwardMode::kNat);
  out["takes_new_flows"] =
      installed != nullptr && (installed->entry.flags & WEIR_BACKEND_DRAINING) == 0;
  out["flows"] = remembers ? json(0) : json();
  out["flows_idle"] = remembers ? json(0) : json();
  if (installed == nullptr || !remembers) return out;
  const Result<BackendFlows> flows = read_backend_flows(plane.datapath(), named.vip, installed->id);
  if (!flows) return flows.error();
  out["flows"] = flows->alive;
  out["flows_idle"] = flows->idle;
  return out;
}

/// As the command's verbs are called.
std::string cause_of(const Named& named, BackendState wanted) {
  const char* verb = wanted == BackendState::kActive     ? "activate"
                     : wanted == BackendState::kDraining ? "drain"
                                                         : "maintenance";
  return fmt::format("backend {} {} {}", verb, control::vip_text(named.vip.key()),
                     named.backend.address.text());
}

/// Follows an operator's word.
Result<void> set_state(Plane& plane, const Named& named, BackendState wanted) {
  const DesiredState& desired = plane.desired();
  const control::VipKey key = named.vip.key();
  const wire::IpAddress& address = named.backend.address;
  const std::string cause = cause_of(named, wanted);
  std::vector<control::BackendOverride> overrides = desired.overrides;
  if (wanted != BackendState::kActive) {
    control::set_override(overrides, {key, address, wanted});
    return plane.override_backends(key, std::move(overrides), cause);
  }
  if (const control::Vip* manual = find_manual(desired, key)) {
    control::Vip vip = *manual;
    std::ranges::find(vip.backends, address, &control::Backend::address)->state = wanted;
    return plane.edit({cause, key, std::move(vip), address});
  }
  // The file's own word holds again, whatever it is.
  if (control::drop_override(overrides, key, address) ||
      named.backend.state == BackendState::kActive)
    return plane.override_backends(key, std::move(overrides), cause);
  return Error{ErrorCode::kConflict,
               fmt::format("{} says that backend {} is {}", desired.file, address.text(),
                           control::text_of(named.backend.state)),
               "change the file and run weir apply"};
}

Result<json> post_state(Plane& plane, const AdminRequest& request) {
  const Result<json> body = control::object_of(request.body);
  if (!body) return body;
  if (Result<void> known = control::only_members(*body, {"vip", "address", "state"}); !known)
    return std::move(known).error();
  const Result<std::string> vip = control::text_field(*body, "vip");
  if (!vip) return vip.error();
  const Result<std::string> address = control::text_field(*body, "address");
  if (!address) return address.error();
  const Result<std::string> word = control::text_field(*body, "state");
  if (!word) return word.error();
  const Result<BackendState> wanted = control::parse_backend_state(*word);
  if (!wanted) return wanted.error();
  const Result<Named> named = find_backend(plane, *vip, *address);
  if (!named) return named.error();
  if (Result<void> done = set_state(plane, *named, *wanted); !done) return std::move(done).error();
  const Result<Named> after = find_backend(plane, *vip, *address);
  if (!after) return after.error();
  Result<json> out = backend_json(plane, *after);
  if (out) (*out)["revision"] = plane.desired().revision;
  return out;
}

Result<json> get_one(const Plane& plane, const AdminRequest& request) {
  const auto vip = request.query.find("vip");
  const auto address = request.query.find("address");
  if (vip == request.query.end() || address == request.query.end())
    return Error{ErrorCode::kInvalid, "the query lacks 'vip' or 'address'"};
  const Result<Named> named = find_backend(plane, vip->second, address->second);
  return named ? backend_json(plane, *named) : Result<json>{named.error()};
}

}  // namespace

json backend_condition(const Plane& plane, const control::VipKey& key,
                       const wire::IpAddress& address) {
  const Instant now = monotonic_now();
  const auto& overrides = plane.desired().overrides;
  const control::VipHealth* vip = plane.health().find(key);
  const auto moves_at = vip != nullptr ? vip->moves_at(address) : std::nullopt;
  return {{"state_owner",
           control::find_override(overrides, key, address) != nullptr ? json("manual") : json()},
          {"health", vip != nullptr ? health_json(*vip, address, now) : json()},
          {"maintenance_begins_in_s", moves_at ? until(*moves_at, now) : json()}};
}

json health_summary(const Plane& plane) {
  const HealthBoard::Summary summary = plane.health().summary();
  return {{"vips_checked", summary.vips_checked},
          {"vips_fail_open", summary.vips_open},
          {"vips_without_healthy_backends", summary.vips_empty},
          {"backends_checked", summary.backends_checked},
          {"backends_down", summary.backends_down},
          {"backends_checking", summary.backends_checking}};
}

AdminReply get_backend(const Plane& plane, const AdminRequest& request) {
  return control::reply_of(get_one(plane, request));
}

AdminReply set_backend_state(Plane& plane, const AdminRequest& request) {
  return control::reply_of(post_state(plane, request));
}

}  // namespace weir::l4
