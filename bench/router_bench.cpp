#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>

#include <memory>
#include <string>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/random.h"
#include "l4/control/config.h"
#include "l7/proxy/balancer.h"
#include "l7/proxy/snapshot.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/proxy_world.h"

namespace weir::proxy {
namespace {

// Ten thousand routes of one listener: a thousand hosts, each with four prefixes, two exact paths,
// two that want a method or a header besides, one with an expression in a header and one in its
// path.
constexpr int kHosts = 1000;
constexpr int kServices = 500;
constexpr int kEndpoints = 4;
constexpr std::size_t kQueries = 8192;

std::string rules_of(int host) {
  const int service = host % kServices;
  std::string rules;
  const auto add = [&](std::string_view match) {
    rules +=
        fmt::format("  - {{matches: [{{{}}}], backendRefs: [{{name: s{}}}]}}\n", match, service);
  };
  add("path: {prefix: /}");
  add("path: {prefix: /api}");
  add("path: {prefix: /api/orders}");
  add("path: {prefix: /static/images}");
  add("path: {exact: /healthz}");
  add("path: {exact: /api/orders/latest}");
  add("path: {prefix: /api/orders}, method: POST");
  add("path: {prefix: /api}, headers: {x-canary: \"yes\"}");
  add("path: {prefix: /api}, headers: {x-client: {regex: \"(ios|android)/[0-9]+\"}}");
  add(fmt::format("path: {{regex: \"/v[0-9]+/tenant-{}/.*\"}}", host));
  return rules;
}

std::string configuration(int listeners) {
  std::string text = R"(version: 1
node: {interfaces: [eth0], l7: {workers: 1, addresses: [10.0.0.2/24]}}
gateways:
- name: edge
  addresses: [203.0.113.10]
  listeners:
)";
  for (int i = 0; i < listeners; ++i)
    text += fmt::format("  - {{name: http{}, port: {}, protocol: HTTP}}\n", i, 8000 + i);
  text += "services:\n";
  for (int i = 0; i < kServices; ++i) {
    text += fmt::format("  s{}: {{endpoints: [", i);
    for (int k = 0; k < kEndpoints; ++k)
      text +=
          fmt::format("{}\"10.1.{}.{}:8080\"", k == 0 ? "" : ", ", i / 250, (i % 60) * 4 + k + 1);
    text += "]}\n";
  }
  text += "httpRoutes:\n";
  for (int host = 0; host < kHosts; ++host)
    text += fmt::format(
        "- name: r{0}\n  parentRefs: [{{name: edge}}]\n  hostnames: [h{0}.example]\n  rules:\n{1}",
        host, rules_of(host));
  return text;
}

control::Model model_of(int listeners) {
  control::ParseOutcome outcome = control::parse_config(configuration(listeners), "bench.yaml");
  WEIR_ASSERT(outcome.ok());
  return std::move(outcome.model);
}

const control::Model& model() {
  static const control::Model made = model_of(1);
  return made;
}

struct Query {
  std::string host;
  std::string path;
  http::HeaderList fields;
};

std::vector<Query> queries() {
  const std::vector<std::string> paths{"/",
                                       "/api/orders/latest",
                                       "/api/orders/17/items/3",
                                       "/api/users/12",
                                       "/static/images/a/b/c.png",
                                       "/healthz",
                                       "/v2/tenant-7/x",
                                       "/about/us"};
  constexpr std::uint64_t kSeed = 7;
  Random random{kSeed};
  std::vector<Query> made(kQueries);
  for (std::size_t i = 0; i < kQueries; ++i) {
    made[i].host = fmt::format("h{}.example", random.below(kHosts));
    made[i].path = paths[random.below(static_cast<std::uint32_t>(paths.size()))];
    made[i].fields.add("Host", made[i].host);
    made[i].fields.add("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:115.0)");
    made[i].fields.add("Accept", "*/*");
    if (random.below(4) == 0) made[i].fields.add("X-Client", "ios/17");
    if (random.below(8) == 0) made[i].fields.add("X-Canary", "yes");
  }
  return made;
}

/// How long does it take to find the rule of a request among 10,000? Expected: below 1 µs, all of
/// it misses of the cache and one expression.
void match(benchmark::State& state) {
  const auto snapshot = build_snapshot(model(), 1);
  const Router& router = snapshot->listeners[0].router;
  const std::vector<Query> wanted = queries();
  std::size_t i = 0;
  for (auto _ : state) {
    const Query& query = wanted[i++ % kQueries];
    const auto choice = router.match({"GET", query.host, query.path, {}, query.fields});
    WEIR_ASSERT(choice.has_value());
    benchmark::DoNotOptimize(choice->rule);
  }
}
BENCHMARK(match);

/// How long does a configuration of 10,000 routes take from text to model, and from model to
/// snapshot (with one listener, and with eight that share the routes), and what does the snapshot
/// weigh?
void parse(benchmark::State& state) {
  const std::string text = configuration(1);
  for (auto _ : state)
    benchmark::DoNotOptimize(control::parse_config(text, "bench.yaml").ok());
  state.counters["bytes"] = static_cast<double>(text.size());
}
BENCHMARK(parse)->Unit(benchmark::kMillisecond);

void build(benchmark::State& state) {
  const control::Model of = model_of(static_cast<int>(state.range(0)));
  std::size_t bytes = 0;
  for (auto _ : state) {
    const std::size_t before = mallinfo2().uordblks;
    const auto snapshot = build_snapshot(of, 1);
    bytes = mallinfo2().uordblks - before;
    benchmark::DoNotOptimize(snapshot.get());
  }
  state.counters["snapshot_mb"] = static_cast<double>(bytes) / 1e6;
}
BENCHMARK(build)->ArgName("listeners")->Arg(1)->Arg(8)->Unit(benchmark::kMillisecond);

/// How long does a worker, which serves nobody meanwhile, take to change to it?
void install(benchmark::State& state) {
  testing::ProxyWorld world{{}};
  world.install(model());
  world.run_for(std::chrono::milliseconds{1});
  const std::shared_ptr<const Snapshot> snapshot = build_snapshot(model(), 2);
  for (auto _ : state) {
    state.PauseTiming();
    auto generation = Generation::create(snapshot);
    WEIR_ASSERT(generation.has_value());
    WEIR_ASSERT(world.worker().install(net::InterfaceConfig{}, std::move(*generation)));
    state.ResumeTiming();
    benchmark::DoNotOptimize(world.worker().turn(world.now()));
    state.PauseTiming();
    world.worker().destroy_retired();
    state.ResumeTiming();
  }
}
BENCHMARK(install)->Unit(benchmark::kMicrosecond);

/// What does a service of many endpoints cost, whose turns are laid out?
void large_service(benchmark::State& state) {
  control::Service service;
  service.name = "large";
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(state.range(0)); ++i)
    service.endpoints.push_back(
        {.endpoint = {*wire::IpAddress::parse(fmt::format("10.2.{}.{}", i / 250, i % 250 + 1)),
                      wire::Port{8080}},
         .weight = 1 + i % 3});
  for (auto _ : state)
    benchmark::DoNotOptimize(build_pick_tables(service, {}).turns.size());
}
BENCHMARK(large_service)->Arg(100)->Arg(1000)->Arg(5000)->Unit(benchmark::kMillisecond);

/// What does a proxied request on kept connections allocate? Expected: nothing.
void allocations(benchmark::State& state) {
  using namespace std::chrono_literals;
  testing::ProxyWorld world{{}};
  const testing::Backend& app = world.add_backend(
      8001, testing::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
  world.install(testing::ProxyWorld::model_for({app.endpoint}));
  testing::Peer& client = world.connect();
  const auto ask = [&] {
    client.received.clear();
    client.send("GET /catalogue HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\r\n");
    world.run_for(2ms);
    WEIR_ASSERT(client.received.ends_with("hello"));
  };
  std::size_t allocated = 0;
  for (auto _ : state)
    allocated = testing::allocations_of_a_hundred(world, ask);
  state.counters["per_request"] = static_cast<double>(allocated) / 100;
}
BENCHMARK(allocations)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weir::proxy

BENCHMARK_MAIN();
