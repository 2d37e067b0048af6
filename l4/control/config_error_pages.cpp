#include <fmt/format.h>

#include <algorithm>

#include "l4/base/json_text.h"
#include "l4/control/config_files.h"
#include "l4/control/config_parser.h"
#include "l4/control/units.h"

// What gateways, listeners and routes say about errors, and what gateways log.

namespace weir::control {
namespace {

constexpr std::size_t kErrorPagesMax = 64;
constexpr std::size_t kErrorPageStatusesMax = 32;
/// What an answer of our own has room for.
constexpr std::size_t kErrorPageBytesMax = 16 * 1024;
/// Of all that one file names: they are held in memory, and in the saved model.
constexpr std::size_t kErrorPagesBytesMax = 4 * 1024 * 1024;
constexpr std::size_t kLogFormatMax = 2048;

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_character_bytes(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

// ---- error pages -------------------------------------------------------------------------------

std::vector<ErrorPage> ConfigParser::parse_error_pages(const Fields& fields) {
  std::vector<ErrorPage> pages;
  read_list(
      fields, "errorPages", "pages", kErrorPagesMax,
      [&](const YamlNode& item, std::size_t i) {
        return parse_error_page(item, fmt::format("error page {} of {}", i + 1, fields.owner()));
      },
      pages);
  return pages;
}

std::optional<ErrorPage> ConfigParser::parse_error_page(const YamlNode& node,
                                                        const std::string& owner) {
  Fields fields{reader_, node, owner, {{"statuses", "contentType", "file", "body"}}};
  ErrorPage page{.statuses = {}, .content_type = "text/html; charset=utf-8", .body = {}};
  fields.need("statuses", "a list such as [404, 5xx]");
  read_list(
      fields, "statuses", "statuses", kErrorPageStatusesMax,
      [&](const YamlNode& item, std::size_t) { return parse_status_match(item, owner); },
      page.statuses);
  refuse_empty(fields, "statuses");
  if (const YamlNode* type = fields.find("contentType")) {
    const std::string what = fields.label("contentType");
    auto text = reader_.text(*type, what, "a type such as application/json");
    if (text && reader_.accept(type->at, what, object_to_header_value(*text)))
      page.content_type = std::move(*text);
  }
  const YamlNode* file = fields.find("file");
  const YamlNode* body = fields.find("body");
  if (node.kind == YamlKind::kMap && (file == nullptr) == (body == nullptr)) {
    reader_.report(node.at, fmt::format("{} must have one of file and body", owner),
                   "'file: errors/5xx.html', or the text itself as 'body'");
    return std::nullopt;
  }
  if (file != nullptr) page.body = read_page(*file, fields.label("file"));
  if (body != nullptr) page.body = reader_.text(*body, fields.label("body"), "text").value_or("");
  const YamlNode& text = file != nullptr ? *file : body != nullptr ? *body : node;
  if (page.body.size() > kErrorPageBytesMax)
    reader_.report(text.at, fmt::format("{} has {} bytes", owner, page.body.size()),
                   fmt::format("at most {}", kErrorPageBytesMax));
  error_page_bytes_ += page.body.size();
  if (error_page_bytes_ > kErrorPagesBytesMax &&
      error_page_bytes_ - page.body.size() <= kErrorPagesBytesMax)
    reader_.report(text.at,
                   fmt::format("with {} the error pages have {} bytes", owner, error_page_bytes_),
                   fmt::format("at most {}", kErrorPagesBytesMax));
  return page;
}

std::string ConfigParser::read_page(const YamlNode& node, const std::string& what) {
  const auto name = reader_.text(node, what, "a file name");
  if (!name) return {};
  const std::string path = resolved(*name);
  Result<std::string> text = read_regular_file(path, kErrorPageBytesMax);
  if (!text) {
    reader_.report(
        node.at, fmt::format("{} cannot be read: {}", what, text.error().text()),
        fmt::format("a text of at most {} bytes that the daemon may read", kErrorPageBytesMax));
    return {};
  }
  if (!is_utf8(*text)) {
    reader_.report(node.at, fmt::format("{}: {} is not UTF-8", what, path), "a text in UTF-8");
    return {};
  }
  if (text->empty()) {
    reader_.report(node.at, fmt::format("{}: {} is empty", what, path), "a text");
    return {};
  }
  source_.files.try_emplace(path, node.at);
  return std::move(*text);
}

std::optional<StatusMatch> ConfigParser::parse_status_match(const YamlNode& node,
                                                            const std::string& owner) {
  if (node.kind == YamlKind::kScalar) {
    if (node.text == "4xx" || node.text == "5xx")
      return StatusMatch{static_cast<std::uint16_t>(node.text.front() - '0')};
    const std::optional<std::uint64_t> number = decimal(node.text);
    if (number && *number >= 400 && *number <= 599)
      return StatusMatch{static_cast<std::uint16_t>(*number)};
  }
  reader_.report(node.at, fmt::format("a status of {} is {}", owner, found_text(node)),
                 "a status from 400 to 599, 4xx or 5xx");
  return std::nullopt;
}

// ---- access log --------------------------------------------------------------------------------

AccessLogPolicy ConfigParser::parse_access_log(const YamlNode& node, const std::string& owner) {
  const Fields fields{reader_, node, owner, {{"format", "sample", "always"}}};
  AccessLogPolicy log;
  if (const YamlNode* format = fields.find("format")) {
    const std::string what = fields.label("format");
    auto text = reader_.text(*format, what, "a text with variables such as ${client.address}");
    if (text && text->size() > kLogFormatMax) {
      reader_.report(format->at, fmt::format("{} has {} bytes", what, text->size()),
                     fmt::format("at most {}", kLogFormatMax));
    } else if (text && (text->empty() || !std::ranges::all_of(*text, [](char c) {
                          return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
                        }))) {
      reader_.report(format->at, fmt::format("{} is empty or has control characters", what),
                     "one line of text; its end is added");
    } else if (text && reader_.accept(format->at, what,
                                      object_to_value_template(*text, TemplateUse::kLog))) {
      log.format = std::move(*text);
    }
  }
  if (const YamlNode* sample = fields.find("sample"))
    log.sample = reader_.share(*sample, fields.label("sample")).value_or(kShareWhole);
  if (const YamlNode* always = fields.find("always"))
    parse_log_always(*always, fields.label("always"), log);
  return log;
}

void ConfigParser::parse_log_always(const YamlNode& node, const std::string& owner,
                                    AccessLogPolicy& log) {
  const Fields fields{reader_, node, owner, {{"minStatus", "minDuration"}}};
  if (const YamlNode* status = fields.find("minStatus"))
    if (const auto value = reader_.number(*status, fields.label("minStatus"), 100, 599))
      log.always_status = static_cast<std::uint16_t>(*value);
  if (const YamlNode* duration = fields.find("minDuration"))
    log.always_duration_ms =
        reader_.duration_ms(*duration, fields.label("minDuration"), 1, kTimeoutMaxMs);
}

}  // namespace weir::control
