#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "l4/control/units.h"
#include "tools/man/page.h"
#include "tools/weir/commands.h"
#include "tools/weir/completion.h"
#include "tools/weir/external.h"
#include "tools/weir/verbs.h"

namespace weir::cli {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

constexpr std::string_view kComplete = "__complete";

/// Verbs that are programs of their own, since they need libraries that this one does without.
struct External {
  const char* verb;
  const char* program;
  const char* description;
};
constexpr std::array<External, 2> kExternals{
    {{"decap", "weir-decap", "On a backend: take off what the balancers put on (weir-decap)"},
     {"bench", "weir-bench", "Measure Weir here, beside what it replaces (weir-bench)"}}};

constexpr std::string_view kFooter = R"(
Examples:
  weir load eth0                                   put the balancer on a device
  weir vip add 203.0.113.53:53/udp --mode ipip     make a service, then give it backends
  weir backend add 203.0.113.53:53/udp 10.0.2.11 --weight 100
  weir backend drain 203.0.113.53:53/udp 10.0.2.11 --wait
  weir vip add 198.51.100.0/28:any/tcp --mode gue --affinity 3h --deny 192.0.2.0/24
  weir stats                                       what happened to every packet
  weir top                                         who has the traffic, live
  weir flows 192.0.2.7:4711 203.0.113.80:80/tcp    which backend has this connection
  weir monitor --drops                             the packets that are dropped, as they come
  weir trace --tcp 192.0.2.7 203.0.113.80:80       what would become of this packet, and why
  weir explain GET https://shop.example/cart       which route and service a request gets, and why
  weir check -f weir.yaml && weir diff weir.yaml; weir apply -f weir.yaml
  weir history && weir rollback 4                  what was, and back to it

A VIP is written ADDRESS:PORT/PROTOCOL, IPv6 in brackets: [2001:db8::25]:25/tcp. A prefix
may stand for the address; a range (5000-5999) or the word any for the port.
Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 done in part (apply --partial) or a
wait that was in vain; of diff: 0 no difference, 1 some, 2 trouble.)";

void add_output_option(CLI::App* command, Arguments& arguments) {
  command->add_option("-o,--output", arguments.output, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str()
      ->group("Output");
  command
      ->add_flag_callback(
          "--json", [&arguments] { arguments.output = "json"; }, "the same as --output json")
      ->group("Output");
}

}  // namespace

OutputFormat format_of(const Arguments& arguments) {
  return arguments.output == "json" ? OutputFormat::kJson : OutputFormat::kTable;
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
  add_output_option(command, arguments);
  return command;
}

namespace {

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

/// Help and completion know of them; their words are never parsed here, see external_of().
void add_external_verbs(CLI::App& app) {
  for (const External& external : kExternals)
    app.add_subcommand(external.verb, external.description);
}

struct ExternalCall {
  const External* external;
  std::vector<std::string> words;
};

/// Where the command stands: behind options with a value, which say where the daemons are.
std::size_t place_of_command(const CLI::App& app, const std::vector<std::string>& words) {
  std::size_t at = 0;
  while (at < words.size()) {
    const std::size_t equals = words[at].find('=');
    const CLI::Option* option = app.get_option_no_throw(words[at].substr(0, equals));
    if (option == nullptr || option->get_items_expected_max() == 0) break;
    at += equals == std::string::npos ? 2 : 1;
  }
  return at;
}

/// The verb of another program and what follows it; nothing if it is one of this one's. Where the
/// daemons listen does not matter to those.
std::optional<ExternalCall> external_of(const CLI::App& app,
                                        const std::vector<std::string>& words) {
  const std::size_t at = place_of_command(app, words);
  if (at >= words.size()) return std::nullopt;
  const auto* external = std::ranges::find(kExternals, words[at], &External::verb);
  if (external == kExternals.end()) return std::nullopt;
  return ExternalCall{external, {words.begin() + static_cast<std::ptrdiff_t>(at) + 1, words.end()}};
}

void add_completion_verb(CLI::App& app, Arguments& arguments) {
  CLI::App* completion =
      verb(app, "completion", "Print a completion script: source <(weir completion bash)",
           arguments, [&](const Daemons&) -> Outcome {
             std::string script = completion_script(arguments.shell);
             if (script.ends_with('\n')) script.pop_back();
             return Report{{}, {std::move(script)}};
           });
  completion->add_option("SHELL", arguments.shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

/// Daemons on other machines. A certificate says who asks, so there is no option without one.
void add_remote_options(CLI::App& app, Arguments& arguments) {
  constexpr const char* kGroup = "Daemons elsewhere, over TLS";
  const auto add = [&](const char* name, std::string& value, const char* description,
                       const char* variable) {
    return app.add_option(name, value, description)->envname(variable)->group(kGroup);
  };
  add("--connect", arguments.connect_l4, "https://HOST:PORT of a weir-l4 instead of its socket",
      "WEIR_CONNECT");
  add("--connect-l7", arguments.connect_l7, "https://HOST:PORT of a weir-l7 instead of its socket",
      "WEIR_CONNECT_L7");
  add("--tls-cert", arguments.tls_cert, "your certificate, PEM", "WEIR_TLS_CERT");
  add("--tls-key", arguments.tls_key, "its key, PEM", "WEIR_TLS_KEY");
  add("--tls-ca", arguments.tls_ca, "the authority of the daemons' certificates, PEM",
      "WEIR_TLS_CA");
}

control::AdminClient client_of(const Arguments& arguments, const std::string& daemon,
                               const std::string& url, const std::string& socket) {
  if (!url.empty()) {
    return {daemon,
            control::AdminRemote{url, arguments.tls_cert, arguments.tls_key, arguments.tls_ca}};
  }
  // Who asks for one daemon elsewhere does not mean the other one here.
  const bool is_elsewhere = !arguments.connect_l4.empty() || !arguments.connect_l7.empty();
  return {daemon, is_elsewhere ? std::string{} : socket};
}

/// A number is what it looks like: to the parser 010 would be eight.
void take_decimal_numbers(CLI::App& app) {
  const auto problem_of = [](std::string& text) {
    return control::decimal(text) ? std::string{}
                                  : fmt::format(
                                        "'{}' is no whole number, written in decimal digits "
                                        "without leading zeros",
                                        text);
  };
  for (CLI::Option* option : app.get_options()) {
    if (option->get_type_name().find("UINT") != std::string::npos)
      option->check(CLI::Validator{problem_of, ""});
  }
  for (CLI::App* command : app.get_subcommands({}))  // two levels
    take_decimal_numbers(*command);
}

void set_up(CLI::App& app, Arguments& arguments) {
  app.name("weir");
  app.set_version_flag("--version", "weir " WEIR_VERSION, "print the version and exit");
  app.set_help_flag("-h,--help", "print this help and exit");
  man::add_man_option(app, "weir");
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
  add_remote_options(app, arguments);
  add_device_verbs(app, arguments);
  add_vip_verbs(app, arguments);
  add_backend_verbs(app, arguments);
  add_looking_verbs(app, arguments);
  add_packet_verbs(app, arguments);
  add_config_verbs(app, arguments);
  add_completion_verb(app, arguments);
  add_doctor_verb(app, arguments);
  add_external_verbs(app);
  take_decimal_numbers(app);
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

/// The word in the command's place, if it is neither a command nor an option; else empty.
std::string unknown_command(const CLI::App& app, const std::vector<std::string>& words) {
  const std::size_t at = place_of_command(app, words);
  if (!app.get_subcommands().empty() || at >= words.size() || words[at].starts_with('-')) return {};
  return words[at];
}

/// `weir __complete WORD… CURRENT`, which the completion scripts ask for each word.
int complete(const CLI::App& app, const std::vector<std::string>& words) {
  const auto socket = [&](const char* option, const char* variable, std::string_view otherwise) {
    if (const auto given = std::ranges::find(words, option); words.end() - given > 1)
      return given[1];
    const char* set = std::getenv(variable);
    return std::string{set == nullptr ? otherwise : set};
  };
  const Surroundings surroundings =
      surroundings_of(socket("--l4-socket", "WEIR_L4_SOCKET", control::kL4SocketDefault),
                      socket("--l7-socket", "WEIR_L7_SOCKET", control::kL7SocketDefault));
  for (const Candidate& candidate : candidates_for(app, words, surroundings))
    fmt::print("{}{}{}\n", candidate.word, candidate.meaning.empty() ? "" : "\t",
               candidate.meaning);
  return kDone;
}

void print(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

int finish(const Outcome& outcome, OutputFormat format) {
  if (const auto* report = std::get_if<Report>(&outcome)) {
    print(stdout, render(*report, format));
    return std::fflush(stdout) == 0 ? report->exit_status : kFailed;
  }
  const Failure& failure = std::get<Failure>(outcome);
  if (!failure.partial.sections.empty()) print(stdout, render(failure.partial, format));
  // One thing wrong is one line; several end in a line that sums them up.
  if (failure.diagnostics.size() == 1 && failure.message.empty()) {
    print(stderr, fmt::format("weir: {}\n", failure.diagnostics.front()));
    return failure.exit_code;
  }
  for (const std::string& line : failure.diagnostics)
    print(stderr, line + "\n");
  print(stderr, fmt::format("weir: {}\n", failure.message));
  return failure.exit_code;
}

int run(int argc, char** argv) {
  const std::vector<std::string> words{argv + 1, argv + argc};
  Arguments arguments;
  CLI::App app{"Weir: an L4 load balancer in XDP and an L7 gateway, from one command."};
  set_up(app, arguments);
  // Before anything is parsed: '--help' behind it is not for us either.
  if (const auto call = external_of(app, words)) {
    print(stderr, fmt::format("weir: {}\n", become(call->external->program, call->words).text()));
    return kFailed;
  }
  if (argc > 1 && argv[1] == kComplete) return complete(app, {argv + 2, argv + argc});
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    // Of a command that there is not, CLI11 says only that one is wanted.
    const std::string unknown = unknown_command(app, words);
    print(stderr, fmt::format("weir: {}; see '{}'\n",
                              unknown.empty() ? error.what()
                                              : fmt::format("there is no command '{}'", unknown),
                              help_command(app)));
    return kUsage;
  }
  const Daemons daemons{client_of(arguments, "weir-l4", arguments.connect_l4, arguments.l4_socket),
                        client_of(arguments, "weir-l7", arguments.connect_l7, arguments.l7_socket)};
  const Outcome outcome = arguments.run(daemons);
  return finish(outcome, format_of(arguments));  // which the verb may have changed
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
