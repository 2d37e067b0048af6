#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "l4/control/units.h"
#include "tools/weir/answers.h"
#include "tools/weir/verbs.h"

/// `weir backend drain`, `maintenance` and `activate`: an operator's word about one backend, of the
/// file's VIPs too.
namespace weir::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kAskEvery{500};
constexpr std::uint32_t kTimeoutDefaultMs = 300'000;
constexpr std::uint32_t kTimeoutMinMs = 1'000;
constexpr std::uint32_t kTimeoutMaxMs = 86'400'000;

std::string query_of(const BackendStateOptions& options) {
  return "/v1/backends" + cli::query_of(options.vip) +
         "&address=" + control::percent_encoded(options.address.text());
}

std::string backend_text(const BackendStateOptions& options) {
  return fmt::format("backend {} of vip {}", options.address.text(),
                     control::vip_text(options.vip));
}

std::string flows_text(std::uint64_t flows, std::uint64_t idle) {
  std::string text = fmt::format("{} flow{} left", flows, flows == 1 ? "" : "s");
  if (idle > 0) text += fmt::format(", {} of them silent for more than 2 minutes", idle);
  return text;
}

/// A line whenever there is something new to say.
class Progress {
 public:
  void show(const std::string& text) {
    if (text == shown_) return;
    std::fprintf(stderr, "%s\n", text.c_str());
    shown_ = text;
  }

 private:
  std::string shown_;
};

/// Until the backend has no flows, or the deadline passes.
Outcome wait_for_flows(const Daemons& daemons, const BackendStateOptions& options) {
  const steady_clock::time_point deadline = steady_clock::now() + milliseconds{options.timeout_ms};
  Progress progress;
  for (;;) {  // ends with the deadline
    Answer answer = ask(daemons.l4, "GET", query_of(options));
    if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
    const Json& json = std::get<Json>(answer);
    const Json flows = at(json, "flows");
    if (!flows.is_number_unsigned())
      return Failure{{},
                     fmt::format("{} drains, but flows are not remembered (node.l4.flows is 0), so "
                                 "that nobody knows when they are over",
                                 backend_text(options))};
    if (text_at(json, "state") == "active")
      return Failure{{}, fmt::format("somebody has activated {} meanwhile", backend_text(options))};
    const auto left = flows.get<std::uint64_t>();
    if (left == 0) return note(fmt::format("{} has no flows left", backend_text(options)));
    const Json idle = at(json, "flows_idle");
    const std::string text =
        flows_text(left, idle.is_number_unsigned() ? idle.get<std::uint64_t>() : 0);
    progress.show(fmt::format("{}: {}", backend_text(options), text));
    if (steady_clock::now() + kAskEvery > deadline) {
      Failure late{{},
                   fmt::format("{} after {}; {} goes on draining", text,
                               control::in_units(options.timeout_ms, control::time_units()),
                               backend_text(options))};
      late.exit_code = kDeadlinePassed;
      return late;
    }
    std::this_thread::sleep_for(kAskEvery);
  }
}

}  // namespace

Outcome backend_state(const Daemons& daemons, const BackendStateOptions& options) {
  const Json body{{"vip", control::vip_text(options.vip)},
                  {"address", options.address.text()},
                  {"state", options.state}};
  Answer answer = ask(daemons.l4, "POST", "/v1/backends/state", body);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  if (options.wait) return wait_for_flows(daemons, options);
  const Json& json = std::get<Json>(answer);
  std::string text = fmt::format("{} is {}; revision {}", backend_text(options),
                                 text_at(json, "state"), at(json, "revision").dump());
  const Json flows = at(json, "flows");
  const Json idle = at(json, "flows_idle");
  if (options.state != "active" && flows.is_number_unsigned() && idle.is_number_unsigned())
    text += "; " + flows_text(flows.get<std::uint64_t>(), idle.get<std::uint64_t>());
  return note(std::move(text));
}

void add_state_verbs(CLI::App& group, Arguments& arguments) {
  BackendStateOptions& options = arguments.state_options;
  const auto add = [&](const char* name, const char* description, const char* state) {
    CLI::App* command =
        verb(group, name, description, arguments, [&arguments, state](const Daemons& daemons) {
          BackendStateOptions wanted = arguments.state_options;
          const BackendOptions backend = backend_of(arguments);
          wanted.vip = backend.vip;
          wanted.address = backend.address;
          wanted.state = state;
          return backend_state(daemons, wanted);
        });
    add_vip_argument(command, arguments);
    add_backend_argument(command, arguments);
    return command;
  };
  const auto add_wait = [&](CLI::App* command) {
    CLI::Option* wait = command->add_flag("--wait", options.wait,
                                          "return when it has no flows left; exit status 3 if it "
                                          "still has when the time is over");
    command
        ->add_option_function<std::string>(
            "--timeout",
            [&options](const std::string& text) { options.timeout_ms = time_ms_of(text); },
            "how long to wait (default 5m)")
        ->check(is_time(kTimeoutMinMs, kTimeoutMaxMs, "1s to 24h, such as 5m"))
        ->needs(wait);
  };
  options.timeout_ms = kTimeoutDefaultMs;
  add_wait(add("drain", "Give a backend no new flows; those that it has finish", "draining"));
  add_wait(add("maintenance",
               "Drain a backend, and after the VIP's grace move the flows that it still has to "
               "others; probes go on",
               "maintenance"));
  add("activate", "End drain or maintenance: the backend takes new flows again", "active");
}

}  // namespace weir::cli
