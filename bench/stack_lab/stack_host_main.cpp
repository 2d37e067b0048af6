// stack_host: our stack on one DPDK port, in one of the roles of load.h.

#include <fmt/format.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "bench/stack_lab/load_words.h"
#include "bench/stack_lab/servers.h"
#include "bench/stack_lab/stack_client.h"
#include "l4/base/fd.h"
#include "l7/port/dpdk_port.h"

namespace weir::bench {
namespace {

using Json = nlohmann::ordered_json;

std::atomic<bool> stop{false};      // leave the loop
std::atomic<bool> is_asked{false};  // and print the counters, and go on
int wake_fd = -1;

void on_signal(int signal) {
  is_asked.store(signal == SIGUSR1);
  stop.store(true);
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd, &one, sizeof(one));
}

struct Words {
  LoadWords load;
  std::string device;
  std::string address;
  std::string gateway;
  bool poll = false;
  bool partial_checksums = false;
  std::uint32_t connections_max = 65536;
  std::uint32_t half_open_max = tcp::StackOptions{}.half_open_max;
  std::uint32_t buffer_kb = tcp::StackOptions{}.receive_buffer_bytes / 1024;
  std::uint32_t pool_mb = tcp::StackOptions{}.buffer_pool_bytes / 1024 / 1024;
  double time_wait_s = 60;
  std::uint32_t frames = 16383;
};

void add_words(CLI::App& app, Words& words) {
  add_load_words(app, words.load);
  app.add_option("--device", words.device, "the end of a veth that becomes ours")->required();
  app.add_option("--address", words.address, "our address with its prefix length: 10.0.0.1/24")
      ->required();
  app.add_option("--gateway", words.gateway, "for addresses beyond that network");
  app.add_flag("--poll", words.poll, "never sleeps");
  app.add_flag("--partial-checksums", words.partial_checksums,
               "accepts what a kernel peer on a veth leaves unfinished");
  app.add_option("--connections-max", words.connections_max, "of the stack")->capture_default_str();
  app.add_option("--half-open-max", words.half_open_max, "of the stack")->capture_default_str();
  app.add_option("--buffer-kb", words.buffer_kb, "per connection and direction")
      ->capture_default_str();
  app.add_option("--pool-mb", words.pool_mb, "for all buffers")->capture_default_str();
  app.add_option("--time-wait", words.time_wait_s, "seconds")->capture_default_str();
  app.add_option("--frames", words.frames,
                 "packet buffers, 4095 at least; best one below a power of two")
      ->capture_default_str();
}

Json tcp_json(const tcp::StackCounters& c) {
  Json result;
  for (const auto& [name, value] : tcp::kStackLevels)
    result[std::string{name}] = c.*value;
  for (const auto& [name, value] : tcp::kStackEvents)
    result[std::string{name}] = c.*value;
  return result;
}

Json interface_json(const net::InterfaceCounters& c) {
  return {
      {"frames_received", c.frames_received},           {"frames_sent", c.frames_sent},
      {"segments_delivered", c.segments_delivered},     {"dropped_checksum", c.dropped_checksum},
      {"dropped_malformed_ip", c.dropped_malformed_ip}, {"dropped_fragment", c.dropped_fragment},
      {"dropped_protocol", c.dropped_protocol},         {"dropped_udp", c.dropped_udp},
      {"dropped_no_buffer", c.dropped_no_buffer},       {"dropped_no_route", c.dropped_no_route},
      {"dropped_send_queue", c.dropped_send_queue},     {"echo_answered", c.echo_answered}};
}

Json port_json(const port::PortCounters& c) {
  return {{"received_frames", c.received_frames},
          {"sent_frames", c.sent_frames},
          {"send_refused", c.send_refused},
          {"pool_exhausted", c.pool_exhausted},
          {"receive_no_buffer", c.receive_no_buffer},
          {"receive_overflow", c.receive_overflow},
          {"invalid_descriptors", c.invalid_descriptors}};
}

Json counters_json(const StackHost& host, const port::PacketPort& port) {
  return {{"tcp", tcp_json(host.stack().counters())},
          {"interface", interface_json(host.interface().counters())},
          {"port", port_json(port.counters())},
          {"turns", host.turns()},
          {"sleeps", host.sleeps()},
          {"resident_kb", resident_kb()},
          {"processor_s", std::chrono::duration<double>(thread_processor_time()).count()}};
}

struct Prepared {
  net::InterfaceConfig config;
  tcp::StackOptions options;
};

Result<Prepared> prepare(Words& words) {
  if (auto finished = finish_load_words(words.load); !finished) return finished.error();
  const auto prefix = wire::Prefix::parse(words.address);
  if (!prefix) return prefix.error();
  words.load.options.local = prefix->address;
  Prepared prepared;
  prepared.config.addresses = {*prefix};
  prepared.config.accept_partial_checksums = words.partial_checksums;
  if (!words.gateway.empty()) {
    const auto gateway = wire::IpAddress::parse(words.gateway);
    if (!gateway) return gateway.error();
    (gateway->is_v4() ? prepared.config.gateway_v4 : prepared.config.gateway_v6) = *gateway;
  }
  tcp::StackOptions& options = prepared.options;
  const LoadOptions& load = words.load.options;
  options.connections_max = std::max(words.connections_max, load.connections + load.idle + 1024);
  options.half_open_max = words.half_open_max;
  options.receive_buffer_bytes = options.send_buffer_bytes = words.buffer_kb * 1024;
  options.buffer_pool_bytes = words.pool_mb * 1024 * 1024;
  options.time_wait = Duration{static_cast<Duration::rep>(words.time_wait_s * 1e9)};
  options.ephemeral_first = 10000;  // as many as run.py gives the kernel
  options.ephemeral_last = 65535;
  return prepared;
}

/// Lets the stack finish what has been closed, within bounds.
void drain(StackHost& host, Application& application) {
  const Instant end = monotonic_now() + std::chrono::seconds{3};
  for (Instant now = monotonic_now(); now < end; now = monotonic_now()) {
    host.turn(application, now);
    if (host.stack().counters().connections == 0) return;
  }
}

std::unique_ptr<Application> make_server(tcp::Stack& stack, const Words& words) {
  const LoadOptions& options = words.load.options;
  switch (options.role) {
    case Role::kEcho:
    case Role::kHttp:
      return std::make_unique<ReplyServer>(stack, options);
    case Role::kSink:
    case Role::kSource:
      return std::make_unique<StreamServer>(stack, options);
    case Role::kRelay:
      return std::make_unique<Relay>(stack, options, words.connections_max / 2);
    case Role::kRequests:
    case Role::kConnects:
    case Role::kBulk:
    case Role::kIdle:
      break;
  }
  return nullptr;
}

void run_until_ended(StackHost& host, Application& application, const port::PacketPort& port,
                     Polling polling) {
  application.start(monotonic_now());
  while (true) {
    host.run(application, stop, polling, wake_fd);
    if (!is_asked.exchange(false)) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wake_fd, &count, sizeof(count));
    stop.store(false);
    print_event("counters", counters_json(host, port));
  }
}

Result<void> run(Words& words) {
  Result<Prepared> prepared = prepare(words);
  if (!prepared) return prepared.error();
  if (auto pinned = pin_to_core(words.load.core); !pinned) return pinned;
  const UniqueFd wake{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  wake_fd = wake.get();
  struct sigaction action {};
  action.sa_handler = on_signal;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1})
    ::sigaction(signal, &action, nullptr);

  if (auto started = port::start_dpdk({.memory_mb = 192}); !started) return started;
  auto port = port::DpdkPort::open({.device = words.device, .frames = words.frames});
  if (!port) return std::move(port).error();
  StackHost host{**port, prepared->config, prepared->options, Random::from_system(),
                 monotonic_now()};
  const Polling polling = words.poll ? Polling::kAlways : Polling::kAdaptive;
  if (is_client(words.load.options.role)) {
    StackClient user{host.stack(), words.load.options};
    run_until_ended(host, user, **port, polling);
    print_report(words.load, user.client().report());
    user.client().close();
    drain(host, user);
  } else {
    const std::unique_ptr<Application> server = make_server(host.stack(), words);
    print_event("ready", {{"device", words.device}, {"resident_kb", resident_kb()}});
    run_until_ended(host, *server, **port, polling);
  }
  print_event("counters", counters_json(host, **port));
  return {};
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  weir::bench::Words words;
  CLI::App app{"stack_host: Weir's TCP stack as a host on one device"};
  weir::bench::add_words(app, words);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (auto result = weir::bench::run(words); !result) {
    fmt::print(stderr, "stack_host: {}\n", result.error().text());
    return 1;
  }
  return 0;
}
