#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tools/weir/commands.h"

/// The command line's grammar: verbs, their arguments and what they are checked against.
namespace weir::cli {

/// What the parser fills in; the verb that was given then runs with it.
struct Arguments {
  std::string l4_socket{control::kL4SocketDefault};
  std::string l7_socket{control::kL7SocketDefault};
  std::string connect_l4;  ///< "https://HOST:PORT"; empty is the socket
  std::string connect_l7;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_ca;
  std::string output = "table";
  std::string vip;
  std::string backend;
  std::string shell;
  LoadOptions load;
  VipOptions vip_options;
  BackendOptions backend_options;
  BackendStateOptions state_options;
  StatsOptions stats;
  FlowsOptions flows;
  MonitorOptions monitor;
  TraceOptions trace;
  CheckOptions check;
  ApplyOptions apply;
  DoctorOptions doctor;
  DiffOptions diff;
  RollbackOptions rollback;
  std::string only;
  std::function<Outcome(const Daemons&)> run;  ///< set by the verb that was given
};

/// A command that runs `run` when it is given.
CLI::App* verb(CLI::App& parent, const std::string& name, const std::string& description,
               Arguments& arguments, std::function<Outcome(const Daemons&)> run);
/// The same with -o and --json.
CLI::App* reading_verb(CLI::App& parent, const std::string& name, const std::string& description,
                       Arguments& arguments, std::function<Outcome(const Daemons&)> run);

OutputFormat format_of(const Arguments& arguments);

/// Accepts what control::parse_vip_key() does.
const CLI::Validator& is_vip();
/// Accepts times with their unit between both, ends included; `range` says so, with an example.
CLI::Validator is_time(std::uint32_t least_ms, std::uint32_t most_ms, std::string_view range);
/// Of a text that is_time() has accepted.
std::uint32_t time_ms_of(const std::string& text);
/// The VIP that was given; is_vip() has accepted it.
control::VipKey vip_of(const Arguments& arguments);

void add_vip_argument(CLI::App* command, Arguments& arguments);
void add_backend_argument(CLI::App* command, Arguments& arguments);
/// The VIP and the backend that were given, with what else was said about it.
BackendOptions backend_of(const Arguments& arguments);

void add_vip_verbs(CLI::App& app, Arguments& arguments);
void add_backend_verbs(CLI::App& app, Arguments& arguments);
/// drain, maintenance, activate; into the group of add_backend_verbs().
void add_state_verbs(CLI::App& group, Arguments& arguments);
void add_looking_verbs(CLI::App& app, Arguments& arguments);
void add_packet_verbs(CLI::App& app, Arguments& arguments);
void add_doctor_verb(CLI::App& app, Arguments& arguments);
void add_config_verbs(CLI::App& app, Arguments& arguments);

}  // namespace weir::cli
