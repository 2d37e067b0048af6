// weir-decap: loads and looks after the decapsulation program of a backend. 'weir decap' starts it.

#include <linux/capability.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <nlohmann/json.hpp>

#include "l4/base/capabilities.h"
#include "l4/decap.h"
#include "tools/man/page.h"

namespace weir::l4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

constexpr std::string_view kFooter = R"(
Examples:
  weir decap load eth0 --source 10.0.0.1 --source 10.0.0.2 --vip 203.0.113.80 --vip 2001:db8:77::/64
  weir decap set eth0 --vip 203.0.113.80 --vip 203.0.113.81     other VIPs, all else as it is
  weir decap stats eth0                                         what happened to every packet
  weir decap unload eth0

Loading again replaces the lists without missing a packet.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.)";

/// What the parser fills in; the verb that was given then runs with it.
struct Arguments {
  std::string pin_directory = kDecapPinDirectoryDefault;
  std::string device;
  std::string output = "table";
  bool json = false;
  std::vector<std::string> sources;
  std::vector<std::string> vips;
  bool any_source = false;
  bool any_vip = false;
  std::optional<std::uint16_t> gue_port;
  std::optional<std::string> foreign;
  std::string mode = "auto";
  std::function<Result<void>()> run;  ///< set by the verb that was given

  [[nodiscard]] bool as_json() const { return json || output == "json"; }
  [[nodiscard]] std::optional<std::string> one_device() const {
    return device.empty() ? std::nullopt : std::optional{device};
  }
};

void print(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

template <typename T>
std::string complaint(const Result<T>& result) {
  return result ? std::string{} : result.error().text();
}

DecapMode mode_of(const std::string& text) {
  for (const DecapMode mode : {DecapMode::kNative, DecapMode::kGeneric, DecapMode::kTc}) {
    if (text == text_of(mode)) return mode;
  }
  return DecapMode::kAuto;  // the parser admits no other word
}

/// What was given, over what there is. The validators have accepted every text.
DecapSettings settings_over(DecapSettings settings, const Arguments& arguments) {
  if (!arguments.sources.empty() || arguments.any_source) {
    settings.sources.clear();
    settings.any_source = arguments.any_source;
    for (const std::string& text : arguments.sources)
      settings.sources.push_back(*wire::IpAddress::parse(text));
  }
  if (!arguments.vips.empty() || arguments.any_vip) {
    settings.vips.clear();
    settings.any_vip = arguments.any_vip;
    for (const std::string& text : arguments.vips)
      settings.vips.push_back(*wire::Prefix::parse(text));
  }
  if (arguments.gue_port) settings.gue_port = *arguments.gue_port;
  if (arguments.foreign)
    settings.foreign = *arguments.foreign == "drop" ? Foreign::kDrop : Foreign::kPass;
  return settings;
}

/// The rights that loading, attaching and reading maps take.
Result<void> check_rights() {
  std::string missing;
  if (!has_capability(CAP_BPF) && !has_capability(CAP_SYS_ADMIN)) missing += " CAP_BPF";
  if (!has_capability(CAP_NET_ADMIN)) missing += " CAP_NET_ADMIN";
  if (missing.empty()) return {};
  return Error{ErrorCode::kDenied, fmt::format("the rights are missing:{}", missing),
               "run it as root"};
}

template <typename T>
std::vector<std::string> texts_of(const std::vector<T>& values) {
  std::vector<std::string> texts;
  for (const T& value : values)
    texts.push_back(value.text());
  return texts;
}

std::string joined(bool any, const std::vector<std::string>& texts) {
  return any ? "any" : fmt::format("{}", fmt::join(texts, ", "));
}

Json json_of(const DecapStatus& status) {
  const DecapSettings& settings = status.settings;
  return {{"device", status.device},
          {"ifindex", status.ifindex},
          {"mode", text_of(status.mode)},
          {"hook", text_of(status.hook)},
          {"program", status.program_id},
          {"gue_port", settings.gue_port},
          {"foreign", text_of(settings.foreign)},
          {"any_source", settings.any_source},
          {"sources", texts_of(settings.sources)},
          {"any_vip", settings.any_vip},
          {"vips", texts_of(settings.vips)}};
}

std::string text_of_status(const DecapStatus& status) {
  const DecapSettings& settings = status.settings;
  return fmt::format(
      "{}: {} mode ({}, program {}), gue port {}, foreign tunnel packets: {}\n"
      "  sources  {}\n  vips     {}\n",
      status.device, text_of(status.mode), text_of(status.hook), status.program_id,
      settings.gue_port == 0 ? "none" : fmt::format("{}", settings.gue_port),
      text_of(settings.foreign), joined(settings.any_source, texts_of(settings.sources)),
      joined(settings.any_vip, texts_of(settings.vips)));
}

std::string text_of_counters(const std::vector<DecapCounter>& rows) {
  std::string text = fmt::format("{:<16}{:<8}{:>12}{:>16}  {}\n", "VERDICT", "ACTION", "PACKETS",
                                 "BYTES", "MEANING");
  for (const DecapCounter& row : rows) {
    if (row.counter.packets == 0) continue;
    text += fmt::format("{:<16}{:<8}{:>12}{:>16}  {}\n", row.verdict, row.action,
                        row.counter.packets, row.counter.bytes, row.sentence);
  }
  return text;
}

Json json_of(const std::vector<DecapCounter>& rows) {
  Json list = Json::array();
  for (const DecapCounter& row : rows)
    list.push_back({{"verdict", row.verdict},
                    {"action", row.action},
                    {"packets", row.counter.packets},
                    {"bytes", row.counter.bytes},
                    {"meaning", row.sentence}});
  return list;
}

Result<void> report_loaded(const Result<DecapLoaded>& loaded) {
  if (!loaded) return loaded.error();
  for (const std::string& warning : loaded->warnings)
    print(stderr, fmt::format("weir decap: warning: {}\n", warning));
  print(stdout, text_of_status(loaded->status));
  return {};
}

Result<void> load(const Arguments& arguments) {
  return report_loaded(load_decap(arguments.pin_directory, arguments.device,
                                  mode_of(arguments.mode), settings_over({}, arguments)));
}

Result<void> set(const Arguments& arguments) {
  Result<std::vector<DecapStatus>> found = decap_status(arguments.pin_directory, arguments.device);
  if (!found) return std::move(found).error();
  const DecapStatus& status = found->front();
  return report_loaded(load_decap(arguments.pin_directory, arguments.device, status.mode,
                                  settings_over(status.settings, arguments)));
}

Result<void> unload(const Arguments& arguments) {
  return unload_decap(arguments.pin_directory, arguments.device);
}

Result<void> status(const Arguments& arguments) {
  Result<std::vector<DecapStatus>> found =
      decap_status(arguments.pin_directory, arguments.one_device());
  if (!found) return std::move(found).error();
  Json devices = Json::array();
  std::string text;
  for (const DecapStatus& one : *found) {
    devices.push_back(json_of(one));
    text += text_of_status(one);
  }
  if (text.empty()) text = "no devices\n";
  print(stdout, arguments.as_json() ? Json{{"devices", devices}}.dump(2) + "\n" : text);
  return {};
}

Result<void> stats(const Arguments& arguments) {
  Result<std::vector<DecapStatus>> found =
      decap_status(arguments.pin_directory, arguments.one_device());
  if (!found) return std::move(found).error();
  Json devices = Json::array();
  std::string text;
  for (const DecapStatus& one : *found) {
    Result<std::vector<DecapCounter>> rows = decap_counters(arguments.pin_directory, one.ifindex);
    if (!rows) return std::move(rows).error();
    devices.push_back({{"device", one.device}, {"verdicts", json_of(*rows)}});
    if (found->size() > 1) text += one.device + ":\n";
    text += text_of_counters(*rows);
  }
  if (text.empty()) text = "no devices\n";
  print(stdout, arguments.as_json() ? Json{{"devices", devices}}.dump(2) + "\n" : text);
  return {};
}

CLI::App* verb(CLI::App& app, const std::string& name, const std::string& description,
               Arguments& arguments, Result<void> (*run)(const Arguments&), bool needs_device) {
  CLI::App* command = app.add_subcommand(name, description);
  command->callback(
      [&arguments, run] { arguments.run = [&arguments, run] { return run(arguments); }; });
  CLI::Option* device =
      command->add_option("DEV", arguments.device, "the network device, such as eth0");
  if (needs_device) device->required();
  return command;
}

void add_settings(CLI::App* command, Arguments& arguments) {
  const auto is_address = [](const std::string& text) {
    return complaint(wire::IpAddress::parse(text));
  };
  const auto is_prefix = [](const std::string& text) {
    return complaint(wire::Prefix::parse(text));
  };
  CLI::Option* source =
      command->add_option("--source", arguments.sources, "a balancer's address; once for each")
          ->check(is_address)
          ->group("Who may send");
  command
      ->add_flag("--any-source", arguments.any_source,
                 "take tunnel packets from anyone: whoever reaches this host can then send "
                 "under any client's address")
      ->excludes(source)
      ->group("Who may send");
  CLI::Option* vip =
      command->add_option("--vip", arguments.vips, "an address or prefix of VIPs; once for each")
          ->check(is_prefix)
          ->group("What for");
  command->add_flag("--any-vip", arguments.any_vip, "take inner packets for any destination")
      ->excludes(vip)
      ->group("What for");
  command->add_option("--gue-port", arguments.gue_port, "UDP port of GUE, 6080 unless set; 0: none")
      ->check(CLI::Range(0, 65535))
      ->group("Tunnels");
  command
      ->add_option(
          "--foreign", arguments.foreign,
          "tunnel packets that the lists do not admit: pass leaves them to the host, which "
          "may have other tunnels; drop is for hosts whose tunnel devices take all")
      ->check(CLI::IsMember({"pass", "drop"}))
      ->group("Tunnels");
}

void add_output(CLI::App* command, Arguments& arguments) {
  command->add_option("-o,--output", arguments.output, "table for people, json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str()
      ->group("Output");
  command->add_flag("--json", arguments.json, "the same as -o json")->group("Output");
}

void set_up(CLI::App& app, Arguments& arguments) {
  app.name("weir decap");
  app.set_version_flag("--version", "weir-decap " WEIR_VERSION, "print the version and exit");
  app.set_help_flag("-h,--help", "print this help and exit");
  man::add_man_option(app, "weir-decap");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--pin-dir", arguments.pin_directory,
                 "where kernel objects are pinned; one directory per network namespace")
      ->envname("WEIR_DECAP_PIN_DIR")
      ->capture_default_str();
  CLI::App* load_verb = verb(app, "load", "Load the program on a device, or replace its lists",
                             arguments, load, true);
  add_settings(load_verb, arguments);
  load_verb
      ->add_option("--mode", arguments.mode,
                   "native runs in the driver, generic anywhere but slower; auto tries native; tc "
                   "works beside another XDP program, after the kernel's merging of segments")
      ->check(CLI::IsMember({"auto", "native", "generic", "tc"}))
      ->capture_default_str()
      ->group("Attachment");
  verb(app, "unload", "Take the program off a device", arguments, unload, true);
  add_settings(
      verb(app, "set", "Change what is given; all else stays as it is", arguments, set, true),
      arguments);
  add_output(verb(app, "status", "Show devices, modes and lists", arguments, status, false),
             arguments);
  add_output(verb(app, "stats", "Show how every packet ended", arguments, stats, false), arguments);
  app.footer(std::string{kFooter});
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Decapsulation on a backend: takes off what the balancers put on."};
  set_up(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    print(stderr, fmt::format("weir decap: {}; see 'weir decap --help'\n", error.what()));
    return kUsage;
  }
  Result<void> done = check_rights();
  if (done) done = arguments.run();
  if (!done) print(stderr, fmt::format("weir decap: {}\n", done.error().text()));
  return done && std::fflush(stdout) == 0 ? kDone : kFailed;
}

}  // namespace
}  // namespace weir::l4

int main(int argc, char** argv) {
  // The libraries below throw when memory is out and on mistakes of ours; say so, do not abort.
  try {
    return weir::l4::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "weir decap: internal error: %s; please report it\n", error.what());
    return weir::l4::kFailed;
  }
}
