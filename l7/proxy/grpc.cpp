#include "l7/proxy/grpc.h"

#include <algorithm>
#include <charconv>

namespace weir::proxy {

bool is_grpc(const http::HeaderList& fields) {
  constexpr std::string_view kType = "application/grpc";
  const auto type = fields.find("content-type");
  if (!type || !http::equals_ignoring_case(type->substr(0, kType.size()), kType)) return false;
  const std::string_view rest = type->substr(kType.size());
  // gRPC-Web is HTTP of another kind.
  return rest.empty() || rest.front() == '+' || rest.front() == ';';
}

std::optional<Duration> parse_grpc_timeout(std::string_view text) {
  constexpr std::size_t kDigitsMax = 8;
  std::uint32_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const auto digits = static_cast<std::size_t>(end - text.data());
  if (error != std::errc{} || digits > kDigitsMax || text.size() != digits + 1) return std::nullopt;
  // Nobody waits for ten years, and much longer ones do not fit.
  constexpr auto kMost = std::chrono::hours{24 * 3650};
  switch (text.back()) {
    case 'H':
      return std::min(std::chrono::hours{count}, kMost);
    case 'M':
      return std::min<Duration>(std::chrono::minutes{count}, kMost);
    case 'S':
      return std::chrono::seconds{count};
    case 'm':
      return std::chrono::milliseconds{count};
    case 'u':
      return std::chrono::microseconds{count};
    case 'n':
      return std::chrono::nanoseconds{count};
    default:
      return std::nullopt;
  }
}

std::string_view grpc_status_of(http::Status status) {
  switch (http::number_of(status)) {
    case 400:
    case 431:
      return "13";  // INTERNAL
    case 401:
      return "16";  // UNAUTHENTICATED
    case 403:
      return "7";  // PERMISSION_DENIED
    case 404:
    case 501:
      return "12";  // UNIMPLEMENTED
    case 413:
      return "8";  // RESOURCE_EXHAUSTED, as for messages that a server finds too long
    case 504:
      return "4";  // DEADLINE_EXCEEDED: it is ours or the caller's
    case 429:
    case 502:
    case 503:
      return "14";  // UNAVAILABLE
    default:
      return "2";  // UNKNOWN
  }
}

}  // namespace weir::proxy
