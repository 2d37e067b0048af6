#include "tests/bpf/balancer_fixture.h"

#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

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

weir_backend backend_at(const wire::IpAddress& address, std::uint32_t ifindex) {
  weir_backend backend{};
  backend.address = abi(address);
  backend.outer_source = abi(address.is_v4() ? kOuterSource : kOuterSource6);
  std::ranges::copy(kNextHopMac.bytes, backend.next_hop_mac);
  std::ranges::copy(kOwnMac.bytes, backend.source_mac);
  backend.egress_ifindex = ifindex;
  backend.egress_mtu = kMtu;
  backend.flags = WEIR_BACKEND_IN_USE;
  return backend;
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
}

void BalancerFixture::add_address(const wire::IpAddress& address, std::uint8_t mode) {
  weir_vip_key key{};
  key.address = abi(address);
  weir_vip vip{};
  vip.mode = mode;
  check(runner_->write("weir_vips", key, vip));
}

void BalancerFixture::add_vip(const wire::Endpoint& endpoint, std::uint8_t protocol,
                              std::uint32_t id, std::uint8_t mode, std::uint32_t table_size) {
  weir_vip_key key{};
  key.address = abi(endpoint.address);
  key.port_be = htons(endpoint.port.value());
  key.protocol = protocol;
  weir_vip vip{};
  vip.id = id;
  vip.table_size = table_size;
  vip.mode = mode;
  check(runner_->write("weir_vips", key, vip));
}

void BalancerFixture::publish(std::uint32_t vip_id, std::vector<std::uint32_t> backend_ids) {
  check(runner_->publish_table(vip_id, backend_ids));
}

RunResult BalancerFixture::run(std::span<const std::byte> frame) {
  auto result = runner_->run(frame);
  if (result) return *result;
  ADD_FAILURE() << result.error().text() << "\nframe:\n" << hexdump(frame);
  return {};
}

void BalancerFixture::add_standard_backends() {
  add_backend(kBackendV4, backend_at(kBackend));
  add_backend(kBackendV6, backend_at(kBackend6));
  add_backend(kBackendOther, backend_at(kBackend, kOtherDevice));
  add_backend(kBackendL2, backend_at(kBackend));
  add_backend(kBackendL2Other, backend_at(kBackend6, kOtherDevice));
  weir_backend no_hop = backend_at(kBackend);
  std::ranges::fill(no_hop.next_hop_mac, std::uint8_t{0});
  add_backend(kBackendNoHop, no_hop);
  add_backend(kBackendLost, backend_at(kBackend, kUnlistedDevice));
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
      {at(kVip, 53), IPPROTO_UDP, kVipCross, WEIR_MODE_IPIP, kBackendV6},
      {at(kVip6, 53), IPPROTO_UDP, kVipCross6, WEIR_MODE_IPIP, kBackendV4},
      {at(kVip, 82), IPPROTO_TCP, kVipL2, WEIR_MODE_L2, kBackendL2},
      {at(kVip6, 82), IPPROTO_TCP, kVipL2v6, WEIR_MODE_L2, kBackendL2Other},
      {at(kVip, 90), IPPROTO_TCP, kVipEmpty, WEIR_MODE_IPIP, 0},
      {at(kVip, 92), IPPROTO_TCP, kVipNoHop, WEIR_MODE_IPIP, kBackendNoHop},
      {at(kVip, 93), IPPROTO_TCP, kVipLost, WEIR_MODE_IPIP, kBackendLost},
      {at(kVip, 95), IPPROTO_TCP, kVipUnknownMode, 99, kBackendV4},
  };
  for (const Service& service : services) {
    add_vip(service.endpoint, service.protocol, service.id, service.mode);
    publish(service.id, std::vector<std::uint32_t>(kTableSize, service.backend_id));
  }
  add_vip(at(kVip, 91), IPPROTO_TCP, kVipNoTable, WEIR_MODE_IPIP);
  add_vip(at(kVip, 94), IPPROTO_TCP, kVipBroken, WEIR_MODE_IPIP, 1'000'000);
  publish(kVipBroken, {kBackendV4});
  add_vip(at(kVipL7, 80), IPPROTO_TCP, kVipHandOff, WEIR_MODE_L7);
  add_vip(at(kVipL7v6, 80), IPPROTO_TCP, kVipHandOff6, WEIR_MODE_L7);
  for (const auto& address : {kVip, kVip6})
    add_address(address, WEIR_MODE_IPIP);
  for (const auto& address : {kVipL7, kVipL7v6})
    add_address(address, WEIR_MODE_L7);
}

void BalancerFixture::start_standard_world(std::uint32_t l7_worker_count) {
  BpfSettings settings;
  settings.l7_worker_count = l7_worker_count;
  start(settings);
  if (!is_ready()) return;
  add_standard_backends();
  add_standard_vips();
  for (const auto& address : {kL7Own, kL7Own6})
    check(runner_->write("weir_l7_addresses", abi(address), std::uint32_t{1}));
  for (std::uint32_t worker = 0; worker < l7_worker_count; ++worker)
    check(runner_->write("weir_l7_workers", worker, BpfRunner::kAnyDevice));
}

}  // namespace weir::testing
