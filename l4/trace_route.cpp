#include "l4/trace_route.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "l4/api_bodies.h"
#include "l4/base/hex.h"
#include "l4/control/route_json.h"
#include "l4/names.h"
#include "l4/observe.h"
#include "l4/trace.h"
#include "l4/vip_entries.h"

namespace weir::l4 {
namespace {

using nlohmann::ordered_json;

struct StepRow {
  std::string_view label;
  weir_value a;
  weir_value b;
  std::string_view sentence;
};

constexpr std::array kSteps{
#define WEIR_STEP(symbol, label, a, b, sentence) \
  StepRow{label, WEIR_VALUE_##a, WEIR_VALUE_##b, sentence},
#include "bpf/trace.def"
#undef WEIR_STEP
};
static_assert(kSteps.size() == WEIR_STEP_COUNT);

std::string named(const std::map<std::uint32_t, Names::Named>& names, std::uint32_t id) {
  if (id == 0) return "none";
  const auto found = names.find(id);
  if (found == names.end()) return fmt::format("one that is gone (#{})", id);
  const Names::Named& named = found->second;
  return named.name.empty() ? named.address : fmt::format("{} ({})", named.name, named.address);
}

std::string flow_text(const weir_flow_key& flow) {
  const wire::IpAddress source = address_of(flow.source);
  const wire::IpAddress destination = address_of(flow.destination);
  if (destination == wire::IpAddress{}) return "nothing that could be for a service";
  const std::string_view protocol = flow.protocol == IPPROTO_TCP   ? " TCP"
                                    : flow.protocol == IPPROTO_UDP ? " UDP"
                                                                   : "";
  if (flow.ports_be == 0)
    return fmt::format("{} > {}{}", source.text(), destination.text(), protocol);
  const wire::Endpoint from{source, wire::Port{be16toh(flow.source_port_be)}};
  const wire::Endpoint to{destination, wire::Port{be16toh(flow.destination_port_be)}};
  return fmt::format("{} > {}{}", from.text(), to.text(), protocol);
}

std::string entry_text(std::uint64_t value) {
  constexpr std::array<std::string_view, 4> kStates{"one packet so far", "established", "closing",
                                                    "a client"};
  return fmt::format("{}, idle for {} s", kStates[value & 3], value >> 8);
}

std::string address_text(std::uint64_t flags) {
  if ((flags & WEIR_ADDRESS_L7_OWN) != 0) return "an address of weir-l7";
  if ((flags & WEIR_ADDRESS_SNAT) != 0 && (flags & WEIR_ADDRESS_VIP) == 0)
    return "an address of full NAT";
  std::string text = (flags & WEIR_ADDRESS_L7) != 0 ? "a VIP of weir-l7" : "a VIP's";
  if ((flags & WEIR_ADDRESS_RANGES) != 0) text += ", with ranges of ports";
  return text;
}

std::string policy_text(std::uint64_t policy) {
  switch (policy) {
    case WEIR_HASH_SOURCE_PORT:
      return std::string{control::text_of(control::HashPolicy::kSourceIpPort)};
    case WEIR_HASH_SOURCE:
      return std::string{control::text_of(control::HashPolicy::kSourceIp)};
    default:
      return std::string{control::text_of(control::HashPolicy::kFiveTuple)};
  }
}

bool covers(const weir_prefix_key& prefix, const weir_address& address) {
  for (std::uint32_t bit = 0; bit < prefix.prefix_length; ++bit) {
    const unsigned differs = prefix.address.bytes[bit / 8] ^ address.bytes[bit / 8];
    if ((differs & (0x80U >> bit % 8)) != 0) return false;
  }
  return true;
}

/// The rule of a list that decides about an address, as it was written.
std::string rule_for(std::span<const ListEntry> list, const weir_address& address) {
  const ListEntry* longest = nullptr;
  for (const ListEntry& entry : list) {
    if (!covers(entry.prefix, address)) continue;
    if (longest == nullptr || entry.prefix.prefix_length > longest->prefix.prefix_length)
      longest = &entry;
  }
  if (longest == nullptr) return "as no rule covers it";
  const wire::IpAddress network = address_of(longest->prefix.address);
  const bool is_v4 = network.is_v4() && longest->prefix.prefix_length >= 96;
  const auto length = static_cast<std::uint8_t>(longest->prefix.prefix_length - (is_v4 ? 96 : 0));
  if (longest->prefix.prefix_length == 0) return "as is all that no other rule covers";
  return fmt::format("by {}", wire::Prefix{network, length}.text());
}

std::string next_hop_text(const InstalledBackend& backend) {
  const NextHop& hop = backend.next_hop;
  if (hop.state != NextHopState::kResolved)
    return fmt::format("next hop {}{}{}", text_of(hop.state), hop.reason.empty() ? "" : ": ",
                       hop.reason);
  return fmt::format("by {} to {}{}{}, MTU {}{}", hop.device, hop.mac.text(),
                     hop.gateway ? " of " : "", hop.gateway ? hop.gateway->text() : "", hop.mtu,
                     backend.backend.state == control::BackendState::kActive
                         ? ""
                         : fmt::format(", {}", control::text_of(backend.backend.state)));
}

/// Writes the steps of one packet.
class Writer {
 public:
  Writer(const Plane& plane, const Names& names) : plane_{plane}, names_{names} {}

  ordered_json step(const weir_trace_step& step) {
    if (step.step >= kSteps.size())
      return {{"step", "unknown"}, {"text", "a step of another version"}};
    const StepRow& row = kSteps[step.step];
    if (weir_flow_key none{}; !same_bytes(step.flow, none)) flow_ = step.flow;
    if (row.a == WEIR_VALUE_LIST) list_ = step.a;
    const std::string text = fmt::format(
        fmt::runtime(row.sentence), fmt::arg("a", value_text(row.a, step.a)),
        fmt::arg("b", value_text(row.b, step.b)), fmt::arg("flow", flow_text(step.flow)));
    return {{"step", row.label}, {"text", text}};
  }

 private:
  // long: one kind of value a line
  [[nodiscard]] std::string value_text(weir_value kind, std::uint64_t value) const {
    const auto id = static_cast<std::uint32_t>(value);
    switch (kind) {
      case WEIR_VALUE_NONE:
        return {};
      case WEIR_VALUE_NUMBER:
        return fmt::format("{}", value);
      case WEIR_VALUE_PARSED:
        if (static_cast<std::int32_t>(id) == WEIR_CONTINUE) return "sound";
        return fmt::format("for a service it would end as {}", verdict_row(id).label);
      case WEIR_VALUE_VERDICT:
        return std::string{verdict_row(id).label};
      case WEIR_VALUE_END:
        return fmt::format("{}: {}", verdict_row(id).label, verdict_row(id).meaning);
      case WEIR_VALUE_VIP:
        return named(names_.vips, id);
      case WEIR_VALUE_BACKEND:
        return named(names_.backends, id);
      case WEIR_VALUE_NEXT_HOP:
        return backend_text(id);
      case WEIR_VALUE_ENTRY:
        return entry_text(value);
      case WEIR_VALUE_ADDRESS:
        return address_text(value);
      case WEIR_VALUE_LIST:
        return value == 0 ? "the node's block list" : "the service's list";
      case WEIR_VALUE_ANSWER:
        return fmt::format("{} {}", value != 0 ? "denied" : "allowed", rule_text());
      case WEIR_VALUE_ROOM:
        return value != 0 ? "there is room for it" : "used up";
      case WEIR_VALUE_POLICY:
        return policy_text(value);
      case WEIR_VALUE_BYTES:
        if (value >> 32 == 0) return fmt::format("{} bytes", id);
        return fmt::format("{} bytes and {} of outer headers", id, value >> 32);
    }
    return {};
  }

  [[nodiscard]] std::string backend_text(std::uint32_t id) const {
    for (const auto& [key, installed] : plane_.installed()) {
      for (const InstalledBackend& backend : installed.backends)
        if (backend.id.value() == id) return next_hop_text(backend);
    }
    return "which is gone";
  }

  [[nodiscard]] std::string rule_text() const {
    if (list_ == 0) {
      const auto list = list_entries(plane_.desired().model.node.block_list);
      return rule_for(list, flow_.source);
    }
    for (const auto& [key, installed] : plane_.installed())
      if (installed.id.value() == list_) return rule_for(installed.list, flow_.source);
    return {};
  }

  const Plane& plane_;
  const Names& names_;
  weir_flow_key flow_{};
  std::uint64_t list_ = 0;
};

ordered_json packet_json(const Plane& plane, const Names& names, const TracedPacket& packet) {
  Writer writer{plane, names};
  ordered_json steps = ordered_json::array();
  std::uint32_t verdict = WEIR_VERDICT_COUNT;
  const std::uint32_t count = std::min<std::uint32_t>(packet.trace.count, WEIR_TRACE_STEPS_MAX);
  for (const weir_trace_step& step : std::span{packet.trace.steps}.first(count)) {
    if (step.step == WEIR_STEP_VERDICT) verdict = static_cast<std::uint32_t>(step.a);
  }
  for (const weir_trace_step& step : std::span{packet.trace.steps}.first(count)) {
    // What was decided says something only where the sender is answered instead.
    if (step.step == WEIR_STEP_DECIDED && step.a == verdict) continue;
    steps.push_back(writer.step(step));
  }
  const VerdictRow& row = verdict_row(verdict);
  return {{"steps", std::move(steps)},
          {"verdict", row.label},
          {"action", row.action},
          {"meaning", row.meaning},
          {"frame_bytes", packet.output.size()},
          {"frame", hex_of(packet.output)}};
}

/// The device that packets are to come in by: the one that is named, or the first.
Result<Attachment> device_of(const Plane& plane, const std::optional<std::string>& name) {
  Result<std::vector<Attachment>> attached = plane.attachments();
  if (!attached) return std::move(attached).error();
  if (!plane.loaded() || attached->empty())
    return Error{ErrorCode::kUnavailable, "the balancer is loaded on no device",
                 "load it: weir load DEVICE"};
  if (!name) return attached->front();
  const auto found = std::ranges::find(*attached, *name, &Attachment::device);
  if (found != attached->end()) return *found;
  std::string devices;
  for (const Attachment& attachment : *attached)
    devices += (devices.empty() ? "" : ", ") + attachment.device;
  return Error{ErrorCode::kNotFound, fmt::format("the balancer is not on device '{}'", *name),
               fmt::format("it is on {}", devices)};
}

Result<ordered_json> traced(const Plane& plane, const control::AdminRequest& request) {
  Result<TraceWish> wish = trace_wish_from_json(request.body);
  if (!wish) return std::move(wish).error();
  Result<Attachment> device = device_of(plane, wish->device);
  if (!device) return std::move(device).error();
  Result<Traced> outcome =
      trace_packets(plane.options().pin_directory, plane.datapath(), device->ifindex, wish->frames);
  if (!outcome) return std::move(outcome).error();
  const Names names = Names::of(plane);
  ordered_json packets = ordered_json::array();
  for (const TracedPacket& packet : outcome->packets)
    packets.push_back(packet_json(plane, names, packet));
  ordered_json notes = ordered_json::array();
  if (!outcome->came_in_by_device)
    notes.push_back(
        "before Linux 5.15 test-runs come in by the loopback device: what would be sent "
        "out where it came in shows as redirected");
  return ordered_json{
      {"device", device->device}, {"packets", std::move(packets)}, {"notes", std::move(notes)}};
}

}  // namespace

control::AdminReply trace_request(Plane& plane, const control::AdminRequest& request) {
  return control::reply_of(traced(plane, request));
}

}  // namespace weir::l4
