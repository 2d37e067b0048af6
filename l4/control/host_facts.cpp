#include "l4/control/host_facts.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace weir::control {
namespace {

std::optional<wire::IpAddress> address_of(const sockaddr* address) {
  if (address == nullptr) return std::nullopt;
  // Copied out: the generic type promises less alignment than the specific ones want.
  if (address->sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof(v4));
    std::array<std::uint8_t, 4> octets;
    std::memcpy(octets.data(), &v4.sin_addr, octets.size());
    return wire::IpAddress::v4(octets);
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof(v6));
    std::array<std::uint8_t, 16> octets;
    std::memcpy(octets.data(), &v6.sin6_addr, octets.size());
    return wire::IpAddress::v6(octets);
  }
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& words) {
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

/// One complaint per address, however many ports it has.
class OwnAddressCheck {
 public:
  OwnAddressCheck(const HostFacts& facts, const SourceMap& source)
      : facts_{facts}, source_{source} {}

  void check(const wire::IpAddress& address, const std::string& where) {
    check(whole(address), where);
  }

  void check(const wire::Prefix& prefix, const std::string& where) {
    const auto own = std::ranges::find_if(facts_.addresses, [&](const HostAddress& candidate) {
      return prefix.contains(candidate.address);
    });
    if (own == facts_.addresses.end()) return;
    if (std::ranges::find(seen_, own->address) != seen_.end()) return;
    seen_.push_back(own->address);
    Diagnostic diagnostic;
    diagnostic.file = source_.file;
    if (const auto place = source_.addresses.find(prefix.address);
        place != source_.addresses.end()) {
      diagnostic.line = place->second.line;
      diagnostic.column = place->second.column;
    }
    const bool single = prefix == whole(prefix.address);
    diagnostic.message =
        single ? fmt::format("{} is {}, an address of this node ({})", where, own->address.text(),
                             own->interface)
               : fmt::format("{} is {}, which has {}, an address of this node ({})", where,
                             prefix.text(), own->address.text(), own->interface);
    diagnostic.expectation = single ? "an address that no device of this node has"
                                    : "a prefix of which no device of this node has an address";
    diagnostic.hint = fmt::format("choose another, or take it from {}", own->interface);
    diagnostics.push_back(std::move(diagnostic));
  }

  std::vector<Diagnostic> diagnostics;

 private:
  static wire::Prefix whole(const wire::IpAddress& address) {
    return {address, static_cast<std::uint8_t>(address.is_v4() ? 32 : 128)};
  }

  const HostFacts& facts_;
  const SourceMap& source_;
  std::vector<wire::IpAddress> seen_;
};

}  // namespace

Result<HostFacts> read_host_facts() {
  HostFacts facts;
  const std::unique_ptr<struct if_nameindex, decltype(&if_freenameindex)> names{if_nameindex(),
                                                                                &if_freenameindex};
  if (!names) return Error::from_errno("listing the network devices");
  // The list ends with an entry of index 0 (if_nameindex(3)).
  for (const struct if_nameindex* entry = names.get(); entry->if_index != 0; ++entry)
    facts.interfaces.emplace_back(entry->if_name);
  std::ranges::sort(facts.interfaces);

  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return Error::from_errno("listing the network addresses");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner{first, &freeifaddrs};
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    const auto address = address_of(entry->ifa_addr);
    if (!address || (!address->is_v4() && address->is_link_local())) continue;
    facts.addresses.push_back({entry->ifa_name, *address});
  }
  return facts;
}

std::vector<Diagnostic> check_against_host(const Model& model, const HostFacts& facts,
                                           const SourceMap& source) {
  std::vector<Diagnostic> diagnostics;
  for (const std::string& interface : model.node.interfaces) {
    if (std::ranges::find(facts.interfaces, interface) != facts.interfaces.end()) continue;
    Diagnostic diagnostic;
    diagnostic.file = source.file;
    if (const auto place = source.interfaces.find(interface); place != source.interfaces.end()) {
      diagnostic.line = place->second.line;
      diagnostic.column = place->second.column;
    }
    diagnostic.message = fmt::format("node.interfaces: there is no device '{}'", interface);
    diagnostic.expectation = fmt::format("one of {}", joined(facts.interfaces));
    diagnostics.push_back(std::move(diagnostic));
  }
  OwnAddressCheck own{facts, source};
  for (const Vip& vip : model.vips)
    own.check(vip.key().prefix(), vip.name.empty()
                                      ? fmt::format("address of vip {}", vip_text(vip.key()))
                                      : fmt::format("address of vip '{}'", vip.name));
  for (const Gateway& gateway : model.gateways) {
    for (const wire::IpAddress& address : gateway.addresses)
      own.check(address, fmt::format("address of gateway '{}'", gateway.name));
  }
  for (const wire::Prefix& prefix : model.node.l7.addresses)
    own.check(prefix.address, "address in node.l7.addresses");
  diagnostics.insert(diagnostics.end(), own.diagnostics.begin(), own.diagnostics.end());
  if (diagnostics.size() > kDiagnosticsMax) diagnostics.resize(kDiagnosticsMax);
  return diagnostics;
}

}  // namespace weir::control
