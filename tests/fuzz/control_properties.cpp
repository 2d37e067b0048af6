#include "tests/fuzz/control_properties.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "l4/api_bodies.h"
#include "l4/control/admin_connection.h"
#include "l4/control/config.h"
#include "l4/control/model_json.h"

namespace weir::testing {
namespace {

using namespace control;

/// Errors and diagnostics are read by people, a line each.
std::string check_line(std::string_view text) {
  if (text.empty()) return "a refusal without a word";
  // A file's own text is quoted as it is, so that line breaks may be in an Error's message; the log
  // and JSON escape them. Diagnostics promise a line.
  return {};
}

std::string check_config(std::string_view input) {
  const ParseOutcome outcome = parse_config(input, "/nowhere/weir.yaml");
  if (outcome.diagnostics.size() > kDiagnosticsMax) return "more diagnostics than the limit";
  for (const Diagnostic& diagnostic : outcome.diagnostics) {
    if (diagnostic.message.empty()) return "a diagnostic without a message";
    if (diagnostic.text().find('\n') != std::string::npos) return "a diagnostic of two lines";
    if (diagnostic.column > 0 && diagnostic.line == 0) return "a column without a line";
  }
  if (!outcome.ok()) return {};
  const std::string normal = to_json(outcome.model);
  const Result<Model> again = model_from_json(normal);
  if (!again) return fmt::format("its normal form is refused: {}", again.error().text());
  return *again == outcome.model ? std::string{} : "its normal form says something else";
}

std::string check_model(std::string_view input) {
  const Result<Model> model = model_from_json(input);
  if (!model) return check_line(model.error().text());
  const Result<Model> again = model_from_json(to_json(*model));
  if (!again) return fmt::format("its normal form is refused: {}", again.error().text());
  return *again == *model ? std::string{} : "its normal form says something else";
}

/// For a value with to_json() and a reader.
template <typename T>
std::string check_json(std::string_view input, Result<T> (*read)(std::string_view)) {
  const Result<T> value = read(input);
  if (!value) return check_line(value.error().text());
  const Result<T> again = read(to_json(*value));
  if (!again) return fmt::format("what it writes is refused: {}", again.error().text());
  return *again == *value ? std::string{} : "what it writes says something else";
}

std::string check_submission(std::string_view input) {
  const Result<ConfigSubmission> value = submission_from_json(input);
  if (!value) return check_line(value.error().text());
  const Result<ConfigSubmission> again = submission_from_json(to_json(*value));
  if (!again) return "what it writes is refused";
  return again->file == value->file && again->text == value->text
             ? std::string{}
             : "what it writes says something else";
}

std::string check_load(std::string_view input) {
  const l4::LoadSettings present{.devices = {"eth0"}};
  const Result<l4::LoadSettings> value = l4::load_settings_from_json(present, input);
  if (!value) return check_line(value.error().text());
  if (value->devices.empty() || value->devices.front() != "eth0") return "a device was lost";
  auto sorted = value->devices;
  std::ranges::sort(sorted);
  return std::ranges::adjacent_find(sorted) == sorted.end() ? std::string{} : "a device twice";
}

std::string check_trace(std::string_view input) {
  const Result<l4::TraceWish> value = l4::trace_wish_from_json(input);
  if (!value) return check_line(value.error().text());
  const bool fits = std::ranges::all_of(value->frames, [](const auto& frame) {
    return frame.size() >= l4::kTracedBytesMin && frame.size() <= l4::kTracedBytesMax;
  });
  return fits && !value->frames.empty() ? std::string{} : "a frame of a wrong size";
}

/// A client whose bytes are all there already, and come in pieces of a size.
class MemoryChannel : public AdminChannel {
 public:
  MemoryChannel(std::string_view input, std::size_t piece) : input_{input}, piece_{piece} {}
  ssize_t read_some(std::span<char> into, Instant /*deadline*/) override {
    const std::size_t size = std::min({into.size(), piece_, input_.size()});
    std::copy_n(input_.begin(), size, into.begin());
    input_.remove_prefix(size);
    return static_cast<ssize_t>(size);
  }
  bool write_all(std::string_view bytes, Instant /*deadline*/) override {
    output += bytes;
    return true;
  }
  void end_writing(Instant /*deadline*/) override {}

  std::string output;

 private:
  std::string_view input_;
  std::size_t piece_;
};

std::string check_problem(std::string_view status, std::string_view body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return "a refusal that is no problem";
  if (fmt::format("{}", json.value("status", 0)) != status) return "a problem of another status";
  return check_line(json.value("detail", ""));
}

std::string check_reply(std::string_view output) {
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (output.starts_with(kContinue)) output.remove_prefix(kContinue.size());
  const std::size_t end = output.find("\r\n\r\n");
  if (!output.starts_with("HTTP/1.1 ") || end == std::string_view::npos) return "no reply";
  const std::string_view head = output.substr(0, end + 2);
  const std::string_view body = output.substr(end + 4);
  const std::string_view status = head.substr(9, 3);
  if (head.find("Unknown") != std::string_view::npos) return "a status without words";
  const bool has_length =
      head.find(fmt::format("\r\nContent-Length: {}\r\n", body.size())) != std::string_view::npos;
  if (!has_length && !body.empty()) return "a body of another length than it says";
  return status[0] == '2' || body.empty() ? std::string{} : check_problem(status, body);
}

/// The same reply to the bytes whole and in pieces; one request is handled, or none.
std::string check_http(std::string_view input) {
  std::string first;
  for (const std::size_t piece : {std::size_t{1} << 20, std::size_t{7}}) {
    int handled = 0;
    AdminService service{[&](const AdminRequest& request) {
      ++handled;
      const Error error{ErrorCode::kNotFound, request.path + request.body};
      return request.query.empty() ? AdminReply{200, "{}"} : error_reply(error);
    }};
    MemoryChannel channel{input, piece};
    serve_admin_client(channel, service);
    if (service.body_bytes != 0) return "bytes of a body stay reserved";
    if (handled > 1) return "more than one request was handled";
    if (handled == 1 && channel.output.empty()) return "a request without a reply";
    if (!channel.output.empty()) {
      if (std::string broken = check_reply(channel.output); !broken.empty()) return broken;
    }
    if (piece != 7) first = channel.output;
    // In pieces, a body may not be there yet when 100 (Continue) is due.
    if (piece == 7 && channel.output != first && !channel.output.ends_with(first))
      return "another reply to the same bytes in pieces";
  }
  return {};
}

}  // namespace

std::string_view name_of(ControlParser parser) {
  switch (parser) {
    case ControlParser::kConfig:
      return "config";
    case ControlParser::kModel:
      return "model";
    case ControlParser::kVip:
      return "vip";
    case ControlParser::kBackend:
      return "backend";
    case ControlParser::kSubmission:
      return "submission";
    case ControlParser::kLoad:
      return "load";
    case ControlParser::kTrace:
      return "trace";
    case ControlParser::kHttp:
      return "http";
  }
  WEIR_ASSERT(false);  // the switch has every case
}

std::string check_control(ControlParser parser, std::string_view input) {
  switch (parser) {
    case ControlParser::kConfig:
      return check_config(input);
    case ControlParser::kModel:
      return check_model(input);
    case ControlParser::kVip:
      return check_json<Vip>(input, &vip_from_json);
    case ControlParser::kBackend:
      return check_json<Backend>(input, &backend_from_json);
    case ControlParser::kSubmission:
      return check_submission(input);
    case ControlParser::kLoad:
      return check_load(input);
    case ControlParser::kTrace:
      return check_trace(input);
    case ControlParser::kHttp:
      return check_http(input);
  }
  WEIR_ASSERT(false);  // the switch has every case
}

}  // namespace weir::testing
