#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

// What a rule does with a request and its answer, beside where it sends them.

namespace weir::control {
namespace {

constexpr std::size_t kHeaderEditsMax = 64;
constexpr std::size_t kHeaderEditBytesMax = 4096;
constexpr std::size_t kRespondBodyMax = 16 * 1024;

}  // namespace

void ConfigParser::parse_filters(Fields& fields, RouteRule& rule) {
  if (const YamlNode* redirect = fields.find("redirect"))
    rule.redirect = parse_redirect(*redirect, fields.label("redirect"), rule);
  if (const YamlNode* respond = fields.find("respond"))
    rule.respond = parse_respond(*respond, fields.label("respond"));
  if (const YamlNode* rewrite = fields.find("rewrite"))
    rule.rewrite = parse_rewrite(*rewrite, fields.label("rewrite"), rule);
  if (const YamlNode* headers = fields.find("requestHeaders"))
    rule.request_headers =
        parse_header_edits(*headers, fields.label("requestHeaders"), TemplateUse::kRequest);
  if (const YamlNode* headers = fields.find("responseHeaders"))
    rule.response_headers =
        parse_header_edits(*headers, fields.label("responseHeaders"), TemplateUse::kResponse);
  if (const YamlNode* fault = fields.find("fault"))
    rule.fault = parse_fault(*fault, fields.label("fault"));
  if (const YamlNode* mirror = fields.find("mirror"))
    rule.mirror = parse_mirror(*mirror, fields.label("mirror"));
  for (const std::string_view key : {"fault", "mirror"})
    if (const YamlNode* node = fields.find(key); node != nullptr && (rule.redirect || rule.respond))
      reader_.report(node->at, fmt::format("{} has {} but no services", fields.owner(), key),
                     "backendRefs beside it");
}

Redirect ConfigParser::parse_redirect(const YamlNode& node, const std::string& owner,
                                      const RouteRule& rule) {
  constexpr std::array<Choice<std::string_view>, 2> kSchemes{
      {{"http", "http"}, {"https", "https"}}};
  constexpr std::array<Choice<std::uint16_t>, 5> kStatuses{
      {{"301", 301}, {"302", 302}, {"303", 303}, {"307", 307}, {"308", 308}}};
  Fields fields{
      reader_, node, owner, {{"scheme", "hostname", "port", "path", "prefix", "regex", "status"}}};
  Redirect redirect;
  if (const YamlNode* scheme = fields.find("scheme"))
    redirect.scheme = reader_.choice<std::string_view>(*scheme, fields.label("scheme"), kSchemes);
  if (const YamlNode* hostname = fields.find("hostname"))
    redirect.hostname = read_plain_hostname(*hostname, fields.label("hostname"));
  if (const YamlNode* port = fields.find("port"))
    redirect.port = reader_.port(*port, fields.label("port"));
  if (const YamlNode* status = fields.find("status"))
    redirect.status =
        reader_.choice<std::uint16_t>(*status, fields.label("status"), kStatuses).value_or(302);
  redirect.path = parse_path_edit(fields, rule);
  const bool says_where = redirect.scheme || redirect.hostname || redirect.port ||
                          redirect.path.kind != PathEdit::Kind::kKeep;
  if (node.kind == YamlKind::kMap && !says_where)
    reader_.report(node.at, fmt::format("{} leads back to where the request came to", owner),
                   "one of scheme, hostname, port, path, prefix and regex");
  return redirect;
}

std::optional<std::string> ConfigParser::read_plain_hostname(const YamlNode& node,
                                                             const std::string& what) {
  auto name = reader_.hostname(node, what);
  if (!name || !name->starts_with("*.")) return name;
  reader_.report(node.at, fmt::format("{} is '{}'", what, *name), "one name, without '*'");
  return std::nullopt;
}

Rewrite ConfigParser::parse_rewrite(const YamlNode& node, const std::string& owner,
                                    const RouteRule& rule) {
  Fields fields{reader_, node, owner, {{"hostname", "path", "prefix", "regex"}}};
  Rewrite rewrite;
  if (const YamlNode* hostname = fields.find("hostname"))
    rewrite.hostname = read_plain_hostname(*hostname, fields.label("hostname"));
  rewrite.path = parse_path_edit(fields, rule);
  return rewrite;
}

/// One of `path`, `prefix` and `regex`, or none of them.
PathEdit ConfigParser::parse_path_edit(const Fields& fields, const RouteRule& rule) {
  PathEdit edit;
  const YamlNode* last = nullptr;
  for (const std::string_view key : {"path", "prefix", "regex"}) {
    const YamlNode* node = fields.find(key);
    if (node == nullptr) continue;
    if (last != nullptr)
      reader_.report(node->at, fmt::format("{} has more than one new path", fields.owner()),
                     "one of path, prefix and regex");
    last = node;
    const std::string what = fields.label(key);
    if (key == "regex") {
      parse_regex_edit(*node, what, edit);
      continue;
    }
    auto path = reader_.text(*node, what, "a path such as /new");
    if (!path || !reader_.accept(node->at, what, object_to_path(*path))) continue;
    edit = {key == "path" ? PathEdit::Kind::kFull : PathEdit::Kind::kPrefix, std::move(*path), {}};
  }
  const bool needs_prefix = edit.kind == PathEdit::Kind::kPrefix;
  const bool has_prefix = std::ranges::all_of(rule.matches, [](const RouteMatch& match) {
    return match.path_kind == PathMatchKind::kPrefix;
  });
  if (needs_prefix && !has_prefix)
    reader_.report(last->at,
                   fmt::format("{} replaces a prefix, and not every match of the rule has one",
                               fields.label("prefix")),
                   "matches by prefix, or 'path' or 'regex'");
  return edit;
}

void ConfigParser::parse_regex_edit(const YamlNode& node, const std::string& owner,
                                    PathEdit& edit) {
  Fields fields{reader_, node, owner, {{"match", "substitution"}}};
  const YamlNode* match = fields.need("match", "an RE2 expression for the whole path");
  const YamlNode* by = fields.need("substitution", "the new path, with \\1 for the first group");
  if (match == nullptr || by == nullptr) return;
  auto pattern = reader_.text(*match, fields.label("match"), "an RE2 expression");
  auto value = reader_.text(*by, fields.label("substitution"), "a path such as /\\1");
  if (!pattern || !value) return;
  if (!reader_.accept(match->at, fields.label("match"), object_to_regex(*pattern)) ||
      !reader_.accept(by->at, fields.label("substitution"),
                      object_to_substitution(*value, *pattern)))
    return;
  edit = {PathEdit::Kind::kRegex, std::move(*value), std::move(*pattern)};
}

HeaderEdits ConfigParser::parse_header_edits(const YamlNode& node, const std::string& owner,
                                             TemplateUse use) {
  Fields fields{reader_, node, owner, {{"set", "add", "remove"}}};
  HeaderEdits edits;
  if (const YamlNode* set = fields.find("set"))
    edits.set = parse_header_values(*set, fields.label("set"), use);
  if (const YamlNode* add = fields.find("add"))
    edits.add = parse_header_values(*add, fields.label("add"), use);
  read_list(
      fields, "remove", "header names", kHeaderEditsMax,
      [&](const YamlNode& item, std::size_t) -> std::optional<std::string> {
        const std::string what = "a header in " + fields.label("remove");
        auto name = reader_.text(item, what, "a header name");
        if (!name || !reader_.accept(item.at, what, object_to_edited_header(*name)))
          return std::nullopt;
        return name;
      },
      edits.remove);
  std::size_t bytes = 0;
  for (const auto* values : {&edits.set, &edits.add})
    for (const auto& [name, value] : *values)
      bytes += name.size() + value.size() + 4;
  if (bytes > kHeaderEditBytesMax)
    reader_.report(node.at, fmt::format("{} adds {} bytes to a head", owner, bytes),
                   fmt::format("at most {}", kHeaderEditBytesMax));
  return edits;
}

std::vector<std::pair<std::string, std::string>> ConfigParser::parse_header_values(
    const YamlNode& node, const std::string& owner, TemplateUse use) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const MapEntry& entry : entries_of(reader_, node, owner, "a map such as {x-env: prod}")) {
    const std::string what = fmt::format("header '{}' in {}", entry.key, owner);
    if (!reader_.accept(entry.at, "a header in " + owner, object_to_edited_header(entry.key)))
      continue;
    auto value = reader_.text(*entry.value, what, "a value");
    if (!value || !reader_.accept(entry.value->at, what, object_to_header_value(*value)) ||
        !reader_.accept(entry.value->at, what, object_to_value_template(*value, use)))
      continue;
    if (values.size() == kHeaderEditsMax) {
      reader_.report(entry.at, fmt::format("{} has too many headers", owner),
                     fmt::format("at most {}", kHeaderEditsMax));
      break;
    }
    values.emplace_back(std::string{entry.key}, std::move(*value));
  }
  return values;
}

FaultInjection ConfigParser::parse_fault(const YamlNode& node, const std::string& owner) {
  constexpr std::uint32_t kDelayMaxMs = 5 * 60'000;
  FaultInjection fault;
  const Fields fields{reader_, node, owner, {{"delay", "abort"}}};
  const YamlNode* delay = fields.find("delay");
  const YamlNode* abort = fields.find("abort");
  if (node.kind == YamlKind::kMap && delay == nullptr && abort == nullptr)
    reader_.report(node.at, fmt::format("{} does nothing", owner),
                   "'delay: {time: 2s, share: 10%}' or 'abort: {status: 503, share: 5%}'");
  if (delay != nullptr) {
    Fields words{reader_, *delay, fields.label("delay"), {{"time", "share"}}};
    if (const YamlNode* time = words.need("time", "a time such as 2s"))
      fault.delay_ms = reader_.duration_ms(*time, words.label("time"), 1, kDelayMaxMs).value_or(1);
    if (const YamlNode* share = words.need("share", "a share of requests, such as 10%"))
      fault.delay_share = reader_.share(*share, words.label("share")).value_or(0);
  }
  if (abort != nullptr) {
    Fields words{reader_, *abort, fields.label("abort"), {{"status", "share"}}};
    if (const YamlNode* status = words.need("status", "a status such as 503"))
      fault.abort_status = static_cast<std::uint16_t>(
          reader_.number(*status, words.label("status"), 400, 599).value_or(503));
    if (const YamlNode* share = words.need("share", "a share of requests, such as 5%"))
      fault.abort_share = reader_.share(*share, words.label("share")).value_or(0);
  }
  return fault;
}

Mirror ConfigParser::parse_mirror(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"backendRef", "share", "bodyBytes"}}};
  Mirror mirror;
  if (const YamlNode* share = fields.find("share"))
    mirror.share = reader_.share(*share, fields.label("share")).value_or(kShareWhole);
  if (const YamlNode* bytes = fields.find("bodyBytes"))
    mirror.body_bytes = static_cast<std::uint32_t>(
        reader_.bytes(*bytes, fields.label("bodyBytes"), 0, kMirrorBodyMax).value_or(0));
  const YamlNode* ref = fields.need("backendRef", "the service that gets them: {name: cart-next}");
  if (ref == nullptr) return mirror;
  Fields words{reader_, *ref, fields.label("backendRef"), {{"name"}}};
  const YamlNode* name = words.need("name", "the name of a service");
  const auto service = name != nullptr ? reader_.name(*name, words.label("name")) : std::nullopt;
  if (!service) return mirror;
  mirror.service = *service;
  service_references_.push_back({name->at, owner, *service, std::nullopt});
  return mirror;
}

FixedResponse ConfigParser::parse_respond(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"status", "contentType", "body"}}};
  FixedResponse respond;
  if (const YamlNode* status = fields.need("status", "a status such as 503"))
    respond.status = static_cast<std::uint16_t>(
        reader_.number(*status, fields.label("status"), 200, 599).value_or(200));
  if (const YamlNode* body = fields.find("body"))
    respond.body = reader_.text(*body, fields.label("body"), "text").value_or("");
  if (const YamlNode* type = fields.find("contentType")) {
    auto text = reader_.text(*type, fields.label("contentType"), "a type such as text/html");
    if (text &&
        reader_.accept(type->at, fields.label("contentType"), object_to_header_value(*text)))
      respond.content_type = std::move(*text);
  } else if (!respond.body.empty()) {
    respond.content_type = "text/plain; charset=utf-8";
  }
  const bool may_have_body =
      respond.status != 204 && respond.status != 205 && respond.status != 304;
  if (!may_have_body && !respond.body.empty())
    reader_.report(node.at, fmt::format("{} has a body, and status {}", owner, respond.status),
                   "no body with 204, 205 and 304 (RFC 9110, section 6.4.1)");
  if (respond.body.size() > kRespondBodyMax)
    reader_.report(node.at, fmt::format("{} has a body of {} bytes", owner, respond.body.size()),
                   fmt::format("at most {}", kRespondBodyMax));
  return respond;
}

}  // namespace weir::control
