#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

/// What must be true before the AF_XDP driver may touch a device. The driver's own answer to most
/// of these is a failed start, twenty lines of log, and the removal of whatever XDP program was on
/// the device; so they are asked first, and each gets one line and a remedy.
namespace weir::port {

/// Largest MTU that leaves room for one frame and its bookkeeping in one memory page, which is what
/// AF_XDP gives a frame.
inline constexpr std::uint32_t kAfXdpMtuMax = 3500;

/// What the kernel says of a network device.
struct Device {
  std::string name;
  int index = 0;
  wire::MacAddress mac;
  std::uint32_t mtu = 0;
  bool up = false;
  std::uint32_t xdp_program_id = 0;  ///< 0: the XDP hook is free
};

/// Looks the device up in the network namespace of the calling thread.
[[nodiscard]] Result<Device> find_device(std::string_view name);

/// Up, MTU within the driver's reach, and an XDP hook that is free or holds only what an AF_XDP
/// socket library left there.
Result<void> check_device(const Device& device);

/// Takes the device for this process, so that a second port on it is refused before the driver can
/// remove the first one's program. Held until the descriptor is closed or the process ends.
[[nodiscard]] Result<UniqueFd> claim_device(const Device& device);

/// The capabilities that AF_XDP and the loading of its program need, and the right to lock
/// `locked_bytes` of memory.
Result<void> check_rights(std::uint64_t locked_bytes);

/// At least `bytes` of huge pages of any size are free.
Result<void> check_huge_pages(std::uint64_t bytes,
                              const std::filesystem::path& sysfs = "/sys/kernel/mm/hugepages");

}  // namespace weir::port
