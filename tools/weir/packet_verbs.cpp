#include "l4/wire/address.h"
#include "tools/weir/verbs.h"

/// `weir monitor`: the grammar.
namespace weir::cli {
namespace {

const CLI::Validator& is_address() {
  static const CLI::Validator validator{[](const std::string& text) {
                                          const auto address = wire::IpAddress::parse(text);
                                          return address ? std::string{} : address.error().text();
                                        },
                                        "ADDRESS"};
  return validator;
}

void add_json_flag(CLI::App* command, Arguments& arguments) {
  command
      ->add_flag_callback(
          "--json", [&arguments] { arguments.output = "json"; }, "the same as --output json")
      ->group("Output");
}

void add_filter_options(CLI::App* command, Arguments& arguments) {
  MonitorOptions& options = arguments.monitor;
  command->add_option("--vip", arguments.vip, "only packets for this service")
      ->check(is_vip())
      ->group("Which packets");
  CLI::Option* verdict =
      command
          ->add_option("--verdict", options.verdicts,
                       "only these ends, by the names of 'weir stats'; pass, drop, tx and redirect "
                       "name all of a kind")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->group("Which packets");
  command
      ->add_flag_callback(
          "--drops", [&options] { options.verdicts = {"drop"}; },
          "only packets that were dropped: --verdict drop")
      ->excludes(verdict)
      ->group("Which packets");
  command->add_option("--source", options.source, "only packets from this address")
      ->check(is_address())
      ->group("Which packets");
  command->add_option("--every", options.every, "only one of so many of them, chosen at random")
      ->check(CLI::Range(1U, 1'000'000'000U))
      ->group("Which packets");
}

void add_monitor_verb(CLI::App& app, Arguments& arguments) {
  MonitorOptions& options = arguments.monitor;
  CLI::App* command = reading_verb(
      app, "monitor", "Watch packets as they leave the balancer, with what became of them",
      arguments, [&](const Daemons& daemons) {
        if (!arguments.vip.empty()) options.vip = vip_of(arguments);
        const OutputFormat format = format_of(arguments);
        arguments.output = "table";  // it writes by itself; nothing is left for a report
        return monitor(daemons, options, format);
      });
  add_json_flag(command, arguments);
  add_filter_options(command, arguments);
  command->add_option("--snap", options.snap_bytes, "how many bytes of a frame are kept")
      ->check(CLI::Range(MonitorOptions::kSnapBytesMin, MonitorOptions::kSnapBytesMax))
      ->capture_default_str()
      ->group("Output");
  command
      ->add_option("--pcap", options.capture,
                   "write them to this file, for Wireshark, instead (pcapng with a comment that "
                   "has verdict, VIP and backend); - for standard output")
      ->type_name("FILE")
      ->group("Output");
  command->add_option("--count", options.count, "end after so many packets")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 62))
      ->type_name("N")
      ->group("When to end");
  command->add_option("--seconds", options.seconds, "end after so long")
      ->check(CLI::Range(1U, 31'536'000U))
      ->type_name("S")
      ->group("When to end");
}

}  // namespace

void add_packet_verbs(CLI::App& app, Arguments& arguments) { add_monitor_verb(app, arguments); }

}  // namespace weir::cli
