#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/probe_ways.h"

/// Probes of the VIP on one backend, through the VIP's own encapsulation: bpf/probe.bpf.c says how.
namespace weir::l4 {

/// Owns the two programs, their maps, and their places on devices. Nothing is pinned: with the
/// object, or the process, links end; filters, where the kernel has no links for tc, are removed
/// here, and those that a killed process left by the next open(). Traffic never depends on it.
class ProbePath {
 public:
  static Result<ProbePath> open();
  ProbePath(ProbePath&&) noexcept;
  ProbePath& operator=(ProbePath&&) = delete;
  ~ProbePath();

  /// From here on these and no others. Answers are looked for on the devices that probes leave by
  /// and on `receiving`, those that the balancer is loaded on. What can be done is done: an error
  /// names the first path or device that could not be had, whose probes run into their timeout.
  Result<void> set_paths(std::span<const ProbeVia> paths,
                         std::span<const std::uint32_t> receiving = {});

 private:
  struct Loaded;
  struct Attached {
    std::string device;
    std::optional<UniqueFd> ingress, egress;  // none: not there; an empty one: a filter
  };

  explicit ProbePath(std::unique_ptr<Loaded> loaded);
  Result<void> attach(std::uint32_t ifindex, bool wants_egress);
  static void detach(std::uint32_t ifindex, const Attached& attached);
  Result<void> write_paths(const std::map<std::uint32_t, ProbeVia>& wanted);

  std::unique_ptr<Loaded> loaded_;
  std::map<std::uint32_t, Attached> devices_;  // by ifindex
  std::map<std::uint32_t, ProbeVia> paths_;    // by mark, as they are in the map
};

}  // namespace weir::l4
