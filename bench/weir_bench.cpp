// weir-bench: what `weir bench` runs, apart from it for the libraries that this one needs.

#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/live_bench.h"
#include "tools/man/page.h"

namespace weir::bench {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

std::atomic<bool> is_interrupted{false};

void interrupt(int /*signal*/) { is_interrupted.store(true); }

struct Words {
  std::string mode = "all";
  std::string output = "table";
  std::uint32_t seconds = 1;
};

/// The row that the balancer's are held against: its packets are sent back too.
const LiveRow& floor_of(const std::vector<LiveRow>& rows) { return rows[1]; }

std::string as_table(const std::vector<LiveRow>& rows) {
  std::string text = fmt::format("{:<32} {:>7} {:>10} {:>6} {:>11}\n", "ROW", "MPPS", "NS/PACKET",
                                 "RATIO", "PROGRAM NS");
  for (const LiveRow& row : rows)
    text += fmt::format("{:<32} {:>7.2f} {:>10.0f} {:>6.2f} {:>11.0f}\n", row.name,
                        row.packets_per_s / 1e6, row.ns_per_packet(),
                        row.ns_per_packet() / floor_of(rows).ns_per_packet(), row.program_ns);
  return text +
         "\nThe whole way of a packet on one CPU: made by a test-run, through the veth, the "
         "program, "
         "back\nthrough the veth, dropped there. RATIO is over the floor that sends back. PROGRAM "
         "NS "
         "is the\nprogram alone by the kernel's clock, which counts some 20 to 40 ns of its own.\n";
}

std::string as_json(const std::vector<LiveRow>& rows) {
  nlohmann::ordered_json json{{"rows", nlohmann::ordered_json::array()}};
  for (const LiveRow& row : rows)
    json["rows"].push_back({{"name", row.name},
                            {"floor", row.is_floor},
                            {"mpps", row.packets_per_s / 1e6},
                            {"ns_per_packet", row.ns_per_packet()},
                            {"ratio", row.ns_per_packet() / floor_of(rows).ns_per_packet()},
                            {"program_ns", row.program_ns}});
  return json.dump(2) + "\n";
}

int measure(const Words& words) {
  using control::ForwardMode;
  LiveOptions options{.modes = {}, .seconds = words.seconds};
  for (const ForwardMode mode : {ForwardMode::kIpip, ForwardMode::kGue, ForwardMode::kL2})
    if (words.mode == "all" || control::text_of(mode) == words.mode) options.modes.push_back(mode);
  struct sigaction action {};
  action.sa_handler = interrupt;
  for (const int signal : {SIGHUP, SIGINT, SIGTERM})  // a terminal that is closed says SIGHUP
    ::sigaction(signal, &action, nullptr);
  const Result<std::vector<LiveRow>> rows = measure_live(options, is_interrupted);
  if (!rows) {
    fmt::print(stderr, "weir: {}\n", rows.error().text());
    return kFailed;
  }
  const std::string text = words.output == "json" ? as_json(*rows) : as_table(*rows);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

int run(int argc, char** argv) {
  Words words;
  CLI::App app{"Measures Weir on this machine."};
  app.name("weir bench");
  man::add_man_option(app, "weir-bench");
  app.require_subcommand(1);
  CLI::App* l4 = app.add_subcommand(
      "l4", "Packets a second through the balancer on a veth of its own; touches no other device");
  l4->add_option("--mode", words.mode, "how packets are forwarded")
      ->check(CLI::IsMember({"all", "ipip", "gue", "l2"}))
      ->capture_default_str();
  l4->add_option("--seconds", words.seconds, "how long each row is measured")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  l4->add_option("-o,--output", words.output, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  l4->add_flag_callback(
      "--json", [&words] { words.output = "json"; }, "the same as --output json");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "weir: {}; see 'weir bench l4 --help'\n", error.what());
    return kUsage;
  }
  return measure(words);
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) { return weir::bench::run(argc, argv); }
