// kernel_peer: the roles of load.h (all but relay) on kernel sockets, one thread with epoll: whom
// stack_host stands beside.

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/stack_lab/kernel_client.h"
#include "bench/stack_lab/kernel_server.h"
#include "bench/stack_lab/load_words.h"

namespace weir::bench {
namespace {

std::atomic<bool> stop{false};

void on_signal(int) { stop.store(true); }

struct Words {
  LoadWords load;
  std::string address = "0.0.0.0";
  std::string congestion;
  bool poll = false;
};

/// Asked before the load, which only sees that nothing connects.
Result<void> check_congestion(const std::string& name) {
  if (name.empty()) return {};
  const UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(),
                   static_cast<socklen_t>(name.size())) != 0)
    return Error::from_errno(fmt::format("using the congestion control '{}'", name))
        .with_remedy("see net.ipv4.tcp_available_congestion_control");
  return {};
}

Result<void> allow_descriptors(const LoadOptions& options) {
  // Servers do not know how many will come.
  const rlim_t wanted = is_client(options.role) ? options.connections + options.idle + 64 : 1 << 20;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return {};
  const rlimit raised{wanted, std::max(wanted, limit.rlim_max)};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) return {};
  const rlimit hard{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &hard) != 0) return Error::from_errno("raising the file limit");
  if (!is_client(options.role)) return {};
  return Error{ErrorCode::kUnavailable,
               fmt::format("{} connections need {} open files, this process may have {}",
                           options.connections + options.idle, wanted, limit.rlim_max),
               "raise the hard limit (ulimit -Hn), or ask for fewer connections"};
}

Result<void> run_client(KernelLoop& loop, const Words& words) {
  if (auto known = check_congestion(words.congestion); !known) return known;
  KernelClient user{loop, words.load.options, words.congestion};
  loop.run(user, stop, words.poll);
  print_report(words.load, user.client().report());
  user.client().close();
  return {};
}

Result<void> run_server(KernelLoop& loop, const Words& words) {
  KernelServer server{loop, words.load.options};
  if (auto started = server.start(); !started) return started;
  print_event("ready", {{"resident_kb", resident_kb()}});
  loop.run(server, stop, words.poll);
  print_event("counters", {{"accepted", server.accepted()},
                           {"requests", server.requests()},
                           {"bytes", server.bytes()},
                           {"resident_kb", resident_kb()}});
  return {};
}

Result<void> run(Words& words) {
  if (auto finished = finish_load_words(words.load); !finished) return finished;
  LoadOptions& options = words.load.options;
  const auto address = wire::IpAddress::parse(words.address);
  if (!address) return address.error();
  options.local = *address;
  if (options.role == Role::kRelay)
    return Error{ErrorCode::kInvalid, "kernel_peer has no role relay", "stack_host has"};
  if (auto pinned = pin_to_core(words.load.core); !pinned) return pinned;
  if (auto allowed = allow_descriptors(options); !allowed) return allowed;
  struct sigaction action {};
  action.sa_handler = on_signal;
  for (const int signal : {SIGTERM, SIGINT})
    ::sigaction(signal, &action, nullptr);
  auto loop = KernelLoop::create();
  if (!loop) return std::move(loop).error();
  return is_client(options.role) ? run_client(*loop, words) : run_server(*loop, words);
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  weir::bench::Words words;
  CLI::App app{"kernel_peer: the kernel's TCP under the load that stack_host is measured with"};
  weir::bench::add_load_words(app, words.load);
  app.add_option("--address", words.address, "servers: where to listen")->capture_default_str();
  app.add_option("--congestion", words.congestion, "clients: the kernel's name of the control");
  app.add_flag("--poll", words.poll, "never sleeps in epoll_wait");
  app.add_flag("--http", words.load.options.http,
               "rr: requests of HTTP, all replies to which are of one length");
  app.add_flag("--websocket", words.load.options.websocket,
               "rr and echo: a handshake first, then one frame each way by turns");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (auto result = weir::bench::run(words); !result) {
    fmt::print(stderr, "kernel_peer: {}\n", result.error().text());
    return 1;
  }
  return 0;
}
