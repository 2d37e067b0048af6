#include "l4/decap_attach.h"

#include "l4/kernel_objects.h"
#include "l4/tc_hook.h"

namespace weir::l4 {
namespace {

/// Our place among the filters of clsact. Late, so that filters of others see what comes in first.
constexpr std::uint32_t kFilterPriority = 57034;

TcPlace place_of(const std::string& device, std::uint32_t ifindex) {
  return {device, ifindex, TcSide::kIngress, kFilterPriority};
}

Result<DecapAttachment> attach_at_tc(int program, const std::string& device,
                                     std::uint32_t ifindex) {
  Result<UniqueFd> link = attach_tc(program, place_of(device, ifindex));
  if (!link) return std::move(link).error();
  const DecapHook hook = *link ? DecapHook::kTcx : DecapHook::kClsact;
  return DecapAttachment{hook, DecapMode::kTc, *std::move(link), {}};
}

}  // namespace

Result<DecapAttachment> attach_decap(int program, const std::string& device, std::uint32_t ifindex,
                                     DecapMode mode) {
  if (mode == DecapMode::kTc) return attach_at_tc(program, device, ifindex);
  if (Result<void> free = check_free(device, ifindex, "load with --mode tc"); !free)
    return std::move(free).error();
  control::XdpMode wanted = control::XdpMode::kAuto;
  if (mode == DecapMode::kNative) wanted = control::XdpMode::kNative;
  if (mode == DecapMode::kGeneric) wanted = control::XdpMode::kGeneric;
  Result<CreatedLink> link = create_link_in_mode(program, device, ifindex, wanted);
  if (!link) return std::move(link).error();
  return DecapAttachment{
      DecapHook::kXdp,
      link->mode == control::XdpMode::kGeneric ? DecapMode::kGeneric : DecapMode::kNative,
      std::move(link->fd), std::move(link->reason)};
}

Result<void> exchange_decap(const DecapAttachment& attachment, int program,
                            const std::string& device, std::uint32_t ifindex) {
  if (attachment.hook == DecapHook::kClsact)
    return replace_tc_filter(program, place_of(device, ifindex));
  if (::bpf_link_update(attachment.link.get(), program, nullptr) == 0) return {};
  return Error::from_errno(fmt::format("{}: exchanging the program", device));
}

Result<void> detach_decap(const DecapAttachment& attachment, const std::string& device,
                          std::uint32_t ifindex) {
  if (attachment.hook != DecapHook::kClsact) {
    // Explicitly: the pin's removal would free the link only some time later.
    if (::bpf_link_detach(attachment.link.get()) == 0) return {};
    return Error::from_errno(fmt::format("{}: detaching", device));
  }
  return remove_tc_filter(place_of(device, ifindex));
}

Result<std::optional<std::uint32_t>> attached_program(const DecapAttachment& attachment,
                                                      std::uint32_t ifindex) {
  if (attachment.hook == DecapHook::kClsact) return tc_filter_program(place_of("", ifindex));
  Result<bpf_link_info> info = link_info(attachment.link.get());
  if (!info) return std::move(info).error();
  // Both kinds of link begin with the device's index; zero: it is gone.
  if (info->xdp.ifindex != ifindex) return std::optional<std::uint32_t>{};
  return std::optional{info->prog_id};
}

}  // namespace weir::l4
