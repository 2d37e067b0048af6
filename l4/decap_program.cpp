#include "l4/decap_program.h"

#include <bpf/bpf.h>

#include <algorithm>

#include "l4/kernel_objects.h"
#include "weir_decap.skel.h"
#include "weir_decap_tc.skel.h"

namespace weir::l4 {
namespace {

weir_address abi_of(const wire::IpAddress& address) {
  weir_address out{};
  std::ranges::copy(address.bytes, out.bytes);
  return out;
}

template <typename Skeleton>
Result<void> set_and_load(Skeleton* skeleton, int (*load)(Skeleton*), const DecapSettings& settings,
                          int counters) {
  skeleton->rodata->weir_decap_any_source = settings.any_source ? 1 : 0;
  skeleton->rodata->weir_decap_any_vip = settings.any_vip ? 1 : 0;
  skeleton->rodata->weir_decap_drop_foreign = settings.foreign == Foreign::kDrop ? 1 : 0;
  skeleton->rodata->weir_decap_gue_port = settings.gue_port;
  int error = counters < 0 ? 0 : ::bpf_map__reuse_fd(skeleton->maps.weir_decap_counters, counters);
  if (error == 0) error = load(skeleton);
  if (error != 0) return libbpf_error("loading the program into the kernel", error);
  return {};
}

Result<DecapProgram> load_program(DecapMode mode, const DecapSettings& settings, int counters) {
  collect_libbpf_words();
  if (mode == DecapMode::kTc) {
    const std::shared_ptr<weir_decap_tc> opened{weir_decap_tc__open(), weir_decap_tc__destroy};
    if (!opened) return libbpf_error("opening weir_decap_tc", errno);
    if (auto done = set_and_load(opened.get(), weir_decap_tc__load, settings, counters); !done)
      return std::move(done).error();
    return DecapProgram{opened, opened->obj, ::bpf_program__fd(opened->progs.weir_decap_tc)};
  }
  const std::shared_ptr<weir_decap> opened{weir_decap__open(), weir_decap__destroy};
  if (!opened) return libbpf_error("opening weir_decap", errno);
  if (auto done = set_and_load(opened.get(), weir_decap__load, settings, counters); !done)
    return std::move(done).error();
  return DecapProgram{opened, opened->obj, ::bpf_program__fd(opened->progs.weir_decap)};
}

Result<void> fill_lists(const DecapProgram& loaded, const DecapSettings& settings) {
  const std::uint32_t present = 1;
  const int sources = loaded.map(kDecapSourcesMap);
  for (const wire::IpAddress& source : settings.sources) {
    const weir_address key = abi_of(source);
    if (::bpf_map_update_elem(sources, &key, &present, BPF_ANY) != 0)
      return Error::from_errno(fmt::format("listing the source {}", source.text()));
  }
  const int vips = loaded.map(kDecapVipsMap);
  for (const wire::Prefix& vip : settings.vips) {
    weir_decap_vip_key key{};
    key.prefix_bits = vip.length + (vip.address.is_v4() ? kDecapMappedBits : 0U);
    key.address = abi_of(vip.address);
    if (::bpf_map_update_elem(vips, &key, &present, BPF_ANY) != 0)
      return Error::from_errno(fmt::format("listing the VIP {}", vip.text()));
  }
  return {};
}

}  // namespace

Result<DecapProgram> load_decap_program(DecapMode mode, const DecapSettings& settings,
                                        int counters) {
  Result<DecapProgram> loaded = load_program(mode, settings, counters);
  if (!loaded) return loaded;
  if (Result<void> filled = fill_lists(*loaded, settings); !filled)
    return std::move(filled).error();
  return loaded;
}

}  // namespace weir::l4
