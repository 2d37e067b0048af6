// The flow hash against a second implementation of SipHash, itself checked with the published
// vector; and that the packet path uses exactly this hash.

#include <linux/bpf.h>
#include <netinet/in.h>

#include <array>
#include <bit>
#include <random>

#include "bpf/hash.h"
#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

/// SipHash-c-d as its paper states it: byte by byte, any length.
std::uint64_t sip_hash(int c, int d, std::uint64_t k0, std::uint64_t k1,
                       std::span<const std::byte> message) {
  std::array<std::uint64_t, 4> v{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
                                 k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
  const auto rounds = [&v](int count) {
    for (int i = 0; i < count; ++i) {
      v[0] += v[1], v[1] = std::rotl(v[1], 13) ^ v[0], v[0] = std::rotl(v[0], 32);
      v[2] += v[3], v[3] = std::rotl(v[3], 16) ^ v[2];
      v[0] += v[3], v[3] = std::rotl(v[3], 21) ^ v[0];
      v[2] += v[1], v[1] = std::rotl(v[1], 17) ^ v[2], v[2] = std::rotl(v[2], 32);
    }
  };
  const std::size_t blocks = message.size() / 8 + 1;
  for (std::size_t block = 0; block < blocks; ++block) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::size_t at = 8 * block + i;
      const std::uint64_t byte = at < message.size() ? std::to_integer<std::uint64_t>(message[at])
                                 : i == 7            ? message.size() & 0xff
                                                     : 0;
      word |= byte << (8 * i);
    }
    v[3] ^= word;
    rounds(c);
    v[0] ^= word;
  }
  v[2] ^= 0xff;
  rounds(d);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

TEST(FlowHash, TheReferenceGivesThePublishedSipHashVector) {
  std::array<std::byte, 15> message{};
  for (std::size_t i = 0; i < message.size(); ++i)
    message[i] = static_cast<std::byte>(i);
  EXPECT_EQ(sip_hash(2, 4, 0x0706050403020100, 0x0f0e0d0c0b0a0908, message), 0xa129ca6149be45e5);
}

TEST(FlowHash, IsSipHash13OfTheKey) {
  std::mt19937_64 random{20240607};
  for (int i = 0; i < 1000; ++i) {
    std::array<std::uint64_t, 5> words{};
    for (auto& word : words)
      word = random();
    const std::uint64_t seeds[2] = {random(), random()};
    weir_flow_key key{};
    std::memcpy(&key, words.data(), sizeof(key));
    EXPECT_EQ(weir_flow_hash(&key, seeds[0], seeds[1]),
              sip_hash(1, 3, seeds[0], seeds[1], std::as_bytes(std::span{&key, 1})));
  }
}

TEST(FlowHash, ScalingReachesBothEndsAndNoFurther) {
  for (const std::uint32_t count : {1u, 2u, 7u, 65537u, 0xffffffffu}) {
    EXPECT_EQ(weir_scale(0, count), 0u);
    EXPECT_EQ(weir_scale(0xffffffff, count), count - 1);
  }
}

class FlowHashInThePacketPath : public ::testing::Test, protected BalancerFixture {};

TEST_F(FlowHashInThePacketPath, PicksTheSlotThatUserSpaceComputes) {
  BpfSettings settings;
  settings.hash_seed[0] = 0x1122334455667788;
  settings.hash_seed[1] = 0x99aabbccddeeff00;
  start(settings);
  if (!is_ready()) return;
  constexpr std::uint32_t kBackends = 13;
  std::vector<std::uint32_t> slots;
  for (std::uint32_t id = 1; id <= kBackends; ++id) {
    add_backend(id, backend_at(kBackend, 1));
    slots.push_back(id);
  }
  add_vip(at(kVip, 80), IPPROTO_TCP, 1, WEIR_MODE_IPIP);
  add_address(kVip, WEIR_ADDRESS_VIP);
  publish(1, slots);

  for (std::uint16_t port = 1000; port < 1100; ++port) {
    weir_flow_key key{};
    key.source = abi(kClient);
    key.destination = abi(kVip);
    key.source_port_be = htons(port);
    key.destination_port_be = htons(80);
    key.protocol = IPPROTO_TCP;
    const std::uint64_t hash = weir_flow_hash(&key, settings.hash_seed[0], settings.hash_seed[1]);
    const std::uint32_t expected = slots[weir_slot_of(hash, kBackends)];
    const RunResult result = run(tcp(at(kClient, port), at(kVip, 80)).syn());
    EXPECT_TRUE(result.moved.contains(fmt::format("backend {}", expected))) << describe(result);
  }
}

}  // namespace
}  // namespace weir::testing
