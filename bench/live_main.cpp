// live_bench: one round of packets a second through the balancer, as JSON. Needs root.

#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/live_bench.h"

namespace weir::bench {
namespace {

std::atomic<bool> is_interrupted{false};

void interrupt(int /*signal*/) { is_interrupted.store(true); }

int run(int argc, char** argv) {
  double seconds = 1;
  CLI::App app{"Packets a second through the balancer on a veth of its own, as JSON."};
  app.add_option("--seconds", seconds, "how long each row is measured")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  struct sigaction action {};
  action.sa_handler = interrupt;
  for (const int signal : {SIGHUP, SIGINT, SIGTERM})  // a terminal that is closed says SIGHUP
    ::sigaction(signal, &action, nullptr);
  const auto share = std::chrono::milliseconds{static_cast<std::int64_t>(seconds * 1000)};
  const Result<std::vector<LiveRow>> rows = measure_live(share, is_interrupted);
  if (!rows) {
    fmt::print(stderr, "live_bench: {}\n", rows.error().text());
    return 1;
  }
  nlohmann::ordered_json json{{"rows", nlohmann::ordered_json::array()}};
  for (const LiveRow& row : *rows)
    json["rows"].push_back(
        {{"name", row.name}, {"floor", row.is_floor}, {"packets_per_s", row.packets_per_s}});
  fmt::print("{}\n", json.dump(2));
  return 0;
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) { return weir::bench::run(argc, argv); }
