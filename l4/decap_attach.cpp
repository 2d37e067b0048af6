#include "l4/decap_attach.h"

#include "l4/kernel_objects.h"

namespace weir::l4 {
namespace {

/// Linux 6.6 has links for tc; the headers of Debian 12 are older (BPF_TCX_INGRESS in linux/bpf.h).
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

/// Our place among the filters of clsact. Late, so that filters of others see what comes in first.
constexpr std::uint32_t kFilterHandle = 1;
constexpr std::uint32_t kFilterPriority = 57034;

bpf_tc_hook ingress_of(std::uint32_t ifindex) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

bpf_tc_opts our_filter() {
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.handle = kFilterHandle;
  options.priority = kFilterPriority;
  return options;
}

Result<void> set_filter(int program, const std::string& device, std::uint32_t ifindex,
                        std::uint32_t flags) {
  collect_libbpf_words();
  bpf_tc_hook hook = ingress_of(ifindex);
  if (const int error = ::bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST)
    return libbpf_error(fmt::format("{}: adding the clsact qdisc", device), error);
  bpf_tc_opts options = our_filter();
  options.prog_fd = program;
  options.flags = flags;
  if (const int error = ::bpf_tc_attach(&hook, &options); error != 0) {
    Error failed = libbpf_error(fmt::format("{}: adding a filter to clsact", device), error);
    if (error != -EEXIST) return failed;
    return std::move(failed).with_remedy(
        fmt::format("see 'tc filter show dev {} ingress' for whose filter has handle {}, priority "
                    "{}; 'tc filter del dev {} ingress prio {}' removes it",
                    device, kFilterHandle, kFilterPriority, device, kFilterPriority));
  }
  return {};
}

Result<DecapAttachment> attach_tc(int program, const std::string& device, std::uint32_t ifindex) {
  DecapAttachment attachment{DecapHook::kTcx, DecapMode::kTc, UniqueFd{}, {}};
  attachment.link =
      UniqueFd{::bpf_link_create(program, static_cast<int>(ifindex), kTcxIngress, nullptr)};
  if (attachment.link) return attachment;
  // What a kernel without tcx answers.
  if (errno != EINVAL && errno != EOPNOTSUPP)
    return Error::from_errno(fmt::format("{}: attaching to tc's ingress", device));
  attachment.hook = DecapHook::kClsact;
  if (Result<void> set = set_filter(program, device, ifindex, 0); !set)
    return std::move(set).error();
  return attachment;
}

}  // namespace

Result<DecapAttachment> attach_decap(int program, const std::string& device, std::uint32_t ifindex,
                                     DecapMode mode) {
  if (mode == DecapMode::kTc) return attach_tc(program, device, ifindex);
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
    return set_filter(program, device, ifindex, BPF_TC_F_REPLACE);
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
  // The qdisc stays: others may have filters there by now, and without any it does nothing.
  collect_libbpf_words();
  const bpf_tc_hook hook = ingress_of(ifindex);
  const bpf_tc_opts options = our_filter();
  const int error = ::bpf_tc_detach(&hook, &options);
  if (error == 0 || error == -ENOENT) return {};
  return libbpf_error(fmt::format("{}: removing the filter", device), error);
}

Result<std::optional<std::uint32_t>> attached_program(const DecapAttachment& attachment,
                                                      std::uint32_t ifindex) {
  if (attachment.hook == DecapHook::kClsact) {
    collect_libbpf_words();
    const bpf_tc_hook hook = ingress_of(ifindex);
    bpf_tc_opts options = our_filter();
    if (::bpf_tc_query(&hook, &options) != 0) return std::optional<std::uint32_t>{};
    return std::optional{options.prog_id};
  }
  Result<bpf_link_info> info = link_info(attachment.link.get());
  if (!info) return std::move(info).error();
  // Both kinds of link begin with the device's index; zero: it is gone.
  if (info->xdp.ifindex != ifindex) return std::optional<std::uint32_t>{};
  return std::optional{info->prog_id};
}

}  // namespace weir::l4
