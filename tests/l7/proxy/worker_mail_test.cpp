// What a worker does with frames that are another's (the table at the top of worker.h). Frames are
// put on the link by hand and steered to the worker that the test names.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/packet_builder.h"
#include "tests/support/proxy_world.h"
#include "tests/support/steering.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kNoContent = "HTTP/1.1 204 No Content\r\n\r\n";
constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

wire::Endpoint at(std::string_view address, std::uint16_t port) {
  return {*wire::IpAddress::parse(address), wire::Port{port}};
}

class WorkerMail : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kWorkers = 3;

  WorkerMail() {
    ProxyWorld::Options options;
    options.workers = kWorkers;
    options.steer = [this](std::span<const std::byte> frame) {
      return next_worker_ ? *next_worker_ : right_(frame);
    };
    world_ = std::make_unique<ProxyWorld>(options);
    backend_ = &world_->add_backend(8001, answering(std::string{kNoContent}));
    world_->install(ProxyWorld::model_for({backend_->endpoint}));
    world_->run_for(milliseconds{10});
  }

  /// The frame, as it arrives at this worker.
  void inject(const std::vector<std::byte>& frame, std::uint32_t worker) {
    port::PacketPort& outside = world_->link().port(Side::kB);
    port::Packet packet = outside.allocate();
    packet.prepend(14);
    packet.append(frame.size() - 14);
    std::ranges::copy(frame, packet.bytes().begin());
    ASSERT_EQ(outside.send({&packet, 1}), 1U);
    next_worker_ = worker;
    world_->run_for(milliseconds{1});
    next_worker_.reset();
  }

  /// One request and its answer on a new connection, which stays.
  Peer& request() {
    Peer& client = world_->connect();
    client.send(kGet);
    EXPECT_TRUE(world_->run_until([&] { return client.received == kNoContent; }));
    return client;
  }

  std::uint64_t sum(std::uint64_t proxy::MailCounters::*counter) const {
    std::uint64_t all = 0;
    for (std::uint32_t i = 0; i < kWorkers; ++i)
      all += world_->report(i).mail.*counter;
    return all;
  }
  std::uint64_t resets_sent() const {
    std::uint64_t all = 0;
    for (std::uint32_t i = 0; i < kWorkers; ++i)
      all += world_->report(i).tcp.resets_sent;
    return all;
  }

  Steering right_ = right_steering(kWorkers);
  std::optional<std::uint32_t> next_worker_;  // for every frame, while it is set
  std::unique_ptr<ProxyWorld> world_;
  Backend* backend_ = nullptr;
};

using Counters = proxy::MailCounters;

TEST_F(WorkerMail, UnderRightSteeringNothingIsMisroutedAndAllWorkersWork) {
  for (int i = 0; i < 24; ++i)
    request();
  for (std::uint32_t i = 0; i < kWorkers; ++i) {
    EXPECT_GT(world_->report(i).core.requests, 0U) << i;
    EXPECT_EQ(world_->report(i).upstream.opened, 1U) << i;
  }
  EXPECT_EQ(sum(&Counters::misrouted_out), 0U);
  EXPECT_EQ(sum(&Counters::misrouted_in), 0U);
  EXPECT_EQ(sum(&Counters::misrouted_dropped), 0U);
  EXPECT_EQ(sum(&Counters::unknown_shown), 0U);
  EXPECT_EQ(resets_sent(), 0U);
}

TEST_F(WorkerMail, ASegmentOfAKnownFlowOfAnotherReachesIt) {
  Peer& client = request();
  const std::uint32_t all_after_one = 1;
  // Every frame of the second request goes to each worker in turn, one of which is right.
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
    client.received.clear();
    client.send(kGet);
    next_worker_ = worker;
    EXPECT_TRUE(world_->run_until([&] { return client.received == kNoContent; })) << worker;
    next_worker_.reset();
  }
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(resets_sent(), 0U);
  EXPECT_GT(sum(&Counters::misrouted_in), 0U);
  EXPECT_EQ(sum(&Counters::misrouted_dropped), 0U);
  std::uint32_t busy = 0;
  for (std::uint32_t i = 0; i < kWorkers; ++i)
    busy += world_->report(i).core.connections;
  EXPECT_EQ(busy, all_after_one);
}

TEST_F(WorkerMail, AStrayToAVipIsSeenByAllAndAnsweredWithOneRst) {
  inject(tcp(at("10.0.0.100", 1), at(ProxyWorld::kVip, 80)).bytes(), 1);
  EXPECT_EQ(sum(&Counters::unknown_shown), kWorkers - 1);
  EXPECT_EQ(resets_sent(), 1U);
  EXPECT_EQ(world_->report(0).tcp.resets_sent, 1U) << "1, 2, 0: the last has the word";
  EXPECT_EQ(sum(&Counters::misrouted_in), 0U) << "a stray says nothing about steering";
}

TEST_F(WorkerMail, AStrayRstIsSeenByAllAndAnsweredByNobody) {
  inject(tcp(at("10.0.0.100", 1), at(ProxyWorld::kVip, 80)).rst().bytes(), 1);
  EXPECT_EQ(sum(&Counters::unknown_shown), kWorkers - 1);
  EXPECT_EQ(resets_sent(), 0U);
}

TEST_F(WorkerMail, ASynIsShownToNobody) {
  // From nobody, who sends no RST for the answer.
  inject(tcp(at("10.0.0.55", 1), at(ProxyWorld::kVip, 80)).syn().bytes(), 1);
  EXPECT_EQ(sum(&Counters::unknown_shown), 0U);
  EXPECT_EQ(world_->report(1).tcp.half_open, 1U);
  EXPECT_EQ(world_->report(0).tcp.half_open + world_->report(2).tcp.half_open, 0U);
}

TEST_F(WorkerMail, AStrayToAnOwnPortGoesToItsOwnerAloneWhichAnswers) {
  // 40000 % 3 == 1.
  inject(tcp(at("10.0.0.2", 8001), at("10.0.0.1", 40000)).bytes(), 2);
  EXPECT_EQ(world_->report(2).mail.misrouted_out, 1U);
  EXPECT_EQ(world_->report(1).mail.misrouted_in, 1U);
  EXPECT_EQ(world_->report(1).tcp.resets_sent, 1U);
  EXPECT_EQ(sum(&Counters::unknown_shown), 0U);
  EXPECT_EQ(resets_sent(), 1U);
}

TEST_F(WorkerMail, AnAcknowledgmentOfAnothersSynAckDoesNotEndTheFlow) {
  request();  // so that all know their neighbours
  // Both workers answer the SYN that comes twice; the client can believe one of them.
  std::uint32_t turn = 0;
  right_ = [&turn](std::span<const std::byte>) { return turn++ % 2; };
  world_->link().direction(Side::kB).duplicate = 1;
  Peer& client = world_->connect();
  world_->run_for(Duration{});
  world_->link().direction(Side::kB).duplicate = 0;
  world_->run_for(milliseconds{1});
  ASSERT_TRUE(client.connected());
  client.send(kGet);
  EXPECT_TRUE(world_->run_until([&] { return client.received == kNoContent; }));
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(resets_sent(), 0U);
  EXPECT_EQ(world_->report(0).tcp.half_open + world_->report(1).tcp.half_open, 1U)
      << "the one that nobody believes";
}

TEST_F(WorkerMail, AnswersAboutNeighborsAreLearntByAll) {
  // Only worker 0 is sent ARP, and yet the others reach their backend.
  while (world_->report(1).upstream.opened == 0 || world_->report(2).upstream.opened == 0)
    request();
  EXPECT_GT(world_->report(1).network.neighbor.resolved, 0U);
  EXPECT_GT(world_->report(2).network.neighbor.resolved, 0U);
  EXPECT_GE(world_->report(0).mail.neighbors_out, 2U);
  EXPECT_EQ(world_->report(1).mail.neighbors_in, world_->report(0).mail.neighbors_out / 2);
}

TEST_F(WorkerMail, AQuestionIsAnsweredOnceWhoeverReceivesIt) {
  const auto question = arp_request(at("10.0.0.77", 0).address, at("10.0.0.1", 0).address).bytes();
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
    const std::uint64_t before = world_->report(0).network.arp_answered;
    inject(question, worker);
    EXPECT_EQ(world_->report(0).network.arp_answered, before + 1) << worker;
  }
  for (const std::uint32_t other : {1U, 2U}) {
    EXPECT_EQ(world_->report(other).network.arp_answered, 0U);
    EXPECT_EQ(world_->report(other).network.questions_left, kWorkers);
  }
}

TEST_F(WorkerMail, OnlyTheFirstWorkerAnnouncesTheAddresses) {
  std::size_t announcements = 0;
  ProxyWorld::Options options;
  options.workers = kWorkers;
  ProxyWorld world{options};
  world.link().on_frame([&](const CapturedFrame& frame) {
    if (frame.from == Side::kA) ++announcements;
  });
  world.run_for(milliseconds{10});
  EXPECT_EQ(announcements, 1U);
}

TEST_F(WorkerMail, AnIcmpErrorReachesTheWorkerWhoseConnectionItIsAbout) {
  // SYNs to this endpoint are lost, and a router says so; to worker 0, as to which ICMP goes.
  std::vector<std::byte> syn;
  world_->link().direction(Side::kA).lose_if = [&](std::uint64_t,
                                                   std::span<const std::byte> frame) {
    const bool is_to_port_9000 = frame.size() > 37 && frame[36] == std::byte{9000 >> 8} &&
                                 frame[37] == std::byte{9000 & 0xff};
    if (is_to_port_9000) syn.assign(frame.begin(), frame.end());
    return is_to_port_9000;
  };
  world_->install(ProxyWorld::model_for({ProxyWorld::backend_endpoint(9000)}));
  const auto asked_by = [&](std::uint32_t worker) { return world_->report(worker).core.requests; };
  for (int i = 0; i < 20 && asked_by(1) == 0; ++i) {
    syn.clear();
    Peer& client = world_->connect();
    client.send(kGet);
    ASSERT_TRUE(world_->run_until([&] { return !syn.empty(); }, milliseconds{500}));
    const std::uint32_t owner = static_cast<std::uint32_t>(std::to_integer<int>(syn[34]) << 8 |
                                                           std::to_integer<int>(syn[35])) %
                                kWorkers;
    if (owner != 1) {
      client.reset(world_->now());
      world_->run_for(milliseconds{10});
      continue;
    }
    const std::uint64_t failed = world_->report(1).tcp.failed_connects;
    inject(icmp(at("10.0.0.2", 0).address, at("10.0.0.1", 0).address, 3, 1)
               .payload(std::vector<std::byte>(syn.begin() + 14, syn.end()))
               .bytes(),
           0);
    EXPECT_EQ(world_->report(0).mail.errors_out, 1U);
    EXPECT_EQ(world_->report(1).tcp.failed_connects, failed + 1);
    return;
  }
  FAIL() << "no connection was opened by worker 1";
}

/// With an old process behind the carrier, whose frames the test catches.
class WorkerPredecessor : public WorkerMail {
 protected:
  WorkerPredecessor() {
    set(true);
    world_->link().on_frame([this](const CapturedFrame& frame) {
      const auto bytes = std::span{frame.bytes};
      if (frame.from == Side::kA && std::ranges::equal(bytes.first(6), bytes.subspan(6, 6)))
        handed_.emplace_back(bytes.begin(), bytes.end());
    });
  }
  void set(bool exists) {
    for (std::uint32_t i = 0; i < kWorkers; ++i)
      ASSERT_TRUE(world_->worker(i).set_predecessor(exists));
    world_->run_for(milliseconds{1});
  }
  std::vector<std::vector<std::byte>> handed_;
};

/// What stands behind the link addresses.
std::vector<std::byte> packet_of(const std::vector<std::byte>& frame) {
  return {frame.begin() + 12, frame.end()};
}

TEST_F(WorkerPredecessor, GetsAStrayThatNobodyHereKnowsInsteadOfARst) {
  const auto stray =
      tcp(at("10.0.0.100", 1), at(ProxyWorld::kVip, 80)).payload({std::byte{7}}).bytes();
  inject(stray, 1);
  EXPECT_EQ(sum(&Counters::unknown_shown), kWorkers - 1);
  EXPECT_EQ(world_->report(0).mail.to_predecessor, 1U);
  EXPECT_EQ(resets_sent(), 0U);
  ASSERT_EQ(handed_.size(), 1U);
  // The same segment between the same addresses.
  EXPECT_TRUE(std::ranges::equal(std::span{handed_[0]}.subspan(26), std::span{stray}.subspan(26)));
}

TEST_F(WorkerPredecessor, GetsNoSynAndNothingOfFlowsThatAreKnownHere) {
  request();
  inject(tcp(at("10.0.0.55", 1), at(ProxyWorld::kVip, 80)).syn().bytes(), 1);
  EXPECT_EQ(handed_.size(), sum(&Counters::to_predecessor));
  for (const auto& frame : handed_)
    EXPECT_EQ(frame[12], std::byte{0x08}) << "an answer about a neighbour";
  EXPECT_EQ(world_->report(1).tcp.half_open, 1U);
}

TEST_F(WorkerPredecessor, GetsACopyOfWhatHasNoFlow) {
  const auto question = arp_request(at("10.0.0.77", 0).address, at("10.0.0.1", 0).address).bytes();
  inject(question, 0);
  EXPECT_EQ(world_->report(0).network.arp_answered, 1U);
  const auto error = icmp(at("10.0.0.2", 0).address, at("10.0.0.1", 0).address, 3, 1)
                         .payload(std::vector<std::byte>(28))
                         .bytes();
  inject(error, 0);
  ASSERT_EQ(handed_.size(), 2U);
  EXPECT_EQ(packet_of(handed_[0]), packet_of(question));
  EXPECT_EQ(packet_of(handed_[1]), packet_of(error));
}

TEST_F(WorkerPredecessor, WhenItHasEndedStraysAreAnsweredWithRst) {
  set(false);
  inject(tcp(at("10.0.0.100", 1), at(ProxyWorld::kVip, 80)).bytes(), 1);
  EXPECT_EQ(resets_sent(), 1U);
  EXPECT_TRUE(handed_.empty());
}

TEST_F(WorkerMail, WhatDoesNotFitIntoTheBoxIsCountedAndNotReset) {
  // In its first turn worker 1 fills the box of worker 2, in its second it finds it nearly full.
  port::PacketPort& outside = world_->link().port(Side::kB);
  const auto frame = tcp(at("10.0.0.100", 1), at(ProxyWorld::kVip, 80)).rst().bytes();
  constexpr std::uint64_t kFrames = 600;
  static_assert(kFrames > proxy::Postbox::kLetters);
  constexpr std::uint64_t kPerTurn = 4 * 64;  // what a worker receives in one
  for (std::uint64_t i = 0; i < kFrames; ++i) {
    port::Packet packet = outside.allocate();
    packet.prepend(14);
    packet.append(frame.size() - 14);
    std::ranges::copy(frame, packet.bytes().begin());
    ASSERT_EQ(outside.send({&packet, 1}), 1U);
  }
  next_worker_ = 1;
  world_->run_for(milliseconds{1});
  static_assert(kPerTurn <= proxy::Postbox::kLetters);
  EXPECT_EQ(world_->report(1).mail.unknown_shown, kFrames);
  EXPECT_GT(world_->report(1).mail.misrouted_dropped, 0U);
  EXPECT_EQ(world_->report(1).mail.misrouted_dropped + world_->report(2).mail.unknown_shown,
            kFrames);
  EXPECT_EQ(resets_sent(), 0U);
}

}  // namespace
}  // namespace weir::testing
