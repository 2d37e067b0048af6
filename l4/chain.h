#pragma once

#include <cstdint>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/control/model.h"

struct bpf_object;

/// Attaching through libxdp's dispatcher, beside other XDP programs. It works by program
/// extension (freplace), which not every kernel allows; so it is done on request only.
namespace weir::l4 {

struct Chained {
  UniqueFd program;
  control::XdpMode mode = control::XdpMode::kNative;
};

/// `object` is opened and set, but not loaded: libxdp loads the program as an extension.
Result<Chained> attach_chained(bpf_object* object, const char* program, const std::string& device,
                               std::uint32_t ifindex, control::XdpMode mode);

/// Takes our program out of the device's chain and leaves the others.
Result<void> detach_chained(const char* program, const std::string& device, std::uint32_t ifindex);

}  // namespace weir::l4
