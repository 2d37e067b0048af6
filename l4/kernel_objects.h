#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/control/model.h"

/// What everything that loads programs needs: pins, links, devices, and errors that say what libbpf
/// and the verifier said.
namespace weir::l4 {

/// From here on libbpf's warnings are kept for the next libbpf_error() instead of printed.
void collect_libbpf_words();
Error libbpf_error(std::string_view doing, int error);

/// Mounts the BPF file system on /sys/fs/bpf if that is where the directory is and none is there.
Result<void> ensure_bpf_file_system(const std::string& pin_directory);
Result<void> make_directory(const std::string& path);  ///< one that exists is fine
Result<void> pin(int fd, const std::string& path);
/// The ifindexes that name the pins of a directory; other names are passed over.
Result<std::vector<std::uint32_t>> pinned_indexes(const std::string& directory);

Result<bpf_prog_info> program_info(int fd);
Result<bpf_link_info> link_info(int fd);

std::string device_name(std::uint32_t ifindex);  ///< empty: there is no such device
Result<std::uint32_t> device_index(const std::string& device);

/// Nobody else's XDP program may be on the device. The caller knows that ours is not. `alternative`
/// ends the remedy: what to do instead of detaching the other program.
Result<void> check_free(const std::string& device, std::uint32_t ifindex,
                        std::string_view alternative);

struct CreatedLink {
  UniqueFd fd;
  control::XdpMode mode = control::XdpMode::kNative;
  std::string reason;  ///< why auto did not get native mode
};

/// An XDP link; auto is native, or generic where the driver refuses.
Result<CreatedLink> create_link_in_mode(int program, const std::string& device,
                                        std::uint32_t ifindex, control::XdpMode mode);
/// The mode of whatever XDP program is there.
control::XdpMode mode_on(std::uint32_t ifindex);

}  // namespace weir::l4
