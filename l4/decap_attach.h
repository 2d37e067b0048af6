#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/decap.h"

/// Where a decapsulation program hangs on a device, and how it gets there and away.
namespace weir::l4 {

struct DecapAttachment {
  DecapHook hook = DecapHook::kXdp;
  DecapMode mode = DecapMode::kNative;  ///< never kAuto
  UniqueFd link;                        ///< empty for clsact, whose filter stays by itself
  std::string reason;                   ///< why auto did not get native mode
};

/// Refuses a device that carries another XDP program, or another filter in our place.
Result<DecapAttachment> attach_decap(int program, const std::string& device, std::uint32_t ifindex,
                                     DecapMode mode);
/// Another program in the place of ours; no packet is missed.
Result<void> exchange_decap(const DecapAttachment& attachment, int program,
                            const std::string& device, std::uint32_t ifindex);
Result<void> detach_decap(const DecapAttachment& attachment, const std::string& device,
                          std::uint32_t ifindex);
/// The program that runs there now; nothing if the device, or the filter, is gone.
Result<std::optional<std::uint32_t>> attached_program(const DecapAttachment& attachment,
                                                      std::uint32_t ifindex);

}  // namespace weir::l4
