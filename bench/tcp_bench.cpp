// How fast is the TCP stack alone: two stacks in one thread, segments handed over in memory, no
// checksum, no port. Every figure is for both ends together.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "l7/tcp/stack.h"
#include "tests/support/segment_wire.h"

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

/// Connect, close from the client, TIME-WAIT, close from the server: seven segments.
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

}  // namespace
}  // namespace weir::tcp

BENCHMARK_MAIN();
