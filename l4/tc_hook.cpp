#include "l4/tc_hook.h"

#include "l4/kernel_objects.h"

namespace weir::l4 {
namespace {

/// The headers of Debian 12 are older (BPF_TCX_INGRESS and _EGRESS in linux/bpf.h).
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);
constexpr std::uint32_t kFilterHandle = 1;

bpf_tc_hook hook_of(const TcPlace& place) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(place.ifindex);
  hook.attach_point = place.side == TcSide::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return hook;
}

bpf_tc_opts filter_of(const TcPlace& place) {
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.handle = kFilterHandle;
  options.priority = place.priority;
  return options;
}

std::string_view text_of(TcSide side) { return side == TcSide::kIngress ? "ingress" : "egress"; }

Result<void> set_filter(int program, const TcPlace& place, std::uint32_t flags) {
  collect_libbpf_words();
  bpf_tc_hook hook = hook_of(place);
  if (const int error = ::bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST)
    return libbpf_error(fmt::format("{}: adding the clsact qdisc", place.device), error);
  bpf_tc_opts options = filter_of(place);
  options.prog_fd = program;
  options.flags = flags;
  if (const int error = ::bpf_tc_attach(&hook, &options); error != 0) {
    Error failed = libbpf_error(fmt::format("{}: adding a filter to clsact", place.device), error);
    if (error != -EEXIST) return failed;
    return std::move(failed).with_remedy(
        fmt::format("see 'tc filter show dev {} {}' for whose filter has handle {}, priority {}; "
                    "'tc filter del dev {} {} prio {}' removes it",
                    place.device, text_of(place.side), kFilterHandle, place.priority, place.device,
                    text_of(place.side), place.priority));
  }
  return {};
}

}  // namespace

Result<UniqueFd> attach_tc(int program, const TcPlace& place) {
  UniqueFd link{::bpf_link_create(program, static_cast<int>(place.ifindex),
                                  place.side == TcSide::kIngress ? kTcxIngress : kTcxEgress,
                                  nullptr)};
  if (link) return link;
  // What a kernel without tcx answers.
  if (errno != EINVAL && errno != EOPNOTSUPP)
    return Error::from_errno(
        fmt::format("{}: attaching to tc's {}", place.device, text_of(place.side)));
  if (Result<void> set = set_filter(program, place, 0); !set) return std::move(set).error();
  return UniqueFd{};
}

Result<void> replace_tc_filter(int program, const TcPlace& place) {
  return set_filter(program, place, BPF_TC_F_REPLACE);
}

Result<void> remove_tc_filter(const TcPlace& place) {
  collect_libbpf_words();
  const bpf_tc_hook hook = hook_of(place);
  const bpf_tc_opts options = filter_of(place);
  const int error = ::bpf_tc_detach(&hook, &options);
  // Invalid is what a device without the qdisc answers.
  if (error == 0 || error == -ENOENT || error == -EINVAL) return {};
  return libbpf_error(fmt::format("{}: removing the filter", place.device), error);
}

std::optional<std::uint32_t> tc_filter_program(const TcPlace& place) {
  collect_libbpf_words();
  const bpf_tc_hook hook = hook_of(place);
  bpf_tc_opts options = filter_of(place);
  if (::bpf_tc_query(&hook, &options) != 0) return std::nullopt;
  return options.prog_id;
}

}  // namespace weir::l4
