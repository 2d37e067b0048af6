#include "l4/next_hop.h"

#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

namespace weir::l4 {
namespace {

std::uint8_t family_of(const wire::IpAddress& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

/// States in which the kernel itself would send to the MAC address it has.
constexpr unsigned kUsableStates =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
constexpr unsigned kReachableStates = NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP;

std::optional<VlanTag> vlan_of(const NetlinkAttributes& link) {
  const auto info = link.find(IFLA_LINKINFO);
  if (!info) return std::nullopt;
  const NetlinkAttributes attributes{*info, 0};
  const auto data = attributes.find(IFLA_INFO_DATA);
  if (!data || attributes.text(IFLA_INFO_KIND) != "vlan") return std::nullopt;
  const NetlinkAttributes vlan{*data, 0};
  return VlanTag{
      .id = vlan.u16(IFLA_VLAN_ID).value_or(0),
      .is_802_1q = ntohs(vlan.u16(IFLA_VLAN_PROTOCOL).value_or(htons(ETH_P_8021Q))) == ETH_P_8021Q};
}

NextHop unresolved(NextHop hop, NextHopState state, std::string reason) {
  hop.state = state;
  hop.reason = std::move(reason);
  return hop;
}

}  // namespace

std::string_view text_of(NextHopState state) {
  switch (state) {
    case NextHopState::kResolved:
      return "resolved";
    case NextHopState::kResolving:
      return "resolving";
    case NextHopState::kUnreachable:
      return "unreachable";
    case NextHopState::kNoRoute:
      return "no_route";
    case NextHopState::kLocal:
      return "local";
    case NextHopState::kNotOnLink:
      return "not_on_link";
  }
  return "unknown";
}

std::optional<std::pair<std::uint32_t, Link>> parse_link(const NetlinkMessage& message) {
  const auto header = message.fixed<ifinfomsg>();
  if (!header) return std::nullopt;
  const NetlinkAttributes attributes{message.body, sizeof(ifinfomsg)};
  Link link;
  link.name = attributes.text(IFLA_IFNAME);
  link.mac = attributes.mac(IFLA_ADDRESS).value_or(wire::MacAddress{});
  link.mtu = attributes.u32(IFLA_MTU).value_or(0);
  constexpr unsigned kUp = IFF_UP | IFF_RUNNING;
  link.up = (header->ifi_flags & kUp) == kUp;
  link.ethernet = header->ifi_type == ARPHRD_ETHER;
  link.vlan = vlan_of(attributes);
  // An index in another network namespace means nothing in this one.
  if (link.vlan && !attributes.find(IFLA_LINK_NETNSID))
    link.parent = attributes.u32(IFLA_LINK).value_or(0);
  return std::pair{static_cast<std::uint32_t>(header->ifi_index), std::move(link)};
}

std::optional<std::pair<NeighborKey, Neighbor>> parse_neighbor(const NetlinkMessage& message) {
  const auto header = message.fixed<ndmsg>();
  // Bridges report their forwarding entries under the same type.
  if (!header || (header->ndm_family != AF_INET && header->ndm_family != AF_INET6))
    return std::nullopt;
  const NetlinkAttributes attributes{message.body, sizeof(ndmsg)};
  const auto address = attributes.address(NDA_DST);
  if (!address) return std::nullopt;
  const auto mac = attributes.mac(NDA_LLADDR);
  Neighbor neighbor;
  neighbor.failed = message.type == RTM_NEWNEIGH && (header->ndm_state & NUD_FAILED) != 0;
  if (mac && message.type == RTM_NEWNEIGH) {
    neighbor.mac = *mac;
    neighbor.usable = (header->ndm_state & kUsableStates) != 0 && !mac->is_zero();
    neighbor.reachable = (header->ndm_state & kReachableStates) != 0;
  }
  return std::pair{NeighborKey{static_cast<std::uint32_t>(header->ndm_ifindex), *address},
                   neighbor};
}

std::optional<Route> parse_route(const NetlinkMessage& message) {
  const auto header = message.fixed<rtmsg>();
  if (!header) return std::nullopt;
  const NetlinkAttributes attributes{message.body, sizeof(rtmsg)};
  Route route;
  route.type = header->rtm_type;
  route.ifindex = attributes.u32(RTA_OIF).value_or(0);
  route.gateway = attributes.address(RTA_GATEWAY);
  // An IPv4 route may lead over an IPv6 neighbour (RFC 5549): family, then address.
  if (const auto via = attributes.find(RTA_VIA); via && via->size() > sizeof(rtvia))
    route.gateway = address_of(via->subspan(sizeof(rtvia)));
  route.source = attributes.address(RTA_PREFSRC);
  if (const auto metrics = attributes.find(RTA_METRICS))
    route.mtu = NetlinkAttributes{*metrics, 0}.u32(RTAX_MTU).value_or(0);
  return route;
}

std::optional<Egress> egress_of(const std::map<std::uint32_t, Link>& links, std::uint32_t ifindex) {
  const auto link = links.find(ifindex);
  if (link == links.end() || !link->second.ethernet) return std::nullopt;
  if (!link->second.vlan) {
    const bool has_vlans = std::ranges::any_of(
        links, [&](const auto& other) { return other.second.parent == ifindex; });
    return Egress{ifindex, link->second.mac,
                  static_cast<std::uint16_t>(has_vlans ? WEIR_VLAN_NONE : WEIR_VLAN_KEEP)};
  }
  const auto below = links.find(link->second.parent);
  const bool is_usable = link->second.vlan->is_802_1q && below != links.end() &&
                         below->second.ethernet && !below->second.vlan;
  if (!is_usable) return std::nullopt;
  return Egress{below->first, below->second.mac, link->second.vlan->id};
}

Result<NextHops> NextHops::open() {
  constexpr std::array<unsigned, 8> kGroups{
      RTNLGRP_LINK,      RTNLGRP_NEIGH,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
      RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE,  RTNLGRP_IPV6_RULE};
  // Notifications first, then the copy: a change in between is seen twice, never missed.
  Result<NetlinkSocket> events = NetlinkSocket::open(kGroups);
  if (!events) return std::move(events).error();
  Result<NetlinkSocket> queries = NetlinkSocket::open();
  if (!queries) return std::move(queries).error();
  NextHops hops{*std::move(queries), *std::move(events)};
  if (Result<void> read = hops.read_all(); !read) return std::move(read).error();
  return hops;
}

Result<void> NextHops::read_all() {
  links_.clear();
  neighbors_.clear();
  routes_.clear();
  NetlinkRequest links{RTM_GETLINK, NLM_F_DUMP};
  links.fixed(ifinfomsg{});
  Result<void> read = queries_.query(links, "listing network devices",
                                     [this](const NetlinkMessage& message) { take(message); });
  if (!read) return read;
  NetlinkRequest neighbors{RTM_GETNEIGH, NLM_F_DUMP};
  neighbors.fixed(ndmsg{});
  return queries_.query(neighbors, "listing neighbours",
                        [this](const NetlinkMessage& message) { take(message); });
}

bool NextHops::take(const NetlinkMessage& message) {
  switch (message.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      const auto link = parse_link(message);
      if (!link) return false;
      routes_.clear();
      if (message.type == RTM_DELLINK) return links_.erase(link->first) > 0;
      Link& known = links_[link->first];
      if (known == link->second) return false;
      known = link->second;
      return true;
    }
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const auto neighbor = parse_neighbor(message);
      if (!neighbor) return false;
      const auto known = neighbors_.find(neighbor->first);
      const Neighbor before = known == neighbors_.end() ? Neighbor{} : known->second;
      if (message.type == RTM_DELNEIGH) {
        neighbors_.erase(neighbor->first);
      } else {
        neighbors_[neighbor->first] = neighbor->second;
      }
      // How sure the kernel is changes all the time and moves no packet.
      const Neighbor& now = neighbor->second;
      const bool moved =
          before.usable != now.usable || before.mac != now.mac || (now.failed && !before.failed);
      return moved && watched_.contains(neighbor->first);
    }
    default:
      // An address, a route or a rule: which destinations it concerns, the kernel knows best.
      routes_.clear();
      return true;
  }
}

Result<bool> NextHops::follow() {
  bool changed = false;
  Result<bool> complete =
      events_.drain([&](const NetlinkMessage& message) { changed = take(message) || changed; });
  if (!complete) return std::move(complete).error();
  if (*complete) return changed;
  if (Result<void> read = read_all(); !read) return std::move(read).error();
  return true;
}

Result<void> NextHops::ask_for(const NeighborKey& key) {
  NetlinkRequest request{RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE};
  ndmsg header{};
  header.ndm_family = family_of(key.address);
  header.ndm_ifindex = static_cast<int>(key.ifindex);
  header.ndm_state = NUD_NONE;
  header.ndm_flags = NTF_USE;  // "somebody wants to send to it": starts resolution or a probe
  request.fixed(header).attribute(NDA_DST, key.address);
  return queries_.execute(request, fmt::format("asking for the neighbour {}", key.address.text()));
}

Result<void> NextHops::probe() {
  routes_.clear();
  for (const NeighborKey& key : watched_) {
    const auto known = neighbors_.find(key);
    if (known != neighbors_.end() && known->second.reachable) continue;
    // A device that went away in this moment is no failure; its notification is on the way.
    if (Result<void> asked = ask_for(key); !asked && asked.error().code() == ErrorCode::kDenied)
      return asked;
  }
  return {};
}

Result<std::optional<Route>> NextHops::route_to(const wire::IpAddress& destination) {
  if (const auto known = routes_.find(destination); known != routes_.end())
    return std::optional{known->second};
  NetlinkRequest request{RTM_GETROUTE, 0};
  rtmsg header{};
  header.rtm_family = family_of(destination);
  header.rtm_dst_len = destination.is_v4() ? 32 : 128;
  request.fixed(header).attribute(RTA_DST, destination);
  std::optional<Route> route;
  const Result<void> asked =
      queries_.query(request, fmt::format("looking up the route to {}", destination.text()),
                     [&](const NetlinkMessage& message) { route = parse_route(message); });
  if (!asked) return asked.error();
  if (route) routes_.emplace(destination, *route);
  return route;
}

Result<NextHop> NextHops::resolve(const wire::IpAddress& destination, bool must_be_on_link) {
  const Result<std::optional<Route>> asked = route_to(destination);
  NextHop hop;
  if (!asked) return unresolved(hop, NextHopState::kNoRoute, asked.error().message());
  const std::optional<Route>& route = *asked;
  if (!route || route->ifindex == 0)
    return unresolved(hop, NextHopState::kNoRoute, "the kernel knows no route");

  hop.ifindex = route->ifindex;
  hop.gateway = route->gateway;
  hop.source = route->source.value_or(wire::IpAddress{});
  const auto link = links_.find(route->ifindex);
  if (link == links_.end())
    return unresolved(hop, NextHopState::kNoRoute, "the route's device has just appeared");
  hop.device = link->second.name;
  hop.mtu = route->mtu != 0 ? std::min(route->mtu, link->second.mtu) : link->second.mtu;
  if (route->type == RTN_LOCAL)
    return unresolved(hop, NextHopState::kLocal, "the address is this node's own");
  if (route->type != RTN_UNICAST)
    return unresolved(hop, NextHopState::kNoRoute, "the route leads to no single neighbour");
  if (!link->second.ethernet)
    return unresolved(hop, NextHopState::kNoRoute,
                      fmt::format("{} is no Ethernet device", hop.device));
  const auto egress = egress_of(links_, route->ifindex);
  if (!egress)
    return unresolved(hop, NextHopState::kNoRoute,
                      fmt::format("{} is a VLAN device that is not 802.1Q on an Ethernet device of "
                                  "this network namespace",
                                  hop.device));
  hop.ifindex = egress->ifindex;
  hop.source_mac = egress->mac;
  hop.vlan = egress->vlan;
  if (must_be_on_link && hop.gateway)
    return unresolved(hop, NextHopState::kNotOnLink,
                      fmt::format("behind gateway {}, but mode l2 needs a backend on the segment",
                                  hop.gateway->text()));
  const NeighborKey key{route->ifindex, hop.gateway.value_or(destination)};
  const auto neighbor = neighbors_.find(key);
  const bool is_new = watched_.insert(key).second;
  if (neighbor != neighbors_.end() && neighbor->second.usable) {
    hop.state = NextHopState::kResolved;
    hop.mac = neighbor->second.mac;
    return hop;
  }
  if (is_new) {
    if (Result<void> sent = ask_for(key); !sent)
      return unresolved(hop, NextHopState::kResolving, sent.error().message());
  }
  const bool failed = neighbor != neighbors_.end() && neighbor->second.failed;
  return unresolved(hop, failed ? NextHopState::kUnreachable : NextHopState::kResolving,
                    fmt::format("{} has not answered on {}", key.address.text(), hop.device));
}

}  // namespace weir::l4
