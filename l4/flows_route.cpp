#include "l4/flows_route.h"

#include <endian.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "l4/control/route_json.h"
#include "l4/control/units.h"
#include "l4/flow_reader.h"
#include "l4/kernel_clock.h"
#include "l4/names.h"
#include "l4/vip_entries.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using control::VipKey;
using nlohmann::ordered_json;

constexpr std::uint64_t kLimitDefault = 100;
constexpr std::uint64_t kLimitMax = 100'000;

/// A client, with a port or without.
struct Source {
  wire::IpAddress address;
  std::optional<wire::Port> port;
};

Result<Source> parse_source(const std::string& text) {
  if (const auto address = wire::IpAddress::parse(text)) return Source{*address, {}};
  if (const auto endpoint = wire::Endpoint::parse(text))
    return Source{endpoint->address, endpoint->port};
  return Error{ErrorCode::kInvalid, fmt::format("source is '{}'", text),
               "give ADDRESS or ADDRESS:PORT, IPv6 in brackets where a port follows"};
}

struct Wish {
  std::optional<VipKey> vip;
  std::optional<wire::IpAddress> backend;
  std::optional<Source> source;
  bool wants_nat = false;
  std::uint64_t limit = kLimitDefault;
};

Result<void> read_word(const std::string& name, const std::string& text, Wish& wish) {
  if (name == "vip") {
    Result<VipKey> key = control::parse_vip_key(text);
    if (!key) return std::move(key).error();
    wish.vip = *key;
  } else if (name == "backend") {
    Result<wire::IpAddress> address = wire::IpAddress::parse(text);
    if (!address) return std::move(address).error();
    wish.backend = *address;
  } else if (name == "source") {
    Result<Source> source = parse_source(text);
    if (!source) return std::move(source).error();
    wish.source = *source;
  } else if (name == "nat") {
    if (text != "true" && text != "false")
      return Error{ErrorCode::kInvalid, fmt::format("nat is '{}'", text), "give true or false"};
    wish.wants_nat = text == "true";
  } else if (name == "limit") {
    const auto limit = control::decimal(text);
    if (!limit || *limit == 0 || *limit > kLimitMax)
      return Error{ErrorCode::kInvalid, fmt::format("limit is '{}'", text),
                   fmt::format("give a number from 1 to {}", kLimitMax)};
    wish.limit = *limit;
  } else {
    return Error{ErrorCode::kInvalid, fmt::format("the query has '{}'", name),
                 "it may have vip, backend, source, nat and limit"};
  }
  return {};
}

Result<Wish> wish_of(const AdminRequest& request) {
  Wish wish;
  for (const auto& [name, text] : request.query) {
    if (Result<void> read = read_word(name, text, wish); !read) return std::move(read).error();
  }
  if (wish.source && !wish.wants_nat && !wish.vip)
    return Error{ErrorCode::kInvalid, "a source alone names no flow",
                 "give vip as well: the table of flows holds no addresses, so that one is found by "
                 "both ends only; of translated flows nat=true lists those of a source"};
  if (wish.source && !wish.wants_nat && wish.backend)
    return Error{ErrorCode::kInvalid, "backend says nothing where one flow is asked for",
                 "leave it out"};
  return wish;
}

Error no_such_vip(const VipKey& key) { return control::no_such_vip(control::vip_text(key)); }

const InstalledBackend* backend_in(const InstalledVip& vip, BackendId id) {
  const auto found = std::ranges::find(vip.backends, id, &InstalledBackend::id);
  return found == vip.backends.end() ? nullptr : &*found;
}

/// By its number within the VIP; null for none.
const InstalledBackend* member_of(const InstalledVip& vip, MemberNumber number) {
  const auto found = std::ranges::find(vip.backends, number, &InstalledBackend::number);
  return number == MemberNumber{} || found == vip.backends.end() ? nullptr : &*found;
}

/// "vip", "vip_name", or with another prefix the same of a backend.
void add_vip(ordered_json& row, const InstalledVip& vip) {
  row["vip"] = control::vip_text(vip.vip.key());
  row["vip_name"] = vip.vip.name;
}

void add_backend(ordered_json& row, const std::string& member, const InstalledBackend* backend) {
  row[member] = backend == nullptr ? ordered_json() : ordered_json(backend->backend.address.text());
  row[member + "_name"] = backend == nullptr ? "" : backend->backend.name;
}

// --------------------------------------------------------------------------------- the table

void add_tally(ordered_json& row, const FlowTally& tally) {
  row["new"] = tally.by_state[WEIR_FLOW_NEW];
  row["established"] = tally.by_state[WEIR_FLOW_ESTABLISHED];
  row["closing"] = tally.by_state[WEIR_FLOW_CLOSING];
  row["clients"] = tally.by_state[WEIR_FLOW_CLIENT];
  row["idle_10s"] = tally.by_idle[0];
  row["idle_1m"] = tally.by_idle[1];
  row["idle_10m"] = tally.by_idle[2];
  row["idle_longer"] = tally.by_idle[3];
}

Result<ordered_json> table(const Plane& plane, const Wish& wish, std::uint32_t now) {
  if (wish.vip && !plane.installed().contains(*wish.vip)) return no_such_vip(*wish.vip);
  Result<ReadFlows> flows = read_flow_tallies(plane.datapath(), now);
  if (!flows) return std::move(flows).error();
  std::map<BackendId, FlowTally> left = flows->tallies.by_backend();
  ordered_json rows = ordered_json::array();
  for (const auto& [key, vip] : plane.installed()) {
    for (const InstalledBackend& backend : vip.backends) {
      const auto tally = left.extract(backend.id);
      if (wish.vip && *wish.vip != key) continue;
      if (wish.backend && *wish.backend != backend.backend.address) continue;
      ordered_json row;
      add_vip(row, vip);
      add_backend(row, "backend", &backend);
      add_tally(row, tally.empty() ? FlowTally{} : tally.mapped());
      rows.push_back(std::move(row));
    }
  }
  std::uint64_t of_gone = 0;
  for (const auto& [id, tally] : left) {
    for (const std::uint64_t count : tally.by_state)
      of_gone += count;
  }
  return ordered_json{
      {"flows", std::move(rows)}, {"of_gone_backends", of_gone}, {"estimated", flows->is_estimate}};
}

// ----------------------------------------------------------------------------- translated flows

std::string endpoint_text(const weir_address& address, std::uint16_t port_be) {
  return wire::Endpoint{address_of(address), wire::Port{be16toh(port_be)}}.text();
}

ordered_json nat_row(const weir_nat_flow& record, const InstalledVip& vip,
                     const InstalledBackend* backend, std::uint32_t idle_s) {
  ordered_json row{{"client", endpoint_text(record.client, record.client_port_be)},
                   {"protocol", record.protocol == IPPROTO_TCP ? "tcp" : "udp"},
                   {"destination", endpoint_text(record.vip, record.vip_port_be)}};
  add_vip(row, vip);
  row["backend"] = endpoint_text(record.backend, record.backend_port_be);
  row["backend_name"] = backend == nullptr ? "" : backend->backend.name;
  row["source"] = endpoint_text(record.source, record.source_port_be);
  row["state"] = nat_state_text(record.owner);
  row["idle_s"] = idle_s;
  return row;
}

bool is_wanted(const weir_nat_flow& record, const InstalledVip& vip, const Wish& wish) {
  if (wish.vip && *wish.vip != vip.vip.key()) return false;
  if (wish.backend && *wish.backend != address_of(record.backend)) return false;
  if (!wish.source) return true;
  return wish.source->address == address_of(record.client) &&
         (!wish.source->port || wish.source->port->value() == be16toh(record.client_port_be));
}

Result<ordered_json> nat_list(const Plane& plane, const Wish& wish, std::uint32_t now) {
  if (wish.vip && !plane.installed().contains(*wish.vip)) return no_such_vip(*wish.vip);
  std::map<std::uint32_t, const InstalledVip*> vips;
  for (const auto& [key, vip] : plane.installed())
    vips[vip.id.value()] = &vip;
  const Ticks ticks = plane.datapath().constants().ticks;
  ordered_json rows = ordered_json::array();
  std::uint64_t matched = 0;
  Result<void> read =
      for_each_nat_flow(plane.datapath(), now, [&](const weir_nat_flow& record, std::uint32_t age) {
        const auto vip = vips.find(record.vip_id);
        if (vip == vips.end() || !is_wanted(record, *vip->second, wish)) return;
        if (++matched > wish.limit) return;
        rows.push_back(nat_row(record, *vip->second,
                               backend_in(*vip->second, BackendId{record.backend_id}),
                               ticks.seconds_of(age)));
      });
  if (!read) return std::move(read).error();
  return ordered_json{{"nat_flows", std::move(rows)}, {"matched", matched}};
}

// ------------------------------------------------------------------------------------- one flow

/// What a flow is, as the program keys it.
weir_flow_key key_of(const VipKey& destination, const Source& source) {
  weir_flow_key key{};
  key.source = abi_address(source.address);
  key.destination = abi_address(destination.address);
  key.source_port_be = htobe16(source.port.value_or(wire::Port{0}).value());
  key.destination_port_be = htobe16(destination.port().value());
  key.protocol = destination.protocol == control::Protocol::kTcp ? IPPROTO_TCP : IPPROTO_UDP;
  return key;
}

/// Where a flow is, or where a new one of its client would go, and why there.
struct Found {
  const InstalledBackend* backend = nullptr;
  std::string_view state;  ///< empty: it is not remembered
  std::uint32_t idle_s = 0;
};

Result<Found> find_translated(const Plane& plane, const InstalledVip& vip, const weir_flow_key& key,
                              std::uint32_t now) {
  Found found;
  Result<void> read =
      for_each_nat_flow(plane.datapath(), now, [&](const weir_nat_flow& record, std::uint32_t age) {
        if (record.vip_id != vip.id.value() || record.protocol != key.protocol ||
            record.client_port_be != key.source_port_be ||
            record.vip_port_be != key.destination_port_be ||
            !same_bytes(record.client, key.source) || !same_bytes(record.vip, key.destination))
          return;
        found = {backend_in(vip, BackendId{record.backend_id}), nat_state_text(record.owner),
                 plane.datapath().constants().ticks.seconds_of(age)};
      });
  if (!read) return std::move(read).error();
  return found;
}

/// By its entry, unless that names a backend which is not the VIP's: such an entry is void.
Result<Found> find_entry(const Plane& plane, const InstalledVip& vip, const weir_flow_key& key,
                         std::uint32_t now) {
  const Result<std::optional<FlowEntry>> entry = read_flow(plane.datapath(), key);
  if (!entry) return entry.error();
  if (!*entry) return Found{};
  const InstalledBackend* backend = backend_in(vip, (*entry)->backend);
  if (backend == nullptr) return Found{};
  return Found{backend, text_of((*entry)->state),
               plane.datapath().constants().ticks.seconds_of((*entry)->age(now))};
}

struct Choice {
  const InstalledBackend* backend = nullptr;
  std::string_view by = "none";  ///< "affinity", "table"
};

/// bpf/select.h, choose_by_policy(), without limits and connection ids.
Result<Choice> choose(const Plane& plane, const InstalledVip& vip, const weir_flow_key& key,
                      std::uint32_t now) {
  const Datapath& datapath = plane.datapath();
  if (vip.entry.affinity_s != 0) {
    const Result<std::optional<FlowEntry>> client =
        read_flow(datapath, client_key(key.source, vip.id));
    if (!client) return client.error();
    if (*client && (*client)->age(now) <= vip.entry.affinity_s) {
      const InstalledBackend* backend = backend_in(vip, (*client)->backend);
      if (backend != nullptr && (backend->entry.flags & WEIR_BACKEND_DRAINING) == 0)
        return Choice{backend, "affinity"};
    }
  }
  const std::uint64_t hash = choice_hash(key, vip.entry.hash, datapath.settings().hash_seed);
  const Result<SlotChoice> slots = read_choice(datapath, vip.id, hash);
  if (!slots) return slots.error();
  // Without a flow table every packet follows the table before, while that backend is in use.
  const InstalledBackend* previous =
      datapath.settings().flows_max == 0 ? member_of(vip, slots->previous) : nullptr;
  const InstalledBackend* chosen = previous != nullptr ? previous : member_of(vip, slots->current);
  return chosen == nullptr ? Choice{} : Choice{chosen, "table"};
}

Result<const InstalledVip*> vip_asked_about(const Plane& plane, const Wish& wish) {
  const VipKey& key = *wish.vip;
  const InstalledVip* vip = vip_for(plane.installed(), key);
  if (vip == nullptr) return no_such_vip(key);
  if (!key.is_single_address() || !key.ports.is_exact())
    return Error{ErrorCode::kInvalid, "a flow goes to one address and one port",
                 fmt::format("name those that the client uses, within {}", control::vip_text(key))};
  if (key.address.is_v4() != wish.source->address.is_v4())
    return Error{ErrorCode::kInvalid, fmt::format("{} and {} are of two families",
                                                  wish.source->address.text(), key.address.text())};
  if (vip->vip.mode == control::ForwardMode::kL7)
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{} is weir-l7's, which keeps its connections itself", control::vip_text(key))};
  if (!wish.source->port && vip->vip.hash != control::HashPolicy::kSourceIp)
    return Error{ErrorCode::kInvalid,
                 fmt::format("flows of {} are told apart by their source port",
                             control::vip_text(vip->vip.key())),
                 "give SOURCE:PORT"};
  return vip;
}

Result<ordered_json> one_flow(const Plane& plane, const Wish& wish, std::uint32_t now) {
  const Result<const InstalledVip*> asked = vip_asked_about(plane, wish);
  if (!asked) return asked.error();
  const InstalledVip& vip = **asked;
  const weir_flow_key key = key_of(*wish.vip, *wish.source);
  Result<Found> found = Found{};
  if (wish.source->port) {
    found = vip.vip.mode == control::ForwardMode::kNat ? find_translated(plane, vip, key, now)
                                                       : find_entry(plane, vip, key, now);
  }
  if (!found) return std::move(found).error();
  const Result<Choice> choice = choose(plane, vip, key, now);
  if (!choice) return choice.error();
  const Source& source = *wish.source;
  ordered_json row{{"source", source.port ? wire::Endpoint{source.address, *source.port}.text()
                                          : source.address.text()},
                   {"destination", control::vip_text(*wish.vip)}};
  add_vip(row, vip);
  add_backend(row, "backend", found->backend);
  row["state"] = found->state.empty() ? ordered_json() : ordered_json(found->state);
  row["idle_s"] = found->state.empty() ? ordered_json() : ordered_json(found->idle_s);
  add_backend(row, "new_flow_backend", choice->backend);
  row["new_flow_by"] = choice->by;
  return ordered_json{{"flow", std::move(row)}};
}

Result<ordered_json> answer(const Plane& plane, const AdminRequest& request) {
  const Result<Wish> wish = wish_of(request);
  if (!wish) return wish.error();
  if (!plane.loaded())
    return Error{ErrorCode::kUnavailable, "the balancer is loaded on no device, so it has no flows",
                 "load it: weir load DEVICE"};
  const Result<std::uint32_t> now = read_stamp(plane.datapath().constants().ticks);
  if (!now) return now.error();
  if (wish->wants_nat) return nat_list(plane, *wish, *now);
  return wish->source ? one_flow(plane, *wish, *now) : table(plane, *wish, *now);
}

}  // namespace

const InstalledVip* vip_for(const std::map<VipKey, InstalledVip>& vips, const VipKey& destination) {
  const InstalledVip* best = nullptr;
  const auto width = [](const InstalledVip& vip) {
    return vip.vip.ports.last.value() - vip.vip.ports.first.value();
  };
  for (const auto& [key, vip] : vips) {
    if (key.protocol != destination.protocol) continue;
    if (key.address.is_v4() != destination.address.is_v4()) continue;
    if (key.prefix_length > destination.prefix_length) continue;
    if (!key.prefix().contains(destination.address)) continue;
    if (!key.ports.contains(destination.ports.first) || !key.ports.contains(destination.ports.last))
      continue;
    const bool is_better =
        best == nullptr || key.prefix_length > best->vip.prefix_length ||
        (key.prefix_length == best->vip.prefix_length && width(vip) < width(*best));
    if (is_better) best = &vip;
  }
  return best;
}

AdminReply flows_request(const Plane& plane, const AdminRequest& request) {
  return control::reply_of(answer(plane, request));
}

}  // namespace weir::l4
