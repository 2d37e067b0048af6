#include "l7/tcp/stack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "l7/tcp/segment.h"
#include "tests/support/alloc_guard.h"
#include "tests/support/segment_wire.h"

namespace weir::tcp {
namespace {

using std::chrono::milliseconds;
using testing::SegmentWire;

constexpr std::size_t kSegmentsMax = 512;  // what the buffers here let be in flight

const wire::IpAddress kClient = *wire::IpAddress::parse("192.0.2.1");
const wire::IpAddress kServer = *wire::IpAddress::parse("192.0.2.2");
const wire::Endpoint kService{kServer, wire::Port{80}};

StackOptions small() {
  StackOptions options;
  options.connections_max = 64;
  options.time_wait_max = 64;
  options.buffer_pool_bytes = 4 * 1024 * 1024;
  return options;
}

class TwoStacks {
 public:
  TwoStacks() { server.listen(kService, 0); }

  /// Lets both talk until neither has anything to say at this instant.
  void settle() {
    for (int round = 0; round < 100; ++round) {
      client.flush(now);
      server.flush(now);
      if (client_wire.sent.empty() && server_wire.sent.empty()) return;
      deliver(client_wire, server);
      deliver(server_wire, client);
    }
    FAIL() << "the stacks do not come to rest";
  }
  void pass(Duration time) {
    now += time;
    client.advance(now);
    server.advance(now);
    settle();
  }

  Instant now{std::chrono::seconds{1000}};
  SegmentWire client_wire{kSegmentsMax};
  SegmentWire server_wire{kSegmentsMax};
  Stack client{small(), client_wire, Random{1}, now};
  Stack server{small(), server_wire, Random{2}, now};

 private:
  void deliver(SegmentWire& from, Stack& to) {
    for (net::Segment& segment : from.sent)
      to.input(std::move(segment), now);
    from.sent.clear();
  }
};

TEST(Stack, RequestsAndResponsesInSteadyStateDoNotAllocate) {
  TwoStacks pair;
  const auto request = pair.client.connect(kClient, kService, 0, pair.now);
  ASSERT_TRUE(request.has_value());
  pair.settle();
  const auto accepted = pair.server.poll();
  ASSERT_TRUE(accepted && accepted->accepted);
  const std::vector<std::byte> text(20'000);

  const auto exchange = [&] {
    pair.client.write(*request, text);
    pair.settle();
    const std::size_t arrived = pair.server.readable_bytes(accepted->connection);
    pair.server.consume(accepted->connection, arrived);
    pair.server.write(accepted->connection, text);
    pair.settle();
    pair.client.consume(*request, pair.client.readable_bytes(*request));
    while (pair.client.poll()) {
    }
    while (pair.server.poll()) {
    }
    pair.pass(milliseconds{50});
    return arrived;
  };
  for (int i = 0; i < 4; ++i)
    exchange();
  testing::AllocationGuard guard;
  std::size_t arrived = 0;
  for (int i = 0; i < 100; ++i)
    arrived += exchange();
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(arrived, 100 * text.size());
  EXPECT_EQ(pair.server.counters().buffer_chunks, 0U) << "an idle connection holds chunks";
}

TEST(Stack, ConnectionsThatComeAndGoDoNotAllocateInSteadyState) {
  TwoStacks pair;
  const auto visit = [&] {
    const auto id = pair.client.connect(kClient, kService, 0, pair.now);
    pair.settle();
    const auto accepted = pair.server.poll();
    pair.client.release(*id);
    pair.settle();
    pair.server.release(accepted->connection);
    pair.settle();
    pair.pass(std::chrono::seconds{61});
  };
  for (int i = 0; i < 4; ++i)
    visit();
  testing::AllocationGuard guard;
  for (int i = 0; i < 100; ++i)
    visit();
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(pair.client.counters().connections, 0U);
  EXPECT_EQ(pair.server.counters().connections, 0U);
  EXPECT_EQ(pair.client.counters().time_wait, 0U);
}

TEST(Stack, EveryConnectGetsAPortOfItsOwnUntilNoneIsLeft) {
  StackOptions options = small();
  options.ephemeral_first = 50'000;
  options.ephemeral_last = 50'009;
  SegmentWire wire{kSegmentsMax};
  const Instant now{std::chrono::seconds{1}};
  Stack stack{options, wire, Random{3}, now};
  std::set<std::uint16_t> ports;
  for (int i = 0; i < 10; ++i) {
    const auto id = stack.connect(kClient, kService, 0, now);
    ASSERT_TRUE(id.has_value());
    ports.insert(stack.local(*id).port.value());
  }
  EXPECT_EQ(ports.size(), 10U);
  EXPECT_EQ(*ports.begin(), 50'000);
  const auto refused = stack.connect(kClient, kService, 0, now);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  // Another destination has all ports again.
  EXPECT_TRUE(stack.connect(kClient, {kServer, wire::Port{81}}, 0, now).has_value());
  EXPECT_EQ(stack.counters().failed_connects, 1U);
}

TEST(Stack, PortsAndSequenceNumbersDependOnTheSecret) {
  const Instant now{std::chrono::seconds{1}};
  std::set<std::uint16_t> ports;
  std::set<std::uint32_t> numbers;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SegmentWire wire{kSegmentsMax};
    Stack stack{small(), wire, Random{seed}, now};
    const auto id = stack.connect(kClient, kService, 0, now);
    stack.flush(now);
    ports.insert(stack.local(*id).port.value());
    numbers.insert(parse_segment(wire.sent.front().packet.bytes())->seq.value());
  }
  EXPECT_GE(ports.size(), 18U);
  EXPECT_EQ(numbers.size(), 20U);
}

TEST(Stack, OneFlushServesConnectionsInTurns) {
  TwoStacks pair;
  std::vector<ConnectionId> ids;
  for (int i = 0; i < 3; ++i)
    ids.push_back(*pair.client.connect(kClient, kService, 0, pair.now));
  pair.settle();
  const std::vector<std::byte> text(200'000);
  // Open the congestion windows.
  for (int i = 0; i < 6; ++i) {
    for (const ConnectionId id : ids)
      pair.client.write(id, text);
    pair.settle();
    while (const auto news = pair.server.poll())
      pair.server.consume(news->connection, pair.server.readable_bytes(news->connection));
    pair.settle();
  }
  for (const ConnectionId id : ids)
    pair.client.write(id, text);
  pair.client.flush(pair.now);
  ASSERT_GE(pair.client_wire.sent.size(), 48U);
  std::set<std::uint16_t> first_48;
  std::size_t changes = 0;
  for (std::size_t i = 0; i < 48; ++i) {
    const auto port = parse_segment(pair.client_wire.sent[i].packet.bytes())->source_port;
    if (!first_48.contains(port)) ++changes;
    first_48.insert(port);
  }
  EXPECT_EQ(first_48.size(), 3U) << "16 segments each";
  EXPECT_EQ(changes, 3U);
}

TEST(Stack, StaleAndForeignHandlesAreHarmless) {
  TwoStacks pair;
  const ConnectionId stale = *pair.client.connect(kClient, kService, 0, pair.now);
  pair.client.abort(stale, pair.now);
  for (const ConnectionId id : {stale, ConnectionId{}, ConnectionId{60'000, 1}}) {
    EXPECT_FALSE(pair.client.exists(id));
    EXPECT_TRUE(pair.client.peek(id).empty());
    EXPECT_EQ(pair.client.readable_bytes(id), 0U);
    EXPECT_EQ(pair.client.writable_bytes(id), 0U);
    EXPECT_EQ(pair.client.unacknowledged_bytes(id), 0U);
    EXPECT_EQ(pair.client.write(id, std::vector<std::byte>(5)), 0U);
    EXPECT_FALSE(pair.client.at_end(id));
    EXPECT_EQ(pair.client.failure(id), Failure::kNone);
    pair.client.consume(id, 5);
    pair.client.set_user(id, 5);
    pair.client.close_write(id);
    pair.client.release(id);
    pair.client.abort(id, pair.now);
  }
}

/// A stack with memory of sixteen chunks, and a peer who has plenty and reads everything.
class ShortOfMemory : public ::testing::Test {
 protected:
  ShortOfMemory() { peer_.listen(kService, 0); }

  static StackOptions sixteen_chunks() {
    StackOptions options = small();
    options.buffer_pool_bytes = 16 * 4096;
    return options;
  }
  ConnectionId connect(UserData user) {
    const ConnectionId id = *stack_.connect(kClient, kService, user, now_);
    talk();
    while (stack_.poll()) {
    }
    return id;
  }
  void talk() {
    for (int i = 0; i < 50; ++i) {
      stack_.flush(now_);
      for (net::Segment& segment : wire_.sent)
        peer_.input(std::move(segment), now_);
      wire_.sent.clear();
      while (const auto news = peer_.poll()) {
        if (news->accepted) accepted_ = news->connection;
        if (std::ranges::find(deaf_, news->connection) != deaf_.end()) continue;
        const std::size_t read = peer_.readable_bytes(news->connection);
        if (news->connection == accepted_) read_ += read;
        peer_.consume(news->connection, read);
      }
      peer_.flush(now_);
      for (net::Segment& segment : peer_wire_.sent)
        if (!is_missing(segment)) stack_.input(std::move(segment), now_);
      peer_wire_.sent.clear();
    }
  }
  /// With loses_, the first text of each connection of the peer's never arrives.
  bool is_missing(const net::Segment& segment) {
    const auto view = parse_segment(segment.packet.bytes());
    if (!loses_ || !view || view->payload.empty()) return false;
    return missing_.try_emplace(view->destination_port, view->seq).first->second == view->seq;
  }
  void write_all_that_fits(ConnectionId id) {
    while (stack_.write(id, text_) > 0) {
    }
  }
  void pass(Duration time) {
    now_ += time;
    stack_.advance(now_);
    peer_.advance(now_);
    talk();
  }
  /// The users that hear of a reset while time passes.
  std::set<UserData> evicted_by(Duration time) {
    std::set<UserData> told;
    for (const Instant end = now_ + time; now_ < end;) {
      pass(milliseconds{100});
      while (const auto news = stack_.poll())
        if (news->reset) told.insert(news->user);
    }
    return told;
  }
  std::set<UserData> told_to_write() {
    stack_.advance(now_);
    std::set<UserData> told;
    while (const auto news = stack_.poll())
      if (news->writable) told.insert(news->user);
    return told;
  }

  Instant now_{std::chrono::seconds{1}};
  const std::vector<std::byte> text_ = std::vector<std::byte>(200'000);
  SegmentWire wire_{kSegmentsMax};
  SegmentWire peer_wire_{kSegmentsMax};
  Stack stack_{sixteen_chunks(), wire_, Random{3}, now_};
  Stack peer_{small(), peer_wire_, Random{4}, now_};
  ConnectionId accepted_;           ///< the peer's end of the last connection
  std::size_t read_ = 0;            ///< by it, and by those before it while they were the last
  std::vector<ConnectionId> deaf_;  ///< ends of the peer that do not read
  bool loses_ = false;
  std::map<std::uint16_t, Seq> missing_;
};

TEST_F(ShortOfMemory, WritersThatThePoolTurnedAwayAreToldWhenThereIsRoomAgain) {
  const ConnectionId first = connect(1);
  const ConnectionId second = connect(2);
  EXPECT_GT(stack_.write(first, text_), 0U);
  write_all_that_fits(first);
  write_all_that_fits(second);
  EXPECT_EQ(told_to_write(), std::set<UserData>{});
  talk();
  EXPECT_EQ(told_to_write(), (std::set<UserData>{1, 2}));
}

TEST_F(ShortOfMemory, AWriterDoesNotWaitForReaders) {
  // The share of what is received is full of text that is read when the third connection can write.
  const ConnectionId second = connect(2);
  const ConnectionId third = connect(3);
  connect(1);
  peer_.write(accepted_, text_);
  talk();
  while (stack_.poll()) {
  }
  ASSERT_EQ(stack_.counters().buffer_chunks, 10U);  // and two for those that have none
  for (const ConnectionId writer : {second, connect(4), connect(5)})
    write_all_that_fits(writer);
  ASSERT_EQ(stack_.counters().buffer_chunks, 16U);
  EXPECT_EQ(stack_.write(third, text_), 0U);
  EXPECT_EQ(told_to_write().count(3), 0U);
  talk();
  EXPECT_EQ(told_to_write().count(3), 1U);
}

TEST_F(ShortOfMemory, PeersThatNeverReadDoNotStopTheOthers) {
  // Of 16 chunks 12 are for sending: 10 for all, and one each for two that have none.
  for (UserData user = 1; user <= 2; ++user) {
    const ConnectionId writer = connect(user);
    deaf_.push_back(accepted_);
    for (int i = 0; i < 100; ++i) {
      write_all_that_fits(writer);
      talk();
    }
    EXPECT_GT(stack_.unacknowledged_bytes(writer), 0U);
  }
  EXPECT_EQ(stack_.counters().buffer_chunks, 10U);
  const std::uint64_t cut_before = stack_.counters().writes_short_of_memory;
  const ConnectionId honest = connect(3);
  read_ = 0;
  std::size_t written = 0;
  for (int i = 0; i < 100 && read_ < text_.size(); ++i) {
    written += stack_.write(honest, std::span{text_}.subspan(written));
    talk();
    // The stack says that there is room again; who has to guess would wait for ever.
    if (written < text_.size()) {
      EXPECT_EQ(told_to_write(), std::set<UserData>{3}) << written;
    }
  }
  EXPECT_EQ(read_, text_.size());
  EXPECT_GT(stack_.counters().writes_short_of_memory, cut_before);
}

TEST_F(ShortOfMemory, WhoHasNotReadForLongestGivesWayToWhoWaitsForItsFirstChunk) {
  // Of 16 chunks 12 are for sending: the first two take what there is for all, the others one each.
  std::vector<ConnectionId> writers;
  for (UserData user = 1; user <= 5; ++user) {
    writers.push_back(connect(user));
    deaf_.push_back(accepted_);
    for (int i = 0; i < 100; ++i) {
      write_all_that_fits(writers.back());
      talk();
    }
    EXPECT_GT(stack_.unacknowledged_bytes(writers.back()), 0U);
    pass(milliseconds{100});
  }
  ASSERT_EQ(stack_.counters().buffer_chunks, 12U);
  const ConnectionId waiting = connect(6);
  EXPECT_EQ(stack_.write(waiting, text_), 0U);
  stack_.flush(now_);
  EXPECT_EQ(evicted_by(milliseconds{4400}), std::set<UserData>{});
  // The others have not stalled for five seconds yet, and the first one's memory is enough.
  EXPECT_EQ(evicted_by(milliseconds{600}), std::set<UserData>{1});
  EXPECT_EQ(stack_.counters().evicted_stalled, 1U);
  EXPECT_EQ(stack_.failure(writers[0]), Failure::kTimedOut);
  EXPECT_GT(stack_.write(waiting, text_), 0U);
  EXPECT_EQ(evicted_by(std::chrono::seconds{60}), std::set<UserData>{});
}

TEST_F(ShortOfMemory, WhoTakesLessThanAChunkInFiveSecondsGivesWayTooAndWhoTakesMoreDoesNot) {
  for (const std::size_t bytes_a_second : {500U, 2000U}) {
    SCOPED_TRACE(bytes_a_second);
    std::vector<ConnectionId> writers;
    deaf_.clear();
    for (UserData user = 1; user <= 5; ++user) {
      writers.push_back(connect(user));
      deaf_.push_back(accepted_);
      for (int i = 0; i < 100; ++i) {
        write_all_that_fits(writers.back());
        talk();
      }
    }
    const ConnectionId waiting = connect(6);
    EXPECT_EQ(stack_.write(waiting, text_), 0U);
    std::set<UserData> evicted;
    for (int second = 0; second < 20; ++second) {
      for (const ConnectionId reader : deaf_)
        peer_.consume(reader, std::min(peer_.readable_bytes(reader), bytes_a_second));
      for (const ConnectionId writer : writers)  // whoever sends goes on sending
        write_all_that_fits(writer);
      evicted.merge(evicted_by(std::chrono::seconds{1}));
    }
    EXPECT_EQ(evicted.empty(), bytes_a_second == 2000U);
    for (const ConnectionId writer : writers)
      stack_.abort(writer, now_);
    stack_.abort(waiting, now_);
    pass(milliseconds{100});
    while (stack_.poll()) {
    }
  }
}

TEST_F(ShortOfMemory, WhatCameEarlyIsKeptForNoMoreThanTwoSecondsWhileOthersAreRefused) {
  // Of 16 chunks 12 are for receiving, and beyond 6 memory is short.
  loses_ = true;
  const auto write_early = [&] {
    connect(1);
    EXPECT_GT(peer_.write(accepted_, std::span{text_}.first(14'000)), 0U);
    talk();
  };
  write_early();
  ASSERT_EQ(stack_.counters().buffer_chunks, 4U);
  evicted_by(std::chrono::seconds{10});
  EXPECT_EQ(stack_.counters().buffer_chunks, 4U) << "nobody needs it";
  write_early();
  ASSERT_EQ(stack_.counters().buffer_chunks, 7U);
  pass(milliseconds{50});
  EXPECT_EQ(stack_.counters().early_text_dropped, 1U) << "the first one's gap is old";
  EXPECT_LE(stack_.counters().buffer_chunks, 4U);
  evicted_by(std::chrono::seconds{5});
  EXPECT_EQ(stack_.counters().early_text_dropped, 1U);
}

TEST_F(ShortOfMemory, NobodyGivesWayWhileNobodyWaits) {
  for (UserData user = 1; user <= 4; ++user) {
    const ConnectionId writer = connect(user);
    deaf_.push_back(accepted_);
    for (int i = 0; i < 100; ++i) {
      write_all_that_fits(writer);
      talk();
    }
  }
  ASSERT_EQ(stack_.counters().buffer_chunks, 12U);
  EXPECT_EQ(evicted_by(std::chrono::seconds{60}), std::set<UserData>{});
  EXPECT_EQ(stack_.counters().evicted_stalled, 0U);
}

TEST_F(ShortOfMemory, AWindowThatStaysClosedIsNoNews) {
  // RFC 9293, section 3.8.6.2.2: what is read moves the edge only if there is memory when the
  // segment leaves.
  const std::vector<ConnectionId> writers = {connect(1), connect(2), connect(3)};
  const ConnectionId reader = connect(4);
  peer_.write(accepted_, text_);
  talk();
  ASSERT_EQ(stack_.counters().buffer_chunks, 10U);
  for (const bool is_memory_left : {false, true}) {
    stack_.consume(reader, stack_.readable_bytes(reader) / 2);
    if (!is_memory_left)
      for (const ConnectionId writer : writers)
        write_all_that_fits(writer);
    stack_.flush(now_);
    const auto announces = [&](const net::Segment& segment) {
      const auto view = parse_segment(std::as_const(segment.packet).bytes());
      return view->source_port == stack_.local(reader).port.value();
    };
    EXPECT_EQ(std::ranges::count_if(wire_.sent, announces), is_memory_left ? 1 : 0);
    talk();
    while (stack_.poll()) {
    }
  }
}

/// A segment as a network may double it.
net::Segment copy_of(const net::Segment& segment, SegmentWire& wire) {
  port::Packet packet = wire.allocate();
  const std::span<const std::byte> bytes = std::as_const(segment.packet).bytes();
  std::ranges::copy(bytes, packet.append(bytes.size()).begin());
  return {segment.source, segment.destination, segment.protocol, segment.ecn, std::move(packet)};
}

TEST(Stack, TwoThatAreApartByANumberDoNotAnswerEachOtherForEver) {
  // RFC 5961, section 7.
  TwoStacks both;
  const ConnectionId client = *both.client.connect(kClient, kService, 0, both.now);
  both.settle();
  both.client.write(client, std::vector<std::byte>(1));
  both.client.flush(both.now);
  const auto first = parse_segment(std::as_const(both.client_wire.sent.front().packet).bytes());
  SegmentHeader to_server{.source_port = first->source_port,
                          .destination_port = first->destination_port,
                          .seq = first->end(),
                          .ack = first->ack,
                          .flags = wire::TcpHeader::kAck,
                          .window = 1000,
                          .options = {}};
  SegmentHeader to_client = to_server;
  std::swap(to_client.source_port, to_client.destination_port);
  std::swap(to_client.seq, to_client.ack);
  both.settle();
  // Each is given a byte that the other has never sent.
  port::Packet packet = both.client_wire.allocate();
  build_segment(packet, to_server, 1);
  both.server.input({kClient, kServer, wire::IpProtocol::kTcp, {}, std::move(packet)}, both.now);
  packet = both.server_wire.allocate();
  build_segment(packet, to_client, 1);
  both.client.input({kServer, kClient, wire::IpProtocol::kTcp, {}, std::move(packet)}, both.now);
  both.pass(milliseconds{100});
  EXPECT_GT(both.client.counters().acks_held_back, 0U);
  EXPECT_GT(both.server.counters().acks_held_back, 0U);
}

TEST(Stack, ACookieIsStillGoodWhenTheRepeatedSynHasFoundAPlace) {
  // RFC 4987, section 3.6: the client has taken the first answer, and acknowledges that.
  StackOptions options = small();
  options.half_open_max = 1;
  SegmentWire client_wire{kSegmentsMax};
  SegmentWire server_wire{kSegmentsMax};
  const Instant now{std::chrono::seconds{1}};
  Stack client{small(), client_wire, Random{1}, now};
  Stack server{options, server_wire, Random{2}, now};
  server.listen(kService, 0);
  const auto take = [&](Stack& from, SegmentWire& wire) {
    from.flush(now);
    EXPECT_EQ(wire.sent.size(), 1U);
    net::Segment only = std::move(wire.sent.front());
    wire.sent.clear();
    return only;
  };
  ASSERT_TRUE(client.connect(kClient, kService, 1, now));
  server.input(take(client, client_wire), now);
  net::Segment answer = take(server, server_wire);  // the only place is taken
  ASSERT_TRUE(client.connect(kClient, kService, 2, now));
  net::Segment syn = take(client, client_wire);
  net::Segment repeated = copy_of(syn, client_wire);
  server.input(std::move(syn), now);
  net::Segment cookie = take(server, server_wire);
  ASSERT_EQ(server.counters().cookies_sent, 1U);
  client.input(std::move(answer), now);
  server.input(take(client, client_wire), now);  // the place is free again
  server.input(std::move(repeated), now);
  ASSERT_EQ(server.counters().half_open, 1U);
  server.flush(now);
  server_wire.sent.clear();  // its answer is late
  client.input(std::move(cookie), now);
  server.input(take(client, client_wire), now);
  EXPECT_EQ(server.counters().cookies_accepted, 1U);
  EXPECT_EQ(server.counters().half_open, 0U);
  EXPECT_EQ(server.counters().resets_sent, 0U);
}

}  // namespace
}  // namespace weir::tcp
