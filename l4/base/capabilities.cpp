#include "l4/base/capabilities.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <optional>

namespace weir {
namespace {

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

constexpr std::uint32_t bit_of(int capability) {
  return std::uint32_t{1} << (static_cast<unsigned>(capability) % 32);
}
constexpr std::size_t word_of(int capability) { return static_cast<std::size_t>(capability) / 32; }

/// Nothing when the kernel refuses, which it does only for a version that it does not know.
std::optional<CapabilitySets> read_sets() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapabilitySets sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return std::nullopt;
  return sets;
}

}  // namespace

bool has_capability(int capability) {
  const auto sets = read_sets();
  return sets && ((*sets)[word_of(capability)].effective & bit_of(capability)) != 0;
}

Result<void> keep_only_capabilities(std::initializer_list<int> capabilities) {
  const auto have = read_sets();
  if (!have) return Error::from_errno("reading capabilities");
  CapabilitySets keep{};
  for (const int capability : capabilities) {
    auto& word = keep[word_of(capability)];
    word.permitted |= (*have)[word_of(capability)].permitted & bit_of(capability);
    word.effective = word.permitted;
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  if (::syscall(SYS_capset, &header, keep.data()) != 0)
    return Error::from_errno("giving up capabilities");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return Error::from_errno("forbidding new privileges");
  return {};
}

}  // namespace weir
