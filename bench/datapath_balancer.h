#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "bpf/abi.h"
#include "datapath_wrapper.skel.h"
#include "l4/base/assert.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"
#include "weir_lb.skel.h"

/// The balancer that datapath_bench measures, and the programs beside it: loaded into the kernel,
/// with VIPs of every kind in their maps.
namespace weir::bench {

inline wire::IpAddress literal(std::string_view text) {
  auto parsed = wire::IpAddress::parse(text);
  WEIR_ASSERT(parsed.has_value());
  return *parsed;
}

inline const wire::IpAddress kVip = literal("198.51.100.1");
inline const wire::IpAddress kVip6 = literal("2001:db8:100::1");
inline const wire::IpAddress kHost = literal("192.0.2.1");
inline const wire::IpAddress kHost6 = literal("2001:db8::1");
// Of mode nat; a VIP has an address of its own, for which the index of flows is asked first.
inline const wire::IpAddress kNatVip = literal("198.51.100.2");
inline const wire::IpAddress kNatVip6 = literal("2001:db8:100::2");
inline const wire::IpAddress kNatSource = literal("192.0.2.2");
inline const wire::IpAddress kNatSource6 = literal("2001:db8::2");
inline const wire::IpAddress kNatBackend = literal("198.18.0.1");
inline const wire::IpAddress kNatBackend6 = literal("2001:db8:18::1");
inline const wire::IpAddress kDnatBackend = literal("198.18.1.1");
inline const wire::IpAddress kClient = literal("10.0.0.0");
inline const wire::IpAddress kClient6 = literal("2001:db8:7::");

inline wire::Endpoint at(const wire::IpAddress& host, std::uint16_t port) {
  return {host, wire::Port{port}};
}

inline constexpr std::uint32_t kAnyDevice = 1;  // loopback: where test-runs say frames come from
/// VIPs on port 81 of kVip and of the addresses after it; in the place of 10,000, a power of two.
inline constexpr std::uint32_t kManyVips = 8192;

struct DestroyBalancer {
  void operator()(weir_lb* skeleton) const { weir_lb__destroy(skeleton); }
};
struct DestroyWrapper {
  void operator()(datapath_wrapper* skeleton) const { datapath_wrapper__destroy(skeleton); }
};

/// The two loaded objects. They live as long as the process.
struct Programs {
  std::unique_ptr<weir_lb, DestroyBalancer> balancer;
  std::unique_ptr<datapath_wrapper, DestroyWrapper> wrapper;
};

struct Options {
  std::uint32_t flows = WEIR_FLOWS_DEFAULT;
  std::uint32_t nat_records = 0;  ///< 0: nothing is translated
  std::uint32_t rounds = 15;      ///< of each row; one tells whether it ends as it should
};

/// Into a map of either object.
template <typename Key, typename Value>
Result<void> write(const bpf_map* map, const Key& key, const Value& value) {
  if (bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY) != 0)
    return Error::from_errno(fmt::format("writing {}", bpf_map__name(map)));
  return {};
}

/// Needs root, and a network namespace of the thread's own whose device is called host.
Result<Programs> load(const Options& options);

}  // namespace weir::bench
