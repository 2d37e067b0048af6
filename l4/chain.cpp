#include "l4/chain.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <xdp/libxdp.h>

#include <memory>
#include <string_view>

namespace weir::l4 {
namespace {

struct CloseProgram {
  void operator()(xdp_program* program) const { ::xdp_program__close(program); }
};
using Program = std::unique_ptr<xdp_program, CloseProgram>;

struct CloseChain {
  void operator()(xdp_multiprog* chain) const { ::xdp_multiprog__close(chain); }
};
using Chain = std::unique_ptr<xdp_multiprog, CloseChain>;

/// A chain has at most as many links as the dispatcher has slots; libxdp's limit is 10.
constexpr int kChainMax = 64;

int attach_once(xdp_program* program, std::uint32_t ifindex, xdp_attach_mode mode) {
  return ::xdp_program__attach(program, static_cast<int>(ifindex), mode, 0);
}

bool is_chain(std::uint32_t ifindex) {
  xdp_multiprog* found = ::xdp_multiprog__get_from_ifindex(static_cast<int>(ifindex));
  if (::libxdp_get_error(found) != 0) return false;
  const Chain owner{found};
  return !::xdp_multiprog__is_legacy(found);
}

/// libxdp speaks to standard error; its outcome is in our own error already.
int drop_libxdp_words(libxdp_print_level /*level*/, const char* /*format*/, va_list /*arguments*/) {
  return 0;
}

}  // namespace

Result<Chained> attach_chained(bpf_object* object, const char* program, const std::string& device,
                               std::uint32_t ifindex, control::XdpMode mode) {
  constexpr const char* kRemedy =
      "chains stand on program extension (freplace), which this kernel seems to refuse (from Linux "
      "6.12 on it does for programs that change packets, where the dispatcher is of libxdp 1.3); "
      "detach the other program if there is one, and load without --chain";
  ::libxdp_set_print(drop_libxdp_words);
  DECLARE_LIBXDP_OPTS(xdp_program_opts, options, .obj = object, .prog_name = program);
  xdp_program* created = ::xdp_program__create(&options);
  if (const long error = ::libxdp_get_error(created); error != 0)
    return Error::from_errno(fmt::format("preparing {} for a chain", program),
                             static_cast<int>(-error));
  const Program owner{created};
  Chained chained;
  int error = mode == control::XdpMode::kGeneric ? -EOPNOTSUPP
                                                 : attach_once(created, ifindex, XDP_MODE_NATIVE);
  if (error != 0 && mode != control::XdpMode::kNative) {
    chained.mode = control::XdpMode::kGeneric;
    error = attach_once(created, ifindex, XDP_MODE_SKB);
  }
  if (error != 0)
    return Error::from_errno(fmt::format("{}: joining the chain of XDP programs", device), -error)
        .with_remedy(kRemedy);
  // Where the dispatcher cannot be loaded, libxdp attaches the program alone, by netlink: no chain,
  // and nothing that would survive the next program.
  if (!is_chain(ifindex)) {
    ::xdp_program__detach(
        created, static_cast<int>(ifindex),
        chained.mode == control::XdpMode::kGeneric ? XDP_MODE_SKB : XDP_MODE_NATIVE, 0);
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: libxdp could not load its dispatcher", device), kRemedy};
  }
  chained.program = UniqueFd{::fcntl(::xdp_program__fd(created), F_DUPFD_CLOEXEC, 0)};
  if (!chained.program) return Error::from_errno("keeping the chained program open");
  return chained;
}

Result<void> detach_chained(const char* program, const std::string& device, std::uint32_t ifindex) {
  xdp_multiprog* found = ::xdp_multiprog__get_from_ifindex(static_cast<int>(ifindex));
  if (const long error = ::libxdp_get_error(found); error != 0) {
    if (error == -ENOENT) return {};  // no chain any more
    return Error::from_errno(fmt::format("{}: reading the chain of XDP programs", device),
                             static_cast<int>(-error));
  }
  const Chain owner{found};
  xdp_program* member = nullptr;
  for (int i = 0; i < kChainMax; ++i) {
    member = ::xdp_multiprog__next_prog(member, found);
    if (member == nullptr) return {};
    if (std::string_view{::xdp_program__name(member)} != program) continue;
    const int error = ::xdp_program__detach(member, static_cast<int>(ifindex),
                                            ::xdp_multiprog__attach_mode(found), 0);
    if (error == 0) return {};
    return Error::from_errno(fmt::format("{}: leaving the chain of XDP programs", device), -error);
  }
  return {};
}

}  // namespace weir::l4
