#include "l4/decap_host.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>

#include "l4/base/fd.h"

namespace weir::l4 {
namespace {

constexpr int kStrict = 1;  ///< of rp_filter (RFC 3704)

/// -1 where there is none.
int rp_filter_of(const std::string& name) {
  std::ifstream file{fmt::format("/proc/sys/net/ipv4/conf/{}/rp_filter", name)};
  int value = -1;
  file >> value;
  return file ? value : -1;
}

/// The kernel takes the larger of the two.
std::vector<std::string> reverse_path_warnings(const std::string& device) {
  const int of_all = rp_filter_of("all");
  const int of_device = rp_filter_of(device);
  if (std::max(of_all, of_device) != kStrict) return {};
  return {fmt::format(
      "net.ipv4.conf.{0}.rp_filter is strict: a client that this host would not answer by {0} is "
      "dropped after decapsulation; sysctl -w net.ipv4.conf.{0}.rp_filter=2",
      device)};
}

/// The addresses of all devices.
std::vector<wire::IpAddress> own_addresses() {
  std::vector<wire::IpAddress> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return found;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner{list, ::freeifaddrs};
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    std::array<std::uint8_t, 4> four{};
    std::array<std::uint8_t, 16> six{};
    // The kernel's structures are of the family that they say; copied, not aliased.
    if (entry->ifa_addr->sa_family == AF_INET) {
      sockaddr_in address{};
      std::memcpy(&address, entry->ifa_addr, sizeof(address));
      std::memcpy(four.data(), &address.sin_addr, four.size());
      found.push_back(wire::IpAddress::v4(std::span<const std::uint8_t, 4>{four}));
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 address{};
      std::memcpy(&address, entry->ifa_addr, sizeof(address));
      std::memcpy(six.data(), &address.sin6_addr, six.size());
      found.push_back(wire::IpAddress::v6(std::span<const std::uint8_t, 16>{six}));
    }
  }
  return found;
}

}  // namespace

Result<void> check_is_ethernet(const std::string& device) {
  const UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  device.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  if (!socket || ::ioctl(socket.get(), SIOCGIFHWADDR, &request) != 0)
    return Error::from_errno(fmt::format("{}: asking for its kind", device));
  const int kind = request.ifr_hwaddr.sa_family;
  if (kind == ARPHRD_ETHER || kind == ARPHRD_LOOPBACK) return {};
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} is no Ethernet device (its kind is {})", device, kind),
               "load on the device that the tunnel packets come in by"};
}

std::vector<std::string> decap_host_warnings(const std::string& device,
                                             const DecapSettings& settings) {
  std::vector<std::string> warnings = reverse_path_warnings(device);
  const std::vector<wire::IpAddress> own = own_addresses();
  for (const wire::Prefix& vip : settings.vips) {
    const std::uint8_t whole = vip.address.is_v4() ? 32 : 128;
    if (vip.length != whole || std::ranges::find(own, vip.address) != own.end()) continue;
    warnings.push_back(
        fmt::format("{0} is no address of this host: unless it is routed on, its packets end here; "
                    "ip address add {0}/{1} dev lo",
                    vip.address.text(), whole));
  }
  return warnings;
}

}  // namespace weir::l4
