#include "tests/support/stack_flags.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace weir::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  if (text.empty() || std::from_chars(text.data(), end, value).ptr != end) return std::nullopt;
  return value;
}

template <typename Field>
bool set_field(Field& field, std::string_view value) {
  const auto number = number_of(value);
  if constexpr (std::is_same_v<Field, Duration>) {
    if (number) field = milliseconds{*number};
    return number.has_value();
  } else if constexpr (std::is_same_v<Field, bool>) {
    if (number) field = *number != 0;
    return number && *number <= 1;
  } else if constexpr (std::is_enum_v<Field>) {
    if (value == "cubic") field = Field::kCubic;
    if (value == "newreno") field = Field::kNewReno;
    return value == "cubic" || value == "newreno";
  } else {
    if (number) field = static_cast<Field>(*number);
    return number && *number == field;
  }
}

/// False when there is no such field, or the value does not fit it.
bool set_option(tcp::StackOptions& options, std::string_view name, std::string_view value) {
#define WEIR_STACK_FLAG(field) \
  if (name == #field) return set_field(options.field, value);
  WEIR_STACK_FLAG(connections_max)
  WEIR_STACK_FLAG(half_open_max)
  WEIR_STACK_FLAG(accept_queue_max)
  WEIR_STACK_FLAG(receive_buffer_bytes)
  WEIR_STACK_FLAG(send_buffer_bytes)
  WEIR_STACK_FLAG(buffer_pool_bytes)
  WEIR_STACK_FLAG(retransmission_timeout_min)
  WEIR_STACK_FLAG(time_wait)
  WEIR_STACK_FLAG(connect_timeout)
  WEIR_STACK_FLAG(ephemeral_first)
  WEIR_STACK_FLAG(ephemeral_last)
  WEIR_STACK_FLAG(worker)
  WEIR_STACK_FLAG(workers)
  WEIR_STACK_FLAG(time_wait_max)
  WEIR_STACK_FLAG(user_timeout)
  WEIR_STACK_FLAG(fin_timeout)
  WEIR_STACK_FLAG(last_ack_timeout)
  WEIR_STACK_FLAG(congestion)
  WEIR_STACK_FLAG(rack)
  WEIR_STACK_FLAG(timestamps)
  WEIR_STACK_FLAG(ecn)
  WEIR_STACK_FLAG(ecn_active)
  WEIR_STACK_FLAG(pacing)
  WEIR_STACK_FLAG(path_probing)
  WEIR_STACK_FLAG(keepalive_idle)
  WEIR_STACK_FLAG(keepalive_interval)
  WEIR_STACK_FLAG(keepalive_probes)
  WEIR_STACK_FLAG(linger_timeout)
#undef WEIR_STACK_FLAG
  return false;
}

bool set_flag(StackFlags& flags, std::string_view name, std::string_view value) {
  const auto number = number_of(value);
  if (name == "local") {
    const auto address = wire::IpAddress::parse(value);
    if (!address) return false;
    flags.local.push_back(*address);
    return true;
  }
  if (name == "mtu") return set_field(flags.stack.mtu, value);
  if (name == "seed") return set_field(flags.stack.seed, value);
  if (name == "early_write") return set_field(flags.early_write, value);
  if (name == "start_us" && number) {
    flags.stack.start = Instant{microseconds{*number}};
    return true;
  }
  if (name == "receive_wait_us" && number) {
    flags.receive_wait = microseconds{*number};
    return true;
  }
  if (name == "clock_step_us" && number) {
    flags.clock_step = microseconds{*number};
    return true;
  }
  return set_option(flags.stack.stack, name, value);
}

}  // namespace

StackFlags parse_stack_flags(std::string_view text) {
  StackFlags flags;
  // What an outside runner opens in one script; a real worker's tables take longer to make.
  flags.stack.stack.connections_max = 256;
  flags.stack.stack.half_open_max = 256;
  flags.stack.stack.time_wait_max = 256;
  flags.stack.stack.buffer_pool_bytes = 64 * 1024 * 1024;
  while (!text.empty()) {
    const std::string_view flag = text.substr(0, text.find(','));
    text.remove_prefix(flag.size() == text.size() ? flag.size() : flag.size() + 1);
    const std::size_t equals = flag.find('=');
    const bool known = equals != std::string_view::npos &&
                       set_flag(flags, flag.substr(0, equals), flag.substr(equals + 1));
    if (!known) {
      flags.complaint =
          fmt::format("'{}' is no flag of this stack, or its value does not fit", flag);
      return flags;
    }
  }
  return flags;
}

}  // namespace weir::testing
