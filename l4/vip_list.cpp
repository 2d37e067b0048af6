#include "l4/vip_list.h"

#include "l4/control/route_json.h"

namespace weir::l4 {
namespace {

using nlohmann::json;

json limits_json(const control::VipLimits& limits) {
  return {{"new_flows_per_source", limits.new_flows_per_source},
          {"packets_per_source", limits.packets_per_source},
          {"new_flows", limits.new_flows},
          {"packets", limits.packets}};
}

/// What is as it is by default is left out.
json row_of(const Plane& plane, const control::Vip& vip, std::string_view owner) {
  const auto found = plane.installed().find(vip.key());
  const bool is_l7 = vip.mode == control::ForwardMode::kL7;
  const bool has_table = found != plane.installed().end() && !is_l7;
  json row{{"vip", control::vip_text(vip.key())},
           {"name", vip.name},
           {"mode", control::text_of(vip.mode)},
           {"owner", owner},
           {"hash", control::text_of(vip.hash)},
           {"when_empty", control::text_of(vip.when_empty)},
           {"table_size", is_l7 ? 0 : vip.slots()},
           {"table_digest", has_table ? control::hex64(found->second.table_digest) : ""},
           {"backend_count", vip.backends.size()}};
  if (vip.affinity_timeout_s) row["affinity_timeout_s"] = *vip.affinity_timeout_s;
  if (!vip.sources.allow.empty()) row["sources_allowed"] = vip.sources.allow.size();
  if (!vip.sources.deny.empty()) row["sources_denied"] = vip.sources.deny.size();
  if (vip.limits != control::VipLimits{}) row["limits"] = limits_json(vip.limits);
  if (vip.quic.on()) row["quic"] = {{"server_id_length", vip.quic.server_id_bytes}};
  if (!vip.health) return row;
  row["health"] = json::object();
  const control::VipHealth* health = plane.health().find(vip.key());
  row["fail_open"] = health != nullptr && health->fails_open();
  return row;
}

}  // namespace

control::AdminReply vip_list_request(const Plane& plane) {
  const DesiredState& desired = plane.desired();
  const ServiceView services{desired};
  json vips = json::array();
  for (const control::Vip* vip : services.of_file())
    vips.push_back(row_of(plane, *vip, "file"));
  for (const control::Vip& vip : desired.manual_vips)
    vips.push_back(row_of(plane, vip, "manual"));
  return control::ok_reply(json{{"revision", desired.revision}, {"vips", std::move(vips)}});
}

}  // namespace weir::l4
