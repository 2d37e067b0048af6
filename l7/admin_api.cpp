#include "l7/admin_api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <unordered_map>

#include "l4/base/assert.h"
#include "l4/base/file.h"
#include "l4/base/log.h"
#include "l4/control/config.h"
#include "l4/control/config_partial.h"
#include "l4/control/exposition.h"
#include "l4/control/process_facts.h"
#include "l4/control/route_json.h"
#include "l7/metrics.h"
#include "l7/openapi.h"
#include "l7/traffic_routes.h"
#include "l7/traffic_totals.h"

namespace weir::l7 {
namespace {

using nlohmann::json;

constexpr std::string_view kVersion = WEIR_VERSION;
constexpr Duration kReportTimeout = std::chrono::seconds{2};
/// What a configuration waits for names that nobody has asked for before.
constexpr Duration kFirstLookupsMax = std::chrono::seconds{2};
/// Workers are given other endpoints so often at most, whatever DNS says; and less often while they
/// still hold many snapshots, of exchanges that last.
constexpr Duration kEndpointsPace = std::chrono::seconds{1};
constexpr Duration kEndpointsSlowPace = std::chrono::seconds{30};
constexpr std::size_t kSnapshotsMany = 16;
constexpr std::size_t kTrafficRowsMax = 500;  // of each kind, in GET /v1/stats

json port_json(const port::PortCounters& c) {
  return {{"received_frames", c.received_frames},
          {"received_bytes", c.received_bytes},
          {"sent_frames", c.sent_frames},
          {"sent_bytes", c.sent_bytes},
          {"send_refused", c.send_refused},
          {"pool_exhausted", c.pool_exhausted},
          {"receive_no_buffer", c.receive_no_buffer},
          {"receive_overflow", c.receive_overflow},
          {"invalid_descriptors", c.invalid_descriptors}};
}

json network_json(const net::InterfaceCounters& c) {
  const net::NeighborCounters& n = c.neighbor;
  return {{"frames_received", c.frames_received},
          {"frames_sent", c.frames_sent},
          {"dropped_error_queue", c.dropped_error_queue},
          {"limited_echo", c.limited_echo},
          {"limited_unreachable", c.limited_unreachable},
          {"neighbor_solicitations_sent", n.solicitations_sent},
          {"neighbor_resolved", n.resolved},
          {"neighbor_failed", n.failed},
          {"neighbor_lost", n.lost},
          {"neighbor_pending_dropped", n.pending_dropped},
          {"neighbor_unreachable_dropped", n.unreachable_dropped},
          {"neighbor_table_full", n.table_full},
          {"neighbor_evicted", n.evicted},
          {"segments_delivered", c.segments_delivered},
          {"partial_checksums", c.partial_checksums},
          {"decapsulated_ipip", c.decapsulated_ipip},
          {"decapsulated_gue", c.decapsulated_gue},
          {"dropped_link_broadcast", c.dropped_link_broadcast},
          {"dropped_ether_type", c.dropped_ether_type},
          {"dropped_truncated", c.dropped_truncated},
          {"dropped_malformed_ip", c.dropped_malformed_ip},
          {"dropped_ip_checksum", c.dropped_ip_checksum},
          {"dropped_ttl", c.dropped_ttl},
          {"dropped_source", c.dropped_source},
          {"dropped_destination", c.dropped_destination},
          {"dropped_fragment", c.dropped_fragment},
          {"dropped_extension", c.dropped_extension},
          {"dropped_protocol", c.dropped_protocol},
          {"dropped_checksum", c.dropped_checksum},
          {"dropped_malformed_arp", c.dropped_malformed_arp},
          {"dropped_malformed_ndp", c.dropped_malformed_ndp},
          {"dropped_malformed_icmp", c.dropped_malformed_icmp},
          {"dropped_icmp_type", c.dropped_icmp_type},
          {"dropped_icmp_quote", c.dropped_icmp_quote},
          {"dropped_udp", c.dropped_udp},
          {"address_conflicts", c.address_conflicts},
          {"questions_left", c.questions_left},
          {"dropped_tunnel_source", c.dropped_tunnel_source},
          {"dropped_tunnel_malformed", c.dropped_tunnel_malformed},
          {"dropped_tunnel_destination", c.dropped_tunnel_destination},
          {"dropped_tunnel_ecn", c.dropped_tunnel_ecn},
          {"arp_answered", c.arp_answered},
          {"ndp_answered", c.ndp_answered},
          {"echo_answered", c.echo_answered},
          {"unreachable_sent", c.unreachable_sent},
          {"address_defended", c.address_defended},
          {"dropped_no_buffer", c.dropped_no_buffer},
          {"dropped_no_route", c.dropped_no_route},
          {"dropped_no_source", c.dropped_no_source},
          {"dropped_too_big", c.dropped_too_big},
          {"dropped_send_queue", c.dropped_send_queue},
          {"path_mtu_lowered", c.path_mtu_lowered},
          {"path_mtu_evicted", c.path_mtu_evicted}};
}

json tcp_json(const tcp::StackCounters& c) {
  json result;
  for (const auto& [name, value] : tcp::kStackLevels)
    result[std::string{name}] = c.*value;
  for (const auto& [name, value] : tcp::kStackEvents)
    result[std::string{name}] = c.*value;
  return result;
}

json h2_json(const http::H2Counters& c) {
  json abuse = json::object();
  for (std::size_t i = 0; i < c.abuse.size(); ++i)
    abuse[std::string{http::text_of(static_cast<http::H2Abuse>(i))}] = c.abuse[i];
  return {{"sessions", c.sessions},
          {"streams", c.streams},
          {"memory_bytes", c.memory_bytes},
          {"sessions_opened", c.sessions_opened},
          {"streams_opened", c.streams_opened},
          {"streams_malformed", c.streams_malformed},
          {"goaways_received", c.goaways_received},
          {"abuse", abuse}};
}

json mirrors_json(const proxy::MirrorCounters& c) {
  return {{"sent", c.sent},           {"answered", c.answered}, {"failed", c.failed},
          {"too_large", c.too_large}, {"cut", c.cut},           {"crowded", c.crowded}};
}

/// What has had requests, each with its name as `kind`; of many, the kTrafficRowsMax that had most:
/// to who stores them each is ten series.
json traffic_rows_json(const char* kind, const TrafficTotals::ByName& all) {
  std::vector<const proxy::RequestCounters*> order;
  for (const auto& [name, counters] : all)
    order.push_back(&counters);
  if (order.size() > kTrafficRowsMax) {
    std::ranges::stable_sort(order, std::greater{}, &proxy::RequestCounters::requests);
    order.resize(kTrafficRowsMax);
    std::ranges::sort(order, {}, &proxy::RequestCounters::name);
  }
  json rows = json::array();
  for (const proxy::RequestCounters* counters : order) {
    json row = named(*counters);
    row[kind] = counters->name;
    rows.push_back(std::move(row));
  }
  return rows;
}

json http_json(const proxy::WorkerReport& report) {
  const proxy::CoreCounters& c = report.core;
  json reasons = json::object();
  for (std::size_t i = 0; i < c.reasons.size(); ++i)
    reasons[std::string{proxy::text_of(static_cast<proxy::Reason>(i))}] = c.reasons[i];
  json responses = json::object();
  for (std::size_t i = 1; i < c.responses.size(); ++i)
    responses[fmt::format("{}xx", i)] = c.responses[i];
  return {{"connections", c.connections},
          {"connections_accepted", c.connections_accepted},
          {"connections_refused", c.connections_refused},
          {"connections_over_limit", c.connections_over_limit},
          {"proxy_headers", c.proxy_headers},
          {"proxy_header_failures", c.proxy_header_failures},
          {"closed_after_requests", c.closed_after_requests},
          {"closed_after_age", c.closed_after_age},
          {"tls_handshakes", c.tls_handshakes},
          {"tls_failures", c.tls_failures},
          {"handshake_timeouts", c.handshake_timeouts},
          {"passed_through", c.passed_through},
          {"requests", c.requests},
          {"requests_h2", c.requests_h2},
          {"exchanges", c.exchanges},
          {"h2", h2_json(c.h2)},
          {"retries", c.retries},
          {"ejections", c.ejections},
          {"delays", c.delays},
          {"header_values_left_out", c.header_values_left_out},
          {"mirrors", mirrors_json(c.mirrors)},
          {"log_left_out", c.log_left_out},
          {"responses", responses},
          {"reasons", reasons},
          {"buffers", c.buffers},
          {"buffer_refusals", c.buffer_refusals},
          {"log_dropped", report.log_dropped}};
}

json upstream_json(const proxy::UpstreamCounters& c) {
  return {{"open", c.open},
          {"idle", c.idle},
          {"opened", c.opened},
          {"reused", c.reused},
          {"connect_failed", c.connect_failed},
          {"idle_closed", c.idle_closed}};
}

json steering_json(const proxy::MailCounters& c) {
  return {{"misrouted_out", c.misrouted_out},         {"misrouted_in", c.misrouted_in},
          {"misrouted_dropped", c.misrouted_dropped}, {"unknown_shown", c.unknown_shown},
          {"to_predecessor", c.to_predecessor},       {"errors_out", c.errors_out},
          {"neighbors_out", c.neighbors_out},         {"neighbors_in", c.neighbors_in}};
}

json worker_json(std::size_t index, const proxy::WorkerReport& report) {
  const auto busy_ns = std::chrono::nanoseconds{report.busy_time}.count();
  const auto idle_ns = std::chrono::nanoseconds{report.idle_time}.count();
  const auto whole_ns = std::max<std::int64_t>(busy_ns + idle_ns, 1);
  return {{"index", index},
          {"revision", report.revision},
          {"turns", report.turns},
          {"busy_turns", report.busy_turns},
          {"busy_ns", busy_ns},
          {"idle_ns", idle_ns},
          {"busy_share", static_cast<double>(busy_ns) / static_cast<double>(whole_ns)},
          {"sleeps", report.sleeps},
          {"generations", report.core.generations},
          {"http", http_json(report)},
          {"upstream", upstream_json(report.upstream)},
          {"tcp", tcp_json(report.tcp)},
          {"network", network_json(report.network)},
          {"port", port_json(report.port)},
          {"steering", steering_json(report.mail)}};
}

json names_json(const EndpointNames& names) {
  const NameCounters& c = names.counters();
  json answers = json::object();
  for (std::size_t i = 0; i < c.answers.size(); ++i)
    answers[std::string{text_of(static_cast<LookupResult>(i))}] = c.answers[i];
  const NameLevels levels = names.levels();
  return {{"followed", levels.names},      {"failing", levels.failing},
          {"addresses", levels.addresses}, {"lookups", c.lookups},
          {"failures", c.failures},        {"changes", c.changes},
          {"answers", std::move(answers)}};
}

/// "weir-w0", or "weir-w0 to weir-w3".
std::string device_names(const std::string& prefix, std::size_t workers) {
  return workers < 2 ? prefix + "0" : fmt::format("{0}0 to {0}{1}", prefix, workers - 1);
}

Error worker_hangs(std::size_t index, std::string_view what) {
  return Error{ErrorCode::kUnavailable, fmt::format("worker {} does not {}", index, what),
               "restart weir-l7 and report it"};
}

/// Every change that a person would want to read about, one line each.
std::vector<std::string> describe_changes(const control::Model& have, const control::Model& want) {
  std::vector<std::string> changes;
  const auto compare = [&](std::string_view kind, const auto& before, const auto& after) {
    const auto by_name = [](const auto& list) {
      std::unordered_map<std::string_view, decltype(list.data())> objects;
      objects.reserve(list.size());
      for (const auto& object : list)
        objects.emplace(object.name, &object);
      return objects;
    };
    const auto old_objects = by_name(before);
    const auto new_objects = by_name(after);
    for (const auto& object : before)
      if (!new_objects.contains(object.name))
        changes.push_back(fmt::format("remove {} {}", kind, object.name));
    for (const auto& object : after) {
      const auto found = old_objects.find(object.name);
      if (found == old_objects.end())
        changes.push_back(fmt::format("add {} {}", kind, object.name));
      else if (!(*found->second == object))
        changes.push_back(fmt::format("change {} {}", kind, object.name));
    }
  };
  compare("gateway", have.gateways, want.gateways);
  compare("service", have.services, want.services);
  compare("httpRoute", have.http_routes, want.http_routes);
  compare("tlsRoute", have.tls_routes, want.tls_routes);
  if (!(have.node.l7 == want.node.l7)) changes.emplace_back("change node.l7");
  return changes;
}

}  // namespace

net::InterfaceConfig interface_config(const control::Model& model, std::size_t worker) {
  net::InterfaceConfig config;
  config.speaks = worker == 0;  // the balancer sends neighbours' questions to that one
  // The carrier is a veth: what local peers send over it has checksums that no hardware will
  // finish.
  config.accept_partial_checksums = true;
  config.addresses = model.node.l7.addresses;
  config.tunnel_sources = model.node.l7.tunnel_sources;
  for (const wire::IpAddress& gateway : model.node.l7.gateways)
    (gateway.is_v4() ? config.gateway_v4 : config.gateway_v6) = gateway;
  for (const control::Gateway& gateway : model.gateways)
    config.vips.insert(config.vips.end(), gateway.addresses.begin(), gateway.addresses.end());
  return config;
}

std::vector<std::string> AdminApi::Refused::lines() const {
  return error ? std::vector{error->text()} : control::texts_of(diagnostics);
}

std::string AdminApi::Refused::text() const { return fmt::format("{}", fmt::join(lines(), "\n")); }

AdminApi::AdminApi(std::filesystem::path state_file, std::string device, control::Lane lane,
                   ResolverOptions resolver)
    : state_file_{std::move(state_file)},
      device_{std::move(device)},
      lane_{lane},
      started_{monotonic_now()},
      names_{std::move(resolver)} {}

Result<std::optional<control::ConfigSubmission>> AdminApi::read_state() const {
  std::error_code error;
  if (!std::filesystem::exists(state_file_, error))
    return std::optional<control::ConfigSubmission>{};
  std::ifstream file{state_file_};
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return Error::from_errno(fmt::format("reading {}", state_file_.string()));
  auto submission = control::submission_from_json(text.str());
  if (!submission)
    return Error{submission.error()}
        .while_doing(fmt::format("reading {}", state_file_.string()))
        .with_remedy("remove the file, or start with --config");
  return std::optional{*std::move(submission)};
}

Result<void> AdminApi::write_state(const control::ConfigSubmission& submission) const {
  std::error_code error;
  std::filesystem::create_directories(state_file_.parent_path(), error);
  if (error)
    return Error::from_errno(fmt::format("creating {}", state_file_.parent_path().string()),
                             error.value());
  return write_file_durably(state_file_.string(), control::to_json(submission), S_IRUSR | S_IWUSR);
}

namespace {

/// An error about a file that the configuration names, at the place where it names it: the text of
/// an error holds the path as the parser has resolved it. Nothing for other errors.
std::optional<control::Diagnostic> at_its_place(const Error& error,
                                                const control::SourceMap& source) {
  const std::pair<const std::string, control::Position>* best = nullptr;
  for (const auto& named : source.files)
    if (error.message().find(named.first) != std::string::npos &&
        (best == nullptr || named.first.size() > best->first.size()))
      best = &named;
  if (best == nullptr) return std::nullopt;
  return control::Diagnostic{.file = source.file,
                             .line = best->second.line,
                             .column = best->second.column,
                             .message = error.message(),
                             .expectation = {},
                             .hint = error.remedy()};
}

/// What is wrong with the certificates of a model, for who leaves out what cannot be used.
std::vector<control::Diagnostic> certificate_problems(const control::Model& model,
                                                      const control::SourceMap& source,
                                                      tls::CertificateStore& store) {
  const std::shared_ptr<const proxy::Snapshot> snapshot = proxy::build_snapshot(model, 0);
  const auto files = proxy::TlsFiles::load(*snapshot, store);
  const auto generation = files ? proxy::Generation::create(snapshot, *files)
                                : Result<std::unique_ptr<proxy::Generation>>{files.error()};
  if (generation) return {};
  auto diagnostic = at_its_place(generation.error(), source);
  return diagnostic ? std::vector{std::move(*diagnostic)} : std::vector<control::Diagnostic>{};
}

}  // namespace

Result<void> AdminApi::build(Prepared& prepared) {
  auto files = proxy::TlsFiles::load(*prepared.snapshot, certificates_);
  if (!files) return std::move(files).error();
  prepared.files = std::move(*files);
  for (std::size_t i = 0; i < prepared.model.node.l7.workers; ++i) {
    auto generation = proxy::Generation::create(prepared.snapshot, prepared.files);
    if (!generation) return std::move(generation).error();
    prepared.generations.push_back(std::move(*generation));
  }
  return {};
}

std::variant<AdminApi::Prepared, AdminApi::Refused> AdminApi::prepare(
    const control::ConfigSubmission& submission, Names names) {
  certificates_.forget_unused();  // what was only checked
  const auto objections = [&](const control::Model& model, const control::SourceMap& source) {
    return certificate_problems(model, source, certificates_);
  };
  control::PartialOutcome parsed =
      submission.partial
          ? control::parse_config_partially(submission.text, submission.file, objections)
          : control::PartialOutcome{control::parse_config(submission.text, submission.file), {}};
  control::ParseOutcome& outcome = parsed.outcome;
  if (!outcome.ok()) return Refused{std::move(outcome.diagnostics), std::nullopt};
  const std::size_t workers = outcome.model.node.l7.workers;
  if (!workers_.empty() && workers != workers_.size())
    return Refused{
        {},
        Error{
            ErrorCode::kUnsupported,
            fmt::format("node.l7.workers is {}, this weir-l7 runs {}", workers, workers_.size()),
            fmt::format("to change it, apply the file to weir-l4 alone (--only l4), remove {} and "
                        "restart weir-l7",
                        state_file_.string())}};
  Prepared prepared;
  prepared.model = std::move(outcome.model);
  prepared.left_out = std::move(parsed.left_out);
  book_.forget_unused();
  if (names == Names::kLookUp) names_.look_up(model_, prepared.model, kFirstLookupsMax);
  AddressedModel addressed = names_.with_addresses(prepared.model);
  prepared.snapshot = proxy::build_snapshot(addressed.model, revision_ + 1, book_);
  prepared.services = std::move(addressed.model.services);
  prepared.addresses_left_out = std::move(addressed.left_out);
  if (auto built = build(prepared); !built) {
    if (auto diagnostic = at_its_place(built.error(), outcome.source))
      return Refused{{std::move(*diagnostic)}, std::nullopt};
    return Refused{{}, std::move(built).error()};
  }
  return prepared;
}

Result<void> AdminApi::install(Prepared prepared, control::ConfigSubmission submission) {
  // On disk first: what was acknowledged survives a crash.
  submission.partial = !prepared.left_out.empty();
  if (auto written = write_state(submission); !written) return written;
  return make_live(std::move(prepared), std::move(submission));
}

Result<void> AdminApi::make_live(Prepared prepared, control::ConfigSubmission submission) {
  const std::uint64_t revision = prepared.snapshot->revision;
  WEIR_ASSERT(prepared.generations.size() == workers_.size());  // prepare() sees to it
  // Before workers know of them: new endpoints must first show that they work.
  if (auto watched = health_.set_services(prepared.model, *prepared.snapshot, monotonic_now());
      !watched)
    log_error("{}", watched.error().text());  // endpoints are taken to work
  for (std::size_t i = 0; i < workers_.size(); ++i)
    if (!workers_[i]->install(interface_config(prepared.model, i),
                              std::move(prepared.generations[i])))
      return worker_hangs(i, "take messages");
  revision_ = revision;
  use(std::move(prepared.snapshot));
  files_ = std::move(prepared.files);
  book_.forget_unused();
  submission_ = std::move(submission);
  model_ = std::move(prepared.model);
  names_.keep(model_);
  names_version_ = names_.version();
  services_ = std::move(prepared.services);
  names_.set_left_out(std::move(prepared.addresses_left_out));
  log_info("revision {} is live: {}", revision_, submission_.file);
  return {};
}

void AdminApi::use(std::shared_ptr<const proxy::Snapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  std::erase_if(given_out_, [](const auto& given) { return given.expired(); });
  given_out_.push_back(snapshot_);
}

void AdminApi::follow_names(Instant now) {
  const std::unique_lock lock{in_use_, std::try_to_lock};
  if (!lock.owns_lock() || workers_.empty()) return;
  names_.advance(now);
  if (names_.version() == names_version_ || now < next_endpoints_) return;
  names_version_ = names_.version();
  AddressedModel addressed = names_.with_addresses(model_);
  names_.set_left_out(std::move(addressed.left_out));
  if (addressed.model.services == services_) return;
  install_endpoints(addressed.model, now);
  services_ = std::move(addressed.model.services);
}

void AdminApi::install_endpoints(const control::Model& addressed, Instant now) {
  const std::shared_ptr<const proxy::Snapshot> snapshot =
      proxy::build_snapshot(addressed, revision_, book_);
  if (auto watched = health_.set_services(model_, *snapshot, now); !watched)
    log_error("{}", watched.error().text());  // endpoints are taken to work
  for (std::size_t i = 0; i < workers_.size(); ++i)
    if (!workers_[i]->install_endpoints(proxy::Generation::of_same_configuration(snapshot)))
      log_error("{}", worker_hangs(i, "take messages").text());
  use(snapshot);
  next_endpoints_ =
      now + (given_out_.size() > kSnapshotsMany ? kEndpointsSlowPace : kEndpointsPace);
  book_.forget_unused();
}

Result<void> AdminApi::start(Prepared prepared, control::ConfigSubmission submission,
                             std::vector<proxy::Worker*> workers) {
  workers_ = std::move(workers);
  submission.partial = !prepared.left_out.empty();
  return make_live(std::move(prepared), std::move(submission));
}

Result<void> AdminApi::keep_state() {
  const std::lock_guard lock{in_use_};
  return write_state(submission_);
}

namespace {

/// All that the API can do. Whoever adds a line describes it in openapi.json.
constexpr std::uint64_t kRetirementMaxS = 604'800;  // a week

constexpr std::array kOperations{control::AdminOperation{"GET", "/v1/status"},
                                 control::AdminOperation{"GET", "/v1/stats"},
                                 control::AdminOperation{"GET", "/metrics"},
                                 control::AdminOperation{"POST", "/v1/check"},
                                 control::AdminOperation{"POST", "/v1/apply"},
                                 control::AdminOperation{"POST", "/v1/hold"},
                                 control::AdminOperation{"POST", "/v1/retire"},
                                 control::AdminOperation{"GET", "/v1/config"},
                                 control::AdminOperation{"GET", "/v1/explain"},
                                 control::AdminOperation{"GET", "/v1/routes"},
                                 control::AdminOperation{"GET", "/v1/endpoints"},
                                 control::AdminOperation{"GET", "/v1/certificates"},
                                 control::AdminOperation{"GET", "/v1/openapi.json"}};

}  // namespace

std::span<const control::AdminOperation> AdminApi::operations() { return kOperations; }

control::AdminReply AdminApi::handle(const control::AdminRequest& request) {
  const std::lock_guard lock{in_use_};
  return answer(request);
}

control::AdminReply AdminApi::answer(const control::AdminRequest& request) {
  if (request.method == "GET" && request.path == "/v1/status") return status();
  if (request.method == "GET" && request.path == "/v1/stats") return stats();
  if (request.method == "GET" && request.path == "/metrics") return metrics();
  if (request.method == "POST" && request.path == "/v1/check") return check(request);
  if (request.method == "POST" && request.path == "/v1/apply") return apply(request);
  if (request.method == "POST" && request.path == "/v1/hold") return hold(request);
  if (request.method == "POST" && request.path == "/v1/retire") return retire(request);
  if (request.method == "GET" && request.path == "/v1/config") return config();
  if (request.method == "GET" && request.path == "/v1/explain")
    return explain_reply(model_, *snapshot_, files_, request);
  if (request.method == "GET" && request.path == "/v1/routes") return routes(request);
  if (request.method == "GET" && request.path == "/v1/endpoints")
    return endpoints_reply(*snapshot_, health_, names_.views(model_, monotonic_now()),
                           monotonic_now());
  if (request.method == "GET" && request.path == "/v1/certificates")
    return certificates_reply(*snapshot_, files_, ::time(nullptr));
  if (request.method == "GET" && request.path == "/v1/openapi.json")
    return {200, std::string{kOpenapi}};
  return control::unknown_path_reply(request, kOperations);
}

control::AdminReply AdminApi::status() {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(monotonic_now() - started_);
  json binds = json::array();
  for (const control::Vip& vip : control::l4_services(model_))
    if (vip.mode == control::ForwardMode::kL7)
      binds.push_back({{"vip", control::vip_text(vip.key())}, {"listener", vip.name}});
  json addresses = json::array();
  for (const wire::Prefix& prefix : model_.node.l7.addresses)
    addresses.push_back(prefix.text());
  json reply = {{"version", kVersion},
                {"pid", ::getpid()},
                {"uptime_s", uptime.count()},
                {"memory_bytes", control::read_process_facts().resident_bytes},
                {"revision", revision_},
                {"file", submission_.file},
                {"reload", control::reload_json(reload_)},
                {"device", device_names(device_, workers_.size())},
                {"lane", control::text_of(lane_)},
                {"addresses", addresses},
                {"workers", workers_.size()},
                {"listeners", binds},
                {"services", model_.services.size()},
                {"http_routes", model_.http_routes.size()}};
  return control::ok_reply(reply);
}

control::AdminReply AdminApi::hold(const control::AdminRequest& request) {
  const Result<json> body = control::object_of(request.body);
  if (!body) return control::error_reply(body.error());
  if (Result<void> known = control::only_members(*body, {"pid"}); !known)
    return control::error_reply(known.error());
  const auto pid = body->find("pid");
  if (pid == body->end() || !pid->is_number_unsigned() ||
      pid->get<std::uint64_t>() > std::numeric_limits<pid_t>::max())
    return control::error_reply(Error{ErrorCode::kInvalid, "'pid' is missing, or is none",
                                      "expected the process that will take over"});
  auto process = WatchedProcess::open(pid->get<pid_t>());
  if (!process) return control::error_reply(process.error());
  if (const auto other = held(); other && holder_->pid() != process->pid())
    return control::error_reply(*other);
  holder_ = *std::move(process);
  return control::ok_reply(json{{"pid", ::getpid()}});
}

std::optional<Error> AdminApi::held() {
  if (holder_ && holder_->has_ended()) holder_.reset();
  if (!holder_) return std::nullopt;
  return Error{ErrorCode::kConflict,
               fmt::format("another weir-l7 (process {}) is taking over; nothing was changed",
                           holder_->pid()),
               "repeat it in a second"};
}

control::AdminReply AdminApi::retire(const control::AdminRequest& request) {
  const Result<json> body = control::object_of(request.body);
  if (!body) return control::error_reply(body.error());
  if (Result<void> known = control::only_members(*body, {"longest_s"}); !known)
    return control::error_reply(known.error());
  const auto longest = body->find("longest_s");
  if (longest == body->end() || !longest->is_number_unsigned() ||
      longest->get<std::uint64_t>() > kRetirementMaxS)
    return control::error_reply(Error{ErrorCode::kInvalid,
                                      "'longest_s' is missing, or is no such number of seconds",
                                      fmt::format("expected 0 to {}", kRetirementMaxS)});
  retirement_s_.store(longest->get<std::int64_t>());
  return control::ok_reply(json{{"pid", ::getpid()}});
}

std::optional<Duration> AdminApi::retirement() const {
  const std::int64_t seconds = retirement_s_.load();
  return seconds < 0 ? std::nullopt : std::optional<Duration>{std::chrono::seconds{seconds}};
}

control::AdminReply AdminApi::config() { return {200, control::to_json(submission_)}; }

Result<std::vector<proxy::WorkerReport>> AdminApi::reports() const {
  std::vector<proxy::WorkerReport> reports;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto report = workers_[i]->report(kReportTimeout);
    if (!report) return worker_hangs(i, "answer");
    reports.push_back(*std::move(report));
  }
  return reports;
}

control::AdminReply AdminApi::stats() {
  const auto all = reports();
  if (!all) return control::error_reply(all.error());
  json workers = json::array();
  for (std::size_t i = 0; i < all->size(); ++i)
    workers.push_back(worker_json(i, (*all)[i]));
  const TrafficTotals totals = totals_of(*all, monotonic_now());
  const auto left_out = [](const TrafficTotals::ByName& rows) {
    return rows.size() - std::min(rows.size(), kTrafficRowsMax);
  };
  return control::ok_reply(json{{"workers", std::move(workers)},
                                {"services", traffic_rows_json("service", totals.services)},
                                {"services_left_out", left_out(totals.services)},
                                {"routes", traffic_rows_json("route", totals.routes)},
                                {"routes_left_out", left_out(totals.routes)},
                                {"names", names_json(names_)}});
}

control::AdminReply AdminApi::routes(const control::AdminRequest& request) {
  const auto all = reports();
  if (!all) return control::error_reply(all.error());
  return routes_reply(model_, *snapshot_, totals_of(*all, monotonic_now()), request);
}

control::AdminReply AdminApi::metrics() {
  control::AdminReply reply = stats();
  if (reply.status != 200) return reply;
  const DaemonFacts facts{.process = control::read_process_facts(),
                          .version = std::string{kVersion},
                          .revision = revision_,
                          .reload = reload_};
  return {200, metrics_text(reply.body, facts), std::string{control::kExpositionType}};
}

namespace {

control::AdminReply refusal_reply(const AdminApi::Refused& refused) {
  return refused.error ? control::error_reply(*refused.error)
                       : control::diagnostics_reply(refused.diagnostics);
}

/// What both POST /v1/check and POST /v1/apply answer.
control::AdminReply changes_reply(std::uint64_t revision, const std::vector<std::string>& changes,
                                  const std::vector<control::LeftOut>& left_out) {
  return control::ok_reply(json{{"revision", revision},
                                {"changes", changes},
                                {"warnings", json::array()},
                                {"left_out", control::left_out_json(left_out)}});
}

}  // namespace

std::vector<std::string> AdminApi::changes_to(const Prepared& prepared) const {
  std::vector<std::string> changes = describe_changes(model_, prepared.model);
  for (std::string& renewed : renewed_certificates(files_, prepared.files))
    changes.push_back(std::move(renewed));
  return changes;
}

control::AdminReply AdminApi::check(const control::AdminRequest& request) {
  if (const auto reason = held()) return control::error_reply(*reason);
  const auto submission = control::submission_from_json(request.body);
  if (!submission) return control::error_reply(submission.error());
  auto outcome = prepare(*submission);
  if (const Refused* refused = std::get_if<Refused>(&outcome)) return refusal_reply(*refused);
  const Prepared& prepared = std::get<Prepared>(outcome);
  return changes_reply(revision_, changes_to(prepared), prepared.left_out);
}

std::variant<AdminApi::Applied, AdminApi::Refused> AdminApi::put_in_force(
    control::ConfigSubmission submission, Source source) {
  auto outcome = prepare(submission, Names::kLookUp);
  if (auto* refused = std::get_if<Refused>(&outcome)) {
    names_.keep(model_);
    return std::move(*refused);
  }
  Prepared& prepared = std::get<Prepared>(outcome);
  // weir-l4 sends there, and may not follow the file, or not yet.
  if (source == Source::kFollowedFile &&
      prepared.model.node.l7.addresses != model_.node.l7.addresses) {
    names_.keep(model_);
    return Refused{{}, control::other_l7_addresses(submission.file)};
  }
  Applied applied{changes_to(prepared), prepared.left_out};
  // Even without a change in words the file of an authority may have a new content: always a new
  // one.
  if (auto installed = install(std::move(prepared), std::move(submission)); !installed) {
    names_.keep(model_);
    return Refused{{}, std::move(installed).error()};
  }
  return applied;
}

control::AdminReply AdminApi::apply(const control::AdminRequest& request) {
  if (const auto reason = held()) return control::error_reply(*reason);
  auto submission = control::submission_from_json(request.body);
  if (!submission) return control::error_reply(submission.error());
  const std::string file = submission->file;
  const auto outcome = put_in_force(*std::move(submission), Source::kCommand);
  if (const auto* refused = std::get_if<Refused>(&outcome)) return refusal_reply(*refused);
  reload_.note_applied(file, revision_);
  const Applied& applied = std::get<Applied>(outcome);
  return changes_reply(revision_, applied.changes, applied.left_out);
}

bool AdminApi::follow_file(const std::string& file) {
  const std::lock_guard lock{in_use_};
  if (held()) return false;
  Result<std::string> text = control::read_config_file(file);
  if (!text) {
    reload_.fail(file, revision_, {text.error().text()});
    return true;
  }
  const auto outcome = put_in_force({file, *std::move(text)}, Source::kFollowedFile);
  if (const auto* refused = std::get_if<Refused>(&outcome))
    reload_.fail(file, revision_, refused->lines());
  else
    reload_.succeed(file, revision_);
  return true;
}

}  // namespace weir::l7
