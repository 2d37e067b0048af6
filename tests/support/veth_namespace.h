#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::testing {

/// A network namespace of its own for the calling thread, with a pair of veth devices in it:
/// "host", which the kernel uses, and "worker", which a port is opened on. Everything goes away
/// with the object, also the devices, for nothing else keeps the namespace alive.
class VethNamespace {
 public:
  /// Fails when the rights are missing; kernel tests then skip themselves with the error's text.
  [[nodiscard]] static Result<VethNamespace> create();
  VethNamespace(VethNamespace&&) = default;
  VethNamespace& operator=(VethNamespace&&) = delete;
  ~VethNamespace();

  /// Runs an `ip` command line in the namespace; true when it succeeded.
  [[nodiscard]] static bool ip(std::string_view arguments);
  /// Runs a shell command line in the namespace and returns its exit status.
  [[nodiscard]] static int run(const std::string& command);

 private:
  explicit VethNamespace(UniqueFd original) : original_{std::move(original)} {}
  UniqueFd original_;
};

}  // namespace weir::testing
