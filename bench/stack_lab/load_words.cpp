#include "bench/stack_lab/load_words.h"

#include <fmt/format.h>
#include <sched.h>

#include <nlohmann/json.hpp>

namespace weir::bench {

void add_load_words(CLI::App& app, LoadWords& words) {
  LoadOptions& options = words.options;
  app.add_option("role", words.role,
                 "servers: echo, sink, source, http, relay; clients: rr, crr, bulk, idle")
      ->required();
  app.add_option("--peer", words.peer, "ADDRESS:PORT of the server, for clients and relay");
  app.add_option("--port", options.port, "servers: the first port")->capture_default_str();
  app.add_option("--ports", options.ports, "so many ports in a row, of a server or of the peer")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--connections", options.connections, "of a client")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--idle", options.idle, "further connections, opened first and only held")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--request", options.request_bytes, "bytes of a request")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--reply", options.reply_bytes, "bytes of a reply, or of its body")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--bytes", options.bytes, "source: so many and then the end");
  app.add_option("--rate", options.rate_per_s, "rr, crr: so many a second, each at its time");
  app.add_option("--count", options.count, "crr: so many and then the end, without --seconds");
  app.add_flag("--receive", options.receive, "bulk: read from a source instead of writing");
  app.add_option("--seconds", words.seconds, "how long is measured")
      ->check(CLI::Range(0.05, 86400.0))
      ->capture_default_str();
  app.add_option("--warm-up", words.warm_up_ms, "milliseconds before that")
      ->check(CLI::Range(0, 60'000))
      ->capture_default_str();
  app.add_option("--core", words.core, "runs on this core only");
  app.add_flag("--json", words.json, "the report as JSON");
}

Result<void> finish_load_words(LoadWords& words) {
  const Result<Role> role = parse_role(words.role);
  if (!role) return role.error();
  words.options.role = *role;
  words.options.announce = words.json;
  if (!words.peer.empty()) {
    const auto peer = wire::Endpoint::parse(words.peer);
    if (!peer) return peer.error();
    words.options.peer = *peer;
  } else if (is_client(*role) || *role == Role::kRelay) {
    return Error{ErrorCode::kInvalid, fmt::format("the role {} needs --peer", words.role),
                 "name the server as --peer ADDRESS:PORT"};
  }
  const auto last = [&](std::uint32_t first) { return first + words.options.ports - 1; };
  if (last(words.options.port) > 65535 || last(words.options.peer.port.value()) > 65535)
    return Error{ErrorCode::kInvalid, "--ports goes beyond port 65535", "lower --port or --ports"};
  using Milliseconds = std::chrono::milliseconds;
  words.options.duration = Milliseconds{static_cast<std::int64_t>(words.seconds * 1000)};
  if (words.options.count > 0) {
    words.options.duration = std::chrono::hours{24};
    words.warm_up_ms = 0;
  }
  words.options.warm_up = Milliseconds{words.warm_up_ms};
  return {};
}

Result<void> pin_to_core(int core) {
  if (core < 0) return {};
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<unsigned>(core), &cores);
  if (::sched_setaffinity(0, sizeof(cores), &cores) != 0)
    return Error::from_errno(fmt::format("pinning to core {}", core));
  return {};
}

void print_report(const LoadWords& words, const nlohmann::ordered_json& report) {
  if (words.json) return print_event("report", report);
  fmt::print(
      "{}: {:.0f} a second, p50 {} us, p99 {} us, {:.3f} Gbit/s, {} failures, processor {:.0f} %\n",
      words.role, report["rate_per_s"].get<double>(), report["p50_us"].get<double>(),
      report["p99_us"].get<double>(), report["gbit_per_s"].get<double>(),
      report["failures"].get<std::uint64_t>(), 100 * report["processor"].get<double>());
}

}  // namespace weir::bench
