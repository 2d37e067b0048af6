#include "l4/control/config.h"

#include <algorithm>
#include <filesystem>

#include "l4/control/config_files.h"
#include "l4/control/config_parser.h"

namespace weir::control {
namespace {

// How long lists may be: far beyond what one node serves, near enough that a check which compares
// each with each ends soon.
constexpr std::size_t kGatewaysMax = 256;
constexpr std::size_t kRoutesMax = 65536;

/// "one of a, b", with the nearest as a hint.
template <typename Objects>
std::pair<std::string, std::string> known_names(const Objects& objects, std::string_view wanted,
                                                std::string_view kind) {
  constexpr std::size_t kShownMax = 20;
  std::vector<std::string_view> names;
  for (const auto& object : objects)
    names.push_back(object.name);
  if (names.empty()) return {fmt::format("a {}, but the file has none", kind), ""};
  const std::string_view nearest = nearest_word(wanted, names);
  std::string hint = nearest.empty() ? std::string{} : fmt::format("did you mean '{}'?", nearest);
  const bool cut = names.size() > kShownMax;
  names.resize(std::min(names.size(), kShownMax));
  return {fmt::format("one of {}{}", fmt::join(names, ", "), cut ? ", …" : ""), std::move(hint)};
}

}  // namespace

void ConfigParser::parse_document(const YamlNode& root) {
  if (root.kind == YamlKind::kNull) {
    reader_.report({1, 1}, "the file is empty", "'version: 1' and what there is to balance");
    return;
  }
  Fields fields{reader_,
                root,
                "the file",
                {{"version", "node", "vips", "gateways", "services", "httpRoutes", "tlsRoutes"},
                 {"policies", "grpcRoutes", "kubernetes", "announce"}}};
  if (const YamlNode* version = fields.need("version", "'version: 1'"))
    (void)reader_.number(*version, "version of the file", 1, 1);
  if (const YamlNode* node = fields.find("node")) parse_node(*node);
  read_list(
      fields, "vips", "vips", kVipsMax,
      [&](const YamlNode& node, std::size_t i) { return parse_vip(node, i); }, model_.vips);
  read_list(
      fields, "gateways", "gateways", kGatewaysMax,
      [&](const YamlNode& node, std::size_t i) { return parse_gateway(node, i); }, model_.gateways);
  if (const YamlNode* services = fields.find("services")) {
    services_are_known_ = services->kind == YamlKind::kMap;
    for (const MapEntry& entry : entries_of(reader_, *services, "services of the file",
                                            "a map of services by their names")) {
      if (std::optional<Service> service = parse_service(entry))
        model_.services.push_back(std::move(*service));
    }
  }
  read_list(
      fields, "httpRoutes", "routes", kRoutesMax,
      [&](const YamlNode& node, std::size_t i) { return parse_route(node, i); },
      model_.http_routes);
  read_list(
      fields, "tlsRoutes", "routes", kRoutesMax,
      [&](const YamlNode& node, std::size_t i) { return parse_tls_route(node, i); },
      model_.tls_routes);
  check_references();
  check_families();
  check_port_ranges();
  check_snat_addresses();
}

void ConfigParser::check_gateway_reference(const Reference& reference) {
  const auto gateway = std::ranges::find(model_.gateways, reference.name, &Gateway::name);
  if (gateway == model_.gateways.end()) {
    auto [expected, hint] = known_names(model_.gateways, reference.name, "gateway");
    reader_.report(reference.at,
                   fmt::format("{} refers to gateway '{}', which does not exist", reference.what,
                               reference.name),
                   std::move(expected), std::move(hint));
    return;
  }
  if (!reference.listener) return;
  const auto listener = std::ranges::find(gateway->listeners, *reference.listener, &Listener::name);
  if (listener != gateway->listeners.end()) {
    const bool is_tls = listener->protocol == ListenerProtocol::kTls;
    if (is_tls == reference.of_tls_route) return;
    reader_.report(reference.at,
                   fmt::format("{} refers to listener '{}' of gateway '{}', which {}",
                               reference.what, listener->name, gateway->name,
                               is_tls ? "passes TLS through" : "does not pass TLS through"),
                   is_tls ? "a listener of protocol HTTP or HTTPS, or a tlsRoute"
                          : "a listener of protocol TLS, or an httpRoute");
    return;
  }
  if (listeners_.contains({reference.name, *reference.listener})) return;  // it has faults
  auto [expected, hint] = known_names(gateway->listeners, *reference.listener, "listener");
  reader_.report(reference.at,
                 fmt::format("{} refers to listener '{}', which gateway '{}' does not have",
                             reference.what, *reference.listener, reference.name),
                 std::move(expected), std::move(hint));
}

void ConfigParser::check_references() {
  for (const Reference& reference : gateway_references_)
    check_gateway_reference(reference);
  if (!services_are_known_) return;
  std::map<std::string_view, const Service*> services;
  for (const Service& service : model_.services)
    services.emplace(service.name, &service);
  for (const Reference& reference : service_references_) {
    if (const auto found = services.find(reference.name); found != services.end()) {
      if (reference.of_tls_route && found->second->tls)
        reader_.report(reference.at,
                       fmt::format("{} passes TLS on to service '{}', which has tls itself",
                                   reference.what, reference.name),
                       "a service without tls: what the client encrypts goes to it as it is");
      continue;
    }
    auto [expected, hint] = known_names(model_.services, reference.name, "service");
    reader_.report(reference.at,
                   fmt::format("{} refers to service '{}', which does not exist", reference.what,
                               reference.name),
                   std::move(expected), std::move(hint));
  }
}

/// L7 speaks from its own addresses, so it needs one of every family it is to speak in.
void ConfigParser::check_families() {
  const std::vector<wire::Prefix>& own = model_.node.l7.addresses;
  for (const Vip& vip : model_.vips) {
    const VipKey key = vip.key();
    const auto inside = std::ranges::find_if(
        own, [&](const wire::Prefix& prefix) { return key.prefix().contains(prefix.address); });
    if (inside == own.end()) continue;
    reader_.report(
        source_.addresses.at(vip.address),
        fmt::format("{} is {} of vip {} and in node.l7.addresses", inside->address.text(),
                    key.is_single_address() ? "the address" : "within the prefix", vip_text(key)),
        "an address of its own for each");
  }
  if (!endpoint_names_.empty() && own.empty())
    reader_.report(
        first_endpoint_name_.at,
        fmt::format("{} is a name, but node.l7.addresses is empty", first_endpoint_name_.owner),
        "an address for L7 to speak from, such as 10.0.0.5/24");
  std::vector<std::pair<bool, wire::Family>> reported;
  for (const L7Address& used : l7_addresses_) {
    const bool same_address =
        std::ranges::find(own, used.address, &wire::Prefix::address) != own.end();
    // The XDP program drops what comes to a VIP's address but to none of its ports, and so the
    // replies to L7's connections if it speaks from a VIP.
    if (used.is_vip && same_address && !model_.node.interfaces.empty()) {
      reader_.report(
          used.at,
          fmt::format("{} is {}, which node.l7.addresses has too", used.what, used.address.text()),
          "an address of its own for each");
    }
    const wire::Family family = used.address.family();
    const bool has_family = std::ranges::any_of(
        own, [&](const wire::Prefix& prefix) { return prefix.address.family() == family; });
    if (has_family) continue;
    const std::pair<bool, wire::Family> complaint{used.is_vip, family};
    if (std::ranges::find(reported, complaint) != reported.end()) continue;
    reported.push_back(complaint);
    const bool v4 = family == wire::Family::kIpv4;
    reader_.report(used.at,
                   fmt::format("{} is {}, but node.l7.addresses has no {} address", used.what,
                               used.address.text(), v4 ? "IPv4" : "IPv6"),
                   fmt::format("an address for L7 to speak from, such as {}",
                               v4 ? "10.0.0.5/24" : "2001:db8::5/64"));
  }
}

/// Replies to full NAT come to its addresses; a VIP there would take them for its own traffic.
void ConfigParser::check_snat_addresses() {
  for (const auto& [address, at] : snat_addresses_) {
    const auto taken = std::ranges::find_if(
        vips_, [&](const auto& vip) { return vip.first.prefix().contains(address); });
    if (taken == vips_.end()) continue;
    reader_.report(at,
                   fmt::format("a snatAddress of node.l4 is {}, which {} has too", address.text(),
                               taken->second.owner),
                   "an address of its own for each");
  }
}

void ConfigParser::claim_name(std::string_view kind, const std::string& name, const Fields& fields,
                              std::string_view among) {
  if (name.empty()) return;
  const Position at = fields.find("name")->at;
  const auto [first, inserted] =
      names_.try_emplace({std::string{among.empty() ? kind : among}, name}, at);
  if (inserted) return;
  reader_.report(
      at, fmt::format("{} '{}' has the name of another in line {}", kind, name, first->second.line),
      "names that differ");
}

void ConfigParser::claim_vip(const VipKey& key, const std::string& owner, Position at) {
  const auto [first, inserted] = vips_.try_emplace(key, Named{owner, at});
  if (inserted) return;
  reader_.report(at,
                 fmt::format("{} is {}, as {} in line {} is", owner, vip_text(key),
                             first->second.owner, first->second.at.line),
                 "each address, port and protocol once");
}

void ConfigParser::check_port_ranges() {
  std::vector<VipKey> keys;
  std::vector<const Named*> vips;
  for (const auto& [key, named] : vips_) {
    keys.push_back(key);
    vips.push_back(&named);
  }
  for (const CrossingRanges& crossing : crossing_ranges(keys)) {
    const auto [first, later] = std::minmax(
        crossing.one, crossing.other, [&](auto a, auto b) { return vips[a]->at < vips[b]->at; });
    reader_.report(
        vips[later]->at,
        fmt::format("{} has ports {}, which overlap {} of {} in line {}", vips[later]->owner,
                    ports_text(keys[later].ports), ports_text(keys[first].ports),
                    vips[first]->owner, vips[first]->at.line),
        "ranges that are apart, or one within the other: the narrower is preferred");
  }
}

std::optional<std::string> ConfigParser::readable_file(const YamlNode& node,
                                                       std::string_view what) {
  const auto name = reader_.text(node, what, "a file name");
  if (!name) return std::nullopt;
  std::string path = resolved(*name);
  if (const Result<void> readable = check_readable(path); !readable) {
    reader_.report(node.at, fmt::format("{} cannot be read: {}", what, readable.error().text()),
                   "a file that the daemon may read");
    return std::nullopt;
  }
  source_.files.try_emplace(path, node.at);
  return path;
}

std::string ConfigParser::resolved(const std::string& path) const {
  std::error_code error;
  const std::filesystem::path base = std::filesystem::absolute(reader_.file(), error).parent_path();
  return (base / path).lexically_normal().string();
}

std::string Diagnostic::text() const {
  std::string line_text = file;
  if (line > 0) line_text += fmt::format(":{}:{}", line, column);
  line_text += fmt::format("{}{}", line_text.empty() ? "" : ": ", message);
  if (!expectation.empty()) line_text += fmt::format("; expected {}", expectation);
  if (!hint.empty()) line_text += fmt::format("; {}", hint);
  return line_text;
}

ParseOutcome parse_config(std::string_view text, const std::string& file, std::size_t bytes_max) {
  ParseOutcome outcome;
  outcome.source.file = file;
  ConfigReader reader{file};
  if (text.size() > bytes_max) {
    reader.report({}, fmt::format("the file has {} bytes", text.size()),
                  fmt::format("at most {}", bytes_max));
  } else {
    auto tree = parse_yaml(text);
    if (auto* problem = std::get_if<YamlProblem>(&tree)) {
      reader.report(problem->at, problem->message, problem->expectation, problem->hint);
    } else {
      ConfigParser{reader, outcome}.parse_document(std::get_if<YamlTree>(&tree)->root);
    }
  }
  outcome.warnings = reader.take_warnings();
  set_diagnostics(outcome, reader.take_diagnostics());
  return outcome;
}

std::vector<std::string> texts_of(const std::vector<Diagnostic>& diagnostics) {
  std::vector<std::string> texts;
  texts.reserve(diagnostics.size());
  for (const Diagnostic& diagnostic : diagnostics)
    texts.push_back(diagnostic.text());
  return texts;
}

void set_diagnostics(ParseOutcome& outcome, std::vector<Diagnostic> diagnostics) {
  outcome.diagnostics = std::move(diagnostics);
  if (outcome.diagnostics.size() <= kDiagnosticsMax) return;
  outcome.left_out = outcome.diagnostics.size() - kDiagnosticsMax;
  outcome.diagnostics.resize(kDiagnosticsMax);
}

}  // namespace weir::control
