#include "l4/probe_path.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <net/if.h>

#include <algorithm>

#include "l4/kernel_objects.h"
#include "l4/tc_hook.h"
#include "l4/vip_entries.h"
#include "weir_probe.skel.h"

namespace weir::l4 {
namespace {

/// Next to the decapsulation's; late on both sides, so that filters of others come first.
constexpr std::uint32_t kFilterPriority = 57035;
constexpr std::string_view kInName = "weir_probe_in";
constexpr std::string_view kOutName = "weir_probe_out";

TcPlace place_of(const std::string& device, std::uint32_t ifindex, TcSide side) {
  return {device, ifindex, side, kFilterPriority};
}

Result<weir_probe_path> abi_of(const ProbeVia& via) {
  if (via.mark < kProbeMarkFirst || via.mark > kProbeMarkLast)
    return Error{ErrorCode::kInvalid,
                 fmt::format("mark {:#x} of the probes of {} is not one of "
                             "{:#x} … {:#x}",
                             via.mark, via.vip.text(), kProbeMarkFirst, kProbeMarkLast)};
  weir_probe_path path{};
  path.vip = abi_address(via.vip);
  switch (via.mode) {
    case control::ForwardMode::kIpip:
      path.mode = WEIR_MODE_IPIP;
      break;
    case control::ForwardMode::kGue:
      path.mode = WEIR_MODE_GUE;
      path.gue_port_be = htons(via.gue_port.value());
      break;
    case control::ForwardMode::kL2:
      path.mode = WEIR_MODE_L2;
      return path;
    case control::ForwardMode::kNat:
    case control::ForwardMode::kL7:
      return Error{ErrorCode::kInvalid,
                   fmt::format("probes of {} have no encapsulation to go through", via.vip.text())};
  }
  if (via.outer_source.family() != via.vip.family())
    return Error{ErrorCode::kInvalid,
                 fmt::format("probes of {} cannot leave from {}, of the other IP version",
                             via.vip.text(), via.outer_source.text())};
  path.outer_source = abi_address(via.outer_source);
  return path;
}

/// A filter of ours, also one that an earlier process left: by the name of its program.
void remove_left_filter(const TcPlace& place, std::string_view program) {
  const auto id = tc_filter_program(place);
  if (!id) return;
  const UniqueFd fd{::bpf_prog_get_fd_by_id(*id)};
  if (!fd) return;
  const Result<bpf_prog_info> info = program_info(fd.get());
  if (!info || info->name != program) return;
  // Somebody may have been faster; what stays is seen when the device is attached to.
  static_cast<void>(remove_tc_filter(place));
}

/// Links end with their descriptors.
void detach_side(const std::optional<UniqueFd>& link, const TcPlace& place,
                 std::string_view program) {
  if (link && !*link) remove_left_filter(place, program);
}

void remove_left_filters() {
  const std::unique_ptr<struct if_nameindex, decltype(&if_freenameindex)> names{if_nameindex(),
                                                                                &if_freenameindex};
  if (!names) return;
  // The list ends with an entry of index 0 (if_nameindex(3)).
  for (const struct if_nameindex* entry = names.get(); entry->if_index != 0; ++entry) {
    remove_left_filter(place_of(entry->if_name, entry->if_index, TcSide::kIngress), kInName);
    remove_left_filter(place_of(entry->if_name, entry->if_index, TcSide::kEgress), kOutName);
  }
}

/// Both outlive what they are about: a link says index 0 when its device is gone, and a filter goes
/// with its device. The index may be another device's by now.
bool is_there(const UniqueFd& link, const TcPlace& place) {
  if (!link) return tc_filter_program(place).has_value();
  const Result<bpf_link_info> info = link_info(link.get());
  // Both kinds of link of a device begin with its index.
  return info && info->xdp.ifindex == place.ifindex;
}

Result<void> attach_side(std::optional<UniqueFd>& link, int program, const TcPlace& place) {
  if (link && is_there(*link, place)) return {};
  link.reset();
  Result<UniqueFd> attached = attach_tc(program, place);
  if (!attached) return std::move(attached).error();
  link = *std::move(attached);
  return {};
}

}  // namespace

struct ProbePath::Loaded {
  std::unique_ptr<weir_probe, decltype(&weir_probe__destroy)> skeleton{nullptr,
                                                                       &weir_probe__destroy};
  int in = -1, out = -1, paths = -1;  // of the skeleton
};

ProbePath::ProbePath(std::unique_ptr<Loaded> loaded) : loaded_{std::move(loaded)} {}

ProbePath::ProbePath(ProbePath&&) noexcept = default;

ProbePath::~ProbePath() {
  if (!loaded_) return;
  for (const auto& [ifindex, attached] : devices_)
    detach(ifindex, attached);
}

Result<ProbePath> ProbePath::open() {
  remove_left_filters();
  collect_libbpf_words();
  auto loaded = std::make_unique<Loaded>();
  loaded->skeleton.reset(weir_probe__open());
  if (!loaded->skeleton) return libbpf_error("opening weir_probe", errno);
  if (const int error = weir_probe__load(loaded->skeleton.get()); error != 0)
    return libbpf_error("loading the probes' programs into the kernel", error);
  loaded->in = ::bpf_program__fd(loaded->skeleton->progs.weir_probe_in);
  loaded->out = ::bpf_program__fd(loaded->skeleton->progs.weir_probe_out);
  loaded->paths = ::bpf_map__fd(loaded->skeleton->maps.weir_probe_paths);
  return ProbePath{std::move(loaded)};
}

Result<void> ProbePath::set_paths(std::span<const ProbeVia> paths,
                                  std::span<const std::uint32_t> receiving) {
  std::optional<Error> first;
  const auto keep_first = [&](Result<void> result) {
    if (!result && !first) first = std::move(result).error();
  };
  std::map<std::uint32_t, ProbeVia> wanted;
  std::map<std::uint32_t, bool> devices;  // ifindex → probes leave by it
  for (const std::uint32_t ifindex : receiving)
    devices[ifindex] = false;
  for (const ProbeVia& via : paths) {
    wanted[via.mark] = via;
    devices[via.egress_ifindex] = true;
  }
  if (paths.empty()) devices.clear();
  // Ways before devices, so that a device never sees a mark that it knows nothing about; going,
  // the other way round.
  keep_first(write_paths(wanted));
  for (const auto& [ifindex, wants_egress] : devices)
    keep_first(attach(ifindex, wants_egress));
  std::erase_if(devices_, [&](const auto& entry) {
    if (devices.contains(entry.first)) return false;
    detach(entry.first, entry.second);
    return true;
  });
  std::erase_if(paths_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    ::bpf_map_delete_elem(loaded_->paths, &entry.first);
    return true;
  });
  if (first) return *std::move(first);
  return {};
}

Result<void> ProbePath::write_paths(const std::map<std::uint32_t, ProbeVia>& wanted) {
  std::optional<Error> first;
  for (const auto& [mark, via] : wanted) {
    if (const auto found = paths_.find(mark); found != paths_.end() && found->second == via)
      continue;
    Result<weir_probe_path> path = abi_of(via);
    if (path && ::bpf_map_update_elem(loaded_->paths, &mark, &*path, BPF_ANY) != 0)
      path = Error::from_errno(fmt::format("writing the way of the probes of {}", via.vip.text()));
    if (path) {
      paths_[mark] = via;
      continue;
    }
    // What it was before holds no longer: its probes are dropped rather than sent somewhere else.
    ::bpf_map_delete_elem(loaded_->paths, &mark);
    paths_.erase(mark);
    if (!first) first = std::move(path).error();
  }
  if (first) return *std::move(first);
  return {};
}

Result<void> ProbePath::attach(std::uint32_t ifindex, bool wants_egress) {
  const std::string device = device_name(ifindex);
  if (device.empty())
    return Error{ErrorCode::kNotFound,
                 fmt::format("there is no network device with index {} for probes", ifindex)};
  Attached& attached = devices_[ifindex];
  attached.device = device;
  Result<void> in =
      attach_side(attached.ingress, loaded_->in, place_of(device, ifindex, TcSide::kIngress));
  if (!in) return std::move(in).error().while_doing("receiving answers to probes");
  const TcPlace egress = place_of(device, ifindex, TcSide::kEgress);
  if (wants_egress) {
    Result<void> out = attach_side(attached.egress, loaded_->out, egress);
    if (!out) return std::move(out).error().while_doing("sending probes");
  } else if (attached.egress) {
    detach_side(attached.egress, egress, kOutName);
    attached.egress.reset();
  }
  return {};
}

void ProbePath::detach(std::uint32_t ifindex, const Attached& attached) {
  detach_side(attached.ingress, place_of(attached.device, ifindex, TcSide::kIngress), kInName);
  detach_side(attached.egress, place_of(attached.device, ifindex, TcSide::kEgress), kOutName);
}

}  // namespace weir::l4
