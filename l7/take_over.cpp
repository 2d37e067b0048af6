#include "l7/take_over.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "l4/base/file.h"
#include "l4/base/log.h"
#include "l4/control/admin_socket.h"

namespace weir::l7 {
namespace {

using nlohmann::json;

// Of the blue lane what Linux uses itself; of the green one as many below.
constexpr std::uint16_t kGreenPortFirst = 4096;
constexpr std::uint16_t kGreenPortLast = 32767;

/// The body of a reply that is none of an error.
Result<json> ask(const control::AdminClient& client, const std::string& method,
                 const std::string& path, const json& body = nullptr) {
  const auto patience =
      method == "GET" ? control::AdminClient::kPrompt : control::AdminClient::kReplyTimeout;
  Result<control::AdminReply> reply =
      client.request(method, path, body.is_null() ? "" : body.dump(), patience);
  if (!reply) return std::move(reply).error();
  json answer = json::parse(reply->body, nullptr, false);
  if (reply->status == 200 && answer.is_object()) return answer;
  return Error{ErrorCode::kUnavailable, fmt::format("{} answers {} {} with {}: {}", client.daemon(),
                                                    method, path, reply->status, reply->body)};
}

std::optional<Lane> lane_in(const json& answer) {
  const auto lane = answer.find("lane");
  if (lane == answer.end() || !lane->is_string()) return std::nullopt;
  return control::parse_lane(lane->get_ref<const std::string&>());
}

/// Nothing where there is no such list.
std::optional<std::vector<std::string>> sorted_strings(const json& answer, const char* name) {
  const auto list = answer.find(name);
  if (list == answer.end() || !list->is_array()) return std::nullopt;
  std::vector<std::string> strings;
  for (const json& one : *list)
    if (one.is_string()) strings.push_back(one.get<std::string>());
  std::ranges::sort(strings);
  return strings;
}

}  // namespace

std::string device_of(const std::string& prefix, Lane lane, std::uint32_t worker) {
  return fmt::format("{}{}{}", prefix, control::mark_of(lane), worker);
}

tcp::StackOptions stack_options(Lane lane) {
  tcp::StackOptions options;
  // A tunnel may be silent for an hour; a peer that has vanished is known after four minutes.
  options.keepalive_idle = std::chrono::minutes{2};
  options.keepalive_interval = std::chrono::seconds{15};
  options.keepalive_probes = 8;
  if (lane == Lane::kGreen) {
    options.ephemeral_first = kGreenPortFirst;
    options.ephemeral_last = kGreenPortLast;
  }
  return options;
}

Lane find_lane(const control::AdminClient& balancer, const std::filesystem::path& file) {
  if (const Result<json> answer = ask(balancer, "GET", "/v1/lane"); answer)
    if (const auto lane = lane_in(*answer)) return *lane;
  std::string text;
  std::ifstream{file} >> text;
  return control::parse_lane(text).value_or(Lane::kBlue);
}

Result<void> use_lane(const control::AdminClient& balancer, Lane lane) {
  const Result<json> answer =
      ask(balancer, "POST", "/v1/lane", json{{"lane", control::text_of(lane)}});
  if (!answer) return answer.error();
  return {};
}

Result<void> remember_lane(const std::filesystem::path& file, Lane lane) {
  return write_file_durably(file.string(), fmt::format("{}\n", control::text_of(lane)),
                            S_IRUSR | S_IWUSR);
}

Result<std::optional<Predecessor>> Predecessor::find(const std::string& socket) {
  if (!control::try_to_connect(socket)) return std::optional<Predecessor>{};
  control::AdminClient client{"weir-l7", socket};
  const Result<json> status = ask(client, "GET", "/v1/status");
  if (!status) return Error{status.error()}.while_doing("asking the weir-l7 that runs");
  const auto lane = lane_in(*status);
  const auto pid = status->find("pid");
  if (!lane || pid == status->end() || !pid->is_number_integer())
    return Error{ErrorCode::kUnsupported,
                 "the weir-l7 that runs is of a version that cannot be taken over from",
                 "stop it, then start this one without --take-over"};
  auto process = WatchedProcess::open(pid->get<pid_t>());
  if (!process) return std::move(process).error();
  return std::optional{Predecessor{std::move(client), *lane, *std::move(process)}};
}

Result<void> Predecessor::check_addresses(const std::vector<wire::Prefix>& ours) const {
  const Result<json> status = ask(client_, "GET", "/v1/status");
  if (!status) return Error{status.error()}.while_doing("asking the weir-l7 that runs");
  const auto theirs = sorted_strings(*status, "addresses");
  if (!theirs) return {};  // of a version that does not say
  std::vector<std::string> wanted;
  for (const wire::Prefix& prefix : ours)
    wanted.push_back(prefix.text());
  std::ranges::sort(wanted);
  if (wanted == *theirs) return {};
  return Error{ErrorCode::kConflict,
               fmt::format("node.l7.addresses are {}, those of the weir-l7 that runs, to which "
                           "weir-l4 sends, {}",
                           fmt::join(wanted, ", "), fmt::join(*theirs, ", ")),
               "have both change first: weir apply -f FILE"};
}

Result<void> Predecessor::hold() const {
  const Result<json> answer = ask(client_, "POST", "/v1/hold", json{{"pid", ::getpid()}});
  if (!answer) return answer.error();
  return {};
}

void Predecessor::retire(Duration longest) const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(longest).count();
  const Result<json> answer = ask(client_, "POST", "/v1/retire", json{{"longest_s", seconds}});
  if (answer) return;
  log_error("{}; process {} gets SIGTERM instead", answer.error().text(), pid());
  if (Result<void> sent = process_.send(SIGTERM); !sent) log_error("{}", sent.error().text());
}

}  // namespace weir::l7
