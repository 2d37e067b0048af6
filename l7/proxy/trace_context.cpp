#include "l7/proxy/trace_context.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir::proxy {
namespace {

constexpr std::size_t kVersionAt = 0;
constexpr std::size_t kTraceAt = 3;
constexpr std::size_t kParentAt = 36;
constexpr std::size_t kFlagsAt = 53;
constexpr std::size_t kSize = 55;  // of version 00

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

/// 64 bits that are not all zero, as an id must not be.
std::uint64_t id_part(Random& random) { return random.next() | 1; }

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view value) {
  if (value.size() < kSize || value[2] != '-' || value[35] != '-' || value[52] != '-')
    return std::nullopt;
  const std::string_view version = value.substr(kVersionAt, 2);
  const std::string_view trace = value.substr(kTraceAt, 32);
  const std::string_view parent = value.substr(kParentAt, 16);
  const std::string_view flags = value.substr(kFlagsAt, 2);
  if (!is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags)) return std::nullopt;
  if (version == "ff" || is_zero(trace) || is_zero(parent)) return std::nullopt;
  if (version == "00" ? value.size() != kSize : value.size() > kSize && value[kSize] != '-')
    return std::nullopt;
  TraceContext context;
  std::copy(trace.begin(), trace.end(), context.trace_id.begin());
  const char low = flags[1];
  context.sampled = ((low <= '9' ? low - '0' : low - 'a' + 10) & 1) != 0;
  return context;
}

TraceContext continue_trace(http::HeaderList& fields, Random& random) {
  const auto value = fields.find("traceparent");
  // Two of them are as good as none: nobody knows which one counts.
  auto context =
      value && fields.count("traceparent") == 1 ? parse_traceparent(*value) : std::nullopt;
  if (!context) {
    context.emplace();
    fmt::format_to(context->trace_id.data(), "{:016x}{:016x}", id_part(random), id_part(random));
    fields.remove("tracestate");
  }
  std::array<char, kSize> text{};
  fmt::format_to(text.data(), "00-{}-{:016x}-0{}", context->id(), id_part(random),
                 context->sampled ? '1' : '0');
  fields.set("traceparent", {text.data(), text.size()});
  return *context;
}

}  // namespace weir::proxy
