#include <fmt/format.h>

#include "l4/wire/address.h"
#include "tools/weir/made_packet.h"
#include "tools/weir/packet_text.h"
#include "tools/weir/verbs.h"

/// `weir monitor` and `weir trace`: the grammar.
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

constexpr wire::Port kSourcePort{40000};  // of a client that is written without one

/// "192.0.2.7", "192.0.2.7:4711" and the same in IPv6.
wire::Endpoint source_of(const std::string& text) {
  if (const auto address = wire::IpAddress::parse(text)) return {*address, kSourcePort};
  const auto endpoint = wire::Endpoint::parse(text);
  if (endpoint) return *endpoint;
  throw CLI::ValidationError(fmt::format("'{}' is not ADDRESS or ADDRESS:PORT", text));
}

/// What --tcp and --udp take: who sends, and where to.
MadePacket packet_between(const std::vector<std::string>& ends, wire::IpProtocol protocol) {
  const auto destination = wire::Endpoint::parse(ends.at(1));
  if (!destination) throw CLI::ValidationError(fmt::format("'{}' is not ADDRESS:PORT", ends.at(1)));
  MadePacket packet{
      .source = source_of(ends.at(0)), .destination = *destination, .protocol = protocol};
  if (packet.source.address.family() != destination->address.family())
    throw CLI::ValidationError(
        fmt::format("'{}' and '{}' are of two families", ends.at(0), ends.at(1)));
  return packet;
}

/// The packet is made when all words are read: --ack may come before or after --tcp.
struct TraceWords {
  std::vector<std::string> tcp;
  std::vector<std::string> udp;
  std::string hex;
  bool is_ack = false;
};

void read_trace_words(const TraceWords& words, TraceOptions& options) {
  const int given = (words.tcp.empty() ? 0 : 1) + (words.udp.empty() ? 0 : 1) +
                    (words.hex.empty() ? 0 : 1) + (options.capture.empty() ? 0 : 1);
  if (given != 1) throw CLI::ValidationError("give one of --tcp, --udp, --packet and --pcap");
  if (words.is_ack && words.tcp.empty()) throw CLI::ValidationError("--ack goes with --tcp");
  if (!words.hex.empty()) {
    const auto bytes = bytes_of_hex(words.hex);
    if (!bytes)
      throw CLI::ValidationError(
          "--packet is not a frame in hexadecimal digits, from its Ethernet header on");
    if (bytes->size() < sizeof(wire::EthernetHeader))
      throw CLI::ValidationError(
          fmt::format("--packet is {} bytes, and an Ethernet header alone is {}", bytes->size(),
                      sizeof(wire::EthernetHeader)));
    options.frame = *bytes;
  } else if (options.capture.empty()) {
    MadePacket packet = words.tcp.empty() ? packet_between(words.udp, wire::IpProtocol::kUdp)
                                          : packet_between(words.tcp, wire::IpProtocol::kTcp);
    if (words.is_ack) packet.tcp_flags = wire::TcpHeader::kAck;
    options.frame = frame_of(packet);
  }
}

void add_trace_verb(CLI::App& app, Arguments& arguments) {
  TraceOptions& options = arguments.trace;
  auto words = std::make_shared<TraceWords>();
  CLI::App* command = reading_verb(
      app, "trace", "Show what the balancer would do with a packet, step by step; nothing is sent",
      arguments, [&](const Daemons& daemons) {
        const OutputFormat format = format_of(arguments);
        arguments.output = "table";  // the answer is a note that has its format already
        return trace(daemons, options, format);
      });
  command->add_option("--tcp", words->tcp, "a SYN from ADDRESS[:PORT] to ADDRESS:PORT")
      ->expected(2)
      ->type_name("SRC DST")
      ->group("What packet");
  command->add_flag("--ack", words->is_ack, "with --tcp: from the middle of a connection instead")
      ->group("What packet");
  command->add_option("--udp", words->udp, "a datagram from ADDRESS[:PORT] to ADDRESS:PORT")
      ->expected(2)
      ->type_name("SRC DST")
      ->group("What packet");
  command->add_option("--packet", words->hex, "a frame in hexadecimal, from its Ethernet header on")
      ->type_name("HEX")
      ->group("What packet");
  command
      ->add_option("--pcap", options.capture,
                   "the frames of a capture, up to 100, pcap or pcapng, one after the other")
      ->type_name("FILE")
      ->group("What packet");
  command
      ->add_option("--device", options.device,
                   "that it comes in by; the first that the balancer is on, unless given")
      ->group("What packet");
  command->parse_complete_callback([words, &options] { read_trace_words(*words, options); });
}

}  // namespace

void add_packet_verbs(CLI::App& app, Arguments& arguments) {
  add_monitor_verb(app, arguments);
  add_trace_verb(app, arguments);
}

}  // namespace weir::cli
