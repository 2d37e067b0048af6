#pragma once

#include <bpf/libbpf.h>

#include <memory>

#include "l4/base/result.h"
#include "l4/decap.h"

/// The objects of bpf/decap.bpf.c and bpf/decap_tc.bpf.c in the kernel, not yet on a device.
namespace weir::l4 {

inline constexpr const char* kDecapSourcesMap = "weir_decap_sources";
inline constexpr const char* kDecapVipsMap = "weir_decap_vips";
inline constexpr const char* kDecapCountersMap = "weir_decap_counters";
inline constexpr std::uint8_t kDecapMappedBits = 96;  ///< more of an IPv4 prefix, in mapped form

/// Either program with its maps; they end with this unless something else holds them.
struct DecapProgram {
  std::shared_ptr<void> skeleton;
  bpf_object* object = nullptr;
  int program = -1;

  [[nodiscard]] int map(const char* name) const {
    return ::bpf_object__find_map_fd_by_name(object, name);
  }
};

/// Loaded with these settings, its lists filled. `counters`: the map to go on with; -1: a new one.
Result<DecapProgram> load_decap_program(DecapMode mode, const DecapSettings& settings,
                                        int counters);

}  // namespace weir::l4
