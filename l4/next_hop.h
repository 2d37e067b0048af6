#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/netlink.h"
#include "l4/wire/address.h"

/// Where a packet for a backend goes next. The kernel's routes and neighbours are the truth; this
/// file asks, keeps a copy of devices and neighbours, and follows their changes.
namespace weir::l4 {

enum class NextHopState : std::uint8_t {
  kResolved,
  kResolving,    ///< the kernel has been asked to find the MAC address
  kUnreachable,  ///< it has asked, and nobody answered
  kNoRoute,
  kLocal,      ///< the address is this node's own
  kNotOnLink,  ///< behind a gateway, where the mode needs a shared segment
};
std::string_view text_of(NextHopState state);

struct NextHop {
  NextHopState state = NextHopState::kNoRoute;
  std::uint32_t ifindex = 0;               ///< frames leave here: for a VLAN device, the one below
  std::string device;                      ///< the route's
  std::optional<wire::IpAddress> gateway;  ///< none: the destination is on the link
  wire::IpAddress source;                  ///< the node's address towards the destination
  wire::MacAddress mac;                    ///< zero unless kResolved
  wire::MacAddress source_mac;
  std::uint32_t mtu = 0;                ///< of the route; the device's where that is smaller
  std::uint16_t vlan = WEIR_VLAN_KEEP;  ///< tag of the frame: an id, or WEIR_VLAN_*
  std::string reason;                   ///< for people; empty when resolved
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

struct VlanTag {
  std::uint16_t id = 0;
  bool is_802_1q = true;
  friend bool operator==(const VlanTag&, const VlanTag&) = default;
};

struct Link {
  std::string name;
  wire::MacAddress mac;
  std::uint32_t mtu = 0;
  bool up = false;
  bool ethernet = false;
  // Of a VLAN device; none and 0 for all others.
  std::optional<VlanTag> vlan = {};
  std::uint32_t parent = 0;  ///< the device that it stands on; 0: in another namespace
  friend bool operator==(const Link&, const Link&) = default;
};

struct Neighbor {
  wire::MacAddress mac;
  bool usable = false;     ///< the MAC may be used, be it only for now
  bool reachable = false;  ///< the kernel has seen an answer lately
  bool failed = false;     ///< the kernel has asked in vain
  friend bool operator==(const Neighbor&, const Neighbor&) = default;
};

struct Route {
  std::uint8_t type = RTN_UNSPEC;  ///< RTN_*
  std::uint32_t ifindex = 0;
  std::optional<wire::IpAddress> gateway;
  std::optional<wire::IpAddress> source;
  std::uint32_t mtu = 0;  ///< 0: the device's
  friend bool operator==(const Route&, const Route&) = default;
};

struct NeighborKey {
  std::uint32_t ifindex = 0;
  wire::IpAddress address;
  friend auto operator<=>(const NeighborKey&, const NeighborKey&) = default;
};

// Messages to values; nothing for a message that is too short or not about IP.
std::optional<std::pair<std::uint32_t, Link>> parse_link(const NetlinkMessage& message);
std::optional<std::pair<NeighborKey, Neighbor>> parse_neighbor(const NetlinkMessage& message);
std::optional<Route> parse_route(const NetlinkMessage& message);

/// The device that frames for `ifindex` leave by, with its MAC address and the tag they get. An
/// XDP program sends by the device below a VLAN device, so it has to write the tag itself; and
/// where a device has VLAN devices on it, frames of its own are untagged whatever they came with.
struct Egress {
  std::uint32_t ifindex = 0;
  wire::MacAddress mac;
  std::uint16_t vlan = WEIR_VLAN_KEEP;
  friend bool operator==(const Egress&, const Egress&) = default;
};
/// Nothing where no frame can be sent in this way: the device is unknown, no Ethernet device, or
/// tags in a way that the program does not.
std::optional<Egress> egress_of(const std::map<std::uint32_t, Link>& links, std::uint32_t ifindex);

class NextHops {
 public:
  static Result<NextHops> open();

  /// Asks the kernel's routing, or remembers what it said since a route last changed; takes devices
  /// and neighbours from the copy. A neighbour that is not known yet is asked for, and is then
  /// watched until forget_watched().
  Result<NextHop> resolve(const wire::IpAddress& destination, bool must_be_on_link);

  /// Readable when something changed.
  [[nodiscard]] int fd() const { return events_.fd(); }

  /// Takes the changes in. True: next hops may have changed, resolve again.
  Result<bool> follow();

  /// Asks again for watched neighbours that the kernel is not sure of. XDP traffic does not pass
  /// the kernel's neighbour code, so without this nobody would notice that a MAC has moved. Forgets
  /// routes, too: a path MTU that the kernel learns or forgets is no change of a route to it.
  Result<void> probe();

  /// Called before all destinations are resolved anew.
  void forget_watched() { watched_.clear(); }

  [[nodiscard]] const std::map<std::uint32_t, Link>& links() const { return links_; }

 private:
  NextHops(NetlinkSocket queries, NetlinkSocket events)
      : queries_{std::move(queries)}, events_{std::move(events)} {}
  Result<void> read_all();
  bool take(const NetlinkMessage& message);
  Result<void> ask_for(const NeighborKey& key);
  Result<std::optional<Route>> route_to(const wire::IpAddress& destination);

  NetlinkSocket queries_;
  NetlinkSocket events_;  // apart from queries_, whose answers it would mix with notifications
  std::map<std::uint32_t, Link> links_;
  std::map<NeighborKey, Neighbor> neighbors_;
  std::set<NeighborKey> watched_;
  std::map<wire::IpAddress, Route> routes_;  // what the kernel said of destinations
};

}  // namespace weir::l4
