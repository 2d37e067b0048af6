#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>

#include "tools/weir/commands.h"
#include "tools/weir/completion.h"
#include "tools/weir/external.h"

namespace weir::cli {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr const char* kDecapProgram = "weir-decap";

constexpr std::string_view kFooter = R"(
Examples:
  weir load eth0                                   put the balancer on a device
  weir vip add 203.0.113.53:53/udp --mode ipip     make a service, then give it backends
  weir backend add 203.0.113.53:53/udp 10.0.2.11 --weight 100
  weir backend set 203.0.113.53:53/udp 10.0.2.11 --drain
  weir stats                                       what happened to every packet
  weir check -f weir.yaml && weir apply -f weir.yaml

A VIP is written ADDRESS:PORT/PROTOCOL, IPv6 in brackets: [2001:db8::25]:25/tcp.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.)";

/// What the parser fills in; the verb that was given then runs with it.
struct Arguments {
  std::string l4_socket{control::kL4SocketDefault};
  std::string l7_socket{control::kL7SocketDefault};
  std::string output = "table";
  std::string vip;
  std::string backend;
  std::string shell;
  LoadOptions load;
  VipOptions vip_options;
  BackendOptions backend_options;
  CheckOptions check;
  ApplyOptions apply;
  std::string only;
  std::function<Outcome(const Daemons&)> run;  ///< set by the verb that was given
};

/// Text for a failed validation, as the parser wants it: empty when the value is fine.
template <typename T>
std::string complaint(const Result<T>& result) {
  return result ? std::string{} : result.error().text();
}

const CLI::Validator& is_vip() {
  static const CLI::Validator validator{
      [](const std::string& text) { return complaint(control::parse_vip_key(text)); },
      "ADDR:PORT/tcp|udp"};
  return validator;
}

/// "10.0.2.11", "10.0.2.11:53", "2001:db8::1", "[2001:db8::1]:53".
struct BackendAddress {
  wire::IpAddress address;
  std::optional<wire::Port> port;
};

Result<BackendAddress> parse_backend(const std::string& text) {
  if (const Result<wire::IpAddress> address = wire::IpAddress::parse(text))
    return BackendAddress{*address, std::nullopt};
  const Result<wire::Endpoint> endpoint = wire::Endpoint::parse(text);
  if (endpoint) return BackendAddress{endpoint->address, endpoint->port};
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is not ADDRESS or ADDRESS:PORT", text),
               "write 10.0.2.11 or 2001:db8::11"};
}

const CLI::Validator& is_backend() {
  static const CLI::Validator validator{
      [](const std::string& text) { return complaint(parse_backend(text)); }, "ADDR[:PORT]"};
  return validator;
}

/// The validators have accepted both texts.
control::VipKey vip_of(const Arguments& arguments) {
  return *control::parse_vip_key(arguments.vip);
}

BackendOptions backend_of(const Arguments& arguments) {
  BackendOptions options = arguments.backend_options;
  const Result<BackendAddress> backend = parse_backend(arguments.backend);
  options.vip = vip_of(arguments);
  options.address = backend->address;
  options.port = backend->port;
  return options;
}

CLI::App* verb(CLI::App& parent, const std::string& name, const std::string& description,
               Arguments& arguments, std::function<Outcome(const Daemons&)> run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->callback([&arguments, run = std::move(run)] { arguments.run = run; });
  return command;
}

CLI::App* reading_verb(CLI::App& parent, const std::string& name, const std::string& description,
                       Arguments& arguments, std::function<Outcome(const Daemons&)> run) {
  CLI::App* command = verb(parent, name, description, arguments, std::move(run));
  command->add_option("-o,--output", arguments.output, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str()
      ->group("Output");
  return command;
}

void add_vip_argument(CLI::App* command, Arguments& arguments) {
  command->add_option("VIP", arguments.vip, "the service, such as 203.0.113.53:53/udp")
      ->required()
      ->check(is_vip());
}

void add_device_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App* load_verb =
      reading_verb(app, "load", "Load the balancer on network devices", arguments,
                   [&](const Daemons& daemons) { return load(daemons, arguments.load); });
  load_verb->add_option("DEV", arguments.load.devices, "network devices, such as eth0")->required();
  load_verb
      ->add_option("--mode", arguments.load.mode,
                   "native runs in the driver, generic anywhere but slower; auto tries native and "
                   "says what it got, and why")
      ->check(CLI::IsMember({"native", "generic", "auto"}))
      ->capture_default_str()
      ->group("Attachment");
  load_verb
      ->add_flag("--chain", arguments.load.chain,
                 "live beside other XDP programs on the device, through libxdp's dispatcher")
      ->group("Attachment");
  verb(app, "unload", "Take the balancer off every device; traffic for VIPs stops", arguments,
       [](const Daemons& daemons) { return unload(daemons); });
}

void add_vip_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App& group = *app.add_subcommand("vip", "Services: add, remove and look at VIPs");
  group.require_subcommand(1);
  CLI::App* add = verb(group, "add", "Add a VIP; it drops its packets until it has backends",
                       arguments, [&](const Daemons& daemons) {
                         VipOptions options = arguments.vip_options;
                         options.key = vip_of(arguments);
                         return vip_add(daemons, options);
                       });
  add_vip_argument(add, arguments);
  add->add_option("--mode", arguments.vip_options.mode,
                  "ipip encapsulates, for backends anywhere; l2 rewrites the MAC address, for "
                  "backends on the same segment that own the VIP")
      ->check(CLI::IsMember({"ipip", "l2"}))
      ->capture_default_str()
      ->group("Forwarding");
  add->add_option("--table-size", arguments.vip_options.table_size,
                  "slots of the Maglev table, a prime; 100 times the backends or more")
      ->check([](const std::string& text) {
        const bool is_number = !text.empty() && text.size() < 8 &&
                               text.find_first_not_of("0123456789") == std::string::npos;
        const std::uint32_t size = is_number ? static_cast<std::uint32_t>(std::stoul(text)) : 0;
        return control::is_table_size(size)
                   ? std::string{}
                   : fmt::format("'{}' is no prime from {} to {}; the nearest is {}", text,
                                 control::kTableSizeMin, control::kTableSizeMax,
                                 control::nearest_table_size(size));
      })
      ->capture_default_str()
      ->group("Forwarding");
  add->add_option("--name", arguments.vip_options.name, "a name for people");
  add_vip_argument(
      verb(group, "del", "Remove a VIP and its flows", arguments,
           [&](const Daemons& daemons) { return vip_del(daemons, vip_of(arguments)); }),
      arguments);
  reading_verb(group, "list", "List the VIPs", arguments,
               [](const Daemons& daemons) { return vip_list(daemons); });
  add_vip_argument(
      reading_verb(group, "show", "Show one VIP with its backends and their next hops", arguments,
                   [&](const Daemons& daemons) { return vip_show(daemons, vip_of(arguments)); }),
      arguments);
}

void add_backend_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App& group = *app.add_subcommand("backend", "Backends of a VIP: add, change, drain, remove");
  group.require_subcommand(1);
  BackendOptions& options = arguments.backend_options;
  const auto add_address = [&](CLI::App* command) {
    add_vip_argument(command, arguments);
    command->add_option("BACKEND", arguments.backend, "the backend's own address")
        ->required()
        ->check(is_backend());
    return command;
  };
  const auto add_values = [&](CLI::App* command) {
    command->add_option("--weight", options.weight, "share of new flows beside the other backends'")
        ->check(CLI::Range(std::uint32_t{0}, control::kWeightMax))
        ->group("Share of traffic");
    command->add_option("--name", options.name, "a name for people");
    CLI::Option* drain = command->add_flag_callback(
        "--drain", [&] { options.state = "draining"; }, "keep its flows, give it no new ones");
    CLI::Option* activate = command->add_flag_callback(
        "--activate", [&] { options.state = "active"; }, "give it new flows again");
    drain->group("Share of traffic")->excludes(activate);
    activate->group("Share of traffic");
    return command;
  };
  add_values(
      add_address(verb(group, "add", "Add a backend", arguments, [&](const Daemons& daemons) {
        return backend_add(daemons, backend_of(arguments));
      })));
  add_values(add_address(
      verb(group, "set", "Change a backend's weight, state or name", arguments,
           [&](const Daemons& daemons) { return backend_set(daemons, backend_of(arguments)); })));
  add_address(
      verb(group, "del", "Remove a backend; its flows move to others", arguments,
           [&](const Daemons& daemons) { return backend_del(daemons, backend_of(arguments)); }));
  add_vip_argument(reading_verb(group, "list", "List the backends of a VIP", arguments,
                                [&](const Daemons& daemons) {
                                  return backend_list(daemons, vip_of(arguments));
                                }),
                   arguments);
}

void add_looking_verbs(CLI::App& app, Arguments& arguments) {
  reading_verb(app, "status", "Show both daemons, devices and workers", arguments,
               [](const Daemons& daemons) { return status(daemons); });
  CLI::App* stats_verb = reading_verb(
      app, "stats", "Show counters: how every packet ended, and what each backend got", arguments,
      [&](const Daemons& daemons) {
        return stats(daemons,
                     arguments.vip.empty() ? std::nullopt : std::optional{vip_of(arguments)});
      });
  stats_verb->add_option("VIP", arguments.vip, "only this service")->check(is_vip());
}

/// What another program does, since it needs libraries that this one does without. Help and
/// completion know of it; its words are never parsed here, see decap_words().
void add_external_verbs(CLI::App& app) {
  app.add_subcommand("decap", "On a backend: take off what the balancers put on (weir-decap)");
}

/// What follows the verb `decap`; nothing if that is not the verb. Where the daemons listen does
/// not matter to it, so these options are passed over.
std::optional<std::vector<std::string>> decap_words(int argc, char** argv) {
  const std::vector<std::string> words{argv + 1, argv + argc};
  std::size_t at = 0;
  while (at < words.size() &&
         (words[at].starts_with("--l4-socket") || words[at].starts_with("--l7-socket")))
    at += words[at].find('=') == std::string::npos ? 2 : 1;
  if (at >= words.size() || words[at] != "decap") return std::nullopt;
  return std::vector<std::string>{words.begin() + static_cast<std::ptrdiff_t>(at) + 1, words.end()};
}

void add_config_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App* check_verb = verb(
      app, "check", "Check a configuration file against its rules and this host; needs no daemon",
      arguments, [&](const Daemons&) { return check(arguments.check); });
  check_verb->add_option("-f,--file", arguments.check.file, "the file; - for standard input")
      ->required();
  check_verb->add_flag("!--no-host", arguments.check.against_host,
                       "do not compare with this host's devices and addresses");
  CLI::App* apply_verb = verb(app, "apply", "Apply a configuration file: all of it, or nothing",
                              arguments, [&](const Daemons& daemons) {
                                if (arguments.only == "l4") arguments.apply.to = ApplyTo::kL4;
                                if (arguments.only == "l7") arguments.apply.to = ApplyTo::kL7;
                                return apply(daemons, arguments.apply);
                              });
  apply_verb->add_option("-f,--file", arguments.apply.file, "the file; - for standard input")
      ->required();
  apply_verb
      ->add_option("--only", arguments.only, "apply to one daemon, where the other runs elsewhere")
      ->check(CLI::IsMember({"l4", "l7"}));
  apply_verb->add_option("-o,--output", arguments.output, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str()
      ->group("Output");
  CLI::App* completion =
      verb(app, "completion", "Print a completion script: source <(weir completion bash)",
           arguments, [&](const Daemons&) -> Outcome {
             std::string script = completion_script(app, arguments.shell);
             if (script.ends_with('\n')) script.pop_back();
             return Report{{}, {std::move(script)}};
           });
  completion->add_option("SHELL", arguments.shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

void set_up(CLI::App& app, Arguments& arguments) {
  app.name("weir");
  app.set_version_flag("--version", "weir " WEIR_VERSION, "print the version and exit");
  app.set_help_flag("-h,--help", "print this help and exit");
  app.require_subcommand(1);
  app.fallthrough();

  app.add_option("--l4-socket", arguments.l4_socket, "where weir-l4 listens")
      ->envname("WEIR_L4_SOCKET")
      ->capture_default_str()
      ->group("Daemons");
  app.add_option("--l7-socket", arguments.l7_socket, "where weir-l7 listens")
      ->envname("WEIR_L7_SOCKET")
      ->capture_default_str()
      ->group("Daemons");
  add_device_verbs(app, arguments);
  add_vip_verbs(app, arguments);
  add_backend_verbs(app, arguments);
  add_looking_verbs(app, arguments);
  add_config_verbs(app, arguments);
  add_external_verbs(app);
  app.footer(std::string{kFooter});  // last: verbs made after it would repeat it
}

/// The command that the person was writing, for "see … --help".
std::string help_command(const CLI::App& app) {
  std::string command = "weir";
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {  // those that were given; two levels at most
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  return command + " --help";
}

void print(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

int finish(const Outcome& outcome, OutputFormat format) {
  if (const auto* report = std::get_if<Report>(&outcome)) {
    print(stdout, render(*report, format));
    return std::fflush(stdout) == 0 ? kDone : kFailed;
  }
  const Failure& failure = std::get<Failure>(outcome);
  if (!failure.partial.sections.empty()) print(stdout, render(failure.partial, format));
  // One thing wrong is one line; several end in a line that sums them up.
  if (failure.diagnostics.size() == 1 && failure.message.empty()) {
    print(stderr, fmt::format("weir: {}\n", failure.diagnostics.front()));
    return kFailed;
  }
  for (const std::string& line : failure.diagnostics)
    print(stderr, line + "\n");
  print(stderr, fmt::format("weir: {}\n", failure.message));
  return kFailed;
}

int run(int argc, char** argv) {
  // Before anything is parsed: '--help' behind it is not for us either.
  if (const auto words = decap_words(argc, argv)) {
    print(stderr, fmt::format("weir: {}\n", become(kDecapProgram, *words).text()));
    return kFailed;
  }
  Arguments arguments;
  CLI::App app{"Weir: an L4 load balancer in XDP and an L7 gateway, from one command."};
  set_up(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    print(stderr, fmt::format("weir: {}; see '{}'\n", error.what(), help_command(app)));
    return kUsage;
  }
  const Daemons daemons{control::AdminClient{"weir-l4", arguments.l4_socket},
                        control::AdminClient{"weir-l7", arguments.l7_socket}};
  return finish(arguments.run(daemons),
                arguments.output == "json" ? OutputFormat::kJson : OutputFormat::kTable);
}

}  // namespace
}  // namespace weir::cli

int main(int argc, char** argv) {
  // The libraries below throw when memory is out and on mistakes of ours; say so, do not abort.
  try {
    return weir::cli::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "weir: internal error: %s; please report it\n", error.what());
    return weir::cli::kFailed;
  }
}
