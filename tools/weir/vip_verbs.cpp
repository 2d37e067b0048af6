#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "l4/control/rules.h"
#include "l4/control/units.h"
#include "tools/weir/verbs.h"

/// `weir vip …` and `weir backend …`.
namespace weir::cli {
namespace {

/// Text for a failed validation, as the parser wants it: empty when the value is fine.
template <typename T>
std::string complaint(const Result<T>& result) {
  return result ? std::string{} : result.error().text();
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

/// What `weir vip add --limit` may name, and the API's word for it.
struct LimitWord {
  std::string_view word;
  const char* member;
};
constexpr std::array<LimitWord, 4> kLimitWords{{{"new-flows-per-source", "new_flows_per_source"},
                                                {"packets-per-source", "packets_per_source"},
                                                {"new-flows", "new_flows"},
                                                {"packets", "packets"}}};

struct Limit {
  std::string member;
  std::uint32_t per_second;
};

/// "new-flows-per-source=200/s".
Result<Limit> parse_limit(const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::string_view word = std::string_view{text}.substr(0, equals);
  const auto known = std::ranges::find(kLimitWords, word, &LimitWord::word);
  if (equals == std::string::npos || known == kLimitWords.end()) {
    std::string words;
    for (const LimitWord& limit : kLimitWords)
      words += fmt::format("{}{}", words.empty() ? "" : ", ", limit.word);
    return Error{ErrorCode::kInvalid,
                 fmt::format("'{}' is not NAME=RATE with a name of {}", text, words)};
  }
  const Result<std::uint32_t> rate = control::parse_rate(text.substr(equals + 1));
  if (!rate) return rate.error();
  return Limit{known->member, *rate};
}

const CLI::Validator& is_prefix() {
  static const CLI::Validator validator{
      [](const std::string& text) -> std::string {
        const Result<wire::Prefix> prefix = wire::Prefix::parse(text);
        if (!prefix) return prefix.error().text();
        const auto objection = control::object_to_network(*prefix);
        return objection ? fmt::format("{}; use {}", objection->problem, objection->expectation)
                         : std::string{};
      },
      "PREFIX"};
  return validator;
}

void add_forwarding_options(CLI::App* command, VipOptions& options) {
  command
      ->add_option("--mode", options.mode,
                   "ipip and gue encapsulate, for backends anywhere; l2 rewrites the MAC address, "
                   "for backends on the same segment that own the VIP; nat rewrites addresses, for "
                   "backends that know nothing of the VIP")
      ->check(CLI::IsMember({"ipip", "gue", "l2", "nat"}))
      ->capture_default_str()
      ->group("Forwarding");
  command
      ->add_option("--gue-port", options.gue_port, "mode gue: the tunnel's UDP port (default 6080)")
      ->check(CLI::Range(1, 65535))
      ->group("Forwarding");
  command
      ->add_option(
          "--snat", options.snat,
          "mode nat: whether to rewrite the source too; auto does, because no node can know "
          "how a backend's replies travel; never keeps the client's address, for backends "
          "whose routes to clients lead through this node")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group("Forwarding");
  command
      ->add_option("--when-empty", options.when_empty,
                   "what packets get while no backend takes traffic: refuse (RST, port "
                   "unreachable; the default) or drop")
      ->check(CLI::IsMember({"refuse", "drop"}))
      ->group("Forwarding");
}

void add_choosing_options(CLI::App* command, VipOptions& options) {
  command
      ->add_option("--hash", options.hash,
                   "what of a packet chooses the backend (default fiveTuple)")
      ->check(CLI::IsMember({"fiveTuple", "sourceIPPort", "sourceIP"}))
      ->group("Choosing a backend");
  command
      ->add_option_function<std::string>(
          "--affinity",
          [&](const std::string& text) {
            options.affinity_timeout_s = *control::parse_affinity_timeout(text);
          },
          "a client stays with its backend until it was silent for so long, such as 3h")
      ->check(CLI::Validator{
          [](const std::string& text) { return complaint(control::parse_affinity_timeout(text)); },
          "TIME"})
      ->group("Choosing a backend");
  command
      ->add_option("--table-size", options.table_size,
                   "slots of the Maglev table, a prime; otherwise by the number of backends")
      ->check([](const std::string& text) {
        const bool is_number = !text.empty() && text.size() < 19 &&
                               text.find_first_not_of("0123456789") == std::string::npos;
        const std::uint64_t size = is_number ? std::stoull(text) : 0;
        return size <= control::kTableSizeMax &&
                       control::is_table_size(static_cast<std::uint32_t>(size))
                   ? std::string{}
                   : fmt::format("'{}' is no prime from {} to {}; the nearest is {}", text,
                                 control::kTableSizeMin, control::kTableSizeMax,
                                 control::nearest_table_size(size));
      })
      ->group("Choosing a backend");
  CLI::Option* length =
      command
          ->add_option("--quic-server-id-length", options.quic_server_id_length,
                       "choose by the server id in QUIC connection ids, of so many bytes")
          ->check(CLI::Range(1, int{control::kServerIdBytesMax}))
          ->group("Choosing a backend");
  command
      ->add_option("--quic-config-rotation", options.quic_config_rotation,
                   "the configuration codepoint of those connection ids (default 0)")
      ->check(CLI::Range(0, int{control::kConfigRotationMax}))
      ->needs(length)
      ->group("Choosing a backend");
}

void add_guarding_options(CLI::App* command, VipOptions& options) {
  // One value each: a list without end would swallow the VIP.
  const auto add_sources = [&](const char* name, std::vector<std::string>& into,
                               const char* description) {
    command->add_option(name, into, description)
        ->check(is_prefix())
        ->delimiter(',')
        ->allow_extra_args(false)
        ->group("Protection");
  };
  add_sources("--allow", options.allow,
              "only these sources, separated by commas; the longest prefix decides");
  add_sources("--deny", options.deny, "not these sources, separated by commas");
  command
      ->add_option_function<std::vector<std::string>>(
          "--limit",
          [&](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              const Limit limit = *parse_limit(text);
              options.limits[limit.member] = limit.per_second;
            }
          },
          "such as new-flows-per-source=200/s; also packets-per-source, new-flows, packets")
      ->check(CLI::Validator{[](const std::string& text) { return complaint(parse_limit(text)); },
                             "NAME=RATE"})
      ->delimiter(',')
      ->allow_extra_args(false)
      ->group("Protection");
}

void add_health_options(CLI::App* command, VipOptions& options) {
  CLI::Option* health =
      command
          ->add_option("--health", options.health,
                       "what to ask of backends; those that do not answer get no traffic")
          ->check(CLI::IsMember({"tcp", "http", "https", "udp", "grpc", "icmp"}))
          ->group("Health");
  command
      ->add_option("--health-port", options.health_port,
                   "the port to ask (default: the one that traffic goes to)")
      ->check(CLI::Range(1, 65535))
      ->needs(health)
      ->group("Health");
  command->add_option("--health-path", options.health_path, "http, https: such as /healthz")
      ->needs(health)
      ->group("Health");
  command
      ->add_option_function<std::string>(
          "--health-interval",
          [&](const std::string& text) { options.health_interval_ms = time_ms_of(text); },
          "time between two probes of a backend (default 2s)")
      ->check(is_time(control::kHealthIntervalMinMs, control::kHealthIntervalMaxMs,
                      "100ms to 1h, such as 2s"))
      ->needs(health)
      ->group("Health");
}

}  // namespace

CLI::Validator is_time(std::uint32_t least_ms, std::uint32_t most_ms, std::string_view range) {
  return {[=, range = std::string{range}](const std::string& text) -> std::string {
            const auto time_ms = control::with_unit(text, control::time_units());
            if (time_ms && *time_ms >= least_ms && *time_ms <= most_ms) return {};
            return fmt::format("'{}' is not a time from {}", text, range);
          },
          "TIME"};
}

std::uint32_t time_ms_of(const std::string& text) {
  return static_cast<std::uint32_t>(*control::with_unit(text, control::time_units()));
}

BackendOptions backend_of(const Arguments& arguments) {
  BackendOptions options = arguments.backend_options;
  const Result<BackendAddress> backend = parse_backend(arguments.backend);
  options.vip = vip_of(arguments);
  options.address = backend->address;
  if (backend->port) options.port = backend->port;
  return options;
}

void add_vip_argument(CLI::App* command, Arguments& arguments) {
  command->add_option("VIP", arguments.vip, "the service, such as 203.0.113.53:53/udp")
      ->required()
      ->check(is_vip());
}

void add_backend_argument(CLI::App* command, Arguments& arguments) {
  command->add_option("BACKEND", arguments.backend, "the backend's own address")
      ->required()
      ->check(is_backend());
}

const CLI::Validator& is_vip() {
  static const CLI::Validator validator{
      [](const std::string& text) { return complaint(control::parse_vip_key(text)); },
      "ADDR:PORT/tcp|udp"};
  return validator;
}

control::VipKey vip_of(const Arguments& arguments) {
  return *control::parse_vip_key(arguments.vip);
}

void add_vip_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App& group = *app.add_subcommand("vip", "Services: add, remove and look at VIPs");
  group.require_subcommand(1);
  CLI::App* add = verb(group, "add", "Add a VIP; it refuses its packets until it has backends",
                       arguments, [&](const Daemons& daemons) {
                         VipOptions options = arguments.vip_options;
                         options.key = vip_of(arguments);
                         return vip_add(daemons, options);
                       });
  add_vip_argument(add, arguments);
  add_forwarding_options(add, arguments.vip_options);
  add_choosing_options(add, arguments.vip_options);
  add_guarding_options(add, arguments.vip_options);
  add_health_options(add, arguments.vip_options);
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
    add_backend_argument(command, arguments);
    return command;
  };
  const auto add_values = [&](CLI::App* command) {
    command->add_option("--weight", options.weight, "share of new flows beside the other backends'")
        ->check(CLI::Range(std::uint32_t{0}, control::kWeightMax))
        ->group("Share of traffic");
    command->add_option("--name", options.name, "a name for people");
    command
        ->add_option_function<std::uint16_t>(
            "--port", [&](std::uint16_t port) { options.port = wire::Port{port}; },
            "mode nat: the port on the backend; without it the VIP's")
        ->check(CLI::Range(1, 65535))
        ->group("Forwarding");
    command
        ->add_option("--server-id", options.server_id,
                     "QUIC: the id that the backend puts into connection ids, in hexadecimal")
        ->check(CLI::Validator{
            [](const std::string& text) { return complaint(control::parse_server_id(text)); },
            "HEX"})
        ->group("Forwarding");
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
      verb(group, "set", "Change a backend's weight, state, port or name", arguments,
           [&](const Daemons& daemons) { return backend_set(daemons, backend_of(arguments)); })));
  add_address(
      verb(group, "del", "Remove a backend; its flows move to others", arguments,
           [&](const Daemons& daemons) { return backend_del(daemons, backend_of(arguments)); }));
  add_state_verbs(group, arguments);
  add_vip_argument(reading_verb(group, "list", "List the backends of a VIP", arguments,
                                [&](const Daemons& daemons) {
                                  return backend_list(daemons, vip_of(arguments));
                                }),
                   arguments);
}

}  // namespace weir::cli
