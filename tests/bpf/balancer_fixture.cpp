#include "tests/bpf/balancer_fixture.h"

#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

#include "bpf/hash.h"

namespace weir::testing {

wire::IpAddress v6(std::string_view text) {
  auto address = wire::IpAddress::parse(text);
  WEIR_ASSERT(address.has_value());  // literals of tests
  return *address;
}

weir_address abi(const wire::IpAddress& address) {
  weir_address out{};
  std::ranges::copy(address.bytes, out.bytes);
  return out;
}

weir_backend backend_at(const wire::IpAddress& address, std::uint32_t vip_id,
                        std::uint32_t ifindex) {
  weir_backend backend{};
  backend.address = abi(address);
  backend.outer_source = abi(address.is_v4() ? kOuterSource : kOuterSource6);
  std::ranges::copy(kNextHopMac.bytes, backend.macs.next_hop);
  std::ranges::copy(kOwnMac.bytes, backend.macs.source);
  backend.egress_ifindex = ifindex;
  backend.egress_mtu = kMtu;
  backend.vip_id = vip_id;
  backend.vlan = WEIR_VLAN_KEEP;
  backend.flags = WEIR_BACKEND_IN_USE;
  return backend;
}

weir_vip vip_entry(std::uint32_t id, std::uint8_t mode) {
  weir_vip vip{};
  vip.id = id;
  vip.mode = mode;
  vip.gue_port_be = htons(WEIR_GUE_PORT_DEFAULT);
  return vip;
}

std::string label_of(weir_verdict verdict) {
  switch (verdict) {
#define WEIR_VERDICT(symbol, action, label, sentence) \
  case WEIR_##symbol:                                 \
    return label;
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
    case WEIR_CONTINUE:
    case WEIR_VERDICT_COUNT:
      break;
  }
  return "no verdict";
}

std::uint32_t action_of(weir_verdict verdict) {
  switch (verdict) {
#define WEIR_VERDICT(symbol, action, label, sentence) \
  case WEIR_##symbol:                                 \
    return XDP_##action;
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
    case WEIR_CONTINUE:
    case WEIR_VERDICT_COUNT:
      break;
  }
  return XDP_ABORTED;
}

void BalancerFixture::start(const BpfSettings& settings, BpfProgram program) {
  auto made = make_runner_under_test(program, settings);
  if (made) {
    runner_ = std::move(*made);
  } else if (made.error().code() == ErrorCode::kDenied) {
    GTEST_SKIP() << made.error().text();
  } else {
    FAIL() << made.error().text();
  }
}

void BalancerFixture::check(const Result<void>& result) {
  if (!result) ADD_FAILURE() << result.error().text();
}

void BalancerFixture::add_backend(std::uint32_t id, const weir_backend& backend) {
  check(runner_->write("weir_backends", id, backend));
  check(runner_->write("weir_members", id, id));
}

void BalancerFixture::add_to_filter(const wire::IpAddress& address, std::uint32_t first_word) {
  const weir_address key = abi(address);
  const std::uint32_t bit = weir_filter_bit(&key);
  const std::uint32_t word = first_word + bit / 64;
  auto bits = runner_->read<std::uint64_t>("weir_filter", word);
  ASSERT_TRUE(bits.has_value()) << bits.error().text();
  check(runner_->write("weir_filter", word, *bits | std::uint64_t{1} << (bit % 64)));
}

void BalancerFixture::add_address(const wire::IpAddress& address, std::uint32_t flags) {
  add_to_filter(address);
  check(runner_->write("weir_addresses", abi(address), weir_address_entry{flags}));
}

void BalancerFixture::add_vip(const wire::Endpoint& endpoint, std::uint8_t protocol,
                              const weir_vip& vip) {
  weir_vip_key key{};
  key.address = abi(endpoint.address);
  key.port_be = htons(endpoint.port.value());
  key.protocol = protocol;
  weir_vip entry = vip;
  entry.address = key.address;
  entry.port_be = key.port_be;
  entry.protocol = protocol;
  check(runner_->write("weir_vips", vip.id, entry));
  check(runner_->write("weir_services", key, vip.id));
}

void BalancerFixture::publish(std::uint32_t vip_id, std::vector<std::uint32_t> backend_ids,
                              std::vector<std::uint32_t> previous) {
  check(runner_->publish_map("weir_tables", vip_id, maglev_table(backend_ids, previous)));
}

RunResult BalancerFixture::run(std::span<const std::byte> frame) {
  auto result = runner_->run(frame);
  if (result) return *result;
  ADD_FAILURE() << result.error().text() << "\nframe:\n" << hexdump(frame);
  return {};
}

void BalancerFixture::add_standard_backends() {
  add_backend(kBackendV4, backend_at(kBackend, kVipIpip));
  add_backend(kBackendV6, backend_at(kBackend6, kVipIpip6));
  add_backend(kBackendOther, backend_at(kBackend, kVipOther, kOtherDevice));
  add_backend(kBackendCross, backend_at(kBackend6, kVipCross));
  add_backend(kBackendCross6, backend_at(kBackend, kVipCross6));
  add_backend(kBackendL2, backend_at(kBackend, kVipL2));
  add_backend(kBackendL2Other, backend_at(kBackend6, kVipL2v6, kOtherDevice));
  weir_backend no_hop = backend_at(kBackend, kVipNoHop);
  std::ranges::fill(no_hop.macs.next_hop, std::uint8_t{0});
  add_backend(kBackendNoHop, no_hop);
  add_backend(kBackendLost, backend_at(kBackend, kVipLost, kUnlistedDevice));
  add_backend(kBackendUnknownMode, backend_at(kBackend, kVipUnknownMode));
  check(runner_->write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
}

void BalancerFixture::add_standard_vips() {
  struct Service {
    wire::Endpoint endpoint;
    std::uint8_t protocol;
    std::uint32_t id;
    std::uint8_t mode;
    std::uint32_t backend_id;
  };
  const Service services[] = {
      {at(kVip, 80), IPPROTO_TCP, kVipIpip, WEIR_MODE_IPIP, kBackendV4},
      {at(kVip6, 80), IPPROTO_TCP, kVipIpip6, WEIR_MODE_IPIP, kBackendV6},
      {at(kVip, 81), IPPROTO_TCP, kVipOther, WEIR_MODE_IPIP, kBackendOther},
      {at(kVip, 53), IPPROTO_UDP, kVipCross, WEIR_MODE_IPIP, kBackendCross},
      {at(kVip6, 53), IPPROTO_UDP, kVipCross6, WEIR_MODE_IPIP, kBackendCross6},
      {at(kVip, 82), IPPROTO_TCP, kVipL2, WEIR_MODE_L2, kBackendL2},
      {at(kVip6, 82), IPPROTO_TCP, kVipL2v6, WEIR_MODE_L2, kBackendL2Other},
      {at(kVip, 90), IPPROTO_TCP, kVipEmpty, WEIR_MODE_IPIP, 0},
      {at(kVip, 92), IPPROTO_TCP, kVipNoHop, WEIR_MODE_IPIP, kBackendNoHop},
      {at(kVip, 93), IPPROTO_TCP, kVipLost, WEIR_MODE_IPIP, kBackendLost},
      {at(kVip, 95), IPPROTO_TCP, kVipUnknownMode, 99, kBackendUnknownMode},
  };
  for (const Service& service : services) {
    add_vip(service.endpoint, service.protocol, service.id, service.mode);
    publish(service.id, std::vector<std::uint32_t>(kTableSize, service.backend_id));
  }
  add_vip(at(kVip, 91), IPPROTO_TCP, kVipNoTable, WEIR_MODE_IPIP);
  add_vip(at(kVip, 94), IPPROTO_TCP, kVipBroken, WEIR_MODE_IPIP);
  check(runner_->publish_map("weir_tables", kVipBroken, maglev_sizes(1'000'000, 0)));
  add_vip(at(kVipL7, 80), IPPROTO_TCP, kVipHandOff, WEIR_MODE_L7);
  add_vip(at(kVipL7v6, 80), IPPROTO_TCP, kVipHandOff6, WEIR_MODE_L7);
  for (const auto& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP | WEIR_ADDRESS_ECHO);
  for (const auto& address : {kVipL7, kVipL7v6})
    add_address(address, WEIR_ADDRESS_VIP | WEIR_ADDRESS_L7);
}

void BalancerFixture::start_standard_world(std::uint32_t l7_worker_count) {
  BpfSettings settings;
  settings.l7_worker_count = l7_worker_count;
  start_standard_world(settings);
}

void BalancerFixture::start_standard_world(const BpfSettings& settings) {
  start(settings);
  if (!is_ready()) return;
  add_standard_backends();
  add_standard_vips();
  for (const auto& address : {kL7Own, kL7Own6})
    add_address(address, WEIR_ADDRESS_L7_OWN);
  for (std::uint32_t worker = 0; worker < settings.l7_worker_count; ++worker)
    check(runner_->write("weir_l7_workers", worker, BpfRunner::kAnyDevice));
}

}  // namespace weir::testing
