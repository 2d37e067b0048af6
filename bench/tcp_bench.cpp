// How fast is the TCP stack without a kernel below it. First two stacks in one thread, segments
// handed over in memory, no checksum, no port: every figure is for both ends together. Then what
// one end pays to receive a segment. Then whole hosts on two cores, joined by a ring in memory.

#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "bench/stack_lab/clients.h"
#include "bench/stack_lab/load.h"
#include "bench/stack_lab/ring_port.h"
#include "bench/stack_lab/servers.h"
#include "bench/stack_lab/stack_client.h"
#include "bench/stack_lab/stack_host.h"
#include "l7/tcp/stack.h"
#include "tests/support/segment_wire.h"

namespace weir::bench {
namespace {

/// Of one among `count` that were timed together: the median, which those interrupted do not move.
double median_share(const LatencyHistogram& batches, std::size_t count) {
  return static_cast<double>(batches.quantile(0.5).count()) / static_cast<double>(count);
}

}  // namespace
}  // namespace weir::bench

namespace weir::tcp {
namespace {

using testing::SegmentWire;

const wire::IpAddress kClient = wire::IpAddress::v4(192, 0, 2, 1);
const wire::IpAddress kServer = wire::IpAddress::v4(192, 0, 2, 2);
const wire::Endpoint kService{kServer, wire::Port{80}};

struct Pair {
  Pair() { server.listen(kService, 0); }

  /// One turn of each side's loop, a microsecond apart.
  void turn() {
    now += std::chrono::microseconds{1};
    client.advance(now);
    client.flush(now);
    deliver(client_wire, server);
    server.advance(now);
    server.flush(now);
    deliver(server_wire, client);
  }
  void deliver(SegmentWire& from, Stack& to) {
    for (net::Segment& segment : from.sent)
      to.input(std::move(segment), now);
    from.sent.clear();
  }

  /// An open connection: the client's name for it and the server's.
  std::pair<ConnectionId, ConnectionId> open() {
    const auto id = client.connect(kClient, kService, 0, now);
    while (client.counters().connected < server.counters().accepted ||
           server.counters().accepted <= opened)
      turn();
    ++opened;
    const ConnectionId accepted = server.poll()->connection;
    while (client.poll()) {
    }
    return {*id, accepted};
  }

  Instant now{std::chrono::seconds{1000}};
  SegmentWire client_wire{8192};
  SegmentWire server_wire{8192};
  StackOptions options;
  Stack client{options, client_wire, Random{1}, now};
  Stack server{options, server_wire, Random{2}, now};
  std::uint64_t opened = 0;
};

/// Bulk data in one direction: expected some hundred nanoseconds for each segment of 1460 bytes,
/// of which two copies in and two out are a third.
void bulk(benchmark::State& state) {
  Pair pair;
  const auto [id, accepted] = pair.open();
  const std::vector<std::byte> text(64 * 1024, std::byte{0x42});
  const std::uint64_t before = pair.client.counters().segments_sent;
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    pair.client.write(id, text);
    pair.turn();
    while (const auto news = pair.server.poll()) {
      for (auto piece = pair.server.peek(accepted); !piece.empty();
           piece = pair.server.peek(accepted)) {
        benchmark::DoNotOptimize(piece.data());
        bytes += piece.size();
        pair.server.consume(accepted, piece.size());
      }
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
  state.counters["segments"] =
      benchmark::Counter(static_cast<double>(pair.client.counters().segments_sent - before),
                         benchmark::Counter::kIsRate);
}
BENCHMARK(bulk);

/// 64 bytes there, 256 back, on a random one of many connections: expected around one microsecond,
/// growing with the number of connections as their state falls out of the cache.
void request_response(benchmark::State& state) {
  Pair pair;
  std::vector<std::pair<ConnectionId, ConnectionId>> connections;
  for (std::int64_t i = 0; i < state.range(0); ++i)
    connections.push_back(pair.open());
  const std::vector<std::byte> request(64);
  const std::vector<std::byte> response(256);
  Random random{5};
  for (auto _ : state) {
    const auto [id, accepted] =
        connections[random.below(static_cast<std::uint32_t>(connections.size()))];
    pair.client.write(id, request);
    pair.turn();
    while (const auto news = pair.server.poll()) {
      pair.server.consume(news->connection, pair.server.readable_bytes(news->connection));
      pair.server.write(news->connection, response);
    }
    pair.turn();
    while (const auto news = pair.client.poll())
      pair.client.consume(news->connection, pair.client.readable_bytes(news->connection));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(request_response)->Arg(1)->Arg(64)->Arg(10'000);

/// Connect, close from the server, which keeps TIME-WAIT, close from the client: six segments.
void connect_close(benchmark::State& state) {
  Pair pair;
  for (auto _ : state) {
    const auto [id, accepted] = pair.open();
    pair.server.release(accepted);
    pair.turn();
    pair.client.release(id);
    pair.turn();
    pair.turn();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(connect_close);

/// A connection for one request of 64 bytes and its reply of 256, which the server closes behind:
/// expected around a half more than without them.
void connect_request_close(benchmark::State& state) {
  Pair pair;
  const std::vector<std::byte> request(64);
  const std::vector<std::byte> response(256);
  for (auto _ : state) {
    const auto [id, accepted] = pair.open();
    pair.client.write(id, request);
    pair.turn();
    while (const auto news = pair.server.poll()) {
      pair.server.consume(news->connection, pair.server.readable_bytes(news->connection));
      pair.server.write(news->connection, response);
    }
    pair.server.release(accepted);
    pair.turn();
    while (const auto news = pair.client.poll())
      pair.client.consume(news->connection, pair.client.readable_bytes(news->connection));
    pair.client.release(id);
    pair.turn();
    pair.turn();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(connect_request_close);

// ---- one end's share of a segment ---------------------------------------------------------------

constexpr Duration kAckDelay = std::chrono::milliseconds{50};  // any delayed ACK is out by then
constexpr std::size_t kSegments = 32;  // before an ACK is waited for; within the initial window

/// An in-order segment through Stack::input() of the receiver: expected at most 120 ns with one
/// byte (neither copy nor checksum to speak of), some 50 ns more with 1000 bytes to be copied twice
/// into cold memory. Sending, reading and the ACK are not in it.
void receive_segment(benchmark::State& state) {
  Pair pair;
  const auto [id, accepted] = pair.open();
  const std::vector<std::byte> text(static_cast<std::size_t>(state.range(0)));
  const std::size_t segments = std::min(kSegments, 12'000 / text.size());
  bench::LatencyHistogram batches;
  for (auto _ : state) {
    for (std::size_t i = 0; i < segments; ++i) {  // each flush sends what is there: one segment
      pair.client.write(id, text);
      pair.client.flush(pair.now);
    }
    if (pair.client_wire.sent.size() != segments) return state.SkipWithError("not one write each");
    const Instant began = monotonic_now();
    for (net::Segment& segment : pair.client_wire.sent)
      pair.server.input(std::move(segment), pair.now);
    const Duration took = monotonic_now() - began;
    batches.add(took);
    state.SetIterationTime(std::chrono::duration<double>(took).count());
    pair.client_wire.sent.clear();
    pair.server.consume(accepted, pair.server.readable_bytes(accepted));
    while (pair.server.poll()) {
    }
    pair.now += kAckDelay;
    pair.turn();
    pair.turn();
  }
  state.counters["ns_per_segment"] = bench::median_share(batches, segments);
}
BENCHMARK(receive_segment)->ArgName("bytes")->Arg(1)->Arg(1000)->UseManualTime();

}  // namespace
}  // namespace weir::tcp

namespace weir::bench {
namespace {

const wire::IpAddress kLeft = wire::IpAddress::v4(192, 0, 2, 1);
const wire::IpAddress kRight = wire::IpAddress::v4(192, 0, 2, 2);
constexpr std::uint32_t kBuffers = 8192;

net::InterfaceConfig config_of(const wire::IpAddress& address) {
  net::InterfaceConfig config;
  config.addresses = {{address, 24}};
  return config;
}

LoadOptions options_of(Role role, const wire::IpAddress& local, std::uint32_t connections) {
  LoadOptions options;
  options.role = role;
  options.local = local;
  options.peer = {kRight, wire::Port{9000}};
  options.ports = 32;  // one to a port would end at the ports that TIME-WAIT leaves
  options.connections = connections;
  options.duration = std::chrono::hours{1};
  options.warm_up = Duration{0};
  return options;
}

tcp::StackOptions stack_options() {
  tcp::StackOptions options;
  options.ephemeral_first = 10000;
  options.ephemeral_last = 65535;
  return options;
}

void pin(unsigned core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  // On a machine with one core there is nothing to pin to, and the figures say so.
  pthread_setaffinity_np(pthread_self(), sizeof(cores), &cores);
}

/// A host with an application at each end of a cable.
struct Hosts {
  Hosts(Role server_role, Role client_role, std::uint32_t connections)
      : server_options{options_of(server_role, kRight, connections)},
        client_options{options_of(client_role, kLeft, connections)} {
    server.start(start);
  }
  void turn_server(Instant now) { right.turn(server, now); }
  void turn_client(Instant now) { left.turn(client, now); }

  Instant start = monotonic_now();
  RingCable cable{kBuffers};
  LoadOptions server_options;
  LoadOptions client_options;
  StackHost left{cable.left(), config_of(kLeft), stack_options(), Random{1}, start};
  StackHost right{cable.right(), config_of(kRight), stack_options(), Random{2}, start};
  ReplyServer server{right.stack(), server_options};
  StackClient client{left.stack(), client_options};
};

/// A load in a closed loop between two cores, with ARP, IP and both checksums: `operations` are of
/// one server core.
void between_cores(benchmark::State& state, Role role) {
  Hosts hosts{Role::kEcho, role, static_cast<std::uint32_t>(state.range(0))};
  std::atomic<bool> stop{false};
  std::thread server{[&] {
    pin(0);
    while (!stop.load(std::memory_order_relaxed))
      hosts.turn_server(monotonic_now());
  }};
  cpu_set_t before;
  pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
  pin(1);
  const Measurement& measured = hosts.client.client().measurement();
  while (measured.operations() < 1000)
    hosts.turn_client(monotonic_now());
  const std::uint64_t warm = measured.operations();
  std::uint64_t wanted = warm;
  for (auto _ : state) {
    ++wanted;
    while (measured.operations() < wanted)
      hosts.turn_client(monotonic_now());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(measured.operations() - warm));
  state.counters["p50_us"] = static_cast<double>(measured.latency(0.5).count()) * 1e-3;
  state.counters["failures"] = static_cast<double>(measured.failures());
  stop.store(true);
  server.join();
  pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
}
/// 64 bytes there, 256 back: expected 1.5 M/s on 64 connections, and on one what two hops between
/// cores take.
BENCHMARK_CAPTURE(between_cores, request_reply, Role::kRequests)->Arg(64)->Arg(1)->UseRealTime();
/// Connect, request, reply, close: expected 300 k/s.
BENCHMARK_CAPTURE(between_cores, connect_close, Role::kConnects)->Arg(64)->UseRealTime();

/// The same two hosts, turn by turn in one thread: what both ends of an operation cost together,
/// everything included, where no two cores are free at the same time. Expected less than twice what
/// between_cores takes, since nothing waits for another core.
void in_one_thread(benchmark::State& state, Role role) {
  Hosts hosts{Role::kEcho, role, static_cast<std::uint32_t>(state.range(0))};
  const Measurement& measured = hosts.client.client().measurement();
  const auto reach = [&](std::uint64_t operations) {
    while (measured.operations() < operations) {
      const Instant now = monotonic_now();
      hosts.turn_client(now);
      hosts.turn_server(now);
    }
  };
  reach(1000);
  const std::uint64_t warm = measured.operations();
  std::uint64_t wanted = warm;
  for (auto _ : state)
    reach(++wanted);
  state.SetItemsProcessed(static_cast<std::int64_t>(measured.operations() - warm));
  state.counters["failures"] = static_cast<double>(measured.failures());
}
BENCHMARK_CAPTURE(in_one_thread, request_reply, Role::kRequests)->Arg(64);
BENCHMARK_CAPTURE(in_one_thread, connect_close, Role::kConnects)->Arg(64);

/// Takes no part: the benchmark writes by itself.
struct Quiet final : Application {
  void on_ready(const tcp::Readiness&, Instant) override {}
};

/// The receiver's share of one segment with everything: Ethernet, IP, both checksums, TCP, copy.
void receive_frame(benchmark::State& state) {
  Hosts hosts{Role::kSink, Role::kIdle, 1};
  Instant now = hosts.start;
  StreamServer sink{hosts.right.stack(), hosts.server_options};
  hosts.client_options.ports = 1;
  const auto id = hosts.left.stack().connect(kLeft, {kRight, wire::Port{9000}}, 0, now);
  const std::vector<std::byte> text(static_cast<std::size_t>(state.range(0)));
  constexpr std::size_t kWrites = 8;  // within the initial window
  std::array<port::Packet, 64> burst;
  Quiet quiet;
  const auto settle = [&] {
    for (int i = 0; i < 8; ++i) {
      now += std::chrono::microseconds{10};
      hosts.left.turn(quiet, now);
      hosts.right.turn(sink, now);
    }
  };
  settle();
  LatencyHistogram batches;
  for (auto _ : state) {
    for (std::size_t i = 0; i < kWrites; ++i) {
      hosts.left.stack().write(*id, text);
      hosts.left.turn(quiet, now);
    }
    const std::size_t count = hosts.cable.right().receive(burst);
    if (count != kWrites) return state.SkipWithError("not one frame for each write");
    const Instant began = monotonic_now();
    for (std::size_t i = 0; i < count; ++i)
      hosts.right.input(std::move(burst[i]), now);
    const Duration took = monotonic_now() - began;
    batches.add(took);
    state.SetIterationTime(std::chrono::duration<double>(took).count());
    now += std::chrono::milliseconds{50};  // any delayed ACK is out by then
    settle();
  }
  state.counters["ns_per_segment"] = median_share(batches, kWrites);
}
BENCHMARK(receive_frame)->ArgName("bytes")->Arg(1)->Arg(1448)->UseManualTime();

}  // namespace
}  // namespace weir::bench

BENCHMARK_MAIN();
