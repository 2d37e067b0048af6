#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "l4/control/units.h"
#include "l4/wire/address.h"
#include "tools/weir/top.h"
#include "tools/weir/verbs.h"

/// `weir status`, `weir stats`, `weir top` and `weir flows`: the grammar.
namespace weir::cli {
namespace {

constexpr std::uint64_t kIntervalMinMs = 100;
constexpr std::uint64_t kIntervalMaxMs = 3'600'000;

/// "1s", "500ms": in milliseconds.
std::uint32_t interval_of(const std::string& text) {
  const auto ms = control::with_unit(text, control::time_units());
  if (!ms || *ms < kIntervalMinMs || *ms > kIntervalMaxMs)
    throw CLI::ValidationError(
        fmt::format("'{}' is no interval from 100ms to 1h, such as 500ms or 2s", text));
  return static_cast<std::uint32_t>(*ms);
}

void add_stats_verb(CLI::App& app, Arguments& arguments) {
  StatsOptions& options = arguments.stats;
  CLI::App* command = reading_verb(
      app, "stats",
      "Show counters and rates: how every packet ended, and what each VIP and backend got",
      arguments, [&](const Daemons& daemons) {
        if (!arguments.vip.empty()) options.vip = vip_of(arguments);
        return stats(daemons, options, format_of(arguments));
      });
  command->add_option("VIP", arguments.vip, "only this service")->check(is_vip());
  CLI::Option* interval =
      command
          ->add_option_function<std::string>(
              "--interval",
              [&options](const std::string& text) { options.interval_ms = interval_of(text); },
              "time between two readings, of which rates are made; 500ms unless given")
          ->type_name("TIME")
          ->group("Rates");
  CLI::Option* count = command
                           ->add_option("--count", options.count,
                                        "so many reports, one after each interval; 0: without end")
                           ->type_name("N")
                           ->group("Rates");
  command->add_flag("--total", options.total_only, "totals alone, at once")
      ->excludes(interval)
      ->excludes(count)
      ->group("Rates");
}

/// "l4", "l7" or a VIP, and what is to be open.
struct TopWords {
  std::string what;
  std::string item;
};

/// Throws where words do not go together.
void take_top_words(const TopWords& words, TopOptions& options) {
  const bool has_plane = words.what == "l4" || words.what == "l7";
  if (words.what == "l7") options.of = TopOptions::Of::kL7;
  if (!has_plane && !words.item.empty())
    throw CLI::ValidationError(
        fmt::format("'{}' is one too many: there is a VIP already", words.item));
  options.open = has_plane ? words.item : words.what;
  if (options.of == TopOptions::Of::kL4 && !options.open.empty()) {
    const auto vip = control::parse_vip_key(options.open);
    if (!vip)
      throw CLI::ValidationError(
          has_plane ? vip.error().text()
                    : fmt::format("WHAT is l4, l7 or a VIP, and {}", vip.error().text()));
    options.open = control::vip_text(*vip);  // in the one spelling that rows have
  }
  const std::vector<std::string> sorts = sort_words(subject_of(options.of));
  if (!options.sort.empty() && std::ranges::find(sorts, options.sort) == sorts.end())
    throw CLI::ValidationError(
        fmt::format("--sort: there is no '{}' here, but {}", options.sort, fmt::join(sorts, ", ")));
}

std::vector<std::string> all_sort_words() {
  std::vector<std::string> words = sort_words(top_of_l4());
  for (std::string& word : sort_words(top_of_l7()))
    if (std::ranges::find(words, word) == words.end()) words.push_back(std::move(word));
  return words;
}

void add_top_verb(CLI::App& app, Arguments& arguments) {
  auto options = std::make_shared<TopOptions>();
  auto words = std::make_shared<TopWords>();
  CLI::App* command =
      verb(app, "top", "Watch VIPs and backends, or rules and endpoints, by rate, full screen",
           arguments, [options](const Daemons& daemons) { return top(daemons, *options); });
  command
      ->add_option("WHAT", words->what,
                   "l4: VIPs, as without a word; l7: rules of weir-l7; or a VIP, to begin with "
                   "its backends")
      ->type_name("{l4,l7} or ADDR:PORT/tcp|udp");
  command->add_option("ITEM", words->item,
                      "begin with the backends of this VIP, or the endpoints of this ROUTE/RULE");
  command->parse_complete_callback([options, words] { take_top_words(*words, *options); });
  command
      ->add_option_function<std::string>(
          "--interval",
          [options](const std::string& text) {
            options->interval = std::chrono::milliseconds{interval_of(text)};
          },
          "time between two readings; 1s unless given")
      ->type_name("TIME");
  command
      ->add_option("--sort", options->sort,
                   "what the rows are sorted by; packets, or requests of l7, unless given")
      ->check(CLI::IsMember(all_sort_words()));
  command->add_option("--filter", options->filter, "only rows with this in address or name")
      ->type_name("TEXT");
  command->add_flag("--once", options->is_once, "print one frame as text and end");
  command->footer(
      R"(Keys: Up, Down, Page Up, Page Down, Home, End select; Enter opens a VIP's backends or a
rule's endpoints, Esc goes back; / filters by address or name; s takes the next sort column; r
reverses; p or the space bar pauses; q quits. Columns by key: a k b f d are address, packets, bits,
new flows and drops; with l7 n e 4 5 f t o are name, requests, answers of 4xx and 5xx, failures,
mean time and requests that took more than a second, of endpoints n e f i c u name, requests,
failures, requests in progress, connections and whether it is usable.
Drops are packets for a VIP that went to no backend, be it that they were dropped or answered.
Failures are requests that no endpoint has answered to the end; of an endpoint, attempts.)");
}

void add_flows_verb(CLI::App& app, Arguments& arguments) {
  FlowsOptions& options = arguments.flows;
  auto of = std::make_shared<std::string>();
  CLI::App* command = reading_verb(
      app, "flows", "Show who is where: flows by VIP and backend, or where one client's flow is",
      arguments, [&arguments, &options, of](const Daemons& daemons) {
        if (!of->empty()) arguments.vip = *of;
        if (!arguments.vip.empty()) options.vip = vip_of(arguments);
        return flows(daemons, options);
      });
  command
      ->add_option(
          "SOURCE", options.source,
          "a client, ADDRESS or ADDRESS:PORT: with VIP, the backend that has its flow, and "
          "the one that a new flow of it would go to")
      ->check([](const std::string& text) {
        if (wire::IpAddress::parse(text) || wire::Endpoint::parse(text)) return std::string{};
        return fmt::format("'{}' is not ADDRESS or ADDRESS:PORT", text);
      });
  command->add_option("VIP", *of, "the service that the client speaks to")->check(is_vip());
  command->add_option("--vip", arguments.vip, "only flows of this service")
      ->check(is_vip())
      ->group("Which flows");
  command->add_option("--backend", options.backend, "only flows of backends with this address")
      ->check([](const std::string& text) {
        const auto address = wire::IpAddress::parse(text);
        return address ? std::string{} : address.error().text();
      })
      ->group("Which flows");
  command
      ->add_flag("--nat", options.wants_nat,
                 "list translated flows one by one: client, backend, source, state, idle time")
      ->group("Which flows");
  command->add_option("--source", options.source, "with --nat: only flows of this client")
      ->group("Which flows");
  command->add_option("--limit", options.limit, "with --nat: so many at most")
      ->check(CLI::Range(1U, 100'000U))
      ->capture_default_str()
      ->group("Which flows");
  command->parse_complete_callback([&options, of, &arguments] {
    const bool has_vip = !of->empty() || !arguments.vip.empty();
    if (!options.source.empty() && !options.wants_nat && !has_vip)
      throw CLI::ValidationError(
          "a client alone names no flow: give the VIP too, or --nat, which lists translated flows");
    if (!options.source.empty() && !options.wants_nat && !options.backend.empty())
      throw CLI::ValidationError("--backend says nothing where one flow is asked for");
  });
}

/// What weir-l7 does with requests.
void add_traffic_verbs(CLI::App& app, Arguments& arguments) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command =
      reading_verb(app, "explain", "Say what would become of a request, and why", arguments,
                   [options](const Daemons& daemons) { return explain(daemons, *options); });
  command->add_option("METHOD", options->method, "such as GET")->required();
  command->add_option("URL", options->url, "such as https://shop.example/cart?x=1")->required();
  command->add_option("-H,--header", options->headers, "a header, 'Name: value'; again for more")
      ->take_all();
  command->add_option("--vip", options->vip,
                      "ADDRESS:PORT that the client connects to, where several gateways have the "
                      "port");
  reading_verb(app, "routes", "List the rules that requests go by", arguments,
               [](const Daemons& daemons) { return routes(daemons); });
  auto service = std::make_shared<std::string>();
  CLI::App* list = reading_verb(
      app, "endpoints", "List the endpoints of services: health, load, failures, names in DNS",
      arguments, [service](const Daemons& daemons) { return endpoints(daemons, *service); });
  list->add_option("SERVICE", *service, "only this service's");
  auto days = std::make_shared<std::optional<std::uint32_t>>();
  CLI::App* certificates = reading_verb(
      app, "certs", "List the certificates that clients are shown, the next to expire first",
      arguments, [days](const Daemons& daemons) { return certs(daemons, *days); });
  certificates->add_option("--expiring", *days, "only those that end within so many days");
}

}  // namespace

void add_looking_verbs(CLI::App& app, Arguments& arguments) {
  reading_verb(app, "status", "Show both daemons, devices, programs and workers", arguments,
               [](const Daemons& daemons) { return status(daemons); });
  add_stats_verb(app, arguments);
  add_top_verb(app, arguments);
  add_flows_verb(app, arguments);
  add_traffic_verbs(app, arguments);
}

}  // namespace weir::cli
